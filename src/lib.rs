//! spanner-sidecar: one small process per pod that every Cloud Spanner client library can talk to, and that keeps warm
//! what a call to Spanner needs.
//!
//! # The life of a call
//!
//! 1. A client connects to one of the [`downstream`] listeners. The first bytes tell HTTP/2 (gRPC) from HTTP/1.1
//!    ([`rest`]).
//! 2. [`engine::h2::serve_connection`] accepts the call's stream and shows its head to [`call::Call::start`], which knows
//!    from the table in [`call::method`] whether it is forwarded, answered here, or refused with a row of [`status`].
//! 3. The engine reads the message (its front, if it is long), and [`call::Call::on_message`] peeks at it
//!    ([`call::message`]): which session or database, which transaction. Out comes a [`call::attempt::Plan`]: which
//!    channel the attempt may take and which headers are added. Nothing is decoded and encoded again.
//! 4. [`upstream::pool::Pool::try_lease`] gives a place on the channel with the fewest calls in flight, or on the one that
//!    the transaction began on. [`credentials::Token::now`] gives a token that is already there.
//! 5. The attempt goes out. If it fails before an answer, [`call::Call::on_failure`] decides: again on another channel, a
//!    status, or the same reset that upstream gave.
//! 6. The answer streams back frame by frame as fast as the caller reads; if it begins a transaction, its channel is
//!    remembered. [`metrics`] get the call's duration, the attempt's, and whose fault it was if it did not end with OK.
//!
//! # The parts
//!
//! [`config`] flags, environment, file · [`downstream`] listeners · [`call`] the life of a call, without I/O ·
//! [`engine`] what moves the bytes · [`rest`] HTTP/1.1 · [`upstream`] channels, DNS, TLS · [`credentials`] tokens ·
//! [`status`] the sidecar's own errors · [`metrics`] · [`admin`] probes and control · [`shutdown`] the drain ·
//! [`logging`].
//!
//! # What always holds
//!
//! - Request and response bytes pass as they came.
//! - Each data-path thread owns its listeners, its connections and its calls; it shares tokens, metrics and the phase of
//!   the shutdown with the others, nothing else. What may block or take long runs on the background thread.
//! - A call never starts DNS, a connection, or a token fetch; it only waits, for a bounded time, when there is none yet.
//! - Every queue, buffer and retry has a bound.
//! - The process does not end because something it depends on is down.
//!
//! # What it does not do
//!
//! It is no load balancer between databases, no cache of results, and no security boundary: who reaches the local address
//! acts with the sidecar's credentials.

pub mod admin;
pub mod call;
pub mod config;
pub mod credentials;
pub mod downstream;
pub mod engine;
pub mod logging;
pub mod metrics;
pub mod rest;
pub mod shutdown;
pub mod status;
pub mod upstream;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::LocalRuntime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use admin::{Admin, Health};
use config::{Config, ConfigError, Listen};
use credentials::Token;
use downstream::{BindError, Listeners, Serve};
use engine::{Local, Worker};
use logging::LevelHandle;
use metrics::Metrics;
use rest::Rest;
use shutdown::{Ended, Phase, Shutdown};
use upstream::connect::{Connector, Protocol, tls_config};
use upstream::dns;
use upstream::pool::Pool;

/// How often a worker that is not connected yet looks whether it is.
const WARM_UP_POLL: Duration = Duration::from_millis(5);

/// Why the sidecar could not start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the variants are their errors")]
pub enum StartError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Bind(#[from] BindError),
    #[error("{0}")]
    Internal(String),
}

/// A sidecar that is bound to its addresses and ready to run.
pub struct App {
    config: Config,
    listeners: Vec<Listeners>,
    addresses: Vec<Listen>,
    http: TcpListener,
    admin: TcpListener,
    shutdown: Shutdown,
    log_level: LevelHandle,
}

impl App {
    /// Binds every address. Nothing outside the process is asked for anything yet.
    pub async fn bind(config: Config, log_level: LevelHandle) -> Result<App, StartError> {
        let (listeners, addresses) = downstream::bind(&config.listen, config.worker_threads)?;
        let http = TcpListener::bind(config.http).await.map_err(|error| BindError::new("--http-port", config.http, error))?;
        let admin = TcpListener::bind(config.admin).await.map_err(|error| BindError::new("--admin-port", config.admin, error))?;
        Ok(App { config, listeners, addresses, http, admin, shutdown: Shutdown::default(), log_level })
    }

    /// Where applications connect.
    pub fn addresses(&self) -> &[Listen] {
        &self.addresses
    }

    /// Where probes and metrics are.
    pub fn http_address(&self) -> std::io::Result<std::net::SocketAddr> {
        self.http.local_addr()
    }

    /// Where the admin API is.
    pub fn admin_address(&self) -> std::io::Result<std::net::SocketAddr> {
        self.admin.local_addr()
    }

