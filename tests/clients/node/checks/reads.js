'use strict';
// Reads of the past, and reads at one timestamp.

const assert = require('node:assert');
const {setTimeout: sleep} = require('node:timers/promises');
const library = require('../library');
const {countOf} = require('./rows');

// The distance between two writes that a stale read must tell apart: the client's and the endpoint's clock are one.
const GAP_MS = 400;

const write = (database, key, count) => database.table('Items').upsert({Key: key, Count: count});

async function multiUseSnapshot({database}) {
  const key = 'snapshot';
  await write(database, key, 1);
  const [snapshot] = await database.getSnapshot({strong: true, returnReadTimestamp: true});
  const before = await countOf(snapshot, key);
  await write(database, key, 2);
  const after = await countOf(snapshot, key);
  const [rows] = await snapshot.read('Items', {columns: ['Count'], keys: [key], json: true});
  const hasTimestamp = Boolean(snapshot.readTimestamp);
  snapshot.end();
  const outside = await countOf(database, key);
  assert.deepStrictEqual([before, after, rows[0].Count, outside], [1, 1, 1, 2]);
  assert.ok(hasTimestamp, 'the snapshot has no read timestamp');
  return {before, after, read: rows[0].Count, outside, hasTimestamp};
}

async function staleRead({database}) {
  const key = 'stale';
  await write(database, key, 1);
  const firstWritten = Date.now();
  await sleep(2 * GAP_MS);
  await write(database, key, 2);
  // A timestamp half-way between the writes sees the first; any in the last GAP_MS sees the second.
  const [snapshot] = await database.getSnapshot({exactStaleness: Date.now() - firstWritten - GAP_MS});
  const exact = await countOf(snapshot, key);
  snapshot.end();
  await sleep(2 * GAP_MS);
  const query = {sql: 'SELECT Count FROM Items WHERE Key = @key', params: {key}, json: true};
  const [rows] = await database.run(query, {maxStaleness: GAP_MS});
  const bounded = rows[0].Count;
  assert.deepStrictEqual([exact, bounded], [1, 2]);
  return {exact, bounded};
}

async function exactTimeRead({database}) {
  const key = 'exact';
  const [{commitTimestamp}] = await write(database, key, 1);
  await write(database, key, 2);
  const iso = ({seconds, nanos}) =>
    library.Spanner.timestamp({seconds: Number(seconds), nanos: Number(nanos)}).toISOString();
  const [snapshot] = await database.getSnapshot({
    readTimestamp: library.Spanner.timestamp(iso(commitTimestamp)),
    returnReadTimestamp: true,
  });
  const seen = await countOf(snapshot, key);
  const isTheOneAsked = iso(snapshot.readTimestampProto) === iso(commitTimestamp);
  snapshot.end();
  assert.strictEqual(seen, 1);
  assert.ok(isTheOneAsked, 'the snapshot has another read timestamp');
  return {seen, isTheOneAsked};
}

module.exports = [
  ['multi_use_snapshot', multiUseSnapshot],
  ['stale_read', staleRead],
  ['exact_time_read', exactTimeRead],
];
