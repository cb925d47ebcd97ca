'use strict';
// Much data, many partitions, many readers.

const assert = require('node:assert');
const {createHash} = require('node:crypto');
const library = require('../library');
const {NotAvailable} = require('../report');
const {codeName, collect, digest, errorFields, plain, sha256} = require('../observe');
const {NO_REPEAT, keyOf} = require('./rows');

const LARGE_ROWS = 11_000;
// Each row carries 1 KiB, so the whole is over 10 MB.
const LARGE_SQL = `SELECT i, REPEAT(TO_HEX(SHA512(CAST(i AS STRING))), 8) AS text
  FROM UNNEST(GENERATE_ARRAY(1, ${LARGE_ROWS})) AS i ORDER BY i`;

function largeStreamedResult({database}) {
  return new Promise((resolve, reject) => {
    const seen = createHash('sha256');
    const expected = createHash('sha256');
    let rows = 0;
    let bytes = 0;
    database
      .runStream({sql: LARGE_SQL, json: true})
      .on('data', row => {
        rows += 1;
        bytes += row.text.length;
        seen.update(`${row.i} ${row.text}\n`);
        const hash = createHash('sha512').update(String(rows)).digest('hex');
        expected.update(`${rows} ${hash.repeat(8)}\n`);
      })
      .once('error', reject)
      .once('end', () => {
        const checksum = seen.digest('hex');
        if (rows !== LARGE_ROWS || checksum !== expected.digest('hex')) {
          reject(new Error(`the stream differs from what was computed here: ${rows} rows, ${bytes} bytes`));
        } else {
          resolve({rows, bytes, sha256: checksum});
        }
      });
  });
}

async function partitionedQuery({database}) {
  const sql = 'SELECT Key, Count FROM Items WHERE Count BETWEEN 100 AND 899';
  return readPartitions(database, transaction => transaction.createQueryPartitions({sql}), 800);
}

async function partitionedRead({database}) {
  const request = {
    table: 'Items',
    columns: ['Key', 'Count'],
    ranges: [{startClosed: [keyOf(0)], endOpen: [keyOf(600)]}],
  };
  return readPartitions(database, transaction => transaction.createReadPartitions(request), 600);
}

/** Reads every partition; the rows of all of them, sorted, are the result. */
async function readPartitions(database, partition, expected) {
  const [transaction] = await database.createBatchTransaction();
  try {
    const [partitions] = await partition(transaction);
    const rows = [];
    for (const each of partitions) {
      const [some] = await transaction.execute(each);
      rows.push(...some.map(row => plain(row.toJSON())));
    }
    rows.sort((a, b) => (a.Key < b.Key ? -1 : 1));
    assert.strictEqual(rows.length, expected);
    return {partitions: partitions.length, ...digest(rows)};
  } finally {
    await transaction.close();
  }
}

async function partitionedDml({database}) {
  const [updated] = await database.runPartitionedUpdate({
    sql: 'UPDATE Items SET Note = @note WHERE Count BETWEEN 200 AND 699',
    params: {note: 'partitioned'},
  });
  const [rows] = await database.run({
    sql: 'SELECT COUNT(*) AS n FROM Items WHERE Note = @note',
    params: {note: 'partitioned'},
    json: true,
  });
  assert.strictEqual(rows[0].n, 500);
  return {updated, counted: rows[0].n};
}

async function batchWrite({database}) {
  const group = new library.MutationGroup();
  group.upsert('Items', {Key: 'batch-write', Count: '1'});
  try {
    const answers = await collect(database.batchWriteAtLeastOnce([group], {gaxOptions: NO_REPEAT}));
    return {answers: answers.map(answer => ({indexes: answer.indexes, code: answer.status?.code ?? 0}))};
  } catch (error) {
    if (codeName(error) !== 'UNIMPLEMENTED') {
      throw error;
    }
    throw new NotAvailable('the endpoint answers UNIMPLEMENTED', errorFields(error));
  }
}

async function fiftyConcurrentReaders({database}) {
  const reader = async me => {
    const seen = [];
    for (let round = 0; round < 20; round++) {
      const key = keyOf(me * 20 + round);
      const [rows] = await database.table('Items').read({columns: ['Key', 'Count'], keys: [key], json: true});
      assert.deepStrictEqual(rows.map(plain), [{Key: key, Count: me * 20 + round}]);
      seen.push(rows[0]);
    }
    return seen;
  };
  const seen = await Promise.all(Array.from({length: 50}, (_, me) => reader(me)));
  return digest(seen.flat());
}

async function requestMetadataLarge({database}) {
  const text = 'Straße '.repeat(64 * 1024); // 512 KiB in UTF-8
  const [rows] = await database.run({
    sql: 'SELECT BYTE_LENGTH(@text) AS bytes, TO_HEX(SHA256(@text)) AS sha256, @text AS text',
    params: {text},
    json: true,
    requestOptions: {requestTag: 'app=checks,action=large'},
    gaxOptions: {otherArgs: {headers: {'x-checks-padding': 'p'.repeat(4 * 1024)}}},
  });
  const {bytes, sha256: reported, text: echoed} = rows[0];
  assert.strictEqual(reported, sha256(text));
  assert.strictEqual(echoed, text);
  return {bytes, sha256: reported};
}

module.exports = [
  ['large_streamed_result', largeStreamedResult],
  ['partitioned_query', partitionedQuery],
  ['partitioned_read', partitionedRead],
  ['partitioned_dml', partitionedDml],
  ['batch_write', batchWrite],
  ['fifty_concurrent_readers', fiftyConcurrentReaders],
  ['request_metadata_large', requestMetadataLarge],
];
module.exports.LARGE_SQL = LARGE_SQL;
