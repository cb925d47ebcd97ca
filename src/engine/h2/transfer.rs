//! Bytes from one h2 stream to another, under both sides' flow control; and what an h2 error means.

use std::future::poll_fn;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};

use super::Cancelled;
use crate::call::attempt::{Failure, Kind};

/// Appends, without copying the first piece: most messages are one.
pub(super) fn join(front: Bytes, chunk: Bytes) -> Bytes {
    if front.is_empty() {
        return chunk;
    }
    let mut joined = front.try_into_mut().unwrap_or_else(|front| {
        let mut joined = BytesMut::with_capacity((front.len() + chunk.len()).next_power_of_two());
        joined.extend_from_slice(&front);
        joined
    });
    joined.extend_from_slice(&chunk);
    joined.freeze()
}

/// The next piece of the answer, unless the caller goes away first.
pub(super) async fn next(body: &mut RecvStream, down: &mut SendStream<Bytes>) -> Result<Result<Option<Bytes>, h2::Error>, Cancelled> {
    poll_fn(|cx| match body.poll_data(cx) {
        Poll::Ready(chunk) => Poll::Ready(Ok(chunk.transpose())),
        Poll::Pending => down.poll_reset(cx).map(|_| Err(Cancelled)),
    })
    .await
}

/// Sends `chunk` as the receiver makes room, so that nothing piles up here.
pub(in crate::engine) async fn push(to: &mut SendStream<Bytes>, mut chunk: Bytes) -> Result<(), h2::Error> {
    to.reserve_capacity(chunk.len());
    loop {
        let room = to.capacity();
        if room >= chunk.len() {
            return to.send_data(chunk, false);
        }
        if room > 0 {
            to.send_data(chunk.split_to(room), false)?;
            to.reserve_capacity(chunk.len());
            continue;
        }
        match poll_fn(|cx| to.poll_capacity(cx)).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Err(Reason::STREAM_CLOSED.into()),
        }
    }
}

/// Streams the rest of a request upstream, behind its front. On any failure the attempt's answer tells what happened.
pub(super) async fn upload(front: Bytes, mut body: RecvStream, mut up: SendStream<Bytes>) {
    if !front.is_empty() && push(&mut up, front).await.is_err() {
        return;
    }
    while let Some(chunk) = body.data().await {
        let Ok(chunk) = chunk else { return };
        let length = chunk.len();
        if push(&mut up, chunk).await.is_err() {
            return;
        }
        let _ = body.flow_control().release_capacity(length);
    }
    let _ = match body.trailers().await {
        Ok(Some(trailers)) => up.send_trailers(trailers),
        Ok(None) => up.send_data(Bytes::new(), true),
        Err(_) => return,
    };
}

/// What an error of a stream says of its attempt.
///
/// h2 gives the streams beyond the last one of a GOAWAY, and those opened after it, the GOAWAY itself as error; the others
/// go on, and end with an I/O error if the connection closes under them.
pub(super) fn failure(error: &h2::Error) -> Failure {
    let reason = error.reason();
    let (kind, unprocessed) = if error.is_reset() && error.is_remote() {
        (Kind::Reset(reason.map_or(0, u32::from)), reason == Some(Reason::REFUSED_STREAM))
    } else if error.is_go_away() && error.is_remote() {
        (Kind::Lost, true)
    } else if error.is_reset() {
        // h2 itself reset the stream, for what upstream sent on it.
        (Kind::Protocol, false)
    } else {
        (Kind::Lost, false)
    };
    Failure { kind, unprocessed, detail: error.to_string() }
}
