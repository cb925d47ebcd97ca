//! The metrics: one struct, no statics. Label values come from closed sets: never a session, a database or SQL.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::call::method::{METHODS, TABLE};
use crate::status::{CODES, Code};

/// Bucket bounds of durations, in seconds: dense where calls to Spanner are (1-100 ms), up to a minute.
const DURATION: [f64; 21] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// Bucket bounds of what the sidecar adds to a call, in seconds.
const OVERHEAD: [f64; 12] = [0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.1, 1.0, 5.0];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    rpc_method: &'static str,
    rpc_response_status_code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    grpc_method: &'static str,
    grpc_status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    origin: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RetryLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChannelLabels {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DependencyLabels {
    dependency: &'static str,
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The application's side: it cancelled, or broke the protocol.
    Downstream,
    /// The sidecar's.
    Sidecar,
    /// Spanner's, or something on the way there.
    Upstream,
}

impl Origin {
    fn name(self) -> &'static str {
        match self {
            Origin::Downstream => "downstream",
            Origin::Sidecar => "sidecar",
            Origin::Upstream => "upstream",
        }
    }
}

/// What the sidecar depends on, for `spanner_sidecar_dependency_up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependency {
    /// Connections to the upstream.
    Upstream,
    /// The source of tokens.
    Credentials,
}

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    calls: Histograms<CallLabels>,
    attempts: Histograms<AttemptLabels>,
    errors: Family<ErrorLabels, Counter>,
    retries: Family<RetryLabels, Counter>,
    dependencies: Family<DependencyLabels, Gauge>,
    /// What the sidecar adds to a call, in seconds.
    pub overhead: Histogram,
    /// Time between Google's front end and its answer, from `server-timing`.
    pub gfe_latency: Histogram,
    /// The same for Spanner's API front end.
    pub afe_latency: Histogram,
    /// Calls under way.
    pub inflight_calls: Gauge,
    /// Channels that take calls.
    pub channels_ready: Gauge,
    /// When the token ends, in seconds since the epoch.
    pub token_expiry: Gauge,
    /// How long the start took until the first full warm-up, in seconds.
    pub time_to_ready: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Registers all metrics.
    pub fn new() -> Arc<Metrics> {
        let mut registry = Registry::default();
        let duration: fn() -> Histogram = || Histogram::new(DURATION);
        let channels = Family::<ChannelLabels, Gauge>::default();
        let mut metrics = Metrics {
            calls: Family::new_with_constructor(duration),
            attempts: Family::new_with_constructor(duration),
            errors: Family::default(),
            retries: Family::default(),
            dependencies: Family::default(),
            overhead: Histogram::new(OVERHEAD),
            gfe_latency: duration(),
            afe_latency: duration(),
            inflight_calls: Gauge::default(),
            channels_ready: channels.get_or_create_owned(&ChannelLabels { state: "ready" }),
            token_expiry: Gauge::default(),
            time_to_ready: Gauge::default(),
            registry: Registry::default(),
        };
        let seconds = || Unit::Seconds;
        registry.register_with_unit(
            "rpc_server_call_duration",
            "Duration of calls as the application sees them",
            seconds(),
            metrics.calls.clone(),
        );
        registry.register_with_unit(
            "grpc_client_attempt_duration",
            "Duration of attempts sent upstream",
            seconds(),
            metrics.attempts.clone(),
        );
        registry.register_with_unit(
            "spanner_sidecar_overhead",
            "Duration of calls less the time spent upstream",
            seconds(),
            metrics.overhead.clone(),
        );
        registry.register_with_unit(
            "spanner_sidecar_gfe_latency",
            "Time in and behind Google's front end, as it reports it",
            seconds(),
            metrics.gfe_latency.clone(),
        );
        registry.register_with_unit(
            "spanner_sidecar_afe_latency",
            "Time in and behind Spanner's API front end, as it reports it",
            seconds(),
            metrics.afe_latency.clone(),
        );
        registry.register("spanner_sidecar_errors", "Calls that did not end with OK, by whose fault it was", metrics.errors.clone());
        registry.register("spanner_sidecar_retries", "Attempts sent again", metrics.retries.clone());
        registry.register("spanner_sidecar_channels", "Connections to the upstream", channels);
        registry.register("spanner_sidecar_inflight_calls", "Calls under way", metrics.inflight_calls.clone());
        registry.register("spanner_sidecar_token_expiry_timestamp_seconds", "When the access token ends", metrics.token_expiry.clone());
        registry.register("spanner_sidecar_dependency_up", "Whether what the sidecar depends on works", metrics.dependencies.clone());
        registry.register(
            "spanner_sidecar_time_to_ready_seconds",
            "Time from start to the first full warm-up",
            metrics.time_to_ready.clone(),
        );
        metrics.registry = registry;
        Arc::new(metrics)
    }

    /// All metrics in OpenMetrics' text format.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }

    /// Counts a call that did not end well.
    pub fn error(&self, origin: Origin, code: &'static str) {
        self.errors.get_or_create(&ErrorLabels { origin: origin.name(), code }).inc();
    }

    /// Counts an attempt that is sent again.
    pub fn retry(&self, reason: &'static str) {
        self.retries.get_or_create(&RetryLabels { reason }).inc();
    }

    /// Notes whether a dependency works.
    pub fn dependency(&self, dependency: Dependency, up: bool) {
        let dependency = match dependency {
            Dependency::Upstream => "upstream",
            Dependency::Credentials => "credentials",
        };
        self.dependencies.get_or_create(&DependencyLabels { dependency }).set(up.into());
    }
}

