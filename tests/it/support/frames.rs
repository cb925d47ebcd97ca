//! HTTP/2 by hand: frames of any kind, right or wrong, on a socket.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

/// What a client's connection begins with (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (RFC 9113, section 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The HTTP/2 error code of a RST_STREAM or GOAWAY.
    pub(crate) fn error_code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block in HPACK's plainest form: literal fields, never indexed (RFC 7541, section 6.2.3), no Huffman code.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0x10);
        for text in [name, value] {
            // A 7-bit prefix integer (RFC 7541, section 5.1).
            let mut length = text.len();
            if length < 127 {
                bytes.push(u8::try_from(length).expect("small"));
            } else {
                bytes.push(127);
                length -= 127;
                while length >= 128 {
                    bytes.push(u8::try_from(length % 128).expect("small") | 128);
                    length /= 128;
                }
                bytes.push(u8::try_from(length).expect("small"));
            }
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

/// The header fields of a gRPC call to `path`.
pub(crate) fn call(path: &str) -> Vec<(&str, &str)> {
    vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
}

/// A connection whose bytes the test writes itself.
pub(crate) struct Wire {
    stream: TcpStream,
}

impl Wire {
    /// A TCP connection on which nothing has been said.
    pub(crate) async fn silent(address: SocketAddr) -> Wire {
        let stream = TcpStream::connect(address).await.expect("connects");
        stream.set_nodelay(true).expect("a TCP option");
        Wire { stream }
    }

    /// An HTTP/2 connection with preface and empty SETTINGS behind it.
    pub(crate) async fn connect(address: SocketAddr) -> Wire {
        let mut wire = Wire::silent(address).await;
        wire.write(PREFACE).await;
        wire.write(&frame(SETTINGS, 0, 0, &[])).await;
        wire
    }

    /// Writes; a peer that has closed already takes it no more, which what is read next tells.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("in time");
    }

    /// Writes; an error when the peer takes it no more.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Ends this side, as a client that has nothing more to say.
    pub(crate) async fn half_close(&mut self) {
        // A peer that has closed already needs no telling.
        let _ = self.stream.shutdown().await;
    }

    /// The next frame; `None` when the connection is closed. Fails the test if neither comes.
    pub(crate) async fn read(&mut self) -> Option<Frame> {
        timeout(PATIENCE, self.read_frame()).await.expect("a frame or the end of the connection")
    }

    /// The next frame of this kind, on any stream; `None` when the connection is closed before.
    pub(crate) async fn read_kind(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.read().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// All frames until the connection is closed.
    pub(crate) async fn read_to_end(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.read().await {
            frames.push(frame);
        }
        frames
    }

    /// All bytes until the connection is closed.
    pub(crate) async fn read_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset is an end as well.
        let _ = timeout(PATIENCE, self.stream.read_to_end(&mut bytes)).await.expect("the end of the connection");
        bytes
    }

    async fn read_frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, s @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(s), payload })
    }
}
