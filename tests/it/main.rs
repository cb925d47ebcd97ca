//! The integration tests: the real binary, over real sockets, in front of the emulator or of the simulated Spanner.
//!
//! - `endpoint`      calls pass, statuses and metadata are what they should be

mod support;

mod endpoint;
