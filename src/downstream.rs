//! The side of the applications: listeners, and what a new connection speaks.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::config::Listen;
use crate::engine::{Worker, h2};
use crate::rest::Rest;
use crate::shutdown::{Phase, Shutdown};

/// Connections that may wait to be accepted: a pod's worth of clients that all start at once.
const BACKLOG: i32 = 1024;

/// How long a new connection may take to send its first bytes. gRPC clients send theirs at once.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to pause when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Every HTTP/2 connection begins with these bytes (RFC 9113, section 3.4); no HTTP/1.1 request can.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A TLS connection begins with a handshake record.
const TLS_HANDSHAKE: u8 = 22;

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {error}. {}", fix(option, error))]
pub struct BindError {
    option: &'static str,
    address: String,
    error: io::Error,
}

fn fix(option: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("Another process has it (perhaps another sidecar): stop it, or choose another {option}"),
        io::ErrorKind::PermissionDenied => "Choose a port above 1023, or a directory that this user may write to".into(),
        io::ErrorKind::AddrNotAvailable => format!("This host does not have the address: check {option}, and that IPv6 is on if it is one"),
        io::ErrorKind::NotFound => "Create the directory of the socket first (in Kubernetes: mount an emptyDir there)".into(),
        _ => format!("Check {option}"),
    }
}

impl BindError {
    pub(crate) fn new(option: &'static str, address: impl ToString, error: io::Error) -> BindError {
        BindError { option, address: address.to_string(), error }
    }
}

/// One worker's listening sockets.
pub struct Listeners {
    tcp: Vec<std::net::TcpListener>,
    unix: Vec<std::os::unix::net::UnixListener>,
}

/// Binds every address once per worker; the kernel spreads TCP connections over them (SO_REUSEPORT). Returns the addresses
/// with the ports that the kernel chose.
pub fn bind(addresses: &[Listen], workers: usize) -> Result<(Vec<Listeners>, Vec<Listen>), BindError> {
    let mut listeners: Vec<Listeners> = (0..workers).map(|_| Listeners { tcp: Vec::new(), unix: Vec::new() }).collect();
    let mut bound = Vec::new();
    for address in addresses {
        match address {
            Listen::Tcp(wanted) => {
                let mut actual = *wanted;
                if workers > 1 {
                    // SO_REUSEPORT would share the port with another sidecar of this user without a word.
                    drop(bind_tcp(actual, false).map_err(|error| BindError::new("--listen", actual, error))?);
                }
                for worker in &mut listeners {
                    let listener = bind_tcp(actual, workers > 1).map_err(|error| BindError::new("--listen", actual, error))?;
                    actual = listener.local_addr().map_err(|error| BindError::new("--listen", actual, error))?;
                    worker.tcp.push(listener);
                }
                bound.push(Listen::Tcp(actual));
            }
            Listen::Unix(path) => {
                let failed = |error| BindError::new("--listen", address, error);
                let listener = bind_unix(path).map_err(failed)?;
                for worker in &mut listeners {
                    worker.unix.push(listener.try_clone().map_err(failed)?);
                }
                bound.push(address.clone());
            }
        }
    }
    Ok((listeners, bound))
}

