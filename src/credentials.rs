//! Access tokens: one task fetches and renews, calls read what is there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use gcp_auth::{ConfigDefaultCredentials, CustomServiceAccount, TokenProvider};
use http::HeaderValue;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout, timeout_at};

use crate::config::TokenSource;
use crate::metrics::{Dependency, Metrics};

/// What Spanner's own clients ask for: data and administration.
const SCOPES: [&str; 2] = ["https://www.googleapis.com/auth/spanner.data", "https://www.googleapis.com/auth/spanner.admin"];

/// How long before a token's end the renewal starts. The metadata server hands out the same token until 4 to 5 minutes
/// before its end, so an earlier start gains nothing.
const RENEW_BEFORE: Duration = Duration::from_secs(270);

/// The same for tokens that live only a short time: the part of their life after which the renewal starts.
const RENEW_AT: f64 = 0.8;

/// How long one fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// First and last pause between tries.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// The metadata server, by address: no DNS. `GCE_METADATA_HOST` names another.
const METADATA_SERVER: &str = "169.254.169.254";

/// The most that is read of an answer of the metadata server, in bytes; a token has about 1 KB.
const METADATA_LIMIT: usize = 64 << 10;

/// The token that calls carry.
#[derive(Clone)]
pub struct Token {
    current: Arc<ArcSwapOption<HeaderValue>>,
    /// What went wrong last, as long as there is no token.
    state: watch::Receiver<Result<(), String>>,
    needed: bool,
}

impl Token {
    /// The value for `authorization`; `Some(None)` where none is to be sent, `None` where the first has still to come.
    pub fn now(&self) -> Option<Option<HeaderValue>> {
        if !self.needed {
            return Some(None);
        }
        self.current.load().as_deref().cloned().map(Some)
    }

    /// Waits for the first token until `limit`; else the last error.
    pub async fn first(&self, limit: Instant) -> Result<Option<HeaderValue>, String> {
        let mut state = self.state.clone();
        let _ = timeout_at(limit.into(), state.wait_for(Result::is_ok)).await;
        let error = state.borrow().clone().err().unwrap_or_default();
        self.now().ok_or(error)
    }
}

/// Starts to keep a token fresh on the current runtime.
pub fn start(source: TokenSource, metrics: Arc<Metrics>) -> Token {
    let current = Arc::new(ArcSwapOption::empty());
    let (sender, state) = watch::channel(Err("the first token is still being fetched".to_owned()));
    let needed = source != TokenSource::None;
    if needed {
        tokio::spawn(keep_fresh(source, current.clone(), sender, metrics));
    }
    Token { current, state, needed }
}

/// A token and the rest of its life.
struct Fetched {
    header: HeaderValue,
    lives: Duration,
}

async fn keep_fresh(
    source: TokenSource,
    current: Arc<ArcSwapOption<HeaderValue>>,
    state: watch::Sender<Result<(), String>>,
    metrics: Arc<Metrics>,
) {
    let mut pause = BACK_OFF.0;
    let mut ends = Instant::now();
    let mut last_error = String::new();
    loop {
        let fetched =
            timeout(FETCH_TIMEOUT, fetch(&source)).await.unwrap_or_else(|_| Err(format!("no answer within {} s", FETCH_TIMEOUT.as_secs())));
        match fetched {
            Ok(token) => {
                tracing::info!(lives_seconds = token.lives.as_secs(), "access token fetched");
                let same = current.load().as_deref() == Some(&token.header);
                current.store(Some(Arc::new(token.header)));
                drop(state.send_replace(Ok(())));
                metrics.dependency(Dependency::Credentials, true);
                metrics.token_expiry.set(i64::try_from((since_epoch() + token.lives).as_secs()).unwrap_or(i64::MAX));
                ends = Instant::now() + token.lives;
                pause = BACK_OFF.0;
                last_error.clear();
                sleep(renew_after(token.lives, same)).await;
            }
            Err(error) => {
                metrics.dependency(Dependency::Credentials, false);
                if error != last_error {
                    tracing::warn!(error, ?source, "can't fetch an access token");
                    last_error.clone_from(&error);
                }
                // The old token goes on being used: Spanner judges whether it has ended.
                if current.load().is_none() || ends <= Instant::now() {
                    drop(state.send_replace(Err(error)));
                }
                sleep(pause).await;
                pause = (pause * 2).min(BACK_OFF.1);
            }
        }
    }
}

/// When to renew a token that has this long to live. If its source has just handed out the `same` one again, a new one is
/// due soon: it is asked for every few seconds, not in a hot loop.
fn renew_after(lives: Duration, same: bool) -> Duration {
    let (shortest, longest) = (Duration::from_secs(1), Duration::from_secs(15));
    match lives.checked_sub(RENEW_BEFORE) {
        Some(left) if left > RENEW_BEFORE => left,
        _ if same => (lives / 10).clamp(shortest, longest),
        _ => lives.mul_f64(RENEW_AT).max(shortest),
    }
}

