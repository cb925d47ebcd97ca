//! Every gRPC status that the sidecar itself invents, in one table.
//!
//! A status that comes from Spanner passes through unchanged. One of ours begins with `spanner-sidecar:`, carries a code of
//! this table, says what happened and what to do. `docs/errors.md` is generated from the table.

use std::fmt;
use std::fmt::Write as _;

/// The gRPC status codes (`google.rpc.Code`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are gRPC's own")]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// How many codes there are.
pub const CODES: usize = 17;

const NAMES: [(Code, &str); CODES] = [
    (Code::Ok, "OK"),
    (Code::Cancelled, "CANCELLED"),
    (Code::Unknown, "UNKNOWN"),
    (Code::InvalidArgument, "INVALID_ARGUMENT"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Code::NotFound, "NOT_FOUND"),
    (Code::AlreadyExists, "ALREADY_EXISTS"),
    (Code::PermissionDenied, "PERMISSION_DENIED"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION"),
    (Code::Aborted, "ABORTED"),
    (Code::OutOfRange, "OUT_OF_RANGE"),
    (Code::Unimplemented, "UNIMPLEMENTED"),
    (Code::Internal, "INTERNAL"),
    (Code::Unavailable, "UNAVAILABLE"),
    (Code::DataLoss, "DATA_LOSS"),
    (Code::Unauthenticated, "UNAUTHENTICATED"),
];

impl Code {
    /// The code's name as in the gRPC documentation.
    pub fn name(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// Reads the value of a `grpc-status` header; what is no code is `Unknown`, as the gRPC protocol has it.
    pub fn from_header(value: &[u8]) -> Code {
        std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<usize>().ok())
            .and_then(|number| NAMES.get(number))
            .map_or(Code::Unknown, |(code, _)| *code)
    }
}

/// A row of the table: one thing that can go wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Stable identifier; documentation and alerts refer to it.
    pub id: &'static str,
    /// The gRPC status code that the caller gets.
    pub code: Code,
    /// What happened.
    pub what: &'static str,
    /// What to do about it.
    pub fix: &'static str,
}

/// A status to be sent to the caller: a row of the table and what was special in this case.
#[derive(Debug, Clone)]
pub struct Status {
    /// The row.
    pub kind: &'static Kind,
    /// Names, values, limits, the error below; may be empty.
    pub detail: String,
}

impl Kind {
    /// A status of this kind.
    pub fn with(&'static self, detail: impl Into<String>) -> Status {
        Status { kind: self, detail: detail.into() }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kind { id, what, fix, .. } = self.kind;
        write!(f, "spanner-sidecar: {id} {what}")?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        write!(f, ". {fix}")
    }
}

macro_rules! table {
    ($($name:ident = $id:literal, $code:ident, $what:literal, $fix:literal;)*) => {
        $(
            #[doc = $what]
            pub const $name: &Kind = &Kind { id: $id, code: Code::$code, what: $what, fix: $fix };
        )*
        /// All kinds, in the order of their identifiers.
        pub const TABLE: &[&Kind] = &[$($name),*];
    };
}

