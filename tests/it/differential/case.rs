//! A case: one call, what it must come to, and what may differ about it.

use std::collections::HashMap;

use bytes::Bytes;
use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use prost::Message;
use spanner_sim::Script;

use super::Allowed;
use super::normal::find;
use crate::support::raw::{Answer, frame};

/// What stands for the reset in the answer of a call that its client has cancelled.
pub(super) const CANCELLED: &str = "cancelled by the client";

/// How a call ends, as its client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With HTTP 200 and this `grpc-status`.
    Status(u32),
    /// With HTTP 200 and no `grpc-status` that is a number.
    NoStatus,
    /// With another HTTP status.
    Http(u16),
    /// The stream was reset with this HTTP/2 error code.
    Reset(String),
    /// The connection ended.
    Lost,
    /// The client cancelled it.
    Cancelled,
}

impl Outcome {
    pub(super) fn of(answer: &Answer) -> Outcome {
        match (&answer.reset, answer.http_status, answer.code()) {
            (Some(reset), ..) if reset == CANCELLED => Outcome::Cancelled,
            // The names of codes are one word, errors of connections are sentences.
            (Some(error), ..) if error.contains(' ') => Outcome::Lost,
            (Some(reset), ..) => Outcome::Reset(reset.clone()),
            (None, 200, Some(code)) => Outcome::Status(code),
            (None, 200, None) => Outcome::NoStatus,
            (None, status, _) => Outcome::Http(status),
        }
    }
}

/// The codes of gRPC.
pub(super) mod code {
    pub(crate) const OK: u32 = 0;
    pub(crate) const UNKNOWN: u32 = 2;
    pub(crate) const INVALID_ARGUMENT: u32 = 3;
    pub(crate) const DEADLINE_EXCEEDED: u32 = 4;
    pub(crate) const NOT_FOUND: u32 = 5;
    pub(crate) const ALREADY_EXISTS: u32 = 6;
    pub(crate) const PERMISSION_DENIED: u32 = 7;
    pub(crate) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(crate) const FAILED_PRECONDITION: u32 = 9;
    pub(crate) const ABORTED: u32 = 10;
    pub(crate) const OUT_OF_RANGE: u32 = 11;
    pub(crate) const UNIMPLEMENTED: u32 = 12;
    pub(crate) const INTERNAL: u32 = 13;
    pub(crate) const UNAVAILABLE: u32 = 14;
    pub(crate) const UNAUTHENTICATED: u32 = 16;
}

/// What a client does beside sending its request and reading the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing.
    Whole,
    /// It cancels when upstream has its request.
    CancelUnanswered,
    /// It sends this many bytes of its request, waits until upstream has the call, then cancels.
    CancelHalfSent(usize),
    /// The same, but through the sidecar it waits for that alone: nothing of the call need have reached upstream.
    CancelUnsent(usize),
    /// It cancels when it has this many bytes of the answer.
    CancelAfter(usize),
    /// When it has this many bytes of the answer, upstream resets the stream with this code.
    ResetAfter(usize, u32),
}

/// What earlier answers gave: session names, transaction ids, tokens.
#[derive(Default)]
pub(super) struct Kept(pub(super) HashMap<&'static str, Vec<u8>>);

impl Kept {
    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        self.0.get(name).unwrap_or_else(|| panic!("no case has kept {name}")).clone()
    }

    pub(super) fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).expect("a name")
    }
}

/// An allowed difference of a case: how the proxied call ends instead, and what its message must say.
pub(super) struct Differs {
    pub(super) as_allowed: Allowed,
    pub(super) outcome: Outcome,
    pub(super) says: &'static str,
}

type Encode = Box<dyn Fn(&Kept) -> Vec<u8>>;
type Edit = Box<dyn Fn(&mut http::Request<()>, &Kept)>;

/// One call.
pub(super) struct Case {
    pub(super) title: String,
    pub(super) path: String,
    message: Encode,
    raw: Option<Box<dyn Fn(Vec<u8>) -> Bytes>>,
    edits: Vec<Edit>,
    pub(super) script: Option<Script>,
    pub(super) act: Act,
    sim: Option<Outcome>,
    emulator: Option<Outcome>,
    pub(super) keep: Vec<(&'static str, &'static [u32])>,
    to_leader: bool,
    examined: bool,
    pub(super) is_read: bool,
    pub(super) differs: Option<Differs>,
}

