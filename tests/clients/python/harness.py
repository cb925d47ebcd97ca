"""Runs checks in order, prints one line for each, and writes the transcript that the runner compares.

Standard library only: the gcloud checks use it, too, without a virtual environment.
"""

import faulthandler
import hashlib
import json
import re
import secrets
import sys
import time

HANG_LIMIT_S = 240  # below the runner's limit, so that a hang ends with a stack trace of every thread

# What differs from run to run in messages of the server and of the libraries.
CHANGING = [
    (re.compile(r",? ?request_id ?= ?[\w.]+"), ""),
    (re.compile(r"sessions/[\w-]+"), "sessions/SESSION"),
    (re.compile(r"operations/[\w-]+"), "operations/OPERATION"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?"), "TIMESTAMP"),
    (re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\]):\d+"), "ENDPOINT"),
    (re.compile(r"(?i)\btransaction (?:id )?\d+"), "transaction NUMBER"),
]


class NotAvailable(Exception):
    """The library lacks the feature, or the emulator answers UNIMPLEMENTED; the reason says which."""

    def __init__(self, reason, detail):
        super().__init__(reason)
        self.detail = detail


class Unexpected(Exception):
    """A value is not the one that a correct server gives."""


def expect(what, seen, wanted):
    if seen != wanted:
        raise Unexpected(f"{what}: {shorten(seen)}, expected {shorten(wanted)}")


def shorten(value):
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}… ({len(text)} characters)"


def checksum(rows):
    """SHA-256 of rows that are JSON values, a row a line."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def random_suffix():
    return secrets.token_hex(4)


class Harness:
    def __init__(self, arguments):
        if len(arguments) != 3:
            sys.exit(f"usage: {arguments[0]} VARIANT TRANSCRIPT")
        self.variant, path = arguments[1:]
        self.transcript = open(path, "w", encoding="utf-8")
        self.counts = {"ok": 0, "FAIL": 0, "n/a": 0}
        self.names = {}
        self.broken = None
        faulthandler.dump_traceback_later(HANG_LIMIT_S, exit=True)

    def hide(self, name, word):
        """Writes `word` wherever the run's own `name` would stand in the transcript."""
        self.names[name] = word

    def scrub(self, text):
        for name in sorted(self.names, key=len, reverse=True):
            text = text.replace(name, self.names[name])
        for pattern, word in CHANGING:
            text = pattern.sub(word, text)
        return text

    def check(self, function, needed=False, always=False):
        """Runs one check. When a `needed` one fails, those after it fail unrun, except an `always` one."""
        name = function.__name__
        began = time.monotonic()
        detail = {}
        try:
            if self.broken and not always:
                raise Unexpected(f"not run: {self.broken} failed")
            detail = function()
            outcome, reason = "ok", f"{(time.monotonic() - began) * 1000:.0f}ms"
        except NotAvailable as error:
            outcome, reason, detail = "n/a", str(error), error.detail
        except Exception as error:  # whatever a library raises is what this check saw
            outcome, reason = "FAIL", f"{type(error).__name__}: {error}"
            detail = {"reason": self.scrub(reason)}
            if needed:
                self.broken = name
        self.counts[outcome] += 1
        print(f"ok {name} {reason}" if outcome == "ok" else f"{outcome} {name}: {reason}", flush=True)
        line = {"check": name, "outcome": outcome, "detail": detail}
        self.transcript.write(json.dumps(line, sort_keys=True) + "\n")
        self.transcript.flush()

    def finish(self):
        """Prints the last line and returns the exit code."""
        faulthandler.cancel_dump_traceback_later()
        self.transcript.close()
        ok, failed, not_available = self.counts["ok"], self.counts["FAIL"], self.counts["n/a"]
        print(f"{self.variant}: {ok} passed, {failed} failed, {not_available} n/a", flush=True)
        return 1 if failed or not ok else 0