fn since_epoch() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

/// Fetches one token. A new provider each time: gcp_auth caches a token until 20 s before its end and would give the old
/// one back, and a key file may have been replaced.
async fn fetch(source: &TokenSource) -> Result<Fetched, String> {
    let provider: Arc<dyn TokenProvider> = match source {
        TokenSource::None => return Err("no source of tokens".into()),
        TokenSource::Metadata => return fetch_from_metadata_server().await,
        TokenSource::File(path) => from_key_file(path.clone()).await?,
        TokenSource::Auto => match found_in_the_environment().await? {
            Some(provider) => provider,
            None => return fetch_from_metadata_server().await,
        },
    };
    let token = provider.token(&SCOPES).await.map_err(|error| describe(&error))?;
    let ends = Duration::from_secs(token.expires_at().timestamp().try_into().unwrap_or_default());
    let lives = ends.saturating_sub(since_epoch());
    Ok(Fetched { header: header(token.as_str())?, lives })
}

/// The key that GOOGLE_APPLICATION_CREDENTIALS names, or the well-known file that `gcloud auth application-default login`
/// writes.
async fn found_in_the_environment() -> Result<Option<Arc<dyn TokenProvider>>, String> {
    if let Some(path) = std::env::var_os("GOOGLE_APPLICATION_CREDENTIALS") {
        return from_key_file(path.into()).await.map(Some);
    }
    let user = ConfigDefaultCredentials::new().await;
    Ok(user.ok().map(|user| Arc::new(user) as Arc<dyn TokenProvider>))
}

async fn from_key_file(path: PathBuf) -> Result<Arc<dyn TokenProvider>, String> {
    let read = tokio::task::spawn_blocking(move || {
        CustomServiceAccount::from_file(&path).map_err(|error| format!("{}: {}", path.display(), describe(&error)))
    });
    let account = read.await.map_err(|error| error.to_string())??;
    Ok(Arc::new(account))
}

/// An error with what caused it.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn header(token: &str) -> Result<HeaderValue, String> {
    let mut value =
        HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| "the token has bytes that no header can hold".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The metadata server's answer.
#[derive(Deserialize)]
struct MetadataToken {
    access_token: String,
    /// Seconds.
    expires_in: u64,
}

async fn fetch_from_metadata_server() -> Result<Fetched, String> {
    let host = std::env::var("GCE_METADATA_HOST").unwrap_or_else(|_| METADATA_SERVER.into());
    let address = if host.contains(':') { host.clone() } else { format!("{host}:80") };
    let explain = |error: &dyn std::error::Error| format!("metadata server {host}: {}", describe(error));
    let stream = timeout(Duration::from_secs(1), TcpStream::connect(&address))
        .await
        .map_err(|_| format!("metadata server {host}: no connection within 1 s"))?
        .map_err(|error| explain(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| explain(&error))?;
    tokio::spawn(connection);
    let request = http::Request::get("/computeMetadata/v1/instance/service-accounts/default/token")
        .header("host", &host)
        .header("metadata-flavor", "Google")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| explain(&error))?;
    let response = sender.send_request(request).await.map_err(|error| explain(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), METADATA_LIMIT).collect().await.map_err(|error| explain(&*error))?.to_bytes();
    if !status.is_success() {
        return Err(format!("metadata server {host}: {status}: {}", String::from_utf8_lossy(&body)));
    }
    let token: MetadataToken = serde_json::from_slice(&body).map_err(|error| explain(&error))?;
    Ok(Fetched { header: header(&token.access_token)?, lives: Duration::from_secs(token.expires_in) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_renewed_four_and_a_half_minutes_before_its_end() {
        assert_eq!(renew_after(Duration::from_secs(3600), false), Duration::from_secs(3330));
    }

    #[test]
    fn short_lives_are_renewed_in_proportion_but_never_in_a_hot_loop() {
        assert_eq!(renew_after(Duration::from_secs(10), false), Duration::from_secs(8));
        assert_eq!(renew_after(Duration::ZERO, false), Duration::from_secs(1));
    }

    #[test]
    fn a_source_that_gives_the_same_token_again_is_asked_again_soon() {
        assert_eq!(renew_after(Duration::from_secs(270), true), Duration::from_secs(15));
        assert_eq!(renew_after(Duration::from_secs(20), true), Duration::from_secs(2));
    }

    #[test]
    fn a_token_is_marked_sensitive() {
        assert!(header("abc").unwrap().is_sensitive());
        assert!(header("a\nb").is_err());
    }
}
