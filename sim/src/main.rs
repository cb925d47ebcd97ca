//! The simulator as a program: serves until Ctrl-C or SIGTERM.

use std::io::Write as _;
use std::process::ExitCode;

use spanner_sim::Sim;

const HELP: &str = "\
Google's side of Cloud Spanner, simulated: an in-memory Spanner on a local port.

Usage: spanner-sim [OPTIONS]

  --listen ADDR        address to listen on [127.0.0.1:9010]
  --database NAME      have this database from the start: projects/P/instances/I/databases/D; repeatable
  --ddl STATEMENT      create this table in each of those databases; repeatable
  --tls NAMES          speak TLS with a certificate for these names and IP addresses, separated by commas
  --ca-out FILE        write the certificate authority's PEM here (with --tls)
  --token TOKEN        ask for this bearer token on every call
  --max-streams N      streams per connection [100]
  --strict             refuse calls that lack a header which most Spanner clients send
  -h, --help           this text
";

struct Args {
    listen: String,
    databases: Vec<String>,
    ddl: Vec<String>,
    tls: Vec<String>,
    ca_out: Option<String>,
    token: Option<String>,
    max_streams: u32,
    strict: bool,
}

fn parse(args: impl Iterator<Item = String>) -> Result<Option<Args>, String> {
    let mut out = Args {
        listen: "127.0.0.1:9010".into(),
        databases: Vec::new(),
        ddl: Vec::new(),
        tls: Vec::new(),
        ca_out: None,
        token: None,
        max_streams: 100,
        strict: false,
    };
    let mut args = args;
    while let Some(arg) = args.next() {
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (arg, None),
        };
        let mut value = || inline.clone().or_else(|| args.next()).ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--listen" => out.listen = value()?,
            "--database" => out.databases.push(value()?),
            "--ddl" => out.ddl.push(value()?),
            "--tls" => out.tls = value()?.split(',').map(str::to_owned).collect(),
            "--ca-out" => out.ca_out = Some(value()?),
            "--token" => out.token = Some(value()?),
            "--max-streams" => {
                let value = value()?;
                out.max_streams = value.parse().map_err(|_| format!("--max-streams {value:?} is not a number"))?;
            }
            "--strict" => out.strict = true,
            "-h" | "--help" => return Ok(None),
            _ => return Err(format!("unknown option {name}; see --help")),
        }
    }
    Ok(Some(out))
}

async fn start(args: &Args) -> Result<Sim, String> {
    let mut builder =
        Sim::builder().listen(args.listen.clone()).record_limit(0).max_concurrent_streams(args.max_streams).strict_headers(args.strict);
    for database in &args.databases {
        builder = builder.database(database.clone(), args.ddl.clone());
    }
    if let Some(token) = &args.token {
        builder = builder.token(token.clone());
    }
    #[cfg(feature = "tls")]
    {
        builder = builder.tls(args.tls.clone());
    }
    #[cfg(not(feature = "tls"))]
    if !args.tls.is_empty() {
        return Err("--tls: this build has no TLS (feature \"tls\")".into());
    }
    let sim = builder.start().await.map_err(|e| format!("cannot start on {}: {e}", args.listen))?;
    if let (Some(file), Some(pem)) = (&args.ca_out, sim.ca_pem()) {
        std::fs::write(file, pem).map_err(|e| format!("cannot write --ca-out {file}: {e}"))?;
    }
    Ok(sim)
}

async fn stop_signal() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            done = tokio::signal::ctrl_c() => done,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

async fn run(args: Args) -> Result<(), String> {
    let sim = start(&args).await?;
    writeln!(std::io::stdout(), "spanner-sim {} listening on {}", env!("CARGO_PKG_VERSION"), sim.uri())
        .map_err(|e| format!("cannot write to standard output: {e}"))?;
    stop_signal().await.map_err(|e| format!("cannot wait for signals: {e}"))?;
    sim.stop().await;
    Ok(())
}

fn main() -> ExitCode {
    let result = match parse(std::env::args().skip(1)) {
        Ok(None) => std::io::stdout().write_all(HELP.as_bytes()).map_err(|e| (1, e.to_string())),
        Err(e) => Err((2, e)),
        Ok(Some(args)) => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| e.to_string())
            .and_then(|runtime| runtime.block_on(run(args)))
            .map_err(|e| (1, e)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, text)) => {
            // Nowhere left to say that this failed.
            let _ = writeln!(std::io::stderr(), "spanner-sim: {text}");
            ExitCode::from(code)
        }
    }
}
