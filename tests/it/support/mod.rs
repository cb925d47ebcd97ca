//! What the tests stand on: a running sidecar, the emulator, and a gRPC client that sees every byte.

#![allow(dead_code, reason = "each test module uses a part")]

pub(crate) mod emulator;
pub(crate) mod frames;
pub(crate) mod http_server;
pub(crate) mod load;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod sidecar;
pub(crate) mod spanner;

use std::time::{Duration, Instant};

/// How long anything that must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Polls until `condition` holds; panics with `what` if it never does.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An address at which nobody listens until the test does: 127.0.0.2 is used for nothing else.
pub(crate) fn unused_address() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.2:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// The database that tests on the simulated Spanner use.
pub(crate) const DATABASE: &str = "projects/p/instances/i/databases/d";
