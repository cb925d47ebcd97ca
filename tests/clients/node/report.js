'use strict';
// Times each check, prints a line for it and keeps its transcript entry.

const {writeFileSync} = require('node:fs');
const {errorFields, scrubber} = require('./observe');

// Far above the slowest check (two retries of an aborted transaction, 3 to 6 s): a hang becomes a failure.
const CHECK_TIMEOUT_MS = 30_000;

/** Thrown by a check when the library or the endpoint lacks the feature: the reason says which. */
class NotAvailable extends Error {
  constructor(reason, detail) {
    super(reason);
    this.detail = detail;
  }
}

class Report {
  /** `names` are [text, word] pairs: text that differs between runs, and the word that stands for it. */
  constructor(variant, names) {
    this.variant = variant;
    this.scrub = scrubber(names);
    this.entries = [];
    this.stopped = undefined;
  }

  /** Every check from here on fails for `reason`, without being tried. */
  stopIf(condition, reason) {
    this.stopped = condition ? reason : this.stopped;
  }

  async run(check, body) {
    const start = process.hrtime.bigint();
    let entry;
    let line;
    try {
      if (this.stopped) {
        throw new Error(`not run: ${this.stopped}`);
      }
      const detail = await withTimeout(body());
      const ms = Number((process.hrtime.bigint() - start) / 1_000_000n);
      entry = {check, outcome: 'ok', detail: detail ?? {}};
      line = `ok ${check} ${ms}ms`;
    } catch (error) {
      if (error instanceof NotAvailable) {
        entry = {check, outcome: 'n/a', detail: {reason: error.message, ...error.detail}};
        line = `n/a ${check}: ${error.message}`;
      } else {
        entry = {check, outcome: 'FAIL', detail: errorFields(error)};
        line = `FAIL ${check}: ${oneLine(error)}`;
      }
    }
    this.entries.push(entry);
    console.log(line);
  }

  write(path) {
    const lines = this.entries.map(entry => this.scrub(JSON.stringify(entry)) + '\n');
    writeFileSync(path, lines.join(''));
  }

  /** Prints the last line; true when nothing failed. */
  finish() {
    const count = outcome => this.entries.filter(entry => entry.outcome === outcome).length;
    const failed = count('FAIL');
    console.log(`${this.variant}: ${count('ok')} passed, ${failed} failed, ${count('n/a')} n/a`);
    return failed === 0;
  }
}

function withTimeout(promise) {
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no result after ${CHECK_TIMEOUT_MS} ms`)), CHECK_TIMEOUT_MS);
  });
  return Promise.race([promise, timeout]).finally(() => clearTimeout(timer));
}

function oneLine(error) {
  return String(error?.message ?? error).replace(/\s+/g, ' ');
}

module.exports = {NotAvailable, Report};
