//! A gRPC client on the `h2` crate that sends what a Spanner client sends, or exactly what a test wants.

use std::net::SocketAddr;
use std::time::Duration;

use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use spanner_sim::bytes::{Bytes, BytesMut};
use spanner_sim::prost::Message;
use spanner_sim::{Sim, database as db, grpc, http, v1};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

pub(crate) const DATABASE: &str = "projects/p/instances/i/databases/d";
pub(crate) const DDL: &str = "CREATE TABLE Users (Id INT64 NOT NULL, Name STRING(MAX), Balance INT64,
    At TIMESTAMP OPTIONS (allow_commit_timestamp = true)) PRIMARY KEY (Id)";
/// Waits in tests end after this; none should.
pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) async fn sim() -> Sim {
    Sim::builder().database(DATABASE, [DDL]).start().await.unwrap()
}

/// The end of a call as a client sees it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) http_status: http::StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
    /// Headers and trailers came as one block.
    pub(crate) trailers_only: bool,
}

impl Answer {
    /// `grpc-status`, -1 if there is none.
    pub(crate) fn code(&self) -> i32 {
        self.trailers.get("grpc-status").map_or(-1, |v| v.to_str().unwrap().parse().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        self.trailers.get("grpc-message").map_or("", |v| v.to_str().unwrap())
    }

    pub(crate) fn messages<M: Message + Default>(&self) -> Vec<M> {
        let (messages, rest) = grpc::split(self.body.clone());
        assert!(rest.is_empty());
        messages.into_iter().map(|(_, bytes)| M::decode(bytes).unwrap()).collect()
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) h2: SendRequest<Bytes>,
    connection: std::sync::Arc<JoinHandle<Result<(), h2::Error>>>,
}

/// A call whose answer has not been read.
pub(crate) struct Pending {
    pub(crate) response: ResponseFuture,
    pub(crate) request: SendStream<Bytes>,
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Client::over(TcpStream::connect(addr).await.unwrap()).await
    }

    pub(crate) async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(64 << 10).initial_connection_window_size(1 << 20);
        let (h2, connection) = builder.handshake(io).await.unwrap();
        Client { h2, connection: std::sync::Arc::new(tokio::spawn(connection)) }
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.connection.is_finished()
    }

    /// Sends the head of a call; the body is for the test to send.
    pub(crate) async fn open(&self, path: &str, headers: HeaderMap, end: bool) -> Result<Pending, h2::Error> {
        let mut request = Request::post(format!("http://sim{path}")).body(()).unwrap();
        *request.headers_mut() = headers;
        let mut h2 = self.h2.clone().ready().await?;
        let (response, request) = h2.send_request(request, end)?;
        Ok(Pending { response, request })
    }

    /// Sends a whole call with these headers and body bytes.
    pub(crate) async fn raw(&self, path: &str, headers: HeaderMap, body: Bytes) -> Result<Answer, h2::Error> {
        let mut pending = self.open(path, headers, false).await?;
        pending.request.send_data(body, true)?;
        tokio::time::timeout(SOON, pending.answer()).await.expect("an answer in time")
    }

    /// Calls a method of `google.spanner.v1` as a well-behaved client does; `resource` is its message's field 1.
    pub(crate) async fn call(&self, method: &str, resource: &str, message: &impl Message) -> Answer {
        self.try_call(method, resource, message).await.unwrap()
    }

    pub(crate) async fn try_call(&self, method: &str, resource: &str, message: &impl Message) -> Result<Answer, h2::Error> {
        let path = format!("/google.spanner.v1.Spanner/{method}");
        self.raw(&path, headers_for(method, resource), grpc::frame_proto(message)).await
    }

    /// Calls a method and decodes its one message.
    pub(crate) async fn unary<M: Message + Default>(&self, method: &str, resource: &str, message: &impl Message) -> M {
        let answer = self.call(method, resource, message).await;
        assert_eq!(answer.code(), 0, "{method}: {}", answer.text());
        answer.messages().pop().unwrap()
    }

    pub(crate) async fn session(&self, multiplexed: bool) -> String {
        let session = v1::Session { multiplexed, ..Default::default() };
        let request = v1::CreateSessionRequest { database: DATABASE.into(), session: Some(session) };
        let session: v1::Session = self.unary("CreateSession", DATABASE, &request).await;
        assert_eq!(session.multiplexed, multiplexed);
        session.name
    }

    pub(crate) async fn sql(&self, request: &v1::ExecuteSqlRequest) -> v1::ResultSet {
        self.unary("ExecuteSql", &request.session, request).await
    }

    pub(crate) async fn admin<M: Message + Default>(&self, method: &str, message: &impl Message) -> Result<M, Answer> {
        let path = match method {
            "CreateInstance" | "GetInstance" | "ListInstanceConfigs" | "DeleteInstance" | "GetInstanceConfig" => {
                format!("/google.spanner.admin.instance.v1.InstanceAdmin/{method}")
            }
            "GetOperation" => "/google.longrunning.Operations/GetOperation".to_owned(),
            _ => format!("/google.spanner.admin.database.v1.DatabaseAdmin/{method}"),
        };
        let answer = self.raw(&path, grpc_headers(), grpc::frame_proto(message)).await.unwrap();
        if answer.code() == 0 { Ok(answer.messages().pop().unwrap()) } else { Err(answer) }
    }

    pub(crate) async fn update_ddl(&self, statement: &str) -> spanner_sim::longrunning::Operation {
        let request = db::UpdateDatabaseDdlRequest { database: DATABASE.into(), statements: vec![statement.into()], ..Default::default() };
        self.admin("UpdateDatabaseDdl", &request).await.unwrap()
    }
}

impl Pending {
    pub(crate) async fn answer(self) -> Result<Answer, h2::Error> {
        let (head, mut body) = self.response.await?.into_parts();
        let trailers_only = body.is_end_stream();
        let bytes = read(&mut body).await?;
        let trailers = if trailers_only { head.headers.clone() } else { body.trailers().await?.unwrap_or_default() };
        Ok(Answer { http_status: head.status, headers: head.headers, body: bytes, trailers, trailers_only })
    }
}

pub(crate) async fn read(body: &mut RecvStream) -> Result<Bytes, h2::Error> {
    let mut out = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        out.extend_from_slice(&chunk);
    }
    Ok(out.freeze())
}

pub(crate) fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    list.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap())).collect()
}

pub(crate) fn grpc_headers() -> HeaderMap {
    headers(&[("content-type", "application/grpc"), ("te", "trailers")])
}

pub(crate) fn headers_for(method: &str, resource: &str) -> HeaderMap {
    let key = match method {
        "CreateSession" | "BatchCreateSessions" | "ListSessions" => "database",
        "GetSession" | "DeleteSession" => "name",
        _ => "session",
    };
    let database = resource.split_once("/sessions/").map_or(resource, |(database, _)| database);
    let params = format!("{key}={}", resource.replace('/', "%2F"));
    let mut out = grpc_headers();
    out.extend(headers(&[("x-goog-request-params", &params), ("google-cloud-resource-prefix", database)]));
    out
}
