//! A gRPC client that shows an answer as it came: headers, bytes, trailers or reset.

use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::TcpStream;

/// One HTTP/2 connection.
#[derive(Clone)]
pub(crate) struct Client {
    /// To send requests of any form.
    pub(crate) sender: SendRequest<Bytes>,
    authority: String,
}

/// An answer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) http_status: u16,
    /// The first header block.
    pub(crate) headers: HeaderMap,
    /// All bytes of the body, gRPC frame headers included.
    pub(crate) body: Vec<u8>,
    /// The second header block.
    pub(crate) trailers: Option<HeaderMap>,
    /// Whether the first header block ended the stream.
    pub(crate) trailers_only: bool,
    /// The HTTP/2 error code, if the stream was reset; or the connection's error.
    pub(crate) reset: Option<String>,
}

impl Client {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.expect("connects");
        stream.set_nodelay(true).expect("a TCP option");
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(1 << 24)
            .max_header_list_size(1 << 20)
            .handshake(stream)
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        Client::over(sender, address)
    }

    /// A client on a connection that the test drives itself.
    pub(crate) fn over(sender: SendRequest<Bytes>, address: SocketAddr) -> Client {
        Client { sender, authority: address.to_string() }
    }

    /// A POST to `path` with the headers that every gRPC client sends.
    pub(crate) fn request(&self, path: &str, metadata: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::post(format!("http://{}{path}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "raw/1");
        for (name, value) in metadata {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request")
    }

    /// Calls with one message.
    pub(crate) async fn call(&self, path: &str, message: &impl Message, metadata: &[(&str, &str)]) -> Answer {
        self.call_bytes(path, frame(&message.encode_to_vec()), metadata).await
    }

    /// Calls with these bytes as body.
    pub(crate) async fn call_bytes(&self, path: &str, body: Bytes, metadata: &[(&str, &str)]) -> Answer {
        self.send(self.request(path, metadata), body).await
    }

    /// Sends a request of any form.
    pub(crate) async fn send(&self, request: Request<()>, body: Bytes) -> Answer {
        let mut sender = self.sender.clone().ready().await.expect("a live connection");
        let (response, mut send) = sender.send_request(request, false).expect("a stream");
        // Fails when the answer comes before the request is through; the answer tells.
        let _ = send.send_data(body, true);
        let mut answer = Answer::default();
        let response = match response.await {
            Ok(response) => response,
            Err(error) => return Answer { reset: Some(describe(&error)), ..answer },
        };
        let (parts, mut body) = response.into_parts();
        answer.http_status = parts.status.as_u16();
        answer.headers = parts.headers;
        answer.trailers_only = body.is_end_stream();
        while let Some(chunk) = body.data().await {
            match chunk {
                Ok(chunk) => {
                    body.flow_control().release_capacity(chunk.len()).expect("capacity");
                    answer.body.extend_from_slice(&chunk);
                }
                Err(error) => return Answer { reset: Some(describe(&error)), ..answer },
            }
        }
        match body.trailers().await {
            Ok(trailers) => answer.trailers = trailers,
            Err(error) => answer.reset = Some(describe(&error)),
        }
        answer
    }
}

fn describe(error: &h2::Error) -> String {
    error.reason().map_or_else(|| error.to_string(), |reason| format!("{reason:?}"))
}

impl Answer {
    /// `grpc-status`, from wherever it stands.
    pub(crate) fn code(&self) -> Option<u32> {
        self.field("grpc-status").and_then(|code| code.parse().ok())
    }

    /// `grpc-message`, not unescaped.
    pub(crate) fn message(&self) -> &str {
        self.field("grpc-message").unwrap_or_default()
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.trailers
            .as_ref()
            .and_then(|trailers| trailers.get(name))
            .or_else(|| self.headers.get(name))
            .and_then(|value| value.to_str().ok())
    }

    /// The messages, unframed.
    pub(crate) fn messages(&self) -> Vec<&[u8]> {
        let (mut rest, mut messages) = (&self.body[..], Vec::new());
        while let Some((header, tail)) = rest.split_first_chunk::<5>() {
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
            let (message, tail) = tail.split_at(length.min(tail.len()));
            messages.push(message);
            rest = tail;
        }
        messages
    }

    /// The only message, decoded.
    pub(crate) fn decode<M: Message + Default>(&self) -> M {
        assert_eq!((self.code(), &self.reset), (Some(0), &None), "{self:?}");
        let messages = self.messages();
        assert_eq!(messages.len(), 1, "one message");
        M::decode(messages[0]).expect("a message")
    }
}

/// A message with its gRPC frame header.
pub(crate) fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(message.len().try_into().expect("below 4 GiB"));
    framed.extend_from_slice(message);
    framed.freeze()
}
