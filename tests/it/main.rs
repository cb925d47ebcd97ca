//! The integration tests: the real binary, over real sockets, in front of the emulator or of the simulated Spanner.
//!
//! - `docs`            generated pages are up to date
//! - `endpoint`        a call passes, with the headers that its client left out
//! - `differential`    every RPC and many errors, directly and through the sidecar: no difference
//! - `streams`         many streams, cancelled streams, streams whose client is gone
//! - `repetition`      calls sent again on another connection, and those that must not be
//! - `channels`        a transaction stays on its channel; everything else goes where the fewest are
//! - `limits`          large results, requests and metadata; how little memory they take
//! - `drain`           the end of the process: who is served how long, with which exit code
//! - `hostile`         what no good client sends
//! - `protocol`        HTTP/2 frames that break the protocol; readers that never read
//! - `operations`      probes, log lines, metrics, listeners
//! - `command_line`    options and where they come from, exit codes, the commands that ask
//! - `local_services`  health, reflection, REST
//! - `secrets`         TLS to the upstream, and tokens

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "what is left out is said so")]

mod support;

mod channels;
mod command_line;
mod differential;
mod docs;
mod drain;
mod endpoint;
mod hostile;
mod limits;
mod local_services;
mod operations;
mod protocol;
mod repetition;
mod secrets;
mod streams;
