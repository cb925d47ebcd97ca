'use strict';

const assert = require('node:assert');

const TABLE = `CREATE TABLE Items (
  Key STRING(64) NOT NULL,
  Count INT64,
  Ratio FLOAT64,
  Live BOOL,
  Body BYTES(MAX),
  MadeAt TIMESTAMP,
  Tags ARRAY<STRING(MAX)>,
  Extra JSON,
) PRIMARY KEY (Key)`;
const INDEX = 'CREATE INDEX ItemsByCount ON Items (Count)';
const NEW_COLUMN = 'ALTER TABLE Items ADD COLUMN Note STRING(MAX)';

async function createInstanceAndDatabase(world) {
  const [, creatingInstance] = await world.instance.create({
    config: 'emulator-config',
    nodes: 1,
    displayName: 'Client checks',
  });
  await creatingInstance.promise();
  const [database, creatingDatabase] = await world.instance.createDatabase(world.databaseId, {schema: [TABLE, INDEX]});
  await creatingDatabase.promise();
  world.database = database;
  const [updating] = await database.updateSchema([NEW_COLUMN]);
  await updating.promise();
  const [statements] = await database.getSchema();
  const [metadata] = await database.getMetadata();
  return {state: metadata.state, statements};
}

async function dropDatabase(world) {
  await world.database.delete();
  const [exists] = await world.instance.database(world.databaseId).exists();
  assert.strictEqual(exists, false);
  await world.instance.delete();
  const [instanceExists] = await world.instance.exists();
  assert.strictEqual(instanceExists, false);
  world.spanner.close();
  return {exists, instanceExists};
}

module.exports = {
  create: [['create_instance_and_database', createInstanceAndDatabase]],
  drop: [['drop_database', dropDatabase]],
};
