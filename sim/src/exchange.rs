//! The two halves of one HTTP/2 stream: reading the request, writing the answer, noticing that the client is gone.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::lock;
use crate::record::{End, Entry, HASH_START, KEPT_BODY, hash_on};
use crate::script::generated_block;
use crate::status::Status;

/// As Google's front end and Spanner's API front end report the time they took, in milliseconds.
const SERVER_TIMING: &str = "gfet4t7; dur=1, afe; dur=1";
/// Answers up to this length are handed to `h2` without waiting for the client's window.
const SMALL_ANSWER: usize = 32 << 10;
/// What is asked of the send window at once.
const WRITE: usize = 16 << 10;

/// One stream. Methods that wait return `Err` with the way the call ended if it ends meanwhile.
pub(crate) struct Exchange {
    respond: SendResponse<Bytes>,
    sending: Option<SendStream<Bytes>>,
    body: RecvStream,
    entry: Option<Entry>,
    sent: usize,
    /// Headers that a script adds to the answer, and the HTTP status it wants.
    pub(crate) extra_headers: HeaderMap,
    pub(crate) http_status: StatusCode,
}

impl Exchange {
    pub(crate) fn new(respond: SendResponse<Bytes>, body: RecvStream, entry: Option<Entry>) -> Self {
        Exchange { respond, sending: None, body, entry, sent: 0, extra_headers: HeaderMap::new(), http_status: StatusCode::OK }
    }

    pub(crate) fn mark_scripted(&self) {
        if let Some(entry) = &self.entry {
            lock(entry).scripted = true;
        }
    }

    /// Reads the request to its end. Without `keep`, bytes beyond what is recorded are dropped as they come.
    pub(crate) async fn read_body(&mut self, keep: bool) -> Result<Bytes, End> {
        let mut kept = BytesMut::new();
        let mut only = Bytes::new();
        let mut len = 0usize;
        let mut hash = None;
        while let Some(chunk) = self.body.data().await {
            let chunk = chunk.map_err(|e| end_of(&e))?;
            self.body.flow_control().release_capacity(chunk.len()).map_err(|e| end_of(&e))?;
            len += chunk.len();
            if self.entry.is_some() && len > KEPT_BODY {
                let before = hash.unwrap_or_else(|| hash_on(hash_on(HASH_START, &only), &kept));
                hash = Some(hash_on(before, &chunk));
            }
            if keep || (self.entry.is_some() && len <= KEPT_BODY) {
                if len == chunk.len() {
                    only = chunk;
                    continue;
                }
                if !only.is_empty() {
                    kept.extend_from_slice(&std::mem::take(&mut only));
                }
                kept.extend_from_slice(&chunk);
            } else if !keep {
                (only, kept) = (Bytes::new(), BytesMut::new());
            }
            if let Some(entry) = &self.entry {
                lock(entry).body_len = len as u64;
            }
        }
        let body = if only.is_empty() { kept.freeze() } else { only };
        if let Some(entry) = &self.entry {
            let mut call = lock(entry);
            call.body_ended = true;
            call.body_len = len as u64;
            call.body_hash = hash.unwrap_or_else(|| hash_on(HASH_START, &body));
            if len <= KEPT_BODY {
                // A copy: the chunk shares the connection's read buffer, which should not live as long as the record.
                call.body = Bytes::copy_from_slice(&body);
            }
        }
        Ok(body)
    }

