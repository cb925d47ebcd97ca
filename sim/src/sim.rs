//! The simulator as a whole: how it is set up, started, watched and stopped.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use crate::conn::{self, Connection};
use crate::io::Socket;
use crate::lock;
use crate::matcher::{Matcher, ScriptHandle, Scripts};
use crate::record::{Call, Recorder};
use crate::script::Script;
use crate::spanner::{Behaviour, Spanner};

/// Streams per connection that Google's front ends allow.
const GOOGLE_STREAMS: u32 = 100;
/// Calls kept for [`Sim::recorded`] unless set.
const RECORD_LIMIT: usize = 100_000;
/// A TLS handshake that takes longer is given up.
#[cfg(feature = "tls")]
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// What the connections need to know of the set-up.
pub(crate) struct Options {
    pub(crate) strict_headers: bool,
    pub(crate) max_concurrent_streams: u32,
    /// Tokens that are good now; none set means that no token is asked for.
    pub(crate) tokens: Mutex<Vec<String>>,
}

impl Default for Options {
    fn default() -> Self {
        Options { strict_headers: true, max_concurrent_streams: GOOGLE_STREAMS, tokens: Mutex::default() }
    }
}

/// Sets up a [`Sim`].
pub struct Builder {
    listen: String,
    #[cfg(feature = "tls")]
    tls_names: Vec<String>,
    record_limit: usize,
    databases: Vec<(String, Vec<String>)>,
    behaviour: Behaviour,
    options: Options,
}

impl Builder {
    /// Address to listen on; `127.0.0.1:0` unless set.
    #[must_use]
    pub fn listen(mut self, addr: impl Into<String>) -> Self {
        self.listen = addr.into();
        self
    }

    /// Speaks TLS, with a certificate for these DNS names and IP addresses, signed by the CA of [`Sim::ca_pem`].
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.tls_names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Asks for `authorization: Bearer <token>` on every call; see [`Sim::set_tokens`] to change it later.
    #[must_use]
    pub fn token(self, token: impl Into<String>) -> Self {
        lock(&self.options.tokens).push(token.into());
        self
    }

    /// Whether every header that Google's clients send must be there; on unless set. Off, headers may be missing, as
    /// Google lets them be (the official Rust client sends no `google-cloud-resource-prefix`), but routing headers
    /// that are there must still be right.
    #[must_use]
    pub fn strict_headers(mut self, on: bool) -> Self {
        self.options.strict_headers = on;
        self
    }

    /// Streams that one connection may have open; 100 unless set, as at Google.
    #[must_use]
    pub fn max_concurrent_streams(mut self, n: u32) -> Self {
        self.options.max_concurrent_streams = n;
        self
    }

    /// How many of the newest calls are kept for [`Sim::recorded`]; 100,000 unless set. 0 turns recording off, which
    /// makes calls cheaper.
    #[must_use]
    pub fn record_limit(mut self, calls: usize) -> Self {
        self.record_limit = calls;
        self
    }

    /// Has this database (and its instance) from the start, with these DDL statements.
    #[must_use]
    pub fn database<S: Into<String>>(mut self, name: impl Into<String>, ddl: impl IntoIterator<Item = S>) -> Self {
        self.databases.push((name.into(), ddl.into_iter().map(Into::into).collect()));
        self
    }

    /// BatchCreateSessions returns at most `n` sessions, however many are asked for; 100 unless set.
    #[must_use]
    pub fn sessions_per_batch(mut self, n: usize) -> Self {
        self.behaviour.sessions_per_batch = n.max(1);
        self
    }

    /// The first Commit of each read-write transaction on a multiplexed session is answered with a new precommit token
    /// to retry with, instead of a commit timestamp; off unless set.
    #[must_use]
    pub fn commit_asks_for_retry(mut self, on: bool) -> Self {
        self.behaviour.commit_asks_for_retry = on;
        self
    }

    /// Rows in one PartialResultSet of the built-in answers; 100 unless set.
    #[must_use]
    pub fn rows_per_message(mut self, n: usize) -> Self {
        self.behaviour.rows_per_message = n.max(1);
        self
    }

    /// Conflicts are found per database instead of per row: a read-write transaction that reads or writes while
    /// another one has done so is ABORTED. Off unless set.
    #[must_use]
    pub fn one_transaction_per_database(mut self, on: bool) -> Self {
        self.behaviour.one_transaction_per_database = on;
        self
    }

    /// Binds and starts serving on the current Tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be bound, a TLS name is not one, or a database's name or DDL is not understood.
    pub async fn start(self) -> io::Result<Sim> {
        let spanner = Spanner::new(self.behaviour);
        for (name, ddl) in &self.databases {
            spanner.create_database(name, ddl).map_err(|s| io::Error::new(io::ErrorKind::InvalidInput, s))?;
        }
        #[cfg(feature = "tls")]
        let (acceptor, ca_pem) = match &*self.tls_names {
            [] => (None, None),
            names => {
                let (acceptor, ca) = crate::tls::acceptor(names)?;
                (Some(acceptor), Some(ca))
            }
        };
        #[cfg(not(feature = "tls"))]
        let (acceptor, ca_pem) = (None, None);
        let listener = TcpListener::bind(&self.listen).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            options: self.options,
            recorder: Recorder::new(self.record_limit),
            scripts: Scripts::default(),
            spanner,
            connections: Mutex::default(),
            accepted: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            open_streams: AtomicUsize::new(0),
            changed: Notify::new(),
        });
        let task = tokio::spawn(accept(shared.clone(), listener, acceptor));
        Ok(Sim { shared, addr, ca_pem, task })
    }
}

