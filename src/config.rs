//! Flags, environment and file, parsed into one validated [`Config`] that can't hold a wrong value.
//!
//! Precedence: flag, then environment (`SPANNER_SIDECAR_` and the flag's name), then `--config-file`, then the default.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
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

const DEFAULT_HTTP_PORT: u16 = 9011;
const DEFAULT_ADMIN_PORT: u16 = 9012;

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
    Trace,
}

/// What the sidecar runs with. Every value is valid, every default filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where applications connect; at least one.
    pub listen: Vec<Listen>,
    /// Where calls go.
    pub upstream: Endpoint,
    /// Where HTTP/1.1 JSON requests go.
    pub rest_upstream: Endpoint,
    /// PEM file of the certificate authorities to trust; the built-in ones if none.
    pub upstream_ca_file: Option<PathBuf>,
    /// Where tokens come from.
    pub credentials: TokenSource,
    /// Connections to the upstream per worker.
    pub channels: usize,
    /// Data-path threads.
    pub worker_threads: usize,
    /// Name servers; the system's if empty.
    pub dns_servers: Vec<SocketAddr>,
    /// Address of probes and metrics.
    pub http: SocketAddr,
    /// Address of the admin API; always loopback.
    pub admin: SocketAddr,
    /// Least time that is served after SIGTERM.
    pub min_sigterm_delay: Duration,
    /// Most time between SIGTERM and exit.
    pub max_sigterm_delay: Duration,
    /// Form of the log.
    pub log_format: LogFormat,
    /// Lowest level that is logged.
    pub log_level: LogLevel,
}

/// A validated source of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// None: what the application sends passes.
    None,
    /// Google's order.
    Auto,
    /// The metadata server.
    Metadata,
    /// A service-account key.
    File(PathBuf),
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => address.fmt(f),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An upstream: where to connect and what to expect there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The name that the certificate must carry; `None` is plaintext.
    pub tls_name: Option<String>,
}

impl Endpoint {
    /// `host:port` as it stands in `:authority`; the port is left out when it is the scheme's own.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.port, self.is_tls()) {
            (443, true) | (80, false) => host,
            (port, _) => format!("{host}:{port}"),
        }
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls_name.is_some()
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.is_tls() { "https" } else { "http" }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority())
    }
}

/// A setting that can't be: names the option, the value and the fix.
#[derive(Debug, thiserror::Error)]
#[error("{option}: {problem}. {fix}")]
pub struct ConfigError {
    option: &'static str,
    problem: String,
    fix: &'static str,
}

impl ConfigError {
    /// An error about `option`.
    pub fn new(option: &'static str, problem: impl Into<String>, fix: &'static str) -> ConfigError {
        ConfigError { option, problem: problem.into(), fix }
    }
}

impl Settings {
    /// Reads the file, if one is named, and fills in what the flags and the environment leave open.
    pub fn with_file(self) -> Result<Settings, ConfigError> {
        let Some(path) = &self.config_file else { return Ok(self) };
        let fix = "Give a readable TOML file whose keys are the options' names";
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::new("--config-file", format!("{}: {error}", path.display()), fix))?;
        let file = toml::from_str::<Settings>(&text)
            .map_err(|error| ConfigError::new("--config-file", format!("{}: {}", path.display(), error.to_string().trim_end()), fix))?;
        Ok(self.or(file))
    }

    fn or(self, file: Settings) -> Settings {
        Settings {
            listen: self.listen.or(file.listen),
            allow_remote_clients: self.allow_remote_clients.or(file.allow_remote_clients),
            upstream: self.upstream.or(file.upstream),
            rest_upstream: self.rest_upstream.or(file.rest_upstream),
            upstream_ca_file: self.upstream_ca_file.or(file.upstream_ca_file),
            upstream_server_name: self.upstream_server_name.or(file.upstream_server_name),
            credentials: self.credentials.or(file.credentials),
            credentials_file: self.credentials_file.or(file.credentials_file),
            channels: self.channels.or(file.channels),
            worker_threads: self.worker_threads.or(file.worker_threads),
            dns_server: self.dns_server.or(file.dns_server),
            http_address: self.http_address.or(file.http_address),
            http_port: self.http_port.or(file.http_port),
            admin_port: self.admin_port.or(file.admin_port),
            min_sigterm_delay: self.min_sigterm_delay.or(file.min_sigterm_delay),
            max_sigterm_delay: self.max_sigterm_delay.or(file.max_sigterm_delay),
            log_format: self.log_format.or(file.log_format),
            log_level: self.log_level.or(file.log_level),
            config_file: self.config_file,
        }
    }

    /// Validates.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        let mut upstream = endpoint("--upstream", self.upstream.as_deref().unwrap_or("https://spanner.googleapis.com"))?;
        let rest_upstream = self.rest_upstream.as_deref().map(|url| endpoint("--rest-upstream", url)).transpose()?;
        if let Some(name) = self.upstream_server_name {
            if !upstream.is_tls() {
                return Err(ConfigError::new(
                    "--upstream-server-name",
                    "the upstream is plaintext",
                    "Leave it out, or use an https upstream",
                ));
            }
            rustls::pki_types::ServerName::try_from(name.clone()).map_err(|_| {
                ConfigError::new("--upstream-server-name", format!("{name:?} is not a host name"), "Give the name in the certificate")
            })?;
            upstream.tls_name = Some(name);
        }
        let http_address = self.http_address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let (min_sigterm_delay, max_sigterm_delay) = sigterm_delays(self.min_sigterm_delay, self.max_sigterm_delay)?;
        let credentials = credentials(self.credentials, self.credentials_file, &upstream)?;
        if credentials != TokenSource::None && rest_upstream.as_ref().is_some_and(|rest| !rest.is_tls()) {
            let fix = "Use an https URL, or --credentials none";
            return Err(ConfigError::new("--rest-upstream", "tokens are never sent in plaintext", fix));
        }
        Ok(Config {
            listen: listen(self.listen, self.allow_remote_clients.unwrap_or(false))?,
            credentials,
            rest_upstream: rest_upstream.unwrap_or_else(|| upstream.clone()),
            upstream,
            upstream_ca_file: self.upstream_ca_file,
            channels: number("--channels", self.channels.unwrap_or(4))?,
            worker_threads: number("--worker-threads", self.worker_threads.unwrap_or(1))?,
            dns_servers: self.dns_server.unwrap_or_default(),
            http: SocketAddr::new(http_address, self.http_port.unwrap_or(DEFAULT_HTTP_PORT)),
            admin: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.admin_port.unwrap_or(DEFAULT_ADMIN_PORT)),
            min_sigterm_delay,
            max_sigterm_delay,
            log_format: self.log_format.unwrap_or(LogFormat::Json),
            log_level: self.log_level.unwrap_or(LogLevel::Info),
        })
    }
}

