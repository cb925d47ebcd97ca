'use strict';

const assert = require('node:assert');
const {setTimeout: sleep} = require('node:timers/promises');
const {rowsOf} = require('../observe');
const {NO_REPEAT, countOf, keyOf} = require('./rows');

async function readWriteTransaction({database}) {
  const seen = await database.runTransactionAsync(async transaction => {
    const [read] = await transaction.read('Items', {
      columns: ['Key', 'Count'],
      keys: [keyOf(3), keyOf(4)],
      json: true,
    });
    const [queried] = await transaction.run({
      sql: 'SELECT COUNT(*) AS n FROM Items WHERE Count < @limit',
      params: {limit: 10},
      json: true,
    });
    transaction.update('Items', {Key: keyOf(3), Note: `moved ${read[0].Count}`});
    transaction.upsert('Items', {Key: 'moved', Count: read[0].Count + read[1].Count});
    await transaction.commit();
    return {read: rowsOf(read), queried: rowsOf(queried)};
  });
  const [after] = await database.run({
    sql: 'SELECT Key, Count, Note FROM Items WHERE Key IN UNNEST(@keys) ORDER BY Key',
    params: {keys: [keyOf(3), 'moved']},
    json: true,
  });
  assert.strictEqual(after[0].Note, 'moved 3');
  assert.strictEqual(after[1].Count, 7);
  return {...seen, after: rowsOf(after)};
}

// Two transactions add one to the same row. Each, in its first attempt, waits after its read until the other one has
// tried to read too: whichever the endpoint aborts (the emulator draws lots), one must be retried by the library.
// An ABORTED read goes to the library's transaction loop at once, not to its repeater of streams.
async function transactionAbortsAndRetries({database}) {
  const key = 'contended';
  await database.table('Items').upsert({Key: key, Count: 0});
  const tried = [signal(), signal()];
  const attempts = [0, 0];
  const increment = me =>
    database.runTransactionAsync(async transaction => {
      attempts[me] += 1;
      try {
        const count = await countOf(transaction, key, NO_REPEAT);
        tried[me].fire();
        await Promise.race([tried[1 - me].fired, sleep(5_000, undefined, {ref: false})]);
        transaction.update('Items', {Key: key, Count: count + 1});
        await transaction.commit();
      } catch (error) {
        tried[me].fire();
        throw error;
      }
    });
  await Promise.all([increment(0), increment(1)]);
  const retried = attempts[0] + attempts[1] > 2;
  const count = await countOf(database, key);
  assert.strictEqual(count, 2);
  assert.ok(retried, 'neither transaction was retried');
  return {count, retried};
}

function signal() {
  let fire;
  const fired = new Promise(resolve => {
    fire = resolve;
  });
  return {fire, fired};
}

async function rollbackLeavesNoTrace({database}) {
  const inside = await database.runTransactionAsync(async transaction => {
    await transaction.runUpdate({sql: `INSERT INTO Items (Key, Count) VALUES ('rolled-back', 1)`});
    await transaction.runUpdate({sql: 'UPDATE Items SET Count = -1 WHERE Key = @key', params: {key: keyOf(5)}});
    const seen = [await countOf(transaction, 'rolled-back'), await countOf(transaction, keyOf(5))];
    await transaction.rollback();
    return seen;
  });
  const after = [await countOf(database, 'rolled-back'), await countOf(database, keyOf(5))];
  assert.deepStrictEqual(inside, [1, -1]);
  assert.deepStrictEqual(after, ['no row', 5]);
  return {inside, after};
}

module.exports = [
  ['read_write_transaction', readWriteTransaction],
  ['transaction_aborts_and_retries', transactionAbortsAndRetries],
  ['rollback_leaves_no_trace', rollbackLeavesNoTrace],
];
