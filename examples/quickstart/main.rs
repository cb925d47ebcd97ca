//! The first run: a Spanner on this machine, the sidecar in front of it, and Google's own Rust client that does the same
//! work direct and through the sidecar.
//!
//!     cargo run --release --example quickstart
//!
//! It stays up until Ctrl-C, so that an application can be pointed at the sidecar: SPANNER_EMULATOR_HOST is all it needs.

#![allow(clippy::large_futures, reason = "the client library's calls are large futures, and only few are under way here")]

mod backend;
mod database;
mod failure;
mod progress;
mod sidecar;
mod table;
mod workload;

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};

use backend::Backend;
use failure::Failure;
use progress::{Task, say};
use sidecar::{Sidecar, Used};

/// Shows the sidecar at work in front of the Spanner emulator, or of an embedded stand-in where there is none
#[derive(Parser)]
#[command(name = "quickstart")]
struct Arguments {
    /// Exit after the table
    #[arg(long)]
    once: bool,
    /// Use the stand-in even where the emulator is found
    #[arg(long)]
    stand_in: bool,
}

#[allow(clippy::print_stderr, reason = "it is where people look for what went wrong")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One thread for all of the client's work, as in many a small service.
    let outcome = match tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()) {
        Ok(runtime) => runtime.block_on(quickstart(&arguments)),
        Err(error) => Err(Failure::new(format!("no runtime: {error}"), "Check the limits of this user: ulimit -n -u")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nquickstart: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn quickstart(arguments: &Arguments) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    // The backend stops when it is dropped, also when this ends early.
    let (backend, sidecar) = tokio::select! {
        shown = show(arguments) => shown?,
        _ = stop.asked() => {
            say("\nStopped before the table was there.");
            return Ok(());
        }
    };
    let how = if arguments.once {
        Asked::Interrupt
    } else {
        point_at(&backend, &sidecar);
        let how = stop.asked().await;
        say("\nThe sidecar finishes the calls under way; once more skips this.");
        how
    };
    sidecar.end(how);
    tokio::select! {
        ended = sidecar.ended() => ended,
        _ = stop.asked() => Ok(()),
    }
}

/// Starts both, runs the workload, prints the table.
async fn show(arguments: &Arguments) -> Result<(Backend, Sidecar), Failure> {
    let backend = backend::start(arguments.stand_in).await?;
    let sidecar = Sidecar::start(&backend).await?;
    let note = if sidecar.has_its_own_port() { String::new() } else { format!(" (port {} is taken)", sidecar::PORT) };
    let task = Task::begin(format_args!("Sidecar   {}{note}, in front of it", sidecar.address()));
    sidecar.ready().await?;
    task.end();

    let task = Task::begin(format_args!("Database  {}", database::DATABASE));
    database::create(sidecar.address()).await?;
    let sides = workload::connect(backend.grpc(), sidecar.address()).await?;
    workload::fill(&sides).await?;
    task.end();

    say("\nGoogle's Rust client, direct and through the sidecar in turns:");
    let before = sidecar.used().await?;
    let rows = workload::run(&sides).await?;
    let after = sidecar.used().await?;
    workload::verify(&sides).await?;

    say(format_args!("\n{}", table::render(&rows)));
    say(format_args!("\n{}", what_it_cost(&before, &after)));
    Ok((backend, sidecar))
}

/// What the sidecar says of the workload.
fn what_it_cost(before: &Used, after: &Used) -> String {
    let (calls, errors) = (after.calls - before.calls, after.errors - before.errors);
    let mut text = format!("The sidecar's own metrics: {calls} calls, {errors} errors");
    if calls > 0.0 {
        let overhead = (after.overhead - before.overhead) / calls * 1e6;
        text += &format!("; {overhead:.0} \u{b5}s in the sidecar per call");
        if let Some((before, after)) = before.cpu.zip(after.cpu) {
            let cpu = after.saturating_sub(before).as_secs_f64() / calls * 1e6;
            text += &format!(", {cpu:.0} \u{b5}s of CPU, streams included");
        }
    }
    text + "."
}

/// How to use it from an application.
fn point_at(backend: &Backend, sidecar: &Sidecar) {
    say("\nPoint your own application at it:\n");
    say(format_args!("    export SPANNER_EMULATOR_HOST={}", sidecar.address()));
    say(format_args!("\nThe database is {}.", database::DATABASE));
    if let Some(limits) = backend.limits() {
        say(limits);
    }
    say(format_args!("Look inside: http://{0}/status and http://{0}/metrics", sidecar.http()));
    say("\nIt stays up until Ctrl-C.");
}

/// How the end was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Ctrl-C: at once, but for the calls under way.
    Interrupt,
    /// SIGTERM, or a terminal that is closed: clients get the time to move.
    Terminate,
}

struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Stop {
    fn new() -> Result<Stop, Failure> {
        let handlers = || -> std::io::Result<Stop> {
            Ok(Stop {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                hangup: signal(SignalKind::hangup())?,
            })
        };
        handlers().map_err(|error| Failure::new(format!("no signal handler: {error}"), "Check the limits of this user: ulimit -n -u"))
    }

    async fn asked(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = self.terminate.recv() => Asked::Terminate,
            _ = self.hangup.recv() => Asked::Terminate,
        }
    }
}
