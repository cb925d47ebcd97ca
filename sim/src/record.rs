//! What clients did, for tests to look at: one [`Call`] per request, in the order of arrival.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use prost::Message;

use crate::lock;

/// Bodies up to this length are kept; of longer ones only length and hash.
pub const KEPT_BODY: usize = 1 << 20;

/// How a call ended, as far as the simulator can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has not ended.
    Open,
    /// The answer went out in full, with this `grpc-status` (-1 when a script sent none). "Out" means handed to the
    /// connection; the peer may still be reading.
    Answered(i32),
    /// The client reset the stream, with this HTTP/2 error code (8 is CANCEL).
    ClientReset(u32),
    /// A script reset the stream with this HTTP/2 error code.
    ServerReset(u32),
    /// The connection ended first.
    ConnectionLost,
}

/// One request and what became of it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Place in the order of arrival, from 0, over all connections.
    pub number: u64,
    /// Number of the connection, from 0 in the order of accepting.
    pub connection: u64,
    /// HTTP/2 stream id.
    pub stream: u32,
    /// The client's address.
    pub peer: SocketAddr,
    /// `:path`, with the query if there is one.
    pub path: String,
    /// `:method`.
    pub http_method: String,
    /// `:scheme`, empty if there was none.
    pub scheme: String,
    /// `:authority`, empty if there was none.
    pub authority: String,
    /// All other headers in the order in which they came, but that repeated names stand together.
    pub headers: HeaderMap,
    /// The raw DATA bytes, gRPC prefix included; empty if there were more than [`KEPT_BODY`].
    pub body: Bytes,
    /// Length of the raw DATA bytes received so far.
    pub body_len: u64,
    /// [`hash`] of the raw DATA bytes; only set once the body has ended.
    pub body_hash: u64,
    /// Whether the client ended its side of the stream.
    pub body_ended: bool,
    /// Whether a script took the call.
    pub scripted: bool,
    /// When the request's headers had arrived.
    pub started: Instant,
    /// When the call ended.
    pub ended: Option<Instant>,
    /// How the call ended.
    pub end: End,
}

impl Call {
    /// The last part of the path: `ExecuteSql`.
    pub fn method(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// The first value of a header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All headers as (name, value) pairs.
    pub fn header_list(&self) -> Vec<(&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
    }

    /// The gRPC messages of a kept body, without their prefix, still compressed if they were sent so.
    pub fn messages(&self) -> Vec<Bytes> {
        crate::grpc::split(self.body.clone()).0.into_iter().map(|(_, message)| message).collect()
    }

    /// Decodes the first message; `None` if there is none, it was not kept, is compressed, or is not an `M`.
    pub fn decode<M: Message + Default>(&self) -> Option<M> {
        match crate::grpc::split(self.body.clone()).0.into_iter().next()? {
            (false, message) => M::decode(message).ok(),
            (true, _) => None,
        }
    }
}

/// The 64-bit FNV-1a hash of [`Call::body_hash`].
pub fn hash(bytes: &[u8]) -> u64 {
    hash_on(HASH_START, bytes)
}

pub(crate) const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

pub(crate) fn hash_on(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// A call that is being recorded.
pub(crate) type Entry = Arc<Mutex<Call>>;

/// The newest calls, up to a limit.
pub(crate) struct Recorder {
    limit: usize,
    calls: Mutex<VecDeque<Entry>>,
}

impl Recorder {
    /// With a limit of 0 nothing is recorded.
    pub(crate) fn new(limit: usize) -> Self {
        Recorder { limit, calls: Mutex::default() }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.limit > 0
    }

    pub(crate) fn add(&self, call: Call) -> Entry {
        let entry = Arc::new(Mutex::new(call));
        let mut calls = lock(&self.calls);
        if calls.len() >= self.limit {
            calls.pop_front();
        }
        calls.push_back(entry.clone());
        entry
    }

    pub(crate) fn all(&self) -> Vec<Call> {
        let entries: Vec<Entry> = lock(&self.calls).iter().cloned().collect();
        entries.iter().map(|entry| lock(entry).clone()).collect()
    }

    pub(crate) fn clear(&self) {
        lock(&self.calls).clear();
    }
}
