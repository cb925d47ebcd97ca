//! The sidecar as a process.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::PATIENCE;

/// A running sidecar; killed on drop.
pub(crate) struct Sidecar {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    /// Where applications connect.
    pub(crate) address: SocketAddr,
    /// Where probes and metrics are.
    pub(crate) http: SocketAddr,
    /// Where the admin API is.
    pub(crate) admin: SocketAddr,
}

impl Sidecar {
    /// Starts the binary on free ports in front of `upstream` (a URL) and waits until it is ready.
    pub(crate) async fn start(upstream: &str, arguments: &[&str]) -> Sidecar {
        Sidecar::start_until("ready", upstream, arguments, &[]).await
    }

    /// As [`Sidecar::start`], with these environment variables.
    pub(crate) async fn start_in(environment: &[(&str, &str)], upstream: &str, arguments: &[&str]) -> Sidecar {
        Sidecar::start_until("ready", upstream, arguments, environment).await
    }

    /// The same, waiting only until it listens: for an upstream that is not there.
    pub(crate) async fn start_listening(upstream: &str, arguments: &[&str]) -> Sidecar {
        Sidecar::start_until("listening", upstream, arguments, &[]).await
    }

    /// As [`Sidecar::start_listening`], with these environment variables.
    pub(crate) async fn start_listening_in(environment: &[(&str, &str)], upstream: &str, arguments: &[&str]) -> Sidecar {
        Sidecar::start_until("listening", upstream, arguments, environment).await
    }

    async fn start_until(state: &str, upstream: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Sidecar {
        let mut child = Command::new(env!("CARGO_BIN_EXE_spanner-sidecar"))
            .args(["--listen", "127.0.0.1:0", "--http-address", "127.0.0.1", "--http-port", "0", "--admin-port", "0"])
            .args(["--upstream", upstream])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, sink) = (BufReader::new(child.stderr.take().expect("piped")).lines(), log.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                sink.lock().unwrap().push(line);
            }
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut sidecar = Sidecar { child, log, address: nowhere, http: nowhere, admin: nowhere };
        let line = sidecar.line(&format!("\"message\":\"{state}\"")).await;
        let address =
            |field: &str| line[field].as_str().and_then(|text| text.split(',').next()).and_then(|text| text.parse().ok()).expect(field);
        (sidecar.address, sidecar.http, sidecar.admin) = (address("listen"), address("http"), address("admin"));
        sidecar
    }

    /// Waits for the first log line that contains `text`.
    pub(crate) async fn line(&mut self, text: &str) -> serde_json::Value {
        let start = Instant::now();
        loop {
            if let Some(line) = self.log().iter().find(|line| line.contains(text)) {
                return serde_json::from_str(line).expect("a JSON line");
            }
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none() && start.elapsed() < PATIENCE, "no line with {text} ({ended:?}):\n{}", self.log().join("\n"));
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// The log so far, a line each.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Sends a signal by its name, as `kill` has it: TERM, INT.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().expect("kill");
        assert!(status.success());
    }

    /// Waits for the process to end.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "still running:\n{}", self.log().join("\n"));
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a running process");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<usize>().ok()).expect("kB") * 1024
    }

    /// GETs a path of the HTTP port: code and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        http(self.http, "GET", path).await
    }

    /// POSTs to a path of the admin port: code and body.
    pub(crate) async fn post(&self, path: &str) -> (u16, String) {
        http(self.admin, "POST", path).await
    }

    /// The value of a metric, with its labels as they stand in the page; 0 if it is not there yet.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let (_, page) = self.get("/metrics").await;
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let panicked = self.log().iter().any(|line| line.contains("panicked"));
        if panicked && !std::thread::panicking() {
            panic!("the sidecar panicked:\n{}", self.log().join("\n"));
        }
    }
}

/// One HTTP/1.1 request without a body.
pub(crate) async fn http(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    http_with(address, &format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")).await
}

/// One HTTP/1.1 request as it stands, answered until the connection closes.
pub(crate) async fn http_with(address: SocketAddr, request: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("in time").expect("reads");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned());
    (code, body)
}