/// One worker's handles to the histograms of calls and attempts, so that a call looks up no label.
pub struct CallMetrics {
    metrics: Arc<Metrics>,
    handles: RefCell<Vec<Option<(Histogram, Histogram)>>>,
}

impl CallMetrics {
    /// No handle yet: each is fetched at its first use.
    pub fn new(metrics: Arc<Metrics>) -> CallMetrics {
        CallMetrics { metrics, handles: RefCell::new(vec![None; (METHODS + 1) * CODES]) }
    }

    /// Notes the end of a call to the method at `index` of the table, and of its attempt if there was one.
    pub fn observe(&self, index: usize, code: Code, call: Duration, attempt: Option<Duration>) {
        let mut handles = self.handles.borrow_mut();
        let handle = &mut handles[index.min(METHODS) * CODES + code as usize];
        let (calls, attempts) = handle.get_or_insert_with(|| self.fetch(index, code));
        calls.observe(call.as_secs_f64());
        if let Some(attempt) = attempt {
            attempts.observe(attempt.as_secs_f64());
            self.metrics.overhead.observe(call.saturating_sub(attempt).as_secs_f64());
        }
    }

    fn fetch(&self, index: usize, code: Code) -> (Histogram, Histogram) {
        let method = TABLE.get(index).map_or("other", |method| method.name());
        let calls = CallLabels { rpc_method: method, rpc_response_status_code: code.name() };
        let attempts = AttemptLabels { grpc_method: method, grpc_status: code.name() };
        (self.metrics.calls.get_or_create_owned(&calls), self.metrics.attempts.get_or_create_owned(&attempts))
    }
}

/// The durations in a `server-timing` header as Google sends it: `gfet4t7; dur=5, afe; dur=3` (milliseconds).
pub fn server_timing(header: &str) -> (Option<Duration>, Option<Duration>) {
    let (mut gfe, mut afe) = (None, None);
    for entry in header.split(',') {
        let Some((name, parameters)) = entry.split_once(';') else { continue };
        let found = match name.trim_ascii() {
            "gfet4t7" => &mut gfe,
            "afe" => &mut afe,
            _ => continue,
        };
        let milliseconds = parameters.trim_ascii().strip_prefix("dur=").and_then(|text| text.parse::<f64>().ok());
        *found = found.or_else(|| Duration::try_from_secs_f64(milliseconds? / 1000.0).ok());
    }
    (gfe, afe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_timing_splits_front_ends() {
        assert_eq!(server_timing("gfet4t7; dur=5, afe; dur=3"), (Some(Duration::from_millis(5)), Some(Duration::from_millis(3))));
        assert_eq!(server_timing("gfet4t7; dur=12"), (Some(Duration::from_millis(12)), None));
        for odd in ["", "gfet4t7", "gfet4t7; dur=x", "gfet4t7; dur=-1", "a;b;c,,;"] {
            assert_eq!(server_timing(odd), (None, None), "{odd}");
        }
    }

    #[test]
    fn a_call_shows_under_its_contract_name() {
        let metrics = Metrics::new();
        let worker = CallMetrics::new(metrics.clone());
        worker.observe(METHODS, Code::Ok, Duration::from_millis(2), Some(Duration::from_millis(1)));
        metrics.error(Origin::Sidecar, "E0201");
        let page = metrics.encode().unwrap();
        for line in [
            "rpc_server_call_duration_seconds_count{rpc_method=\"other\",rpc_response_status_code=\"OK\"} 1",
            "grpc_client_attempt_duration_seconds_count{grpc_method=\"other\",grpc_status=\"OK\"} 1",
            "spanner_sidecar_overhead_seconds_count 1",
            "spanner_sidecar_errors_total{origin=\"sidecar\",code=\"E0201\"} 1",
        ] {
            assert!(page.contains(line), "{line} is missing in\n{page}");
        }
    }
}
