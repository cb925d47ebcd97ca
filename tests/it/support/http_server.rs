//! A small HTTP/1.1 server: stands for the metadata server, or for what serves Spanner's REST API.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Method, target and version.
    pub(crate) line: String,
    /// Names in small letters.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Which connection it came on, from 0.
    pub(crate) connection: usize,
}

impl Request {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }
}

/// A running server; it stops when dropped.
pub(crate) struct HttpServer {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    _tasks: JoinSet<()>,
}

impl HttpServer {
    /// Starts on a free port; `answer` gives the status line's code and reason, further headers, and the body.
    pub(crate) async fn start(answer: impl Fn(&Request) -> (&'static str, &'static str, String) + Send + Sync + 'static) -> HttpServer {
        HttpServer::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), answer).await
    }

    /// The same at a given address.
    pub(crate) async fn start_at(
        address: SocketAddr,
        answer: impl Fn(&Request) -> (&'static str, &'static str, String) + Send + Sync + 'static,
    ) -> HttpServer {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (requests.clone(), Arc::new(answer));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer, number) = (seen.clone(), answer.clone(), connections.len());
                connections.spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while let Some(request) = read(&mut stream, number).await {
                        seen.lock().expect("no panic").push(request.clone());
                        let (status, headers, body) = answer(&request);
                        let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
                        if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        HttpServer { address, requests, _tasks: tasks }
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }
}

/// The next request on a connection, unless it ends.
async fn read(stream: &mut BufReader<TcpStream>, connection: usize) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let mut request = Request { line: line.trim_end().to_owned(), headers: Vec::new(), body: Vec::new(), connection };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        request.headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    request.body.resize(length, 0);
    stream.read_exact(&mut request.body).await.ok()?;
    Some(request)
}
