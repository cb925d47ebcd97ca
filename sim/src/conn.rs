//! One HTTP/2 connection: accepts its streams and starts a task for each, and does what scripts and tests ask of it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use tokio::sync::mpsc;

use crate::io::{Socket, Tap, Wire, goaway_frame};
use crate::sim::Shared;

/// Window of a stream: what a client may send of one request before it is read.
const STREAM_WINDOW: u32 = 1 << 20;
/// Window of a connection.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// What one stream may have queued for sending; bounds the memory of slow readers.
const SEND_BUFFER: usize = 64 << 10;
/// Google's front ends allow about as much; error details reach 13 KB.
const MAX_HEADER_LIST: u32 = 64 << 10;
/// A burst of cancels must not end the connection (the default of `h2` is 20).
const MAX_PENDING_RESETS: usize = 100_000;

/// A client's connection, as tests and scripts handle it.
#[derive(Clone)]
pub struct Connection(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    number: u64,
    peer: SocketAddr,
    tap: Arc<Tap>,
    commands: mpsc::UnboundedSender<Command>,
    /// Streams above this came after a GOAWAY and are not answered.
    last_stream: AtomicU32,
    newest_stream: AtomicU32,
    open_streams: AtomicUsize,
}

enum Command {
    Graceful,
    Abrupt(u32),
    Close,
    /// Injected frames wait to be written.
    Flush,
}

impl Connection {
    /// Number of the connection, from 0 in the order of accepting.
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// Streams that are open now.
    pub fn open_streams(&self) -> usize {
        self.0.open_streams.load(Ordering::Relaxed)
    }

    /// Highest stream id seen so far.
    pub fn newest_stream(&self) -> u32 {
        self.0.newest_stream.load(Ordering::Relaxed)
    }

    /// Announces the end; calls in flight finish, then the connection closes.
    pub fn goaway_gracefully(&self) {
        self.send(Command::Graceful);
    }

    /// Sends one GOAWAY with this error code and closes at once.
    pub fn goaway_abruptly(&self, code: u32) {
        self.send(Command::Abrupt(code));
    }

    /// Sends one GOAWAY. Calls above `last_stream` get no answer; the others finish; the connection stays open until
    /// the client or the test closes it.
    pub fn goaway(&self, last_stream: u32, code: u32) {
        self.0.last_stream.fetch_min(last_stream, Ordering::Relaxed);
        self.inject(goaway_frame(last_stream, code, b""));
    }

    /// Writes raw frames between those of the server.
    pub fn inject(&self, frames: impl Into<Bytes>) {
        self.0.tap.inject(frames.into());
        self.send(Command::Flush);
    }

    /// Closes with FIN.
    pub fn close(&self) {
        self.send(Command::Close);
    }

    /// Closes with a TCP RST.
    pub fn tcp_reset(&self) {
        self.0.tap.reset_on_close();
        self.send(Command::Close);
    }

    /// While on, nothing is read or written; the socket stays open.
    pub fn black_hole(&self, on: bool) {
        self.0.tap.black_hole(on);
    }

    /// From now on everything that arrives is seen this much later.
    pub fn delay(&self, delay: Duration) {
        self.0.tap.delay(delay);
    }

    pub(crate) fn ignores(&self, stream: u32) -> bool {
        stream > self.0.last_stream.load(Ordering::Relaxed)
    }

    pub(crate) fn stream_opened(&self) {
        self.0.open_streams.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stream_closed(&self) {
        self.0.open_streams.fetch_sub(1, Ordering::Relaxed);
    }

    fn send(&self, command: Command) {
        // Fails only when the connection has ended already.
        self.0.commands.send(command).ok();
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("number", &self.number()).field("peer", &self.peer()).finish()
    }
}

/// One per turn of a connection's loop, so its size does not matter.
#[allow(clippy::large_enum_variant)]
enum Event {
    Request(Request<RecvStream>, SendResponse<Bytes>),
    Command(Command),
    Ended,
}

/// Serves one connection to its end.
pub(crate) async fn serve(shared: Arc<Shared>, socket: Socket, peer: SocketAddr, number: u64) {
    let tap = Arc::new(Tap::default());
    let (commands, mut inbox) = mpsc::unbounded_channel();
    let connection = Connection(Arc::new(Inner {
        number,
        peer,
        tap: tap.clone(),
        commands,
        last_stream: AtomicU32::new(u32::MAX),
        newest_stream: AtomicU32::new(0),
        open_streams: AtomicUsize::new(0),
    }));
    let _open = shared.connection_opened(connection.clone());
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_concurrent_streams(shared.options.max_concurrent_streams)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(None);
    let Ok(mut h2) = builder.handshake::<_, Bytes>(Wire::new(socket, tap)).await else {
        return;
    };
    loop {
        let event = poll_fn(|cx| {
            if let Poll::Ready(Some(command)) = inbox.poll_recv(cx) {
                return Poll::Ready(Event::Command(command));
            }
            h2.poll_accept(cx).map(|next| match next {
                Some(Ok((request, respond))) => Event::Request(request, respond),
                Some(Err(_)) | None => Event::Ended,
            })
        });
        match event.await {
            Event::Request(request, respond) => {
                connection.0.newest_stream.store(respond.stream_id().as_u32(), Ordering::Relaxed);
                tokio::spawn(crate::call::run(shared.clone(), connection.clone(), request, respond));
            }
            Event::Command(Command::Graceful) => h2.graceful_shutdown(),
            Event::Command(Command::Abrupt(code)) => h2.abrupt_shutdown(code.into()),
            Event::Command(Command::Close) => {
                // One more turn, so that what is queued goes out before the socket closes.
                poll_fn(|cx| {
                    // A request that comes now comes too late.
                    drop(h2.poll_accept(cx));
                    Poll::Ready(())
                })
                .await;
                return;
            }
            // The next turn does it.
            Event::Command(Command::Flush) => {}
            Event::Ended => return,
        }
    }
}
