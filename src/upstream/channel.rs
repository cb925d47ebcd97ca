//! One channel: an HTTP/2 connection to the upstream, from its handshake to its end.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::Ping;
use h2::client::{Builder, Connection as H2Connection, SendRequest};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::connect::{ConnectError, Connection, Connector};

/// Flow-control window of one stream, in bytes: what a slow reader can make the sidecar hold. 64 KB -> 1 MB lifts large
/// results by half to double (measured), 256 KB is most of that at a quarter of the memory.
pub const STREAM_WINDOW: u32 = 256 << 10;

/// Flow-control window of the connection: the largest there is (RFC 9113, section 6.9.1). What is held is bounded by
/// streams x `STREAM_WINDOW`; a smaller one would let one slow reader stop all others.
pub const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// What h2 may buffer for one stream that the peer does not read, in bytes.
pub const SEND_BUFFER: usize = 64 << 10;

/// The largest header list that is taken, in bytes. Error trailers of 13 KB have been seen.
pub const HEADER_LIST: u32 = 64 << 10;

/// Streams per channel at the most when the peer sets no limit or a higher one; with `STREAM_WINDOW` it keeps what can be
/// held below `CONNECTION_WINDOW`.
const MAX_STREAMS: usize = 4096;

/// Cancelled streams whose late frames are recognised; beyond it each late frame is answered with another RST_STREAM.
const REMEMBERED_RESETS: usize = 1024;

/// How long the HTTP/2 handshake (SETTINGS and a PING) may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// An established connection.
pub struct Channel {
    sender: SendRequest<Bytes>,
    in_flight: Cell<usize>,
    gone: Cell<bool>,
    /// Signalled when no new stream can be opened any more.
    pub gone_signal: Notify,
}

impl Channel {
    /// Opens a connection and waits for the answer to a PING, so that the peer's settings are known and the first call
    /// finds a connection that works.
    pub async fn open(connector: &Connector, turn: usize) -> Result<Rc<Channel>, ConnectError> {
        let connection = connector.connect(turn).await?;
        timeout(HANDSHAKE_TIMEOUT, Channel::handshake(connection))
            .await
            .unwrap_or_else(|_| Err(ConnectError::Http2(h2::Error::from(h2::Reason::SETTINGS_TIMEOUT))))
    }

    async fn handshake(connection: Connection) -> Result<Rc<Channel>, ConnectError> {
        let (sender, mut connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST)
            .max_send_buffer_size(SEND_BUFFER)
            .enable_push(false)
            // The callers decide how many streams are cancelled; the peer's frames for them must not end the connection.
            .max_local_error_reset_streams(None)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .handshake::<_, Bytes>(connection)
            .await?;
        if let Some(mut ping) = connection.ping_pong() {
            let mut pong = pin!(ping.ping(Ping::opaque()));
            // The connection moves only while it is polled.
            poll_fn(|cx| match pin!(&mut connection).poll(cx) {
                Poll::Ready(ended) => Poll::Ready(ended.and(Err(h2::Error::from(h2::Reason::NO_ERROR)))),
                Poll::Pending => pong.as_mut().poll(cx).map_ok(drop),
            })
            .await?;
        }
        let channel = Rc::new(Channel { sender, in_flight: Cell::new(0), gone: Cell::new(false), gone_signal: Notify::new() });
        tokio::task::spawn_local(drive(connection, channel.clone()));
        Ok(channel)
    }

    /// Whether another stream can be opened.
    pub fn has_room(&self) -> bool {
        !self.gone.get() && self.in_flight.get() < self.sender.current_max_send_streams().min(MAX_STREAMS)
    }

    /// Whether new streams can't be opened any more.
    pub fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// Calls under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// A handle to send one request with.
    pub fn sender(&self) -> SendRequest<Bytes> {
        self.sender.clone()
    }

    /// Counts a stream.
    pub(super) fn enter(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    /// Counts the end of a stream.
    pub(super) fn leave(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
    }

    /// Takes the channel out of service; streams under way go on.
    pub fn retire(&self) {
        if !self.gone.replace(true) {
            self.gone_signal.notify_one();
        }
    }
}

/// Moves the connection's bytes until it ends. A GOAWAY shows as an error of a `SendRequest` long before the end.
async fn drive(mut connection: H2Connection<Connection, Bytes>, channel: Rc<Channel>) {
    let mut probe = Some(channel.sender());
    let weak = Rc::downgrade(&channel);
    drop(channel);
    let ended = poll_fn(|cx| {
        let ended = pin!(&mut connection).poll(cx);
        if let Some(sender) = &mut probe
            && (ended.is_ready() || matches!(sender.poll_ready(cx), Poll::Ready(Err(_))))
        {
            if let Some(channel) = weak.upgrade() {
                channel.retire();
            }
            // A handle left here would keep a drained connection from closing.
            probe = None;
        }
        ended
    })
    .await;
    if let Err(error) = ended {
        tracing::info!(%error, "connection to the upstream ended");
    }
}
