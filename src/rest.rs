//! Spanner's REST API, over HTTP/1.1 on the same port: each client connection has one upstream connection of its own.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, ORIGIN};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, watch};

use crate::call::policy;
use crate::credentials::Token;
use crate::engine::strip_hop_by_hop;
use crate::metrics::{Metrics, Origin};
use crate::shutdown::Phase;
use crate::status::{self, Status};
use crate::upstream::connect::Connector;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// The upstream connection of one client connection, opened at its first request.
type Upstream = Mutex<Option<SendRequest<Incoming>>>;

/// Forwards REST requests.
pub struct Rest {
    connector: Connector,
    token: Token,
    metrics: Arc<Metrics>,
}

impl Rest {
    /// Requests go where `connector` leads, with `token`.
    pub fn new(connector: Connector, token: Token, metrics: Arc<Metrics>) -> Rest {
        Rest { connector, token, metrics }
    }

    /// Serves one client connection until it ends or is told to go away.
    pub async fn serve_connection<IO>(&self, io: IO, mut phase: watch::Receiver<Phase>)
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let upstream = Upstream::default();
        let service = service_fn(|request| async { Ok::<_, Infallible>(self.answer(request, &upstream).await) });
        let mut connection = std::pin::pin!(http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(io), service));
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = phase.wait_for(|phase| *phase == Phase::GoingAway) => connection.as_mut().graceful_shutdown(),
        }
        // An error says that the client is gone.
        let _ = connection.await;
    }

    async fn answer(&self, request: Request<Incoming>, upstream: &Upstream) -> Response<Body> {
        let headers = request.headers();
        let refusal = if headers.contains_key(ORIGIN) {
            let origin = headers.get(ORIGIN).map(|origin| String::from_utf8_lossy(origin.as_bytes()).into_owned());
            Some((StatusCode::FORBIDDEN, status::BROWSER_ORIGIN.with(origin.unwrap_or_default())))
        } else if headers.get(CONTENT_TYPE).is_some_and(|value| policy::is_grpc(value.as_bytes())) {
            return grpc_answer(&status::GRPC_OVER_HTTP1.with(request.uri().path()));
        } else {
            None
        };
        let answer = match refusal {
            Some(refusal) => Err(refusal),
            None => self.forward(request, upstream).await.map_err(|status| (StatusCode::SERVICE_UNAVAILABLE, status)),
        };
        answer.unwrap_or_else(|(code, status)| {
            self.metrics.error(Origin::Sidecar, status.kind.id);
            error_answer(code, &status)
        })
    }

    async fn forward(&self, mut request: Request<Incoming>, upstream: &Upstream) -> Result<Response<Body>, Status> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse::<Uri>().unwrap_or_default();
        let limit = std::time::Instant::now() + policy::MAX_WAIT;
        let token = match self.token.now() {
            Some(token) => token,
            None => self.token.first(limit).await.map_err(|error| status::NO_TOKEN.with(error))?,
        };
        let headers = request.headers_mut();
        strip_hop_by_hop(headers);
        if let Ok(host) = HeaderValue::try_from(self.connector.endpoint().authority()) {
            headers.insert(HOST, host);
        }
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, token);
        }
        let failed = |error: String| status::REST_UPSTREAM.with(format!("{}: {error}", self.connector.endpoint()));
        // One connection carries one request at a time in HTTP/1.1, as does the client's.
        let mut upstream = upstream.lock().await;
        let mut sender = match upstream.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.connect().await.map_err(failed)?,
        };
        sender.ready().await.map_err(|error| failed(error.to_string()))?;
        let mut response = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
        *upstream = Some(sender);
        strip_hop_by_hop(response.headers_mut());
        Ok(response.map(|body| body.boxed_unsync()))
    }

    async fn connect(&self) -> Result<SendRequest<Incoming>, String> {
        let connection = self.connector.connect(0).await.map_err(|error| error.to_string())?;
        let (sender, connection) = handshake(TokioIo::new(connection)).await.map_err(|error| error.to_string())?;
        tokio::task::spawn_local(connection);
        Ok(sender)
    }
}

/// An error as Google's REST APIs write it.
fn error_answer(code: StatusCode, status: &Status) -> Response<Body> {
    let error = serde_json::json!({ "error": {
        "code": code.as_u16(), "message": status.to_string(), "status": status.kind.code.name(),
    }});
    let mut response = Response::new(Full::new(Bytes::from(error.to_string())).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    response
}

/// An error for a gRPC client that came over HTTP/1.1: the status in the headers, as in a trailers-only answer.
fn grpc_answer(status: &Status) -> Response<Body> {
    crate::engine::trailers_only(status).map(|()| Empty::new().map_err(|never| match never {}).boxed_unsync())
}
