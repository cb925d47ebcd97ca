//! The byte stream under one HTTP/2 connection, with a tap for what the `h2` crate does not offer: frames written
//! beside its own (a GOAWAY with any last stream id), a black hole, a slow line.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::lock;

/// Length of a frame's head (RFC 9113, section 4.1).
const FRAME_HEAD: usize = 9;
/// Bound of what a slow line holds back before it stops reading.
const SLOW_LINE_BYTES: usize = 1 << 20;

/// A connection's socket.
pub(crate) enum Socket {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

impl Socket {
    fn tcp(&self) -> &TcpStream {
        match self {
            Socket::Plain(tcp) => tcp,
            #[cfg(feature = "tls")]
            Socket::Tls(tls) => tls.get_ref().0,
        }
    }
}

/// What others may do to the byte stream while `h2` owns it.
#[derive(Default)]
pub(crate) struct Tap {
    /// Set once anything below is in use, so that the usual case costs one load.
    active: AtomicBool,
    state: Mutex<TapState>,
}

#[derive(Default)]
struct TapState {
    inject: VecDeque<Bytes>,
    black_hole: bool,
    reset_on_close: bool,
    delay: Duration,
    waker: Option<Waker>,
}

impl Tap {
    /// Writes raw frames as soon as `h2` is between two of its own.
    pub(crate) fn inject(&self, frames: Bytes) {
        self.change(|s| s.inject.push_back(frames));
    }

    /// Neither reads nor writes while on; the socket stays open.
    pub(crate) fn black_hole(&self, on: bool) {
        self.change(|s| s.black_hole = on);
    }

    /// What arrives is seen this much later.
    pub(crate) fn delay(&self, delay: Duration) {
        self.change(|s| s.delay = delay);
    }

    /// Closes with RST instead of FIN.
    pub(crate) fn reset_on_close(&self) {
        self.change(|s| s.reset_on_close = true);
    }

    fn change(&self, change: impl FnOnce(&mut TapState)) {
        let mut state = lock(&self.state);
        change(&mut state);
        self.active.store(true, Ordering::Release);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

/// The socket as `h2` sees it.
pub(crate) struct Wire {
    socket: Socket,
    tap: Arc<Tap>,
    frames: FrameCursor,
    injecting: Bytes,
    held: VecDeque<(Instant, Bytes)>,
    held_bytes: usize,
    ended: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    pub(crate) fn new(socket: Socket, tap: Arc<Tap>) -> Self {
        Wire {
            socket,
            tap,
            frames: FrameCursor::default(),
            injecting: Bytes::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            ended: false,
            timer: None,
        }
    }

    /// Whether the connection is a black hole now; leaves the waker so that the end of it is noticed.
    fn swallowed(&self, cx: &Context<'_>) -> bool {
        if !self.tap.active.load(Ordering::Acquire) {
            return false;
        }
        let mut state = lock(&self.tap.state);
        state.waker = Some(cx.waker().clone());
        state.black_hole
    }

    /// Writes injected frames if `h2` is between two frames; ready when none is left or it is not the time.
    fn poll_inject(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.tap.active.load(Ordering::Acquire) || !self.frames.at_boundary() {
            return Poll::Ready(Ok(()));
        }
        loop {
            if self.injecting.is_empty() {
                match lock(&self.tap.state).inject.pop_front() {
                    Some(frames) => self.injecting = frames,
                    None => return Poll::Ready(Ok(())),
                }
            }
            let n = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.injecting))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.injecting.advance(n);
        }
    }

    /// How much of `len` may be written in one go: up to the end of the current frame when frames wait for it.
    fn allowed(&self, len: usize) -> usize {
        if self.tap.active.load(Ordering::Acquire) && !lock(&self.tap.state).inject.is_empty() {
            self.frames.until_boundary().min(len)
        } else {
            len
        }
    }

