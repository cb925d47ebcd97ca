//! The end of the process, in phases: serving, draining (not ready, but serving), going away, done.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;

/// The part of the drain's limit that is kept for calls to finish after GOAWAY: a fifth, at most 5 s.
fn goaway_margin(limit: Duration) -> Duration {
    (limit / 5).min(Duration::from_secs(5))
}

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Normal.
    Serving,
    /// Not ready, so that no new traffic is sent here; calls are served as ever, for the application may need them to end.
    Draining,
    /// Connections are told to go away; calls under way finish.
    GoingAway,
}

/// How the drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every call finished.
    Clean,
    /// The limit came first.
    CallsCut,
}

/// Moves the process through its phases. Cloned to everybody who may ask for the end.
#[derive(Clone)]
pub struct Shutdown {
    phase: Arc<watch::Sender<Phase>>,
    connections: TaskTracker,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown { phase: Arc::new(watch::Sender::new(Phase::Serving)), connections: TaskTracker::new() }
    }
}

impl Shutdown {
    /// Follows the phase.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Counts open downstream connections; the drain waits for them.
    pub fn connections(&self) -> &TaskTracker {
        &self.connections
    }

    /// SIGTERM: stop being ready, go on serving.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Ctrl-C or a second signal: go away now.
    pub fn go_away(&self) {
        self.advance(Phase::GoingAway);
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = *phase < to;
            if later {
                tracing::info!(phase = ?to, "shutting down");
                *phase = to;
            }
            later
        });
    }

    /// Waits for the end to be asked for and goes through it. `limit` is the time between the first request and exit.
    pub async fn run(&self, min_delay: Duration, limit: Duration, metrics: &Metrics) -> Ended {
        let mut phase = self.watch();
        let _ = phase.wait_for(|phase| *phase >= Phase::Draining).await;
        let started = Instant::now();
        let end = started + limit;
        let all_gone = async {
            sleep_until(started + min_delay).await;
            self.connections.close();
            self.connections.wait().await;
        };
        let near_the_limit = async {
            let _ = phase.wait_for(|phase| *phase >= Phase::GoingAway).await;
        };
        tokio::select! {
            () = all_gone => {}
            () = sleep_until(end - goaway_margin(limit)) => {}
            () = near_the_limit => {}
        }
        self.go_away();
        self.connections.close();
        let _ = timeout_at(end, self.connections.wait()).await;
        // A connection without calls may linger half-closed; nothing is lost with it.
        if metrics.inflight_calls.get() > 0 { Ended::CallsCut } else { Ended::Clean }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(25);

    #[tokio::test(start_paused = true)]
    async fn without_connections_the_end_comes_at_once() {
        let shutdown = Shutdown::default();
        shutdown.drain();
        let started = Instant::now();
        assert_eq!(shutdown.run(Duration::ZERO, LIMIT, &Metrics::new()).await, Ended::Clean);
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_delay_is_served_also_without_connections() {
        let shutdown = Shutdown::default();
        shutdown.drain();
        let started = Instant::now();
        shutdown.run(Duration::from_secs(3), LIMIT, &Metrics::new()).await;
        assert_eq!(started.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn connections_are_told_to_go_near_the_limit_and_cut_at_it() {
        let (shutdown, metrics) = (Shutdown::default(), Metrics::new());
        let _connection = shutdown.connections().token();
        metrics.inflight_calls.inc();
        shutdown.drain();
        let started = Instant::now();
        let mut phase = shutdown.watch();
        let told = async {
            phase.wait_for(|phase| *phase == Phase::GoingAway).await.unwrap();
            started.elapsed()
        };
        let (told, ended) = tokio::join!(told, shutdown.run(Duration::ZERO, LIMIT, &metrics));
        assert_eq!((told, started.elapsed(), ended), (Duration::from_secs(20), LIMIT, Ended::CallsCut));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_request_skips_the_wait() {
        let shutdown = Shutdown::default();
        let connection = shutdown.connections().token();
        shutdown.drain();
        shutdown.go_away();
        let started = Instant::now();
        let leave = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(connection);
        };
        let metrics = Metrics::new();
        let ((), ended) = tokio::join!(leave, shutdown.run(Duration::ZERO, LIMIT, &metrics));
        assert_eq!((started.elapsed(), ended), (Duration::from_secs(1), Ended::Clean));
    }
}
