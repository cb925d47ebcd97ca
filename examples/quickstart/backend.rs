//! The Spanner behind the sidecar: the emulator where it is found, else the embedded stand-in.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use spanner_sim::Sim;
use tokio::net::TcpStream;

use crate::failure::Failure;
use crate::progress::{Task, say};

/// How long the emulator may take to listen; it needs well below a second on a quiet machine.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Lines of the emulator's output that are kept for an error message.
const KEPT_LINES: usize = 10;

const OTHERWISE: &str = "Set SPANNER_EMULATOR_BIN to the emulator's gateway_main, or use the stand-in: --stand-in";

/// A running Spanner of one kind or the other; it stops when dropped.
pub(crate) enum Backend {
    Emulator(Emulator),
    StandIn(SocketAddr),
}

impl Backend {
    /// Where it speaks gRPC.
    pub(crate) fn grpc(&self) -> SocketAddr {
        match self {
            Backend::Emulator(emulator) => emulator.grpc,
            Backend::StandIn(address) => *address,
        }
    }

    /// Where it speaks REST, if it does.
    pub(crate) fn rest(&self) -> Option<SocketAddr> {
        match self {
            Backend::Emulator(emulator) => Some(emulator.rest),
            Backend::StandIn(_) => None,
        }
    }

    /// What an application must not expect of it.
    pub(crate) fn limits(&self) -> Option<&'static str> {
        match self {
            Backend::Emulator(_) => None,
            Backend::StandIn(_) => Some(
                "The stand-in knows simple tables and statements, over gRPC only. For all of Spanner's SQL, install the emulator:\n\
                 gcloud components install cloud-spanner-emulator",
            ),
        }
    }
}

/// Starts the emulator if it is found and wanted, else the stand-in.
pub(crate) async fn start(stand_in: bool) -> Result<Backend, Failure> {
    let binary = if stand_in { None } else { find()? };
    if let Some(binary) = binary {
        let task = Task::begin(format_args!("Spanner   the emulator, {}", binary.display()));
        let emulator = Emulator::start(&binary).await?;
        task.end();
        return Ok(Backend::Emulator(emulator));
    }
    let why = if stand_in { "as asked" } else { "for no emulator was found (SPANNER_EMULATOR_BIN, gcloud SDK, PATH)" };
    say(format_args!("Spanner   the embedded stand-in, {why}"));
    start_stand_in().map(Backend::StandIn)
}

/// The stand-in gets its own thread, so that it does not wait for the client's work, as a process of its own would not.
fn start_stand_in() -> Result<SocketAddr, Failure> {
    let failed =
        |error: String| Failure::new(format!("the stand-in does not start: {error}"), "Check the limits of this user: ulimit -n -u");
    let (report, started) = mpsc::channel();
    let serve = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(report.send(Err(error))),
        };
        runtime.block_on(async {
            // The official client leaves out a header that the strict checks ask for.
            match Sim::builder().strict_headers(false).record_limit(0).start().await {
                Ok(sim) => {
                    let _ = report.send(Ok(sim.addr()));
                    // It ends with the process.
                    std::future::pending::<()>().await;
                }
                Err(error) => drop(report.send(Err(error))),
            }
        });
    };
    std::thread::Builder::new().name("stand-in".into()).spawn(serve).map_err(|error| failed(error.to_string()))?;
    started.recv().map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}

/// Google's own emulator, as a process.
pub(crate) struct Emulator {
    child: Child,
    grpc: SocketAddr,
    rest: SocketAddr,
}

impl Emulator {
    async fn start(binary: &Path) -> Result<Emulator, Failure> {
        let [grpc, rest] = free_addresses()?;
        let mut child = Command::new(binary)
            .args(["--hostname", "127.0.0.1", "--grpc_port", &grpc.port().to_string(), "--http_port", &rest.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A group of its own: the terminal's Ctrl-C must not end it before the sidecar has drained.
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::new(format!("can't start {}: {error}", binary.display()), OTHERWISE))?;
        let output = follow(&mut child);
        let mut emulator = Emulator { child, grpc, rest };
        let start = Instant::now();
        while TcpStream::connect(grpc).await.is_err() || TcpStream::connect(rest).await.is_err() {
            let ended = emulator.child.try_wait().ok().flatten();
            if ended.is_some() || start.elapsed() > START_LIMIT {
                let state = ended.map_or_else(|| format!("does not listen after {START_LIMIT:?}"), |status| format!("ended ({status})"));
                let said =
                    output.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|line| format!("\n    {line}")).collect::<String>();
                return Err(Failure::new(format!("the emulator, {}, {state}{said}", binary.display()), OTHERWISE));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(emulator)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // The gateway leaves the emulator behind it running when it ends: both are stopped as one group. There is nothing
        // to save, for the emulator keeps all data in memory.
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// Keeps the end of what the process writes to standard error.
fn follow(child: &mut Child) -> Arc<Mutex<Vec<String>>> {
    let kept = Arc::new(Mutex::new(Vec::new()));
    if let Some(stderr) = child.stderr.take() {
        let sink = kept.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut kept = sink.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == KEPT_LINES {
                    kept.remove(0);
                }
                kept.push(line);
            }
        });
    }
    kept
}

fn free_addresses() -> Result<[SocketAddr; 2], Failure> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // Both are held at once, so that they differ.
    let both = || -> std::io::Result<_> {
        let (one, other) = (bind()?, bind()?);
        Ok([one.local_addr()?, other.local_addr()?])
    };
    both().map_err(|error| Failure::new(format!("no free port on 127.0.0.1: {error}"), "Check that the loopback interface is up"))
}

/// Where the emulator is: what the environment names, or else the gcloud SDK's or that on the PATH.
fn find() -> Result<Option<PathBuf>, Failure> {
    match std::env::var_os("SPANNER_EMULATOR_BIN").map(PathBuf::from) {
        Some(named) if named.is_file() => Ok(Some(named)),
        Some(named) => Err(Failure::new(format!("SPANNER_EMULATOR_BIN: {} is not a file", named.display()), OTHERWISE)),
        None => Ok(search()),
    }
}

fn search() -> Option<PathBuf> {
    let on_path =
        |name: &str| std::env::split_paths(&std::env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file());
    let in_sdk = |root: PathBuf| Some(root.join("bin/cloud_spanner_emulator/gateway_main")).filter(|path| path.is_file());
    let sdk_of = |gcloud: PathBuf| std::fs::canonicalize(gcloud).ok()?.parent()?.parent().map(PathBuf::from);
    std::env::var_os("CLOUDSDK_ROOT_DIR")
        .and_then(|root| in_sdk(root.into()))
        .or_else(|| in_sdk(sdk_of(on_path("gcloud")?)?))
        .or_else(|| in_sdk("/usr/lib/google-cloud-sdk".into()))
        .or_else(|| on_path("gateway_main"))
        .or_else(|| on_path("cloud_spanner_emulator"))
}
