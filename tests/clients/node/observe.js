'use strict';
// Turns what the library handed out into plain JSON that is the same in every run.

const assert = require('node:assert');
const {createHash} = require('node:crypto');
const {protos} = require('./library');

const CODE_NAMES = [
  'OK', 'CANCELLED', 'UNKNOWN', 'INVALID_ARGUMENT', 'DEADLINE_EXCEEDED', 'NOT_FOUND', 'ALREADY_EXISTS',
  'PERMISSION_DENIED', 'RESOURCE_EXHAUSTED', 'FAILED_PRECONDITION', 'ABORTED', 'OUT_OF_RANGE', 'UNIMPLEMENTED',
  'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS', 'UNAUTHENTICATED',
];

const codeName = error => CODE_NAMES[error?.code] ?? String(error?.code ?? 'no code');

/** Code name, message and status-detail types of an error that the library raised. */
function errorFields(error) {
  return {code: codeName(error), message: String(error?.message ?? error), details: detailTypes(error)};
}

function detailTypes(error) {
  const packed = error?.metadata?.get?.('grpc-status-details-bin')?.[0];
  if (!packed) {
    return [];
  }
  return protos.google.rpc.Status.decode(packed).details.map(any => any.type_url);
}

/** The fields of the error that `promise` must end with, whose code must be `expected`. */
async function expectError(expected, promise) {
  const error = await promise.then(
    () => assert.fail(`expected ${expected}, but the call succeeded`),
    error => error
  );
  if (codeName(error) !== expected) {
    throw error;
  }
  return errorFields(error);
}

/** Resolves with the rows of an object stream, or rejects with its error. */
function collect(stream) {
  return new Promise((resolve, reject) => {
    const items = [];
    stream.on('data', item => items.push(item)).once('error', reject).once('end', () => resolve(items));
  });
}

/** A value of the library as JSON: bytes as base64, timestamps with all nine digits. */
function plain(value) {
  if (Buffer.isBuffer(value)) {
    return value.toString('base64');
  }
  if (value instanceof Date) {
    return value.toISOString();
  }
  if (Array.isArray(value)) {
    return value.map(plain);
  }
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
  }
  return value;
}

const rowsOf = rows => rows.map(plain);

const sha256 = data => createHash('sha256').update(data).digest('hex');

/** How many rows, and the SHA-256 of them in their order. */
function digest(rows) {
  return {rows: rows.length, sha256: sha256(rows.map(row => JSON.stringify(plain(row)) + '\n').join(''))};
}

function scrubber(names) {
  return text => {
    for (const [from, to] of names) {
      text = text.replaceAll(from, to);
    }
    return text
      .replace(/sessions\/[^\s"\\/]+/g, 'sessions/ID')
      .replace(/\b(?:127\.0\.0\.1|localhost|\[::1\]):\d+/g, 'ENDPOINT');
  };
}

module.exports = {codeName, collect, digest, errorFields, expectError, plain, rowsOf, scrubber, sha256};
