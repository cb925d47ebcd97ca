//! The commands that talk to a running sidecar: `healthcheck`, `wait`, `drain`, `status`.

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use spanner_sidecar::config::Command;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::{exit, fail};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often `wait` asks.
const WAIT_POLL: Duration = Duration::from_millis(100);

/// Does what the command says.
#[allow(clippy::print_stdout, reason = "a command's answer goes to standard output")]
pub(crate) async fn ask(command: Command) -> ExitCode {
    let (port, method, path) = match command {
        Command::Wait(wait) => return wait_until_ready(wait.target.http_port, wait.max).await,
        Command::Healthcheck(target) => (target.http_port, Method::GET, "/readiness"),
        Command::Status(target) => (target.http_port, Method::GET, "/status"),
        Command::Drain(target) => (target.admin_port, Method::POST, "/drain"),
        Command::Serve(_) => return fail(exit::INTERNAL, "serve does not ask"),
    };
    match request(port, method, path).await {
        Ok((code, body)) => {
            print!("{body}");
            if code.is_success() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) }
        }
        Err(error) => fail(exit::FAILED, &error),
    }
}

async fn wait_until_ready(port: u16, max: Duration) -> ExitCode {
    let end = Instant::now() + max;
    loop {
        let state = match request(port, Method::GET, "/readiness").await {
            Ok((code, _)) if code.is_success() => return ExitCode::SUCCESS,
            Ok((_, state)) => format!("it is {}", state.trim()),
            Err(error) => error,
        };
        if Instant::now() >= end {
            return fail(exit::FAILED, &format!("not ready after {}: {state}", humantime::format_duration(max)));
        }
        sleep(WAIT_POLL).await;
    }
}

async fn request(port: u16, method: Method, path: &str) -> Result<(StatusCode, String), String> {
    timeout(TIMEOUT, exchange(port, method, path))
        .await
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|error| format!("no sidecar answers on 127.0.0.1:{port}: {error}"))
}

async fn exchange(port: u16, method: Method, path: &str) -> Result<(StatusCode, String), Box<dyn std::error::Error>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", format!("127.0.0.1:{port}")).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