/// A running simulator; it stops when dropped.
pub struct Sim {
    shared: Arc<Shared>,
    addr: SocketAddr,
    ca_pem: Option<String>,
    task: JoinHandle<()>,
}

impl Sim {
    /// A set-up with the defaults: plaintext on a free port of 127.0.0.1.
    pub fn builder() -> Builder {
        Builder {
            listen: "127.0.0.1:0".into(),
            #[cfg(feature = "tls")]
            tls_names: Vec::new(),
            record_limit: RECORD_LIMIT,
            databases: Vec::new(),
            behaviour: Behaviour::default(),
            options: Options::default(),
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://ADDR`, or `https://ADDR` with TLS.
    pub fn uri(&self) -> String {
        let scheme = if self.ca_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addr)
    }

    /// The CA that signed its certificate, when it speaks TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// All recorded calls, in the order of arrival.
    pub fn recorded(&self) -> Vec<Call> {
        self.shared.recorder.all()
    }

    /// The recorded calls of one method, by the last part of its path.
    pub fn recorded_of(&self, method: &str) -> Vec<Call> {
        let mut calls = self.recorded();
        calls.retain(|call| call.method() == method);
        calls
    }

    /// Forgets the recorded calls.
    pub fn clear_recorded(&self) {
        self.shared.recorder.clear();
    }

    /// Streams that are open now, over all connections.
    pub fn open_streams(&self) -> usize {
        self.shared.open_streams.load(Ordering::Relaxed)
    }

    /// Connections that are open now.
    pub fn connections(&self) -> Vec<Connection> {
        lock(&self.shared.connections).values().cloned().collect()
    }

    /// Connections accepted so far.
    pub fn connections_accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Puts a script in place; the first script that matches takes a call.
    pub fn script(&self, matcher: impl Into<Matcher>, script: Script) -> ScriptHandle {
        self.shared.scripts.add(matcher.into(), script)
    }

    /// From now on exactly these tokens are good; an empty list asks for none.
    pub fn set_tokens<T: Into<String>>(&self, tokens: impl IntoIterator<Item = T>) {
        *lock(&self.shared.options.tokens) = tokens.into_iter().map(Into::into).collect();
    }

    /// Loses all sessions (and their transactions), as an expiry or a server-side deletion does.
    pub fn lose_sessions(&self) {
        self.shared.spanner.lose_sessions();
    }

    /// Names of the sessions that exist, sorted.
    pub fn sessions(&self) -> Vec<String> {
        self.shared.spanner.session_names()
    }

    /// Waits until the condition holds; it is asked again whenever a call or connection begins or ends. Returns whether
    /// it came to hold in time.
    pub async fn eventually(&self, within: Duration, mut condition: impl FnMut(&Sim) -> bool) -> bool {
        let wait = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if condition(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(within, wait).await.is_ok()
    }

    /// Stops listening and closes all connections.
    pub async fn stop(mut self) {
        self.task.abort();
        (&mut self.task).await.ok();
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim").field("addr", &self.addr).finish_non_exhaustive()
    }
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) recorder: Recorder,
    pub(crate) scripts: Scripts,
    pub(crate) spanner: Spanner,
    connections: Mutex<BTreeMap<u64, Connection>>,
    accepted: AtomicU64,
    pub(crate) calls: AtomicU64,
    pub(crate) open_streams: AtomicUsize,
    pub(crate) changed: Notify,
}

impl Shared {
    /// Lists a connection until the guard is dropped.
    pub(crate) fn connection_opened(self: &Arc<Self>, connection: Connection) -> OpenConnection {
        let number = connection.number();
        lock(&self.connections).insert(number, connection);
        self.changed.notify_waiters();
        OpenConnection { shared: self.clone(), number }
    }
}

pub(crate) struct OpenConnection {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        lock(&self.shared.connections).remove(&self.number);
        self.shared.changed.notify_waiters();
    }
}

#[cfg(feature = "tls")]
type Acceptor = Option<tokio_rustls::TlsAcceptor>;
#[cfg(not(feature = "tls"))]
type Acceptor = Option<NoTls>;
/// Stands for the acceptor that a build without TLS cannot have.
#[cfg(not(feature = "tls"))]
#[derive(Clone)]
enum NoTls {}

/// Accepts for ever; dropping the task closes all connections.
async fn accept(shared: Arc<Shared>, listener: TcpListener, acceptor: Acceptor) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, peer)) => {
                    let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(connection(shared.clone(), tcp, acceptor.clone(), peer, number));
                }
                // Out of file descriptors, or the peer is gone already: neither is helped by spinning.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(shared: Arc<Shared>, tcp: TcpStream, acceptor: Acceptor, peer: SocketAddr, number: u64) {
    // Fails only on a socket that is dead already.
    tcp.set_nodelay(true).ok();
    let socket = match acceptor {
        None => Socket::Plain(tcp),
        #[cfg(feature = "tls")]
        Some(acceptor) => match tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(tcp)).await {
            Ok(Ok(tls)) => Socket::Tls(Box::new(tls)),
            _ => return,
        },
        #[cfg(not(feature = "tls"))]
        Some(none) => match none {},
    };
    Box::pin(conn::serve(shared, socket, peer, number)).await;
}
