'use strict';
// What the application sees when a call fails must be what the endpoint said.

const assert = require('node:assert');
const {once} = require('node:events');
const library = require('../library');
const {codeName, expectError} = require('../observe');
const {LARGE_SQL} = require('./bulk');
const {NO_REPEAT, countOf, keyOf} = require('./rows');

async function notFound({instance, database}) {
  const read = {columns: ['Key'], keys: ['a'], gaxOptions: NO_REPEAT};
  const missingDatabase = instance.database('not-there');
  missingDatabase.on('error', () => {}); // the session pool reports its failure here as well
  return {
    table: await expectError('NOT_FOUND', database.table('NotThere').read(read)),
    database: await expectError('NOT_FOUND', missingDatabase.run('SELECT 1')),
    metadata: await expectError('NOT_FOUND', missingDatabase.getMetadata()),
  };
}

async function alreadyExists({instance, database, databaseId}) {
  return {
    row: await expectError('ALREADY_EXISTS', database.table('Items').insert({Key: keyOf(1), Count: 1})),
    database: await expectError('ALREADY_EXISTS', instance.createDatabase(databaseId)),
  };
}

async function invalidSql({database}) {
  const run = (sql, gaxOptions) => database.run({sql, gaxOptions});
  // The first goes through the library's repeats, as an application's would.
  const [syntax, table, type, evaluation] = await Promise.all([
    expectError('INVALID_ARGUMENT', run('SELECT FROM WHERE')),
    expectError('INVALID_ARGUMENT', run('SELECT * FROM NotThere', NO_REPEAT)),
    expectError('INVALID_ARGUMENT', run(`SELECT 1 + 'größe' FROM Items`, NO_REPEAT)),
    expectError('OUT_OF_RANGE', run('SELECT 1 / (Count - Count) FROM Items', NO_REPEAT)),
  ]);
  return {syntax, table, type, evaluation};
}

async function deadline({database}) {
  const query = {sql: LARGE_SQL, gaxOptions: {timeout: 1, ...NO_REPEAT}};
  // The message tells how long each part of the call took, so only the code can be compared.
  const {code} = await expectError('DEADLINE_EXCEEDED', database.run(query));
  return {code, after: await countOf(database, keyOf(1))};
}

async function cancel({spanner, database}) {
  // The way of the application: it stops reading a query's stream.
  const [snapshot] = await database.getSnapshot();
  const stream = snapshot.runStream({sql: LARGE_SQL, json: true});
  const [firstRow] = await once(stream, 'data');
  stream.destroy();
  await once(stream, 'close');
  snapshot.end();

  // That ends without an error; the generated client inside the library shows the code of a cancelled call.
  const client = new library.v1.SpannerClient(spanner.options);
  const [session] = await client.createSession({database: database.formattedName_});
  const call = client.executeStreamingSql({session: session.name, sql: LARGE_SQL});
  await once(call, 'data');
  call.pause(); // what is left does not fit the call's flow-control window, so the call can't end by itself
  const ended = new Promise((resolve, reject) => {
    call.once('error', resolve).once('end', () => reject(new Error('the call ended before it was cancelled')));
  });
  call.cancel();
  const code = codeName(await ended);
  assert.strictEqual(code, 'CANCELLED');
  await client.deleteSession({name: session.name});
  await client.close();
  return {firstRow: firstRow.i, code, after: await countOf(database, keyOf(1))};
}

module.exports = [
  ['error_not_found', notFound],
  ['error_already_exists', alreadyExists],
  ['error_invalid_sql', invalidSql],
  ['error_deadline', deadline],
  ['error_cancel', cancel],
];
