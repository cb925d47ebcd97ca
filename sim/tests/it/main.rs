//! Drives the simulator with a raw `h2` client.
//!
//! - `client`, `requests`: the client, and what it sends
//! - `spanner`: the built-in Spanner: sessions, reads, SQL, partitions, admin
//! - `transactions`: conflicts, aborts, precommit tokens, snapshots
//! - `scripts`: scripted answers, faults, recording
//! - `strict`: headers, tokens, deadlines, encodings, TLS
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client;
mod requests;
mod scripts;
mod spanner;
mod strict;
mod transactions;
