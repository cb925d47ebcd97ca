//! Google's side of Cloud Spanner as clients see it, on one machine: strict where Google is strict, scriptable where a
//! test needs an exact answer, and cheap per call.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use spanner_sim::{Code, Script, Sim};
//!
//! let database = "projects/p/instances/i/databases/d";
//! let sim = Sim::builder().database(database, ["CREATE TABLE T (K INT64) PRIMARY KEY (K)"]).start().await.unwrap();
//! // The next Commit is refused; everything else gets the built-in answers.
//! sim.script("Commit", Script::fail(Code::Unavailable, "try again"));
//! println!("point a client at {}", sim.addr());
//! assert!(sim.recorded().is_empty());
//! # });
//! ```
//!
//! # The life of a call
//! 1. `sim` accepts a connection (TLS in `tls`), `conn` serves it with the `h2` crate and starts a task per stream.
//! 2. `call` records the call ([`Call`]) and looks for a [`Script`] whose [`Matcher`] takes it. A script plays its
//!    steps on the stream (`exchange`) or passes the call on.
//! 3. Without a script, `strict` checks the headers, [`grpc`] unpacks the one request message, and `spanner` answers
//!    from its in-memory sessions, transactions and tables. That part is synchronous and knows nothing of HTTP/2.
//! 4. The answer goes out with back-pressure: what a client does not read is not held in memory.
//!
//! # What it is not
//! No persistence, no query planner, no authorization, one process-wide lock around the data. See README for the SQL
//! and DDL that it understands.

mod call;
mod conn;
mod exchange;
pub mod grpc;
mod io;
mod matcher;
mod record;
mod script;
mod sim;
mod spanner;
mod status;
mod strict;
#[cfg(feature = "tls")]
mod tls;

pub use conn::Connection;
pub use matcher::{Head, Matcher, ScriptHandle};
pub use record::{Call, End, KEPT_BODY, hash};
pub use script::{GoAway, Script, generated};
pub use sim::{Builder, Sim};
pub use status::{Code, Status};

pub use googleapis_tonic_google_spanner_admin_database_v1::google::longrunning;
pub use googleapis_tonic_google_spanner_admin_database_v1::google::spanner::admin::database::v1 as database;
pub use googleapis_tonic_google_spanner_admin_instance_v1::google::spanner::admin::instance::v1 as instance;
/// The messages that scripts and recorded calls are made of.
pub use googleapis_tonic_google_spanner_v1::google::spanner::v1;
pub use {bytes, http, prost, prost_types};

/// Locks a mutex; data behind one that a panicking test thread held is still good enough to look at.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