fn sigterm_delays(min: Option<DurationSetting>, max: Option<DurationSetting>) -> Result<(Duration, Duration), ConfigError> {
    let (min, max) = (min.map_or(Duration::ZERO, |d| d.0), max.map_or(Duration::from_secs(25), |d| d.0));
    if min > max {
        let problem = format!("{} is longer than --max-sigterm-delay {}", humantime::format_duration(min), humantime::format_duration(max));
        return Err(ConfigError::new(
            "--min-sigterm-delay",
            problem,
            "Raise --max-sigterm-delay (and the pod's grace period) or lower this one",
        ));
    }
    Ok((min, max))
}

fn number(option: &'static str, value: usize) -> Result<usize, ConfigError> {
    if (1..=64).contains(&value) { Ok(value) } else { Err(ConfigError::new(option, format!("{value} is out of range"), "Give 1 to 64")) }
}

fn credentials(kind: Option<Credentials>, file: Option<PathBuf>, upstream: &Endpoint) -> Result<TokenSource, ConfigError> {
    let secret = kind.is_some_and(|kind| kind != Credentials::None) || file.is_some();
    if secret && !upstream.is_tls() {
        return Err(ConfigError::new(
            "--credentials",
            "tokens are never sent in plaintext",
            "Use an https upstream, or --credentials none",
        ));
    }
    match (kind, file) {
        (None | Some(Credentials::Auto), Some(file)) => readable("--credentials-file", &file).map(|()| TokenSource::File(file)),
        (Some(_), Some(_)) => Err(ConfigError::new("--credentials-file", "contradicts --credentials", "Give one of them")),
        (Some(Credentials::Metadata), None) => Ok(TokenSource::Metadata),
        (Some(Credentials::Auto), None) => Ok(TokenSource::Auto),
        (Some(Credentials::None), None) => Ok(TokenSource::None),
        (None, None) => Ok(if upstream.is_tls() { TokenSource::Auto } else { TokenSource::None }),
    }
}

fn readable(option: &'static str, path: &Path) -> Result<(), ConfigError> {
    std::fs::File::open(path)
        .map(drop)
        .map_err(|error| ConfigError::new(option, format!("{}: {error}", path.display()), "Check the path, the mount and the file's mode"))
}

fn listen(addresses: Option<Vec<String>>, allow_remote: bool) -> Result<Vec<Listen>, ConfigError> {
    const FIX: &str = "Give HOST:PORT with an IP address or localhost, or unix:/path";
    let addresses = addresses.filter(|list| !list.is_empty()).unwrap_or_else(|| vec!["127.0.0.1:9010".into()]);
    let mut parsed = Vec::new();
    for text in addresses {
        if let Some(path) = text.strip_prefix("unix:") {
            // sockaddr_un.sun_path holds 108 bytes with the final NUL.
            if path.is_empty() || path.len() > 107 {
                return Err(ConfigError::new("--listen", format!("{text:?}: a socket path has 1 to 107 bytes"), FIX));
            }
            parsed.push(Listen::Unix(path.into()));
            continue;
        }
        for address in tcp_addresses(&text).ok_or_else(|| ConfigError::new("--listen", format!("{text:?} is not an address"), FIX))? {
            if !address.ip().is_loopback() && !allow_remote {
                return Err(ConfigError::new(
                    "--listen",
                    format!("{address} can be reached by other hosts, which would act with the sidecar's credentials"),
                    "Use 127.0.0.1 or [::1], or add --allow-remote-clients if that is what you want",
                ));
            }
            parsed.push(Listen::Tcp(address));
        }
    }
    Ok(parsed)
}

