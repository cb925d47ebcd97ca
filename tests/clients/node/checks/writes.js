'use strict';
// Mutations, plain reads of what they wrote, and DML.

const assert = require('node:assert');
const library = require('../library');
const {errorFields, digest, rowsOf} = require('../observe');
const {COLUMNS, ROW_COUNT, allRows, countOf, keyOf} = require('./rows');

async function insertMutations({database}) {
  await database.table('Items').insert(allRows());
  const [rows] = await database.run({sql: `SELECT ${COLUMNS} FROM Items ORDER BY Key`, json: true});
  assert.strictEqual(rows.length, ROW_COUNT);
  return digest(rows);
}

async function readByKey({database}) {
  const [rows] = await database.table('Items').read({
    columns: [...COLUMNS, 'Note'],
    keys: [keyOf(7), keyOf(10), 'no such key'],
    json: true,
  });
  assert.strictEqual(rows.length, 2);
  return {rows: rowsOf(rows)};
}

async function readByIndex({database}) {
  const [rows] = await database.table('Items').read({
    columns: ['Count', 'Key'],
    index: 'ItemsByCount',
    ranges: [{startClosed: [500], endClosed: [504]}],
    json: true,
  });
  assert.deepStrictEqual(rows.map(row => row.Count), [500, 501, 502, 503, 504]);
  return {rows: rowsOf(rows)};
}

async function readKeyRangeWithLimit({database}) {
  const [rows] = await database.table('Items').read({
    columns: ['Key', 'Count'],
    ranges: [{startClosed: [keyOf(100)], endOpen: [keyOf(200)]}],
    limit: 10,
    json: true,
  });
  assert.deepStrictEqual(rows.map(row => row.Count), Array.from({length: 10}, (_, i) => 100 + i));
  return {rows: rowsOf(rows)};
}

async function dmlInsertUpdateDeleteWithParameters({database}) {
  const key = 'dml';
  const counts = await database.runTransactionAsync(async transaction => {
    const [inserted] = await transaction.runUpdate({
      sql: `INSERT INTO Items (Key, Count, Ratio, Live, Body, MadeAt, Tags, Note)
            VALUES (@key, @count, @ratio, @live, @body, @madeAt, @tags, @note)`,
      params: {
        key,
        count: library.Spanner.int('9007199254740993'),
        ratio: library.Spanner.float(0.1),
        live: true,
        body: Buffer.from([0, 255, 128]),
        madeAt: library.Spanner.timestamp('1999-12-31T23:59:59.999999999Z'),
        tags: ['a', 'b'],
        note: null,
      },
      types: {tags: {type: 'array', child: 'string'}, note: 'string'},
    });
    const [updated] = await transaction.runUpdate({
      sql: 'UPDATE Items SET Note = @note WHERE Key = @key OR Key = @other',
      params: {key, other: keyOf(1), note: 'updated'},
    });
    const [returned] = await transaction.run({
      sql: 'UPDATE Items SET Live = NOT Live WHERE Key = @key THEN RETURN Key, Live, Note',
      params: {key},
      json: true,
    });
    await transaction.commit();
    return {inserted, updated, returned: rowsOf(returned)};
  });
  const [rows] = await database.run({
    sql: 'SELECT * FROM Items WHERE Key = @key',
    params: {key},
    json: true,
    jsonOptions: {wrapNumbers: true}, // the count is beyond what a double can hold
  });
  const deleted = await database.runTransactionAsync(async transaction => {
    const [count] = await transaction.runUpdate({sql: 'DELETE FROM Items WHERE Key = @key', params: {key}});
    await transaction.commit();
    return count;
  });
  assert.deepStrictEqual([counts.inserted, counts.updated, deleted], [1, 2, 1]);
  assert.strictEqual(rows[0].Count.value, '9007199254740993');
  return {...counts, deleted, rows: rowsOf(rows)};
}

async function batchDml({database}) {
  const insert = key => ({sql: 'INSERT INTO Items (Key, Count) VALUES (@key, 1)', params: {key}});
  const bump = key => ({sql: 'UPDATE Items SET Count = Count + 1 WHERE Key = @key', params: {key}});

  const whole = await database.runTransactionAsync(async transaction => {
    const [rowCounts] = await transaction.batchUpdate([insert('batch-1'), insert('batch-2'), bump('batch-1')]);
    await transaction.commit();
    return rowCounts;
  });
  // The second statement fails: the first stays applied, the third is never tried. (It must not break a constraint:
  // the emulator then fails the commit as well.)
  const failing = await database.runTransactionAsync(async transaction => {
    const error = await transaction
      .batchUpdate([bump('batch-1'), 'UPDATE NotThere SET Count = 1 WHERE true', bump('batch-2')])
      .then(() => assert.fail('the statement on a missing table passed'), error => error);
    if (!error.rowCounts) {
      throw error;
    }
    await transaction.commit();
    return {rowCounts: error.rowCounts, error: errorFields(error)};
  });
  assert.deepStrictEqual(whole, [1, 1, 1]);
  assert.deepStrictEqual(failing.rowCounts, [1]);
  assert.strictEqual(failing.error.code, 'INVALID_ARGUMENT');
  const counts = [await countOf(database, 'batch-1'), await countOf(database, 'batch-2')];
  assert.deepStrictEqual(counts, [3, 1]);
  return {whole, failing, counts};
}

module.exports = [
  ['insert_mutations', insertMutations],
  ['read_by_key', readByKey],
  ['read_by_index', readByIndex],
  ['read_key_range_with_limit', readKeyRangeWithLimit],
  ['dml_insert_update_delete_with_parameters', dmlInsertUpdateDeleteWithParameters],
  ['batch_dml', batchDml],
];
