//! Probes, metrics and status on the HTTP port; what changes the process on the admin port, for this host only.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HOST, HeaderValue, ORIGIN};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::config::LogLevel;
use crate::logging::LevelHandle;
use crate::metrics::Metrics;
use crate::shutdown::{Phase, Shutdown};

/// After this long `/startup` says yes even when not warm: the pod's start must not depend on Google being reachable.
const STARTUP_LIMIT: Duration = Duration::from_secs(20);

/// The most that is read of a request's body, in bytes: a log level.
const BODY_LIMIT: usize = 1024;

/// How long to pause when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the probes report.
pub struct Health {
    started: Instant,
    ready: OnceLock<Duration>,
    shutdown: Shutdown,
}

impl Health {
    /// Not ready yet.
    pub fn new(shutdown: Shutdown) -> Arc<Health> {
        Arc::new(Health { started: Instant::now(), ready: OnceLock::new(), shutdown })
    }

    /// The first full warm-up is done; says how long it took, once.
    pub fn set_ready(&self) -> Option<Duration> {
        let took = self.started.elapsed();
        self.ready.set(took).is_ok().then_some(took)
    }

    fn is_ready(&self) -> bool {
        self.ready.get().is_some() && self.shutdown.phase() == Phase::Serving
    }

    fn has_started(&self) -> bool {
        self.ready.get().is_some() || self.started.elapsed() > STARTUP_LIMIT
    }

    fn state(&self) -> &'static str {
        match (self.shutdown.phase(), self.ready.get()) {
            (Phase::Serving, Some(_)) => "ready",
            (Phase::Serving, None) => "starting",
            (Phase::Draining | Phase::GoingAway, _) => "draining",
        }
    }
}

/// Answers on both ports.
pub struct Admin {
    /// What the probes report.
    pub health: Arc<Health>,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// Lets the log level be changed.
    pub log_level: LevelHandle,
    /// Where calls go, for `/status`.
    pub upstream: String,
}

/// Which port a request came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    Http,
    Admin,
}

type Answer = Response<Full<Bytes>>;

impl Admin {
    /// Serves both ports until the process ends.
    pub async fn serve(self: Arc<Self>, http: TcpListener, admin: TcpListener) {
        tokio::join!(self.clone().accept(http, Port::Http), self.accept(admin, Port::Admin));
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, port: Port) {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let admin = self.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| async { Ok::<_, Infallible>(admin.answer(port, request).await) });
                // An error says that the client is gone.
                let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    async fn answer(&self, port: Port, request: Request<Incoming>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        match port {
            Port::Http => match (path.as_str(), method) {
                ("/startup" | "/readiness" | "/liveness" | "/metrics" | "/status", Method::GET | Method::HEAD) => self.report(&path),
                ("/startup" | "/readiness" | "/liveness" | "/metrics" | "/status", _) => not_allowed("GET"),
                _ => not_found("/startup /readiness /liveness /metrics /status"),
            },
            Port::Admin if from_a_browser(&request) => text(StatusCode::FORBIDDEN, "not for web pages\n"),
            Port::Admin => match (path.as_str(), method) {
                ("/drain" | "/quitquitquit" | "/loglevel", Method::POST) => self.act(&path, request).await,
                ("/drain" | "/quitquitquit" | "/loglevel", _) => not_allowed("POST"),
                _ => not_found("POST /drain /quitquitquit /loglevel"),
            },
        }
    }

    fn report(&self, path: &str) -> Answer {
        let health = &self.health;
        match path {
            "/startup" => probe(health.has_started(), health.state()),
            "/readiness" => probe(health.is_ready(), health.state()),
            "/liveness" => text(StatusCode::OK, "alive\n"),
            "/metrics" => match self.metrics.encode() {
                Ok(page) => typed(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", page),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            },
            _ => typed(StatusCode::OK, "application/json", self.status().to_string() + "\n"),
        }
    }

    fn status(&self) -> serde_json::Value {
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "state": self.health.state(),
            "uptime_seconds": self.health.started.elapsed().as_secs(),
            "ready_after_seconds": self.health.ready.get().map(Duration::as_secs_f64),
            "upstream": self.upstream,
            "channels_ready": self.metrics.channels_ready.get(),
            "inflight_calls": self.metrics.inflight_calls.get(),
            "downstream_connections": self.health.shutdown.connections().len(),
        })
    }

    async fn act(&self, path: &str, request: Request<Incoming>) -> Answer {
        match path {
            "/drain" => {
                self.health.shutdown.drain();
                text(StatusCode::OK, "draining\n")
            }
            "/quitquitquit" => {
                self.health.shutdown.go_away();
                text(StatusCode::OK, "going away\n")
            }
            _ => {
                let body = Limited::new(request.into_body(), BODY_LIMIT).collect().await;
                let wanted = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
                match <LogLevel as clap::ValueEnum>::from_str(&wanted, true) {
                    Ok(level) => {
                        self.log_level.set(level);
                        text(StatusCode::OK, format!("logging at {wanted}\n"))
                    }
                    Err(_) => text(
                        StatusCode::BAD_REQUEST,
                        format!("{wanted:?} is no level: send error, warn, info, debug or trace as the body\n"),
                    ),
                }
            }
        }
    }
}

/// Whether a web page could have sent it: it carries an Origin, or a name that resolves here by somebody else's DNS.
fn from_a_browser(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    request.headers().contains_key(ORIGIN) || !matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

fn probe(ok: bool, state: &str) -> Answer {
    text(if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, format!("{state}\n"))
}

fn not_found(paths: &str) -> Answer {
    text(StatusCode::NOT_FOUND, format!("served here: {paths}\n"))
}

fn not_allowed(method: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {method}\n"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(method));
    answer
}

fn text(code: StatusCode, body: impl Into<String>) -> Answer {
    typed(code, "text/plain; charset=utf-8", body)
}

fn typed(code: StatusCode, content_type: &'static str, body: impl Into<String>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body.into())));
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
