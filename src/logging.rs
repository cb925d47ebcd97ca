//! Log lines on standard error, as JSON or for people, at a level that can be changed while running.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, LogLevel};

/// Changes the level.
#[derive(Clone)]
pub struct LevelHandle(Option<reload::Handle<Targets, Registry>>);

impl LevelHandle {
    /// For a process that has set up its logging otherwise: changes nothing.
    pub fn fixed() -> LevelHandle {
        LevelHandle(None)
    }

    /// Logs from `level` on.
    pub fn set(&self, level: LogLevel) {
        if let Some(handle) = &self.0 {
            // Fails only when the subscriber is gone, and with it the log.
            let _ = handle.reload(filter(level));
        }
    }
}

/// Everything from `level` on, but for what a library says of trouble that the sidecar reports itself.
fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_default(level).with_target("gcp_auth", LevelFilter::ERROR.min(level))
}

/// Sets up the log of the process.
pub fn start(format: LogFormat, level: LogLevel) -> LevelHandle {
    let (level, handle) = reload::Layer::new(filter(level));
    let registry = Registry::default().with(level);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // A subscriber that is there already (in a test) stays.
    let _ = match format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        LogFormat::Text => registry.with(lines).try_init(),
    };
    LevelHandle(Some(handle))
}
