//! The life of one call, as a state machine that does no I/O: READ FIRST.
//!
//! An engine feeds it what happened (the request's head, the front of its message, an attempt's failure, the answer's head,
//! first message and end) and does what it is told (answer here, read more, send an attempt, forward, give up). Time is an
//! argument. What moves the bytes is unknown here, so one machine serves every engine and every test.
//!
//! ```text
//!  Call::start ──► Answer(status)                               not served, not gRPC, too much metadata
//!      │      └──► Local                                        health, reflection
//!      ▼
//!  ReadMessage ──► on_message ──► Answer(status)                too large
//!      │                │
//!      ▼                ▼
//!    Send(plan) ◄───────┘  ◄───── on_failure: another channel   provably unprocessed, or safe to repeat
//!      │                              │
//!      ▼                              └──► Answer(status)       nothing has gone downstream yet
//!  on_head ─► forward ─► on_first_message ─► forward ─► on_end
//! ```

pub mod attempt;
pub mod message;
pub mod method;
pub mod policy;

use std::time::{Duration, Instant};

use crate::status::{self, Status};
use attempt::{Edits, Failure, Pin, Plan};
use message::{Mode, Transaction};
use method::{Method, Repeat, Route, Shape};

/// The largest request message that is taken, in bytes. Spanner's own limit for one commit is 100 MB
/// (cloud.google.com/spanner/quotas), so nothing that Spanner would take is refused here.
pub const MAX_REQUEST_MESSAGE: usize = 128 << 20;

/// How much of a request message is held back to be looked into and, if the whole fits, to be sent again, in bytes. What is
/// longer streams through behind its front. 256 KiB holds every query and most commits; times the streams of a
/// connection it bounds the memory.
pub const REPLAY_LIMIT: usize = 256 << 10;

/// The length of gRPC's frame header: a flag byte and a 4-byte big-endian length.
pub const FRAME_HEADER: usize = 5;

/// What the engine knows of a request when its head has arrived.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// `:path`
    pub path: &'a str,
    /// Whether the method is POST.
    pub is_post: bool,
    /// `content-type`
    pub content_type: Option<&'a [u8]>,
    /// `grpc-timeout`
    pub timeout: Option<&'a [u8]>,
    /// The size of all metadata as HTTP/2 counts it, in bytes.
    pub metadata_size: usize,
    /// Which of the headers that the sidecar would add are there already.
    pub has: Present,
}

/// The headers that the sidecar adds only where the client did not.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs, reason = "each field is the header of its name")]
pub struct Present {
    pub google_cloud_resource_prefix: bool,
    pub x_goog_request_params: bool,
    pub x_goog_spanner_route_to_leader: bool,
}

/// What the engine has to do next.
#[derive(Debug)]
pub enum Step {
    /// Send this status to the caller and end the call.
    Answer(Status),
    /// Hand the call to the local services.
    Local,
    /// Read the request until its message is complete or `REPLAY_LIMIT` bytes are there, then call [`Call::on_message`].
    ReadMessage,
    /// Send an attempt upstream.
    Send(Plan),
}

/// What the caller sees of a call.
#[derive(Debug)]
pub struct Call {
    method: Option<&'static Method>,
    index: usize,
    has: Present,
    received: Instant,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    attempts: u32,
    repeatable: bool,
    begins: Option<Mode>,
}

impl Call {
    /// The head of a request has arrived.
    pub fn start(head: &Head<'_>, now: Instant) -> (Call, Step) {
        let route = method::route(head.path);
        let (index, method) = match route {
            Route::Known(index) => (index, Some(&method::TABLE[index])),
            _ => (method::METHODS, None),
        };
        let mut call = Call { method, index, has: head.has, received: now, deadline: None, attempts: 0, repeatable: false, begins: None };
        let step = call.judge_head(head, route);
        (call, step)
    }

    fn judge_head(&mut self, head: &Head<'_>, route: Route) -> Step {
        let is_grpc = head.is_post && head.content_type.is_some_and(policy::is_grpc);
        if !is_grpc {
            let content_type = String::from_utf8_lossy(head.content_type.unwrap_or(b"none"));
            return Step::Answer(status::NOT_GRPC.with(format!("content-type {content_type}")));
        }
        if head.metadata_size > policy::MAX_METADATA {
            let detail = format!("{} bytes of at most {}", head.metadata_size, policy::MAX_METADATA);
            return Step::Answer(status::METADATA_TOO_LARGE.with(detail));
        }
        if let Some(value) = head.timeout {
            // One that can't be read is upstream's to refuse.
            self.deadline = policy::timeout(value).and_then(|timeout| self.received.checked_add(timeout));
        }
        match route {
            Route::Known(_) => Step::ReadMessage,
            // It may be of any kind, also one in which the server speaks first: nothing is held back.
            Route::Unknown => Step::Send(Plan::unexamined()),
            Route::Local => Step::Local,
            Route::NotServed => Step::Answer(status::NOT_SERVED.with(head.path)),
        }
    }