/// The full names of the services.
const SERVICES: [(&str, &str); 5] = [
    ("Spanner/", "/google.spanner.v1."),
    ("DatabaseAdmin/", "/google.spanner.admin.database.v1."),
    ("InstanceAdmin/", "/google.spanner.admin.instance.v1."),
    ("Operations/", "/google.longrunning."),
    ("IAMPolicy/", "/google.iam.v1."),
];

/// A call of a method (`Service/Method`, or a whole path).
pub(super) fn rpc<M: Message>(title: &str, method: &str, message: impl Fn(&Kept) -> M + 'static) -> Case {
    let package = SERVICES.iter().find(|(service, _)| method.starts_with(service)).map_or("", |(_, package)| package);
    Case {
        title: title.to_owned(),
        path: format!("{package}{method}"),
        message: Box::new(move |kept| message(kept).encode_to_vec()),
        raw: None,
        edits: Vec::new(),
        script: None,
        act: Act::Whole,
        sim: None,
        emulator: None,
        keep: Vec::new(),
        to_leader: false,
        examined: true,
        is_read: true,
        differs: None,
    }
}

impl Case {
    /// The status code that both backends answer with.
    pub(super) fn gives(self, code: u32) -> Case {
        self.on(code, code)
    }

    /// The status codes that the simulated Spanner and the emulator answer with.
    pub(super) fn on(self, sim: u32, emulator: u32) -> Case {
        self.ends(Outcome::Status(sim), Outcome::Status(emulator))
    }

    /// The same for a case that the emulator is not asked.
    pub(super) fn on_sim(self, sim: u32) -> Case {
        Case { sim: Some(Outcome::Status(sim)), ..self }
    }

    /// How the call ends on the simulated Spanner and the emulator.
    pub(super) fn ends(self, sim: Outcome, emulator: Outcome) -> Case {
        Case { sim: Some(sim), emulator: Some(emulator), ..self }
    }

    /// How the call ends on the simulated Spanner, for a case that the emulator is not asked.
    pub(super) fn ends_on_sim(self, sim: Outcome) -> Case {
        Case { sim: Some(sim), ..self }
    }

    /// Remembers the value at a field path of the answer.
    pub(super) fn keep(mut self, name: &'static str, path: &'static [u32]) -> Case {
        self.keep.push((name, path));
        self
    }

    /// Begins work that only the leader can do, by its message.
    pub(super) fn leader(self) -> Case {
        Case { to_leader: true, ..self }
    }

    /// The message can't be looked into, or the method is newer than the sidecar: no routing header is added.
    pub(super) fn unexamined(self) -> Case {
        Case { examined: false, ..self }
    }

    /// Sends these bytes instead of the framed message.
    pub(super) fn raw(self, make: impl Fn(Vec<u8>) -> Bytes + 'static) -> Case {
        Case { raw: Some(Box::new(make)), ..self }
    }

    /// Changes the request's head.
    pub(super) fn edit(mut self, edit: impl Fn(&mut http::Request<()>, &Kept) + 'static) -> Case {
        self.edits.push(Box::new(edit));
        self
    }

    /// Sends one more header.
    pub(super) fn metadata(self, name: &'static str, value: impl AsRef<[u8]>) -> Case {
        let value = http::HeaderValue::from_bytes(value.as_ref()).expect("a header value");
        self.edit(move |request, _| {
            request.headers_mut().append(name, value.clone());
        })
    }

    /// Leaves one header out.
    pub(super) fn without(self, name: &'static str) -> Case {
        self.edit(move |request, _| drop(request.headers_mut().remove(name)))
    }

    /// What upstream does.
    pub(super) fn script(self, script: Script) -> Case {
        Case { script: Some(script), ..self }
    }

    pub(super) fn act(self, act: Act) -> Case {
        Case { act, ..self }
    }

    /// Upstream answers without reading the request.
    pub(super) fn unread(self) -> Case {
        Case { is_read: false, ..self }
    }