    fn response(&mut self, trailers: Option<HeaderMap>) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = self.http_status;
        let headers = response.headers_mut();
        headers.reserve(4);
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(HeaderName::from_static("server-timing"), HeaderValue::from_static(SERVER_TIMING));
        for name in self.extra_headers.keys() {
            headers.remove(name);
        }
        for (name, value) in &self.extra_headers {
            headers.append(name.clone(), value.clone());
        }
        headers.extend(trailers.into_iter().flatten());
        response
    }

    /// Sends the response's headers unless they are out.
    pub(crate) fn send_head(&mut self) -> Result<&mut SendStream<Bytes>, End> {
        if self.sending.is_none() {
            let response = self.response(None);
            self.sending = Some(self.respond.send_response(response, false).map_err(|e| end_of(&e))?);
        }
        self.sending.as_mut().ok_or(End::ConnectionLost)
    }

    /// Sends DATA, waiting for the client's window once the answer is no longer small.
    pub(crate) async fn send(&mut self, mut data: Bytes) -> Result<(), End> {
        let total = self.sent.saturating_add(data.len());
        let small = total <= SMALL_ANSWER;
        self.sent = total;
        let stream = self.send_head()?;
        if small {
            return stream.send_data(data, false).map_err(|e| end_of(&e));
        }
        while !data.is_empty() {
            stream.reserve_capacity(data.len().min(WRITE));
            if stream.capacity() == 0 {
                match poll_fn(|cx| stream.poll_capacity(cx)).await {
                    Some(Ok(_)) => {}
                    Some(Err(e)) => return Err(end_of(&e)),
                    // The stream is closed; the reason is there without waiting.
                    None => return Err(self.gone().await),
                }
            }
            let part = data.split_to(stream.capacity().min(data.len()));
            stream.send_data(part, false).map_err(|e| end_of(&e))?;
        }
        Ok(())
    }

    /// Sends one generated message (see [`crate::generated`]).
    pub(crate) async fn send_generated(&mut self, size: u32) -> Result<(), End> {
        self.send(Bytes::copy_from_slice(&crate::grpc::prefix(size as usize))).await?;
        let block = generated_block();
        let mut left = size as usize;
        while left > 0 {
            let part = left.min(block.len());
            self.send(block.slice(..part)).await?;
            left -= part;
        }
        Ok(())
    }

    /// Ends the answer: with trailers if the headers are out, else trailers-only.
    pub(crate) fn finish(&mut self, trailers: HeaderMap) -> End {
        let status = trailers.get("grpc-status").and_then(|s| s.to_str().ok()?.parse().ok()).unwrap_or(-1);
        let sent = match &mut self.sending {
            Some(stream) => stream.send_trailers(trailers),
            None => {
                let response = self.response(Some(trailers));
                self.respond.send_response(response, true).map(drop)
            }
        };
        sent.map_or_else(|e| end_of(&e), |()| End::Answered(status))
    }

    pub(crate) fn finish_with(&mut self, status: &Status) -> End {
        self.finish(status.trailers())
    }

    pub(crate) fn reset(&mut self, code: u32) -> End {
        match &mut self.sending {
            Some(stream) => stream.send_reset(code.into()),
            None => self.respond.send_reset(code.into()),
        }
        End::ServerReset(code)
    }

    /// Waits, but not longer than the client does.
    pub(crate) async fn pause(&mut self, time: Duration) -> Result<(), End> {
        tokio::select! {
            end = self.gone() => Err(end),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }

    /// Waits until the client resets the stream or the connection ends.
    pub(crate) async fn gone(&mut self) -> End {
        let reset = poll_fn(|cx| self.poll_reset(cx)).await;
        reset.map_or_else(|e| end_of(&e), |reason| End::ClientReset(reason.into()))
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<h2::Reason, h2::Error>> {
        match &mut self.sending {
            Some(stream) => stream.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        }
    }
}

/// How a call ends when its stream fails with this error.
fn end_of(error: &h2::Error) -> End {
    match error.reason() {
        Some(reason) if error.is_reset() && error.is_remote() => End::ClientReset(reason.into()),
        Some(reason) if error.is_reset() => End::ServerReset(reason.into()),
        _ => End::ConnectionLost,
    }
}

/// Keeps the counters of open streams right however a call ends.
pub(crate) struct OpenCall {
    shared: std::sync::Arc<crate::sim::Shared>,
    connection: crate::conn::Connection,
    pub(crate) entry: Option<Entry>,
    pub(crate) end: End,
}

impl OpenCall {
    pub(crate) fn new(shared: std::sync::Arc<crate::sim::Shared>, connection: crate::conn::Connection, entry: Option<Entry>) -> Self {
        shared.open_streams.fetch_add(1, Ordering::Relaxed);
        connection.stream_opened();
        shared.changed.notify_waiters();
        OpenCall { shared, connection, entry, end: End::ConnectionLost }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if let Some(entry) = &self.entry {
            let mut call = lock(entry);
            call.end = self.end;
            call.ended = Some(std::time::Instant::now());
        }
        self.shared.open_streams.fetch_sub(1, Ordering::Relaxed);
        self.connection.stream_closed();
        self.shared.changed.notify_waiters();
    }
}