    /// The front of the request is there: gRPC frame header and message, `whole` if nothing follows.
    pub fn on_message(&mut self, front: &[u8], whole: bool) -> Step {
        let Some(method) = self.method else { return Step::Send(Plan::unexamined()) };
        let Some((header, body)) = front.split_first_chunk::<FRAME_HEADER>() else {
            // Truncated, or no message at all: upstream's to judge.
            return Step::Send(Plan::unexamined());
        };
        let length = policy::message_length(header);
        if length > MAX_REQUEST_MESSAGE {
            return Step::Answer(status::MESSAGE_TOO_LARGE.with(format!("{length} bytes of at most {MAX_REQUEST_MESSAGE}")));
        }
        if header[0] != 0 {
            // Compressed: the bytes pass, nothing can be known of them.
            return Step::Send(Plan::unexamined());
        }
        let message = &body[..length.min(body.len())];
        let facts = message::request(method, message, message.len() == length);
        self.repeatable = whole && policy::repeatable(method, &facts);
        self.begins = match facts.transaction {
            Transaction::Begin(mode) => Some(mode),
            _ => None,
        };
        let pin = match facts.transaction {
            Transaction::Id(id) if !id.is_empty() => Pin::To(id.into(), ends_transaction(method)),
            _ => Pin::Free,
        };
        Step::Send(Plan { pin, edits: Edits::for_request(method, &facts, self.has) })
    }

    /// An attempt has failed before anything of its answer went downstream.
    ///
    /// `can_resend` tells whether the engine still has the whole request.
    pub fn on_failure(&mut self, failure: &Failure, can_resend: bool, now: Instant) -> Verdict {
        self.attempts += 1;
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Verdict::Answer(status::DEADLINE.with(failure.to_string()));
        }
        let allowed = failure.unprocessed || (self.repeatable && failure.connection_lost());
        if allowed && can_resend && self.attempts < policy::MAX_ATTEMPTS {
            return Verdict::Again;
        }
        match failure.kind {
            attempt::Kind::Reset(code) if !failure.unprocessed => Verdict::Reset(code),
            _ if failure.unprocessed => Verdict::Answer(status::NEVER_ACCEPTED.with(failure.to_string())),
            attempt::Kind::Protocol => Verdict::Answer(status::UPSTREAM_PROTOCOL.with(failure.to_string())),
            _ => Verdict::Answer(status::CONNECTION_LOST.with(failure.to_string())),
        }
    }

    /// Whether the first message of the answer has to be shown to [`Call::begun`].
    pub fn wants_first_message(&self) -> bool {
        self.begins.is_some()
    }

    /// The front of the answer, gRPC frame header and as much of the first message as is there: the transaction that it
    /// has begun, if that much can be seen.
    pub fn begun<'a>(&self, front: &'a [u8]) -> Option<(&'a [u8], Mode)> {
        let mode = self.begins?;
        let (header, body) = front.split_first_chunk::<FRAME_HEADER>()?;
        if header[0] != 0 {
            return None;
        }
        let message = &body[..policy::message_length(header).min(body.len())];
        message::begun_transaction(self.method?.shape, message).map(|id| (id, mode))
    }

    /// What is left of the caller's patience, or `None` if it set no deadline. Only a call that has waited here needs it.
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(now))
    }

    /// When the request's head arrived.
    pub fn received(&self) -> Instant {
        self.received
    }

    /// The method's place in the table, or the table's length for a method that is not in it.
    pub fn method_index(&self) -> usize {
        self.index
    }
}

/// What becomes of a call whose attempt failed.
#[derive(Debug)]
pub enum Verdict {
    /// Send the same request again, on another channel.
    Again,
    /// Give the caller this status.
    Answer(Status),
    /// Reset the caller's stream with this HTTP/2 error code, as upstream reset ours.
    Reset(u32),
}

fn ends_transaction(method: &Method) -> bool {
    matches!(method.shape, Shape::Commit | Shape::Rollback)
}

impl Method {
    fn may_repeat(&self, facts: &message::Facts<'_>) -> bool {
        match self.repeat {
            Repeat::Safe => true,
            Repeat::IfSingleUseRead => facts.transaction == Transaction::SingleUse,
            Repeat::Never => false,
        }
    }
}

#[cfg(test)]
mod tests;
