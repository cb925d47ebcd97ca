'use strict';
// The rows that the checks write: each is a function of its number, so what is read back can be known beforehand.

const {createHash} = require('node:crypto');
const library = require('../library');

const ROW_COUNT = 1000;
const COLUMNS = ['Key', 'Count', 'Ratio', 'Live', 'Body', 'MadeAt', 'Tags', 'Extra'];

const keyOf = number => `item-${String(number).padStart(4, '0')}`;

/** Row `number` for a mutation; every tenth has NULLs. */
function rowOf(number) {
  const sparse = number % 10 === 0;
  return {
    Key: keyOf(number),
    Count: library.Spanner.int(number),
    Ratio: library.Spanner.float(number / 8),
    Live: number % 2 === 0,
    Body: sparse ? null : createHash('sha256').update(String(number)).digest(),
    MadeAt: library.Spanner.timestamp(`2020-01-01T00:${String(number % 60).padStart(2, '0')}:00.123456789Z`),
    Tags: sparse ? [] : [`tag-${number % 7}`, null, 'größe ✓'],
    Extra: sparse ? null : {number, nested: {list: [1, 'two', null]}},
  };
}

const allRows = () => Array.from({length: ROW_COUNT}, (_, number) => rowOf(number));

// The library repeats a streamed call that fails before its first row up to twice, 2 to 7 s later, whatever the error.
const NO_REPEAT = {retryRequestOptions: {noResponseRetries: 0}};

/** The value of `Count` for one key; `gaxOptions` are those of the query. */
async function countOf(reader, key, gaxOptions) {
  const [rows] = await reader.run({
    sql: 'SELECT Count FROM Items WHERE Key = @key',
    params: {key},
    json: true,
    gaxOptions,
  });
  return rows.length === 0 ? 'no row' : rows[0].Count;
}

module.exports = {COLUMNS, NO_REPEAT, ROW_COUNT, allRows, countOf, keyOf};