    fn poll_read_slow(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, delay: Duration) -> Poll<io::Result<()>> {
        while !self.ended && self.held_bytes < SLOW_LINE_BYTES {
            let mut chunk = [0u8; 16 << 10];
            let mut read = ReadBuf::new(&mut chunk);
            match Pin::new(&mut self.socket).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if read.filled().is_empty() => self.ended = true,
                Poll::Ready(Ok(())) => {
                    self.held_bytes += read.filled().len();
                    self.held.push_back((Instant::now() + delay, Bytes::copy_from_slice(read.filled())));
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => break,
            }
        }
        let Some((at, bytes)) = self.held.front_mut() else {
            return if self.ended { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
        if *at > Instant::now() {
            let mut timer = Box::pin(tokio::time::sleep_until(*at));
            let state = timer.as_mut().poll(cx);
            self.timer = Some(timer);
            ready!(state);
        }
        let n = bytes.len().min(buf.remaining());
        buf.put_slice(&bytes.split_to(n));
        self.held_bytes -= n;
        if bytes.is_empty() {
            self.held.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if lock(&self.tap.state).reset_on_close {
            // Nothing to do about a failure here: the socket then closes with FIN.
            let _ = self.socket.tcp().set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.swallowed(cx) {
            return Poll::Pending;
        }
        if self.tap.active.load(Ordering::Acquire) {
            let delay = lock(&self.tap.state).delay;
            if !delay.is_zero() || !self.held.is_empty() {
                return self.poll_read_slow(cx, buf, delay);
            }
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.swallowed(cx) {
            return Poll::Pending;
        }
        ready!(self.poll_inject(cx))?;
        let buf = &buf[..self.allowed(buf.len())];
        let n = ready!(Pin::new(&mut self.socket).poll_write(cx, buf))?;
        self.frames.advance(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let total: usize = bufs.iter().map(|b| b.len()).sum();
        if self.allowed(total) < total || self.swallowed(cx) {
            let first = bufs.iter().find(|b| !b.is_empty()).map_or(&[][..], |b| b);
            return self.poll_write(cx, first);
        }
        ready!(self.poll_inject(cx))?;
        let n = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, bufs))?;
        let mut left = n;
        for buf in bufs {
            let part = left.min(buf.len());
            self.frames.advance(&buf[..part]);
            left -= part;
        }
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Plain(tcp) => tcp.is_write_vectored(),
            #[cfg(feature = "tls")]
            Socket::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.swallowed(cx) {
            return Poll::Pending;
        }
        ready!(self.poll_inject(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

macro_rules! on_socket {
    ($self:ident, $socket:ident => $call:expr) => {
        match $self.get_mut() {
            Socket::Plain(tcp) => {
                let $socket = Pin::new(tcp);
                $call
            }
            #[cfg(feature = "tls")]
            Socket::Tls(tls) => {
                let $socket = Pin::new(tls.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_socket!(self, s => s.poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_socket!(self, s => s.poll_write(cx, buf))
    }
    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        on_socket!(self, s => s.poll_write_vectored(cx, bufs))
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_socket!(self, s => s.poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_socket!(self, s => s.poll_shutdown(cx))
    }
}

/// Knows where in the frames of the outgoing bytes one is.
#[derive(Default)]
struct FrameCursor {
    head: [u8; FRAME_HEAD],
    have: usize,
    payload: usize,
    /// Between a HEADERS frame and the end of its CONTINUATIONs nothing else may be sent (RFC 9113, section 4.3).
    in_header_block: bool,
}

impl FrameCursor {
    fn at_boundary(&self) -> bool {
        self.have == 0 && self.payload == 0 && !self.in_header_block
    }

    /// Bytes to the next boundary; within a head only its own rest is known.
    fn until_boundary(&self) -> usize {
        if self.payload > 0 { self.payload } else { FRAME_HEAD - self.have }
    }

    fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let n = self.payload.min(bytes.len());
                self.payload -= n;
                bytes = &bytes[n..];
                continue;
            }
            let n = (FRAME_HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + n].copy_from_slice(&bytes[..n]);
            self.have += n;
            bytes = &bytes[n..];
            if self.have == FRAME_HEAD {
                self.have = 0;
                let [a, b, c, kind, flags, ..] = self.head;
                self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                // HEADERS, PUSH_PROMISE and CONTINUATION carry END_HEADERS.
                if matches!(kind, 1 | 5 | 9) {
                    self.in_header_block = flags & 4 == 0;
                }
            }
        }
    }
}

/// A GOAWAY frame (RFC 9113, section 6.8).
pub(crate) fn goaway_frame(last_stream: u32, code: u32, debug: &[u8]) -> Bytes {
    let len = u32::try_from(8 + debug.len()).unwrap_or(8);
    let mut out = Vec::with_capacity(FRAME_HEAD + 8 + debug.len());
    out.extend_from_slice(&len.to_be_bytes()[1..]);
    out.extend_from_slice(&[7, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&(last_stream & 0x7fff_ffff).to_be_bytes());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(debug);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_finds_boundaries_however_the_bytes_are_cut() {
        let mut bytes = goaway_frame(1, 0, b"bye").to_vec();
        bytes.extend_from_slice(&goaway_frame(3, 2, b""));
        for step in 1..bytes.len() {
            let mut cursor = FrameCursor::default();
            let mut at = 0;
            for chunk in bytes.chunks(step) {
                cursor.advance(chunk);
                at += chunk.len();
                assert_eq!(cursor.at_boundary(), at == 20 || at == bytes.len(), "step {step}, at {at}");
            }
        }
    }
}
