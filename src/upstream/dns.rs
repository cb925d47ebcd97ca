//! Names to addresses, never on the call path: one task per name keeps the last good answer fresh, connections read it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// A refresh happens after this part of the answer's time to live, so that an answer is renewed before it ends.
const REFRESH_AT: f64 = 0.8;

/// Bounds of the time between two refreshes: a TTL of 0 must not become a flood, one of a day must not hide a move.
const REFRESH: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(300);

/// How long one lookup may take with all its tries.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long after a failed lookup the next one starts.
const RETRY: Duration = Duration::from_secs(1);

/// How long one query waits for its answer before the next server is asked.
const QUERY_TIMEOUT: Duration = Duration::from_secs(1);

type Known = Result<Arc<[IpAddr]>, String>;

/// The addresses of one name, as last known.
#[derive(Clone)]
pub struct Addresses {
    known: watch::Receiver<Known>,
}

impl Addresses {
    /// The addresses, waiting at most `limit` for a first answer.
    pub async fn wait(&self, limit: Duration) -> Known {
        let mut known = self.known.clone();
        let _ = timeout(limit, known.wait_for(Result::is_ok)).await;
        known.borrow().clone()
    }
}

/// Starts to resolve `host` on the current runtime. An IP address is its own answer.
pub fn resolve(host: &str, servers: &[SocketAddr]) -> Addresses {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Addresses { known: watch::channel(Ok(Arc::from([address]))).1 };
    }
    let (sender, known) = watch::channel(Err(format!("{host} has not been resolved yet")));
    tokio::spawn(keep_fresh(host.to_owned(), servers.to_vec(), sender));
    Addresses { known }
}

/// Looks the name up for as long as anybody wants to know. A failure never replaces a good answer.
async fn keep_fresh(host: String, servers: Vec<SocketAddr>, known: watch::Sender<Known>) {
    loop {
        let pause = match look_up(&host, &servers).await {
            Ok((addresses, ttl)) => {
                known.send_if_modified(|old| {
                    let changed = !matches!(old, Ok(old) if **old == *addresses);
                    if changed {
                        tracing::info!(host, ?addresses, "resolved");
                        *old = Ok(addresses.into());
                    }
                    changed
                });
                ttl.mul_f64(REFRESH_AT).clamp(*REFRESH.start(), *REFRESH.end())
            }
            Err(error) => {
                known.send_if_modified(|old| {
                    let Err(old) = old else { return false };
                    if *old != error {
                        tracing::warn!(host, error, "can't be resolved");
                        *old = error;
                    }
                    false
                });
                RETRY
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = known.closed() => return,
        }
    }
}

/// One lookup, with a resolver of its own: /etc/resolv.conf may have changed, and nothing is cached here that is not ours.
async fn look_up(host: &str, servers: &[SocketAddr]) -> Result<(Vec<IpAddr>, Duration), String> {
    let resolver = resolver(servers).map_err(|error| format!("resolver: {error}"))?;
    // `localhost` is a matter of /etc/hosts; any other name is absolute, so that no search domain is tried.
    let name = if host.contains('.') && !host.ends_with('.') { format!("{host}.") } else { host.to_owned() };
    let answer = timeout(LOOKUP_TIMEOUT, resolver.lookup_ip(name))
        .await
        .map_err(|_| format!("{host}: no name server answered within {} s", LOOKUP_TIMEOUT.as_secs()))?
        .map_err(|error| format!("{host}: {error}"))?;
    let ttl = answer.valid_until().saturating_duration_since(Instant::now());
    let mut addresses: Vec<IpAddr> = answer.iter().collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(format!("{host} has no address"));
    }
    Ok((addresses, ttl))
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, Box<dyn std::error::Error + Send + Sync>> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let name_servers = servers.iter().map(name_server).collect();
        TokioResolver::builder_with_config(ResolverConfig::from_name_servers(name_servers), TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.timeout = QUERY_TIMEOUT;
    options.num_concurrent_reqs = 4;
    Ok(builder.build()?)
}

fn name_server(server: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
        .into_iter()
        .map(|mut connection| {
            connection.port = server.port();
            connection
        })
        .collect();
    NameServerConfig::new(server.ip(), true, connections)
}
