//! The sidecar, through its library, on a thread of its own; and what its metrics say.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use spanner_sidecar::config::{DurationSetting, Listen, LogFormat, LogLevel, Settings};
use spanner_sidecar::shutdown::{Ended, Shutdown};
use spanner_sidecar::{App, StartError, logging};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::Asked;
use crate::backend::Backend;
use crate::failure::Failure;

/// Where applications expect the emulator.
pub(crate) const PORT: u16 = 9010;
const HTTP_PORT: u16 = 9011;
const ADMIN_PORT: u16 = 9012;

/// How long it may take until it is connected.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// How long clients have to move after SIGTERM: people wait for it here.
const DRAIN_LIMIT: &str = "10s";

const READ_THE_WARNINGS: &str = "See the warnings above";

/// A running sidecar.
pub(crate) struct Sidecar {
    address: SocketAddr,
    http: SocketAddr,
    shutdown: Shutdown,
    ended: oneshot::Receiver<Result<Ended, StartError>>,
}

/// What it has done so far.
pub(crate) struct Used {
    pub(crate) calls: f64,
    pub(crate) errors: f64,
    /// Time that calls spent in the sidecar, not upstream; in seconds.
    pub(crate) overhead: f64,
    /// CPU time of its worker thread, where the system tells.
    pub(crate) cpu: Option<Duration>,
}

impl Sidecar {
    /// Starts it in front of `backend`: bound, but perhaps not connected yet.
    pub(crate) async fn start(backend: &Backend) -> Result<Sidecar, Failure> {
        let settings = Settings {
            listen: Some(vec![format!("127.0.0.1:{}", free_or_any(PORT))]),
            upstream: Some(format!("http://{}", backend.grpc())),
            rest_upstream: backend.rest().map(|address| format!("http://{address}")),
            http_address: Some(Ipv4Addr::LOCALHOST.into()),
            http_port: Some(free_or_any(HTTP_PORT)),
            admin_port: Some(free_or_any(ADMIN_PORT)),
            max_sigterm_delay: DurationSetting::from_str(DRAIN_LIMIT).ok(),
            ..Settings::default()
        };
        let (report, started) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("sidecar".into())
            .spawn(move || run(settings, report, end))
            .map_err(|error| failed(error.to_string()))?;
        let (address, http, shutdown) =
            started.await.map_err(|_| failed("it ended at once"))?.map_err(|error| failed(error.to_string()))?;
        Ok(Sidecar { address, http, shutdown, ended })
    }

    /// Waits until it is ready.
    pub(crate) async fn ready(&self) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            match get(self.http, "/readiness").await {
                Ok((200, _)) => return Ok(()),
                answer if start.elapsed() > READY_LIMIT => {
                    return Err(failed(format!("not ready after {READY_LIMIT:?}, http://{}/readiness: {answer:?}", self.http)));
                }
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// Where applications connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where probes, metrics and status are.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    pub(crate) fn has_its_own_port(&self) -> bool {
        self.address.port() == PORT
    }

    /// Tells it to end.
    pub(crate) fn end(&self, how: Asked) {
        match how {
            Asked::Terminate => self.shutdown.drain(),
            Asked::Interrupt => self.shutdown.go_away(),
        }
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(self) -> Result<(), Failure> {
        match self.ended.await {
            Ok(Ok(Ended::Clean)) => Ok(()),
            Ok(Ok(Ended::CallsCut)) => Err(Failure::new("calls were cut when the sidecar ended", format!("End them within {DRAIN_LIMIT}"))),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("its thread is gone")),
        }
    }

    /// Reads its metrics.
    pub(crate) async fn used(&self) -> Result<Used, Failure> {
        let (_, page) = get(self.http, "/metrics").await.map_err(|error| failed(format!("http://{}/metrics: {error}", self.http)))?;
        let sum = |series: &str| -> f64 {
            let lines = page.lines().filter_map(|line| line.strip_prefix(series)).filter(|rest| rest.starts_with(['{', ' ']));
            lines.filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
        };
        Ok(Used {
            calls: sum("rpc_server_call_duration_seconds_count"),
            errors: sum("spanner_sidecar_errors_total"),
            overhead: sum("spanner_sidecar_overhead_seconds_sum"),
            cpu: worker_cpu(),
        })
    }
}

/// What a started sidecar tells of itself.
type Started = Result<(SocketAddr, SocketAddr, Shutdown), StartError>;

/// The life of the sidecar's thread: what the binary's main does, without flags and signals.
fn run(settings: Settings, report: oneshot::Sender<Started>, end: oneshot::Sender<Result<Ended, StartError>>) {
    let log_level = logging::start(LogFormat::Text, LogLevel::Warn);
    let bind = async {
        let app = App::bind(settings.into_config()?, log_level).await?;
        let Some(&Listen::Tcp(address)) = app.addresses().first() else {
            return Err(StartError::Internal("it listens on no port".into()));
        };
        let http = app.http_address().map_err(|error| StartError::Internal(error.to_string()))?;
        Ok((app, address, http))
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(report.send(Err(StartError::Internal(error.to_string())))),
    };
    runtime.block_on(async {
        match bind.await {
            Ok((app, address, http)) => {
                let _ = report.send(Ok((address, http, app.shutdown())));
                let _ = end.send(app.run().await);
            }
            Err(error) => drop(report.send(Err(error))),
        }
    });
}

/// The port itself, or 0 (any) if another process has it.
fn free_or_any(port: u16) -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_or(0, |_| port)
}

/// GETs a path: code and body.
async fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned());
    Ok((code, body))
}

/// CPU time of the thread that moves calls: Linux tells it of each thread, in nanoseconds.
fn worker_cpu() -> Option<Duration> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?;
    let worker = threads
        .filter_map(Result::ok)
        .map(|thread| thread.path())
        .find(|thread| std::fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim_end() == "worker-0"))?;
    let times = std::fs::read_to_string(worker.join("schedstat")).ok()?;
    times.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

fn failed(what: impl std::fmt::Display) -> Failure {
    Failure::new(format!("the sidecar: {what}"), READ_THE_WARNINGS)
}
