//! The command line: options and where they come from, exit codes, the commands that ask a running sidecar.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::process::{Run, run};
use crate::support::raw::Client;
use crate::support::sidecar::Sidecar;
use crate::support::spanner::sim;

/// The options of `serve`, as the command line's contract has them.
const OPTIONS: [&str; 19] = [
    "listen",
    "allow-remote-clients",
    "upstream",
    "rest-upstream",
    "upstream-ca-file",
    "upstream-server-name",
    "credentials",
    "credentials-file",
    "channels",
    "worker-threads",
    "dns-server",
    "http-address",
    "http-port",
    "admin-port",
    "min-sigterm-delay",
    "max-sigterm-delay",
    "log-format",
    "log-level",
    "config-file",
];

/// Free ports, and an upstream that is never reached.
const NOWHERE: [&str; 10] =
    ["--listen", "127.0.0.1:0", "--http-address", "127.0.0.1", "--http-port", "0", "--admin-port", "0", "--upstream", "http://127.0.0.1:1"];

#[tokio::test]
async fn help_names_every_option_and_command() {
    for arguments in [&["--help"][..], &["serve", "--help"]] {
        let help = run(arguments, &[]).await;
        assert_eq!((help.code, &*help.stderr), (Some(0), ""));
        for option in OPTIONS {
            assert!(
                help.stdout.contains(&format!("--{option} ")) || help.stdout.contains(&format!("--{option}\n")),
                "{option} in {}",
                help.stdout
            );
            let variable = format!("SPANNER_SIDECAR_{}", option.to_uppercase().replace('-', "_"));
            assert!(help.stdout.contains(&variable), "{variable} in {}", help.stdout);
        }
    }
    let help = run(&["--help"], &[]).await.stdout;
    for word in ["serve", "healthcheck", "wait", "drain", "status", "SPANNER_EMULATOR_HOST", "Exit codes"] {
        assert!(help.contains(word), "{word} in {help}");
    }
    for command in ["healthcheck", "wait", "drain", "status"] {
        assert_eq!(run(&[command, "--help"], &[]).await.code, Some(0), "{command}");
    }
    let version = run(&["--version"], &[]).await;
    assert_eq!(version.stdout.trim(), format!("spanner-sidecar {}", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn a_command_line_that_can_not_be_read_exits_with_2() {
    for (arguments, named) in [
        (&["--no-such-option"][..], "--no-such-option"),
        (&["no-such-command"], "no-such-command"),
        (&["--channels", "many"], "--channels"),
        (&["--credentials", "magic"], "--credentials"),
        (&["--max-sigterm-delay", "soon"], "--max-sigterm-delay"),
        (&["--http-port", "70000"], "--http-port"),
        (&["--dns-server", "dns"], "--dns-server"),
    ] {
        let failed = run(arguments, &[]).await;
        assert_eq!((failed.code, &*failed.stdout), (Some(2), ""), "{arguments:?}");
        assert!(failed.stderr.contains(named), "{arguments:?}: {}", failed.stderr);
    }
}

#[tokio::test]
async fn a_wrong_value_exits_with_78_and_names_option_value_and_fix() {
    let directory = tempfile::tempdir().expect("a directory");
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").expect("writes");
    let misspelt = directory.path().join("misspelt.toml");
    std::fs::write(&misspelt, "chanels = 7\n").expect("writes");
    let (empty, misspelt) = (empty.to_str().expect("text"), misspelt.to_str().expect("text"));
    for (arguments, named) in [
        (&["--upstream", "spanner.googleapis.com"][..], ["--upstream", "spanner.googleapis.com", "https://HOST"]),
        (&["--upstream", "https://host/path"], ["--upstream", "https://host/path", "without a path"]),
        (&["--rest-upstream", "ftp://host"], ["--rest-upstream", "ftp://host", "https://HOST"]),
        (&["--listen", "9010"], ["--listen", "9010", "HOST:PORT"]),
        (&["--listen", "0.0.0.0:9010"], ["--listen", "0.0.0.0:9010", "--allow-remote-clients"]),
        (&["--channels", "0"], ["--channels", "0", "1 to 64"]),
        (&["--worker-threads", "65"], ["--worker-threads", "65", "1 to 64"]),
        (&["--min-sigterm-delay", "30s"], ["--min-sigterm-delay", "30s", "--max-sigterm-delay"]),
        (&["--credentials", "metadata", "--upstream", "http://127.0.0.1:1"], ["--credentials", "plaintext", "https"]),
        (&["--credentials-file", "/nonexistent"], ["--credentials-file", "/nonexistent", "Check the path"]),
        (&["--upstream-ca-file", "/nonexistent"], ["--upstream-ca-file", "/nonexistent", "PEM"]),
        (&["--upstream-ca-file", empty], ["--upstream-ca-file", empty, "PEM"]),
        (&["--upstream-server-name", "not a name"], ["--upstream-server-name", "not a name", "name in the certificate"]),
        (&["--config-file", "/nonexistent"], ["--config-file", "/nonexistent", "TOML"]),
        (&["--config-file", misspelt], ["--config-file", "chanels", "TOML"]),
    ] {
        let failed = run(&[&["serve", "--http-port", "0", "--admin-port", "0"], arguments].concat(), &[]).await;
        assert_eq!((failed.code, &*failed.stdout), (Some(78), ""), "{arguments:?}: {}", failed.stderr);
        assert_eq!(
            failed.stderr.trim_end().lines().count(),
            if arguments[1] == misspelt { failed.stderr.trim_end().lines().count() } else { 1 }
        );
        for text in named {
            assert!(failed.stderr.contains(text), "{arguments:?}: {text:?} is not in {}", failed.stderr);
        }
    }
}

#[tokio::test]
async fn an_address_that_is_taken_exits_with_71_and_is_named_with_the_option_to_change() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let port = address.rsplit(':').next().expect("a port");
    for (option, value) in [("--listen", &*address), ("--http-port", port), ("--admin-port", port)] {
        let kept = NOWHERE.chunks(2).filter(|pair| pair[0] != option).flatten().copied();
        let failed = run(&kept.chain([option, value]).collect::<Vec<_>>(), &[]).await;
        assert_eq!(failed.code, Some(71), "{option}: {failed:?}");
        assert!(failed.stderr.contains(&address), "{option}: {failed:?}");
        assert!(failed.stderr.contains(option), "the fix is to change {option}: {}", failed.stderr);
    }
}

/// Which of the values of `--channels`, all wrong, the process complains of.
async fn complains_of(arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let failed = run(&[&NOWHERE[..], arguments].concat(), environment).await;
    assert_eq!(failed.code, Some(78), "{failed:?}");
    failed
}

#[tokio::test]
async fn a_flag_wins_over_the_environment_and_the_environment_over_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("sidecar.toml");
    std::fs::write(&file, "channels = 103\n").expect("writes");
    let file = file.to_str().expect("text");
    let variable = [("SPANNER_SIDECAR_CHANNELS", "102")];
    let flag_first = complains_of(&["--channels", "101", "--config-file", file], &variable).await;
    assert!(flag_first.stderr.contains("101"), "{flag_first:?}");
    let variable_second = complains_of(&["--config-file", file], &variable).await;
    assert!(variable_second.stderr.contains("102"), "{variable_second:?}");
    let file_last = complains_of(&["--config-file", file], &[]).await;
    assert!(file_last.stderr.contains("103"), "{file_last:?}");
    let file_from_the_environment = complains_of(&[], &[("SPANNER_SIDECAR_CONFIG_FILE", file)]).await;
    assert!(file_from_the_environment.stderr.contains("103"), "{file_from_the_environment:?}");
}

#[tokio::test]
async fn the_file_and_the_environment_are_enough_to_run() {
    let sim = sim().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("sidecar.toml");
    std::fs::write(
        &file,
        "channels = 2\nworker-threads = 2\nmin-sigterm-delay = \"10ms\"\nmax-sigterm-delay = \"2s\"\nlog-format = \"json\"\nlog-level = \"debug\"\n",
    )
    .expect("writes");
    let environment = [("SPANNER_SIDECAR_CONFIG_FILE", file.to_str().expect("text")), ("SPANNER_SIDECAR_CREDENTIALS", "none")];
    let sidecar = Sidecar::start_in(&environment, &sim.uri(), &[]).await;
    crate::support::eventually("two channels each", async || sidecar.metric("spanner_sidecar_channels{state=\"ready\"}").await == 4.0)
        .await;
    Client::connect(sidecar.address).await.works().await;
}

#[tokio::test]
async fn a_list_in_the_environment_is_separated_by_commas() {
    let failed = run(&NOWHERE[2..], &[("SPANNER_SIDECAR_LISTEN", "127.0.0.1:0,0.0.0.0:1")]).await;
    assert_eq!(failed.code, Some(78), "{failed:?}");
    assert!(failed.stderr.contains("0.0.0.0:1"), "{failed:?}");
}

#[tokio::test]
async fn healthcheck_wait_and_status_ask_a_running_sidecar() {
    let sim = sim().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let port = sidecar.http.port().to_string();
    for arguments in [&["healthcheck", "--http-port", &port][..], &["wait", "--http-port", &port, "--max", "10s"]] {
        let ok = run(arguments, &[]).await;
        assert_eq!(ok.code, Some(0), "{ok:?}");
    }
    // The port may also come from where the sidecar itself has it.
    assert_eq!(run(&["healthcheck"], &[("SPANNER_SIDECAR_HTTP_PORT", &port)]).await.code, Some(0));
    let status = run(&["status", "--http-port", &port], &[]).await;
    assert_eq!(status.code, Some(0));
    let known: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
    assert_eq!(known["state"], "ready");
    assert_eq!(known["upstream"], sim.uri());
    assert_eq!(known["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn without_a_sidecar_the_commands_fail_and_say_so() {
    let nobody =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map(|address: SocketAddr| address.port());
    let port = nobody.expect("a free port").to_string();
    for arguments in [
        &["healthcheck", "--http-port", &port][..],
        &["wait", "--http-port", &port, "--max", "300ms"],
        &["status", "--http-port", &port],
        &["drain", "--admin-port", &port],
    ] {
        let start = Instant::now();
        let failed = run(arguments, &[]).await;
        assert_eq!((failed.code, &*failed.stdout), (Some(1), ""), "{failed:?}");
        assert!(failed.stderr.contains(&port), "{failed:?}");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn wait_ends_when_the_sidecar_gets_ready() {
    let address = crate::support::unused_address();
    let sidecar = Sidecar::start_listening(&format!("http://{address}"), &[]).await;
    let port = sidecar.http.port().to_string();
    let not_yet = run(&["wait", "--http-port", &port, "--max", "200ms"], &[]).await;
    assert_eq!(not_yet.code, Some(1));
    assert!(not_yet.stderr.contains("starting"), "{not_yet:?}");
    let waiting = tokio::spawn(async move { run(&["wait", "--http-port", &port], &[]).await });
    let _sim = crate::support::spanner::builder().listen(address.to_string()).start().await.expect("the address is free");
    let waited = waiting.await.expect("a task");
    assert_eq!(waited.code, Some(0), "{waited:?}");
    assert_eq!(sidecar.get("/readiness").await.0, 200);
}

#[tokio::test]
async fn drain_ends_a_running_sidecar() {
    let sim = sim().await;
    let mut sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let drained = run(&["drain", "--admin-port", &sidecar.admin.port().to_string()], &[]).await;
    assert_eq!(drained.code, Some(0), "{drained:?}");
    assert_eq!(sidecar.wait().await.code(), Some(0));
}