    /// The handle that ends [`App::run`].
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Runs until the shutdown is through.
    pub async fn run(self) -> Result<Ended, StartError> {
        let metrics = Metrics::new();
        let health = Health::new(self.shutdown.clone());
        let (serving, is_serving) = watch::channel(false);
        let token = credentials::start(self.config.credentials.clone(), metrics.clone());
        let shared = Shared::new(&self.config, token.clone(), &metrics, is_serving, &self.shutdown)?;
        let mut warm = shared.start_workers(self.listeners)?;

        let workers = self.config.worker_threads;
        let addresses = Addresses {
            listen: self.addresses.iter().map(Listen::to_string).collect::<Vec<_>>().join(","),
            http: self.http.local_addr().map_err(|error| StartError::Internal(error.to_string()))?,
            admin: self.admin.local_addr().map_err(|error| StartError::Internal(error.to_string()))?,
        };
        addresses.log("listening");
        let admin = Admin {
            health: health.clone(),
            metrics: metrics.clone(),
            log_level: self.log_level,
            upstream: self.config.upstream.to_string(),
        };
        let mut background = JoinSet::new();
        background.spawn(Arc::new(admin).serve(self.http, self.admin));
        let (phase, warm_metrics) = (self.shutdown.watch(), metrics.clone());
        background.spawn(async move {
            for _ in 0..workers {
                if warm.recv().await.is_none() {
                    return;
                }
            }
            // Without a token no call can succeed, so the warm-up is not done.
            while token.now().is_none() {
                let _ = token.first(std::time::Instant::now() + Duration::from_secs(60)).await;
            }
            if let Some(took) = health.set_ready() {
                warm_metrics.time_to_ready.set(took.as_secs_f64());
                addresses.log("ready");
            }
            follow_phase(serving, phase).await;
        });

        let ended = self.shutdown.run(self.config.min_sigterm_delay, self.config.max_sigterm_delay, &metrics).await;
        downstream::remove_sockets(&self.addresses);
        tracing::info!(calls_cut = metrics.inflight_calls.get(), "stopped");
        Ok(ended)
    }
}

/// What the log says of where to find this process.
struct Addresses {
    listen: String,
    http: std::net::SocketAddr,
    admin: std::net::SocketAddr,
}

impl Addresses {
    fn log(&self, state: &str) {
        tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = self.listen, http = %self.http, admin = %self.admin, "{state}");
    }
}

/// The gRPC health service says what the readiness probe says.
async fn follow_phase(serving: watch::Sender<bool>, mut phase: watch::Receiver<Phase>) {
    serving.send_replace(*phase.borrow_and_update() == Phase::Serving);
    let _ = phase.wait_for(|phase| *phase > Phase::Serving).await;
    serving.send_replace(false);
    // Who watches sees the end of the connection, not of the stream.
    serving.closed().await;
}

/// What every worker is made of.
#[derive(Clone)]
struct Shared {
    grpc: Connector,
    rest: Connector,
    token: Token,
    metrics: Arc<Metrics>,
    serving: watch::Receiver<bool>,
    shutdown: Shutdown,
    channels: usize,
}

impl Shared {
    fn new(
        config: &Config,
        token: Token,
        metrics: &Arc<Metrics>,
        serving: watch::Receiver<bool>,
        shutdown: &Shutdown,
    ) -> Result<Shared, StartError> {
        let connector = |endpoint: &config::Endpoint, protocol| -> Result<Connector, StartError> {
            let addresses = dns::resolve(&endpoint.host, &config.dns_servers);
            Ok(Connector::new(endpoint.clone(), addresses, tls_config(config.upstream_ca_file.as_deref(), protocol)?))
        };
        Ok(Shared {
            grpc: connector(&config.upstream, Protocol::H2)?,
            rest: connector(&config.rest_upstream, Protocol::Http1)?,
            token,
            metrics: metrics.clone(),
            serving,
            shutdown: shutdown.clone(),
            channels: config.channels,
        })
    }

    /// Starts a thread per worker; each says once when it is connected.
    fn start_workers(&self, listeners: Vec<Listeners>) -> Result<mpsc::UnboundedReceiver<()>, StartError> {
        let (warm, all_warm) = mpsc::unbounded_channel();
        for (index, listeners) in listeners.into_iter().enumerate() {
            let (shared, warm) = (self.clone(), warm.clone());
            let (report, started) = std::sync::mpsc::channel();
            std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || shared.work(listeners, &report, &warm))
                .map_err(|error| StartError::Internal(format!("start of a worker thread: {error}")))?;
            let started = started.recv().unwrap_or_else(|_| Err("it ended at once".into()));
            started.map_err(|error| StartError::Internal(format!("start of worker {index}: {error}")))?;
        }
        Ok(all_warm)
    }

    /// The life of a worker thread.
    fn work(self, listeners: Listeners, report: &std::sync::mpsc::Sender<Result<(), String>>, warm: &mpsc::UnboundedSender<()>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()) {
            Ok(runtime) => runtime,
            Err(error) => return drop(report.send(Err(error.to_string()))),
        };
        runtime.block_on(async {
            let pool = match self.serve(listeners) {
                Ok(pool) => pool,
                Err(error) => return drop(report.send(Err(error))),
            };
            let _ = report.send(Ok(()));
            while !pool.any_connected() {
                tokio::time::sleep(WARM_UP_POLL).await;
            }
            let _ = warm.send(());
            // The connections' tasks go on; the process ends this thread.
            std::future::pending::<()>().await;
        });
        drop::<LocalRuntime>(runtime);
    }

    fn serve(self, listeners: Listeners) -> Result<Rc<Pool>, String> {
        let pool = Pool::start(self.grpc.clone(), self.channels, self.metrics.clone());
        let local = Local::new(self.serving).map_err(|error| error.to_string())?;
        let worker = Worker::new(pool.clone(), self.grpc.endpoint(), self.token.clone(), self.metrics.clone(), local)
            .map_err(|error| error.to_string())?;
        let rest = Rc::new(Rest::new(self.rest, self.token, self.metrics));
        Serve { worker, rest, shutdown: self.shutdown }.start(listeners).map_err(|error| error.to_string())?;
        Ok(pool)
    }
}