    /// Through the sidecar the call ends otherwise, as the table of allowed differences has it.
    pub(super) fn instead(self, as_allowed: Allowed, outcome: Outcome, says: &'static str) -> Case {
        Case { differs: Some(Differs { as_allowed, outcome, says }), ..self }
    }

    /// How it must end, `None` where the backend is not asked.
    pub(super) fn expected(&self, is_sim: bool) -> Option<&Outcome> {
        if is_sim { self.sim.as_ref() } else { self.emulator.as_ref() }
    }

    /// Whether it is an error that a backend which has the method answers with.
    pub(super) fn is_error(&self) -> bool {
        ![Outcome::Status(code::OK), Outcome::Status(code::UNIMPLEMENTED)]
            .contains(self.sim.as_ref().expect("every case runs on the simulated Spanner"))
    }

    pub(super) fn message(&self, kept: &Kept) -> Vec<u8> {
        (self.message)(kept)
    }

    /// The bytes of the request.
    pub(super) fn body(&self, message: Vec<u8>) -> Bytes {
        self.raw.as_ref().map_or_else(|| frame(&message), |make| make(message.clone()))
    }

    pub(super) fn edit_head(&self, request: &mut http::Request<()>, kept: &Kept) {
        self.edits.iter().for_each(|edit| edit(request, kept));
    }

    /// The headers by which Google's own clients route this call.
    pub(super) fn routing(&self, message: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut add = |name: &'static str, value: String| drop(headers.insert(name, value.parse().expect("a header value")));
        let key = routing_key(&self.path);
        let path: &[u32] = if key.contains('.') { &[1, 1] } else { &[1] };
        let resource = find(message, path).and_then(|resource| std::str::from_utf8(resource).ok()).filter(|resource| !resource.is_empty());
        let Some(resource) = resource.filter(|_| self.examined) else { return headers };
        add("x-goog-request-params", format!("{key}={}", utf8_percent_encode(resource, VALUE)));
        let Some(method) = self.path.strip_prefix("/google.spanner.v1.Spanner/") else { return headers };
        // Database names have six parts; below them are sessions.
        let slashes: Vec<_> = resource.match_indices('/').map(|(at, _)| at).collect();
        add("google-cloud-resource-prefix", resource[..slashes.get(5).copied().unwrap_or(resource.len())].to_owned());
        if self.to_leader || TO_LEADER.contains(&method) {
            add("x-goog-spanner-route-to-leader", "true".to_owned());
        }
        headers
    }
}

/// What stays as it is in a routing parameter: the unreserved characters (AIP-4222, RFC 3986).
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The methods for which Google's clients ask for the leader whatever the message says.
const TO_LEADER: [&str; 10] = [
    "CreateSession",
    "BatchCreateSessions",
    "GetSession",
    "ListSessions",
    "Commit",
    "Rollback",
    "ExecuteBatchDml",
    "BatchWrite",
    "PartitionQuery",
    "PartitionRead",
];

/// The variable in the method's URL (its HTTP annotation), which is the key of its routing parameter.
fn routing_key(path: &str) -> &'static str {
    let method = path.rsplit('/').next().unwrap_or_default();
    match method {
        "GetIamPolicy" | "SetIamPolicy" | "TestIamPermissions" => "resource",
        "UpdateDatabase" => "database.name",
        "UpdateBackup" => "backup.name",
        "UpdateBackupSchedule" => "backup_schedule.name",
        "UpdateInstance" => "instance.name",
        "UpdateInstanceConfig" => "instance_config.name",
        "UpdateInstancePartition" => "instance_partition.name",
        "CreateSession"
        | "BatchCreateSessions"
        | "ListSessions"
        | "DropDatabase"
        | "GetDatabaseDdl"
        | "UpdateDatabaseDdl"
        | "AddSplitPoints"
        | "InternalUpdateGraphOperation" => "database",
        "ListOperations" | "CancelOperation" | "WaitOperation" => "name",
        _ if ["Get", "Delete", "Move"].iter().any(|verb| method.starts_with(verb)) => "name",
        _ if path.contains(".admin.") => "parent",
        _ => "session",
    }
}