fn tcp_addresses(text: &str) -> Option<Vec<SocketAddr>> {
    if let Some(port) = text.strip_prefix("localhost:") {
        let port = port.parse().ok()?;
        return Some(vec![(Ipv4Addr::LOCALHOST, port).into(), (std::net::Ipv6Addr::LOCALHOST, port).into()]);
    }
    text.parse().ok().map(|address| vec![address])
}

fn endpoint(option: &'static str, url: &str) -> Result<Endpoint, ConfigError> {
    const FIX: &str = "Give https://HOST, https://HOST:PORT or http://HOST:PORT, without a path";
    let bad = |problem: &str| ConfigError::new(option, format!("{url:?}: {problem}"), FIX);
    let uri = url.parse::<http::Uri>().map_err(|error| bad(&error.to_string()))?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(bad("the scheme is neither http nor https")),
    };
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() || uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        return Err(bad("only host and port may stand in it"));
    }
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() {
        return Err(bad("the host is missing"));
    }
    if tls && rustls::pki_types::ServerName::try_from(host.clone()).is_err() {
        return Err(bad("the host is not a valid name"));
    }
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Ok(Endpoint { tls_name: tls.then(|| host.clone()), host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        let cli = Cli::try_parse_from([&["spanner-sidecar"], arguments].concat()).map_err(|error| error.to_string())?;
        cli.settings.with_file().and_then(Settings::into_config).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_manual() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.listen, [Listen::Tcp("127.0.0.1:9010".parse().unwrap())]);
        assert_eq!(config.upstream.to_string(), "https://spanner.googleapis.com");
        assert_eq!(config.rest_upstream, config.upstream);
        assert_eq!(config.credentials, TokenSource::Auto);
        assert_eq!((config.channels, config.worker_threads), (4, 1));
        assert_eq!(config.max_sigterm_delay, Duration::from_secs(25));
        assert_eq!((config.http.port(), config.admin.to_string().as_str()), (9011, "127.0.0.1:9012"));
    }

    #[test]
    fn a_plaintext_upstream_implies_no_credentials() {
        assert_eq!(parse(&["--upstream", "http://127.0.0.1:9000"]).unwrap().credentials, TokenSource::None);
        let error = parse(&["--upstream", "http://127.0.0.1:9000", "--credentials", "metadata"]).unwrap_err();
        assert!(error.contains("never sent in plaintext"), "{error}");
    }

    #[test]
    fn localhost_means_both_families() {
        assert_eq!(parse(&["--listen", "localhost:7", "--listen", "unix:/tmp/s"]).unwrap().listen.len(), 3);
    }

    #[test]
    fn an_address_that_others_reach_needs_a_second_word() {
        let error = parse(&["--listen", "0.0.0.0:9010"]).unwrap_err();
        assert!(error.contains("--allow-remote-clients"), "{error}");
        assert!(parse(&["--listen", "0.0.0.0:9010", "--allow-remote-clients"]).is_ok());
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        for (arguments, expected) in [
            (&["--upstream", "spanner.googleapis.com"][..], "--upstream"),
            (&["--upstream", "https://h/path"], "only host and port"),
            (&["--listen", "9010"], "--listen"),
            (&["--listen", "unix:"], "--listen"),
            (&["--channels", "0"], "--channels: 0 is out of range"),
            (&["--worker-threads", "65"], "Give 1 to 64"),
            (&["--min-sigterm-delay", "30s"], "--max-sigterm-delay"),
            (&["--credentials-file", "/nonexistent"], "--credentials-file: /nonexistent"),
            (&["--upstream-server-name", "a b"], "not a host name"),
            (&["--config-file", "/nonexistent"], "--config-file"),
        ] {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = toml::from_str::<Settings>("channels = 7\nworker-threads = 2\nmax-sigterm-delay = \"40s\"\nlisten = [\"127.0.0.1:1\"]")
            .unwrap();
        let flags = Settings { channels: Some(3), ..Settings::default() };
        let config = flags.or(file).into_config().unwrap();
        assert_eq!((config.channels, config.worker_threads), (3, 2));
        assert_eq!(config.max_sigterm_delay, Duration::from_secs(40));
    }

    #[test]
    fn a_misspelt_key_in_the_file_is_named() {
        let error = toml::from_str::<Settings>("chanels = 7").unwrap_err().to_string();
        assert!(error.contains("chanels"), "{error}");
    }

    #[test]
    fn authorities_leave_out_the_default_port() {
        let authority = |url: &str| endpoint("--upstream", url).unwrap().authority();
        assert_eq!(authority("https://spanner.googleapis.com:443"), "spanner.googleapis.com");
        assert_eq!(authority("http://[::1]:9000"), "[::1]:9000");
    }
}
