//! Google's own Cloud Spanner emulator.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::PATIENCE;

/// A running emulator; killed on drop.
pub(crate) struct Emulator {
    child: Child,
    /// Its gRPC address.
    pub(crate) grpc: SocketAddr,
    /// Its REST address.
    pub(crate) rest: SocketAddr,
}

impl Emulator {
    /// Starts it. `None`, with a line that says so, where it is not installed; in CI that is a failure.
    pub(crate) fn start() -> Option<Emulator> {
        let Some(binary) = find() else {
            assert!(std::env::var_os("CI").is_none(), "the Spanner emulator is needed in CI: set SPANNER_EMULATOR_BIN");
            eprintln!("left out: the Spanner emulator was not found (SPANNER_EMULATOR_BIN, gcloud SDK, PATH)");
            return None;
        };
        let (grpc, rest) = (free_port(), free_port());
        let mut child = Command::new(binary)
            .args(["--hostname", "127.0.0.1", "--grpc_port", &grpc.port().to_string(), "--http_port", &rest.port().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // The gateway leaves the emulator behind it running when it ends: both are stopped as one group.
            .process_group(0)
            .spawn()
            .expect("the emulator starts");
        let start = Instant::now();
        while TcpStream::connect(grpc).is_err() || TcpStream::connect(rest).is_err() {
            let ended = child.try_wait().expect("a child");
            assert!(ended.is_none() && start.elapsed() < PATIENCE, "the emulator does not listen ({ended:?})");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Emulator { child, grpc, rest })
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).status();
        let _ = self.child.wait();
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn find() -> Option<PathBuf> {
    let on_path =
        |name: &str| std::env::split_paths(&std::env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file());
    let in_sdk = |root: PathBuf| Some(root.join("bin/cloud_spanner_emulator/gateway_main")).filter(|path| path.is_file());
    let sdk_of = |gcloud: PathBuf| std::fs::canonicalize(gcloud).ok()?.parent()?.parent().map(PathBuf::from);
    std::env::var_os("SPANNER_EMULATOR_BIN")
        .map(PathBuf::from)
        .or_else(|| in_sdk(std::env::var_os("CLOUDSDK_ROOT_DIR")?.into()))
        .or_else(|| in_sdk(sdk_of(on_path("gcloud")?)?))
        .or_else(|| in_sdk("/usr/lib/google-cloud-sdk".into()))
        .or_else(|| on_path("gateway_main"))
}
