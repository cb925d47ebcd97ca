'use strict';
// The version of the client library that this run is about: package.json has each under an alias.

module.exports = require(process.argv[2].replace(/^node-/, 'spanner-'));