fn bind_tcp(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds a Unix socket that the pod's other containers can use through a shared group. A socket that a dead sidecar left
/// behind is replaced; one that answers is not.
fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    if std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Removes the socket files, so that the next start finds a clean place.
pub fn remove_sockets(addresses: &[Listen]) {
    for address in addresses {
        if let Listen::Unix(path) = address {
            let _ = std::fs::remove_file::<&PathBuf>(path);
        }
    }
}

/// What accepted connections are served with.
#[derive(Clone)]
pub struct Serve {
    /// Calls.
    pub worker: Rc<Worker>,
    /// REST requests.
    pub rest: Rc<Rest>,
    /// When to stop.
    pub shutdown: Shutdown,
}

impl Serve {
    /// Accepts on all listeners until the process goes away. Runs in a `LocalSet` or a `LocalRuntime`.
    pub fn start(self, listeners: Listeners) -> io::Result<()> {
        for listener in listeners.tcp {
            let (listener, serve) = (TcpListener::from_std(listener)?, self.clone());
            tokio::task::spawn_local(async move {
                serve
                    .accept(async || {
                        let (stream, _) = listener.accept().await?;
                        // Without it the answer waits for the client's delayed ACK: 43 ms (measured).
                        let _ = stream.set_nodelay(true);
                        Ok(stream)
                    })
                    .await;
            });
        }
        for listener in listeners.unix {
            let (listener, serve) = (UnixListener::from_std(listener)?, self.clone());
            tokio::task::spawn_local(async move {
                serve.accept(async || listener.accept().await.map(|(stream, _)| stream)).await;
            });
        }
        Ok(())
    }

    async fn accept<IO>(&self, mut next: impl AsyncFnMut() -> io::Result<IO>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let mut phase = self.shutdown.watch();
        loop {
            tokio::select! {
                accepted = next() => match accepted {
                    Ok(stream) => {
                        let (serve, open) = (self.clone(), self.shutdown.connections().token());
                        tokio::task::spawn_local(async move {
                            serve.connection(stream).await;
                            drop(open);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "can't accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                _ = phase.wait_for(|phase| *phase == Phase::GoingAway) => return,
            }
        }
    }

    /// Looks at a connection's first bytes and serves it accordingly.
    async fn connection<IO>(&self, mut io: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let mut phase = self.shutdown.watch();
        let first = tokio::select! {
            first = timeout(PREFACE_TIMEOUT, first_bytes(&mut io)) => first,
            // Nothing has been asked on it yet.
            _ = phase.wait_for(|phase| *phase == Phase::GoingAway) => return,
        };
        let Ok(Ok(first)) = first else { return };
        let io = Replayed { first, io };
        match io.first.first() {
            None => {}
            Some(&TLS_HANDSHAKE) => {
                tracing::warn!("a client speaks TLS to the sidecar: its endpoint must be plaintext (http://, or SPANNER_EMULATOR_HOST)");
            }
            Some(_) if io.first == PREFACE => h2::serve_connection(io, self.worker.clone(), self.watch()).await,
            Some(_) => self.rest.serve_connection(io, self.watch()).await,
        }
    }

    fn watch(&self) -> watch::Receiver<Phase> {
        self.shutdown.watch()
    }
}

/// Reads until it is clear whether the connection speaks HTTP/2.
async fn first_bytes<IO: AsyncRead + Unpin>(io: &mut IO) -> io::Result<Vec<u8>> {
    let mut first = Vec::with_capacity(PREFACE.len());
    while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        if (&mut *io).take((PREFACE.len() - first.len()) as u64).read_buf(&mut first).await? == 0 {
            break;
        }
    }
    Ok(first)
}

/// A stream whose first bytes have been read already.
struct Replayed<IO> {
    first: Vec<u8>,
    io: IO,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Replayed<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let length = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..length]);
        self.first.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Replayed<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn first_of(bytes: &[u8]) -> Vec<u8> {
        first_bytes(&mut &bytes[..]).await.unwrap()
    }

    #[tokio::test]
    async fn http2_is_told_from_http1_by_its_preface() {
        assert_eq!(first_of(&[&PREFACE[..], b"frames"].concat()).await, PREFACE);
        assert!(!PREFACE.starts_with(&first_of(b"POST /v1/projects HTTP/1.1\r\n").await));
        assert_eq!(first_of(b"PRI").await, b"PRI");
    }

    #[tokio::test]
    async fn what_was_read_is_read_again() {
        let mut replayed = Replayed { first: b"ab".to_vec(), io: &b"cd"[..] };
        let mut all = String::new();
        replayed.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "abcd");
    }
}
