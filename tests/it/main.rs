//! The integration tests: the real binary, over real sockets, in front of the emulator or of the simulated Spanner.
//!
//! - `docs`          generated pages are up to date
//! - `endpoint`      calls pass, statuses and metadata are what they should be

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "what is left out is said so")]

mod support;

mod docs;
mod endpoint;