table! {
    NOT_SERVED = "E0101", Unimplemented,
        "this path is not served here",
        "The sidecar serves google.spanner.*, google.longrunning.*, google.iam.*, grpc.health.v1.Health and grpc.reflection; send other calls to their own endpoint.";
    NOT_GRPC = "E0102", InvalidArgument,
        "an HTTP/2 request that is not gRPC",
        "Send POST with content-type application/grpc; Spanner's REST API is served over HTTP/1.1 on this same port.";
    MESSAGE_TOO_LARGE = "E0103", ResourceExhausted,
        "the request message is larger than the sidecar's request message limit",
        "Split the request: Spanner itself takes at most 100 MB in one commit.";
    METADATA_TOO_LARGE = "E0104", ResourceExhausted,
        "the request metadata is larger than the sidecar's request metadata limit",
        "Send less metadata: Google's front ends refuse it as well.";
    GRPC_OVER_HTTP1 = "E0105", Unimplemented,
        "gRPC over HTTP/1.1",
        "Use HTTP/2 with prior knowledge (plaintext), as gRPC libraries do by themselves; look for an HTTP/1.1 proxy in between.";
    BROWSER_ORIGIN = "E0106", PermissionDenied,
        "the request comes from a web page",
        "The sidecar adds credentials to what it forwards, so it serves no browser; call it from the application.";
    NO_CHANNEL = "E0201", Unavailable,
        "no connection to Spanner is ready",
        "Look at the last error above and at /status; the sidecar goes on trying.";
    NO_TOKEN = "E0202", Unavailable,
        "no access token has been obtained yet",
        "Check the credentials (GOOGLE_APPLICATION_CREDENTIALS, workload identity, metadata server); the sidecar goes on trying.";
    REST_UPSTREAM = "E0204", Unavailable,
        "the REST upstream can't be reached",
        "Check --rest-upstream (the emulator serves REST on a port of its own) and the network.";
    QUEUE_FULL = "E0205", ResourceExhausted,
        "every channel is at its stream limit and the queue behind them is full",
        "Raise --channels, or send fewer calls at once.";
    CONNECTION_LOST = "E0301", Unavailable,
        "the connection to Spanner was lost while the call was under way",
        "Retry as your client library does for UNAVAILABLE; it is not known whether the call took effect.";
    NEVER_ACCEPTED = "E0302", Unavailable,
        "Spanner refused the call unprocessed on several connections in a row",
        "Retry: the call had no effect. If it lasts, look at /status.";
    DEADLINE = "E0303", DeadlineExceeded,
        "the call's deadline passed while it waited in the sidecar",
        "Raise the call's timeout, or --channels if the wait was for a free stream.";
    UPSTREAM_PROTOCOL = "E0304", Internal,
        "the upstream broke the HTTP/2 protocol",
        "Check that --upstream names a Spanner endpoint and nothing in between changes the traffic.";
    BUG = "E0901", Internal,
        "a defect of the sidecar",
        "Please report it with the log lines around it.";
}

/// The text of `docs/errors.md`.
pub fn document() -> String {
    let mut page = String::from(
        "# Errors of the sidecar's own\n\n\
         <!-- Generated from src/status.rs: UPDATE_DOCS=1 cargo test --test it docs -->\n\n\
         What Spanner answers reaches the application unchanged. A status that the sidecar itself gives begins with\n\
         `spanner-sidecar:`, then one of these codes, what happened, and what to do. The same codes stand in the log and in\n\
         `spanner_sidecar_errors_total{origin=\"sidecar\"}`.\n\n\
         | code | gRPC status | what happened | what to do |\n|---|---|---|---|\n",
    );
    for kind in TABLE {
        let _ = writeln!(page, "| {} | {} | {} | {} |", kind.id, kind.code.name(), kind.what, kind.fix);
    }
    page.push_str(
        "\nThe process's exit codes: 0 clean, 2 usage, 70 internal, 71 an address can't be bound, 78 configuration, 143 calls were\n\
         cut at the drain's limit.\n",
    );
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_unique_and_in_order() {
        for pair in TABLE.windows(2) {
            assert!(pair[0].id < pair[1].id, "{} before {}", pair[0].id, pair[1].id);
        }
    }

    #[test]
    fn codes_stand_at_their_own_number() {
        for (number, (code, _)) in NAMES.iter().enumerate() {
            assert_eq!(*code as usize, number);
            assert_eq!(Code::from_header(number.to_string().as_bytes()), *code);
        }
        for odd in [&b"17"[..], b"-1", b"", b"ok", b"\xff"] {
            assert_eq!(Code::from_header(odd), Code::Unknown);
        }
    }

    #[test]
    fn a_status_says_code_what_and_fix() {
        let text = NO_CHANNEL.with("connect to 127.0.0.1:1: refused").to_string();
        assert!(text.starts_with("spanner-sidecar: E0201 no connection"), "{text}");
        assert!(text.contains("refused. Look at"), "{text}");
    }
}
