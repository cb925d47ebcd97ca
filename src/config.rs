//! Flags, environment and file, parsed into one validated [`Config`] that can't hold a wrong value.
//!
//! Precedence: flag, then environment (`SPANNER_SIDECAR_` and the flag's name), then `--config-file`, then the default.

mod cli;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use cli::{AdminTarget, Cli, Command, Credentials, DurationSetting, LogFormat, LogLevel, Settings, Target, Wait};
use cli::{DEFAULT_ADMIN_PORT, DEFAULT_HTTP_PORT};

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
    use clap::Parser as _;

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
