//! What can be said on the command line, in the environment and in the file; nothing is judged here.

#![allow(rustdoc::bare_urls, reason = "the comments of options are their help on the terminal, where brackets would show")]

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

const ABOUT: &str = "One small process per pod that keeps Cloud Spanner's tail latency low";

const LONG_ABOUT: &str = "\
One small process per pod that keeps Cloud Spanner's tail latency low.

Start it beside the application and set SPANNER_EMULATOR_HOST=127.0.0.1:9010 for the application: every \
Spanner client library then talks to the sidecar, and the sidecar to Spanner with warm connections and \
tokens that are already there.

Every option can also be set in the environment (SPANNER_SIDECAR_LISTEN for --listen; lists are separated \
by commas) or, under the same name, in the TOML file that --config-file names. A flag wins over the \
environment, the environment over the file.";

const AFTER_HELP: &str = "\
Examples:
  spanner-sidecar                                            in front of Spanner, credentials from the environment
  spanner-sidecar --upstream http://127.0.0.1:9000 \\
                  --rest-upstream http://127.0.0.1:9020      in front of the emulator
  spanner-sidecar --listen unix:/run/spanner/spanner.sock    on a Unix socket

Exit codes: 0 clean, 2 usage, 70 internal, 71 an address can't be bound, 78 configuration, 143 calls were cut at the drain's limit.";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "spanner-sidecar", version, about = ABOUT, long_about = LONG_ABOUT, after_long_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; `serve` when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The options of `serve`.
    #[command(flatten)]
    pub settings: Settings,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve Spanner's API on the local addresses (the default)
    Serve(Box<Settings>),
    /// Exit 0 if a running sidecar is ready, 1 if not
    Healthcheck(Target),
    /// Wait until a running sidecar is ready
    Wait(Wait),
    /// Tell a running sidecar to drain: readiness 503, finish what is under way, exit
    Drain(AdminTarget),
    /// Print what a running sidecar knows, as JSON
    Status(Target),
}

/// Where a running sidecar's HTTP port is.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// Port of the running sidecar's probes
    #[arg(long, env = "SPANNER_SIDECAR_HTTP_PORT", default_value_t = DEFAULT_HTTP_PORT)]
    pub http_port: u16,
}

/// Options of `wait`.
#[derive(Debug, Clone, Args)]
pub struct Wait {
    /// Where the sidecar is.
    #[command(flatten)]
    pub target: Target,
    /// Give up after this long
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub max: Duration,
}

/// Where a running sidecar's admin port is.
#[derive(Debug, Clone, Args)]
pub struct AdminTarget {
    /// Admin port of the running sidecar
    #[arg(long, env = "SPANNER_SIDECAR_ADMIN_PORT", default_value_t = DEFAULT_ADMIN_PORT)]
    pub admin_port: u16,
}

pub(super) const DEFAULT_HTTP_PORT: u16 = 9011;
pub(super) const DEFAULT_ADMIN_PORT: u16 = 9012;

