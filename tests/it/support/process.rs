//! The binary run to its end.

use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use super::PATIENCE;

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Run {
    /// The exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the binary, which must end by itself.
pub(crate) async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let command = Command::new(env!("CARGO_BIN_EXE_spanner-sidecar"))
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, command).await.unwrap_or_else(|_| panic!("{arguments:?} does not end")).expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Run { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}
