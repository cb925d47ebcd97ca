//! What a run leaves: a transcript for comparison with another run, and lines on the console for people.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use regex_lite::Regex;
use serde_json::{Value as Json, json};

use crate::library::Failure;

/// Writes one JSON line a check to a file and one line a check to the console. Times go to the console only: they
/// differ from run to run, as does what `suffix` names.
pub(crate) struct Report {
    transcript: File,
    suffix: String,
    passed: usize,
    failed: usize,
    not_available: usize,
}

impl Report {
    pub(crate) fn create(path: &Path, suffix: &str) -> io::Result<Self> {
        Ok(Self { transcript: File::create(path)?, suffix: suffix.to_owned(), passed: 0, failed: 0, not_available: 0 })
    }

    pub(crate) fn add(&mut self, check: &str, took: Duration, result: Result<Json, Failure>) -> io::Result<()> {
        let (outcome, detail, line) = match result {
            Ok(detail) => {
                self.passed += 1;
                ("ok", detail, format!("ok {check} {}ms", took.as_millis()))
            }
            Err(Failure::NotAvailable { reason, mut detail }) => {
                self.not_available += 1;
                detail["reason"] = reason.clone().into();
                ("n/a", detail, format!("n/a {check}: {reason}"))
            }
            Err(failure) => {
                self.failed += 1;
                let reason = self.redact(&failure.to_string());
                let line = format!("FAIL {check}: {reason}");
                ("FAIL", json!({ "reason": reason }), line)
            }
        };
        println!("{line}");
        let record = json!({ "check": check, "outcome": outcome, "detail": self.redact_all(detail) });
        writeln!(self.transcript, "{record}")
    }

    /// Prints the totals and returns whether every check passed or had no means.
    pub(crate) fn finish(self, variant: &str) -> bool {
        println!("{variant}: {} passed, {} failed, {} n/a", self.passed, self.failed, self.not_available);
        self.failed == 0
    }

    /// Puts a fixed word in place of each part of a message that differs from run to run.
    fn redact(&self, text: &str) -> String {
        static PARTS: OnceLock<[(Regex, &str); 3]> = OnceLock::new();
        let parts = PARTS.get_or_init(|| {
            [
                (r"sessions/[A-Za-z0-9_-]+", "sessions/<session>"),
                (r"operations/[A-Za-z0-9_-]+", "operations/<operation>"),
                (r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})", "<time>"),
            ]
            .map(|(pattern, word)| (Regex::new(pattern).expect("a valid pattern"), word))
        });
        parts.iter().fold(text.replace(&self.suffix, "<run>"), |text, (pattern, word)| pattern.replace_all(&text, *word).into_owned())
    }

    fn redact_all(&self, value: Json) -> Json {
        match value {
            Json::String(text) => Json::String(self.redact(&text)),
            Json::Array(items) => items.into_iter().map(|item| self.redact_all(item)).collect(),
            Json::Object(fields) => fields.into_iter().map(|(name, field)| (name, self.redact_all(field))).collect(),
            other => other,
        }
    }
}