/// The options as they were given, from one of the three places. `None` is "not said here".
#[derive(Debug, Default, Clone, Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// Address to serve on: HOST:PORT or unix:/path (the socket gets mode 0660); repeatable [default: 127.0.0.1:9010]
    #[arg(long, value_name = "ADDR", env = "SPANNER_SIDECAR_LISTEN", value_delimiter = ',')]
    pub listen: Option<Vec<String>>,

    /// Allow --listen addresses that other hosts can reach; whoever reaches them acts with the sidecar's credentials
    #[arg(long, env = "SPANNER_SIDECAR_ALLOW_REMOTE_CLIENTS", num_args = 0..=1, default_missing_value = "true")]
    pub allow_remote_clients: Option<bool>,

    /// Where Spanner is; http://HOST:PORT is plaintext (the emulator) and implies --credentials none [default: https://spanner.googleapis.com]
    #[arg(long, value_name = "URL", env = "SPANNER_SIDECAR_UPSTREAM")]
    pub upstream: Option<String>,

    /// Where HTTP/1.1 JSON requests go [default: the upstream]
    #[arg(long, value_name = "URL", env = "SPANNER_SIDECAR_REST_UPSTREAM")]
    pub rest_upstream: Option<String>,

    /// Trust the certificate authorities in this file instead of the built-in ones
    #[arg(long, value_name = "PEM", env = "SPANNER_SIDECAR_UPSTREAM_CA_FILE")]
    pub upstream_ca_file: Option<PathBuf>,

    /// Name that the upstream's certificate must carry, when it differs from the URL's host
    #[arg(long, value_name = "NAME", env = "SPANNER_SIDECAR_UPSTREAM_SERVER_NAME")]
    pub upstream_server_name: Option<String>,

    /// Where access tokens come from [default: auto, for a plaintext upstream none]
    #[arg(long, value_enum, env = "SPANNER_SIDECAR_CREDENTIALS")]
    pub credentials: Option<Credentials>,

    /// Service-account key to use instead of the environment's credentials
    #[arg(long, value_name = "FILE", env = "SPANNER_SIDECAR_CREDENTIALS_FILE")]
    pub credentials_file: Option<PathBuf>,

    /// Connections to the upstream per worker thread, 1 to 64 [default: 4]
    #[arg(long, value_name = "N", env = "SPANNER_SIDECAR_CHANNELS")]
    pub channels: Option<usize>,

    /// Threads that move calls, each with its own listener and connections, 1 to 64 [default: 1]
    #[arg(long, value_name = "N", env = "SPANNER_SIDECAR_WORKER_THREADS")]
    pub worker_threads: Option<usize>,

    /// Name server to ask; repeatable [default: those in /etc/resolv.conf]
    #[arg(long, value_name = "IP:PORT", env = "SPANNER_SIDECAR_DNS_SERVER", value_delimiter = ',')]
    pub dns_server: Option<Vec<SocketAddr>>,

    /// Address of the probes and metrics [default: 0.0.0.0]
    #[arg(long, value_name = "IP", env = "SPANNER_SIDECAR_HTTP_ADDRESS")]
    pub http_address: Option<IpAddr>,

    /// Port of /startup /readiness /liveness /metrics /status [default: 9011]
    #[arg(long, value_name = "PORT", env = "SPANNER_SIDECAR_HTTP_PORT")]
    pub http_port: Option<u16>,

    /// Port of POST /drain /quitquitquit /loglevel, on 127.0.0.1 only [default: 9012]
    #[arg(long, value_name = "PORT", env = "SPANNER_SIDECAR_ADMIN_PORT")]
    pub admin_port: Option<u16>,

    /// After SIGTERM, serve at least this long, also when no client is connected [default: 0s]
    #[arg(long, value_name = "DURATION", env = "SPANNER_SIDECAR_MIN_SIGTERM_DELAY")]
    pub min_sigterm_delay: Option<DurationSetting>,

    /// After SIGTERM, exit at the latest after this long; keep it below the pod's grace period [default: 25s]
    #[arg(long, value_name = "DURATION", env = "SPANNER_SIDECAR_MAX_SIGTERM_DELAY")]
    pub max_sigterm_delay: Option<DurationSetting>,

    /// Form of the log lines [default: json]
    #[arg(long, value_enum, env = "SPANNER_SIDECAR_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Lowest level that is logged [default: info]
    #[arg(long, value_enum, env = "SPANNER_SIDECAR_LOG_LEVEL")]
    pub log_level: Option<LogLevel>,

    /// TOML file with options of these same names
    #[arg(long, value_name = "FILE", env = "SPANNER_SIDECAR_CONFIG_FILE")]
    #[serde(skip)]
    pub config_file: Option<PathBuf>,
}

/// A duration as people write it: `25s`, `500ms`, `2m`.
#[derive(Debug, Clone, Copy)]
pub struct DurationSetting(pub Duration);

impl std::str::FromStr for DurationSetting {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_duration(text).map(DurationSetting)
    }
}

impl<'de> Deserialize<'de> for DurationSetting {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where access tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credentials {
    /// Google's order: GOOGLE_APPLICATION_CREDENTIALS, the well-known file, the metadata server
    Auto,
    /// No token: for the emulator
    None,
    /// The metadata server (GCE, GKE workload identity), never a file
    Metadata,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One JSON object a line
    Json,
    /// For people
    Text,
}

/// The levels of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names are tracing's own")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    /// As debug in release builds: they leave out what is logged per frame
    Trace,
}
