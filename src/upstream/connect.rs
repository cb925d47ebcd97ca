//! Opens connections: TCP, then TLS where the upstream has it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::dns::Addresses;
use crate::config::{ConfigError, Endpoint};

/// How long one address may take to accept the TCP connection. A round trip within a region takes milliseconds, across the
/// world 300 ms; a SYN is sent again after 1 s.
const TCP_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the TLS handshake may take.
const TLS_TIMEOUT: Duration = Duration::from_secs(5);

/// How long unacknowledged data may stay on a connection before the kernel gives it up (TCP_USER_TIMEOUT): a black-holed
/// connection otherwise lives for 15 minutes.
const USER_TIMEOUT: Duration = Duration::from_secs(15);

/// The application protocol to agree on.
#[derive(Debug, Clone, Copy)]
pub enum Protocol {
    /// HTTP/2, for gRPC.
    H2,
    /// HTTP/1.1, for REST.
    Http1,
}

/// Opens connections to one endpoint.
#[derive(Clone)]
pub struct Connector {
    endpoint: Endpoint,
    addresses: Addresses,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no known address.
    #[error("{0}")]
    Resolve(String),
    /// No address accepted a TCP connection.
    #[error("connect to {address}: {error}")]
    Tcp {
        /// The last address that was tried.
        address: SocketAddr,
        /// Its error.
        error: io::Error,
    },
    /// The TLS handshake failed.
    #[error("TLS with {name} at {address}: {error}")]
    Tls {
        /// The expected name.
        name: String,
        /// The address.
        address: SocketAddr,
        /// The error.
        error: io::Error,
    },
    /// The HTTP/2 handshake failed.
    #[error("HTTP/2 handshake: {0}")]
    Http2(#[from] h2::Error),
}

/// Builds the TLS configuration: built-in roots, or those of a file.
pub fn tls_config(ca_file: Option<&Path>, protocol: Protocol) -> Result<Arc<ClientConfig>, ConfigError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let bad = |problem: String| {
                ConfigError::new(
                    "--upstream-ca-file",
                    format!("{}: {problem}", path.display()),
                    "Give a readable PEM file with CERTIFICATE blocks",
                )
            };
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| bad(error.to_string()))?;
                roots.add(certificate).map_err(|error| bad(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(bad("it holds no certificate".into()));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::new("--upstream-ca-file", error.to_string(), "Report this"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = match protocol {
        Protocol::H2 => vec![b"h2".to_vec()],
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
    };
    Ok(Arc::new(config))
}

impl Connector {
    /// A connector; `tls` is used when the endpoint has a TLS name.
    pub fn new(endpoint: Endpoint, addresses: Addresses, tls: Arc<ClientConfig>) -> Connector {
        let tls = endpoint.tls_name.clone().and_then(|name| ServerName::try_from(name).ok()).map(|name| (TlsConnector::from(tls), name));
        Connector { endpoint, addresses, tls }
    }

    /// The endpoint that this connector reaches.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Opens a connection. `turn` spreads successive connections over the addresses.
    pub async fn connect(&self, turn: usize) -> Result<Connection, ConnectError> {
        let known = self.addresses.wait(TCP_TIMEOUT).await.map_err(ConnectError::Resolve)?;
        let mut last = None;
        for index in 0..known.len() {
            let address = SocketAddr::new(known[(turn + index) % known.len()], self.endpoint.port);
            match timeout(TCP_TIMEOUT, TcpStream::connect(address)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => return self.secure(stream, address).await,
                Err(error) => last = Some(ConnectError::Tcp { address, error }),
            }
        }
        Err(last.unwrap_or_else(|| ConnectError::Resolve(format!("{} has no address", self.endpoint.host))))
    }

    async fn secure(&self, stream: TcpStream, address: SocketAddr) -> Result<Connection, ConnectError> {
        let socket = socket2::SockRef::from(&stream);
        // Both are improvements, not conditions: a kernel that refuses them still carries the calls.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
        let Some((connector, name)) = &self.tls else { return Ok(Connection::Plain(stream)) };
        timeout(TLS_TIMEOUT, connector.connect(name.clone(), stream))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map(|stream| Connection::Tls(Box::new(stream)))
            .map_err(|error| ConnectError::Tls { name: name.to_str().into_owned(), address, error })
    }
}

/// An open connection.
pub enum Connection {
    /// Plaintext.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Connection::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Connection::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Connection::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Connection::Plain(stream) => stream.is_write_vectored(),
            Connection::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Connection::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Connection::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
