//! The process: flags, logging, runtime, run, exit code. Nothing else exits or prints.

mod remote;

use std::process::ExitCode;

use clap::Parser as _;
use spanner_sidecar::config::{Cli, Command, Settings};
use spanner_sidecar::shutdown::{Ended, Shutdown};
use spanner_sidecar::{App, StartError, logging};
use tokio::signal::unix::{SignalKind, signal};

/// Exit codes, after sysexits.h where it has one; documented in docs/errors.md.
mod exit {
    pub(super) const FAILED: u8 = 1;
    pub(super) const INTERNAL: u8 = 70;
    pub(super) const CANT_BIND: u8 = 71;
    pub(super) const CONFIG: u8 = 78;
    pub(super) const CALLS_CUT: u8 = 143;
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(exit::INTERNAL, &error.to_string()),
    };
    let code = match cli.command {
        None => runtime.block_on(serve(cli.settings)),
        Some(Command::Serve(settings)) => runtime.block_on(serve(*settings)),
        Some(command) => runtime.block_on(remote::ask(command)),
    };
    // A lookup or a fetch that hangs must not hold up the exit.
    runtime.shutdown_background();
    code
}

async fn serve(settings: Settings) -> ExitCode {
    let config = match settings.with_file().and_then(Settings::into_config) {
        Ok(config) => config,
        Err(error) => return fail(exit::CONFIG, &error.to_string()),
    };
    let log_level = logging::start(config.log_format, config.log_level);
    let app = match App::bind(config, log_level).await {
        Ok(app) => app,
        Err(error) => return start_failed(&error),
    };
    if let Err(error) = follow_signals(app.shutdown()) {
        return fail(exit::INTERNAL, &format!("signal handlers: {error}"));
    }
    match app.run().await {
        Ok(Ended::Clean) => ExitCode::SUCCESS,
        Ok(Ended::CallsCut) => ExitCode::from(exit::CALLS_CUT),
        Err(error) => start_failed(&error),
    }
}

/// SIGTERM drains; a second one, or Ctrl-C, goes away at once.
fn follow_signals(shutdown: Shutdown) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => shutdown.drain(),
            _ = interrupt.recv() => return shutdown.go_away(),
        }
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.go_away();
    });
    Ok(())
}

fn start_failed(error: &StartError) -> ExitCode {
    let code = match error {
        StartError::Config(_) => exit::CONFIG,
        StartError::Bind(_) => exit::CANT_BIND,
        StartError::Internal(_) => exit::INTERNAL,
    };
    fail(code, &error.to_string())
}

#[allow(clippy::print_stderr, reason = "the log may not exist yet, and people look here")]
fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("spanner-sidecar: {message}");
    ExitCode::from(code)
}
