//! One workload of a Spanner application, and a record of what a client library made of it.
//!
//! The checks hold no expectation about who answers: run against Spanner's emulator directly and through something that
//! stands in between, the two transcripts must be equal. A program of this workspace implements [`Library`] with the
//! calls of one client library and hands it to [`main`].

mod admin;
mod failures;
mod library;
mod partitions;
mod reads;
mod report;
mod run;
mod schema;
mod transactions;
mod workload;
mod writes;

pub use library::{
    Admin, Body, Bound, BoxFuture, CallError, Client, Code, Failure, Features, KeySet, Library, Mutation, Reader, Row, Sink, Snapshot,
    Source, Statement, Timestamp, Transaction, Type, Value, Write,
};
pub use run::main;
