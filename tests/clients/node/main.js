'use strict';
// Runs every check, in order, with one version of the client library against SPANNER_EMULATOR_HOST.
// Standard output is for people; the transcript holds only what must be the same for any correct endpoint.

const {randomBytes} = require('node:crypto');
const library = require('./library');
const {Report} = require('./report');

const checks = [
  ...require('./checks/schema').create,
  ...require('./checks/writes'),
  ...require('./checks/transactions'),
  ...require('./checks/reads'),
  ...require('./checks/bulk'),
  ...require('./checks/errors'),
  ...require('./checks/schema').drop,
];

async function main(variant, transcriptPath) {
  const spanner = new library.Spanner({projectId: process.env.SPANNER_PROJECT || 'test-project'});
  const suffix = randomBytes(5).toString('hex');
  const world = {
    spanner,
    instance: spanner.instance(`checks-${suffix}`),
    databaseId: `db-${suffix}`,
    database: undefined, // set by the first check
  };
  const report = new Report(variant, [
    [world.instance.id.split('/').pop(), 'INSTANCE'],
    [world.databaseId, 'DATABASE'],
  ]);
  for (const [name, check] of checks) {
    await report.run(name, () => check(world));
    report.stopIf(!world.database, 'there is no database to work on');
  }
  report.write(transcriptPath);
  return report.finish();
}

const [variant, transcriptPath] = process.argv.slice(2);
main(variant, transcriptPath).then(
  // The library's timers would keep the process alive: everything is written, so leave.
  passed => process.exit(passed ? 0 : 1),
  error => {
    console.error(error);
    process.exit(1);
  }
);
