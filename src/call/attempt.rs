//! An attempt: one copy of a call, sent upstream. Its plan, and how it can fail.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Present;
use super::message::{Facts, Mode, Transaction, database_of};
use super::method::{Method, Shape};

/// How an attempt is to be sent.
#[derive(Debug)]
pub struct Plan {
    /// Which channel it may take.
    pub pin: Pin,
    /// What is added to the metadata.
    pub edits: Edits,
}

impl Plan {
    /// The plan of a call whose message is not known: any channel, nothing added.
    pub fn unexamined() -> Self {
        Plan { pin: Pin::Free, edits: Edits::default() }
    }
}

/// Which channel an attempt may take.
#[derive(Debug)]
pub enum Pin {
    /// The best one.
    Free,
    /// The one of the transaction with this id, if it is known; `true` if the transaction ends with this call.
    To(Box<[u8]>, bool),
}

/// Headers to add; `None` where the client sent its own or there is nothing to say.
#[derive(Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the header of its name")]
pub struct Edits {
    pub google_cloud_resource_prefix: Option<String>,
    pub x_goog_request_params: Option<String>,
    pub x_goog_spanner_route_to_leader: bool,
}

/// What stays as it is in a URL-encoded routing parameter (RFC 3986 unreserved characters; AIP-4222).
const PARAMETER: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl Edits {
    /// What Google's own clients send and this one did not.
    pub fn for_request(method: &Method, facts: &Facts<'_>, has: Present) -> Self {
        let Some(resource) = facts.resource else { return Edits::default() };
        let data = method.path.starts_with("/google.spanner.v1.");
        Edits {
            google_cloud_resource_prefix: (data && !has.google_cloud_resource_prefix)
                .then(|| database_of(resource).map(str::to_owned))
                .flatten(),
            x_goog_request_params: (!has.x_goog_request_params)
                .then(|| format!("{}={}", method.routing_key, utf8_percent_encode(resource, PARAMETER))),
            x_goog_spanner_route_to_leader: data && !has.x_goog_spanner_route_to_leader && to_leader(method, facts),
        }
    }
}

/// Whether the leader replica has to answer. An id alone does not tell the mode of its transaction, so a statement inside
/// one gets the header only from the client, which knows.
fn to_leader(method: &Method, facts: &Facts<'_>) -> bool {
    let begins_locking = matches!(facts.transaction, Transaction::Begin(Mode::ReadWrite | Mode::PartitionedDml));
    match method.shape {
        Shape::Begin | Shape::Selector | Shape::SelectorStream => method.to_leader || begins_locking,
        _ => method.to_leader,
    }
}

/// How an attempt failed.
#[derive(Debug)]
pub struct Failure {
    /// What happened.
    pub kind: Kind,
    /// Whether it is certain that upstream did nothing with the request: never written, REFUSED_STREAM, or beyond the last
    /// stream of a GOAWAY (RFC 9113, sections 6.8 and 8.7).
    pub unprocessed: bool,
    /// The error below, for people.
    pub detail: String,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The stream was reset with this HTTP/2 error code.
    Reset(u32),
    /// The connection ended under the call.
    Lost,
    /// Upstream broke the protocol.
    Protocol,
}

impl Failure {
    /// Whether the channel, not the call, was at fault.
    pub fn connection_lost(&self) -> bool {
        self.kind == Kind::Lost
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}
