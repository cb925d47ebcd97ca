//! TLS to the upstream, and the tokens that go over it.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use spanner_sim::{Builder, Sim};
use tempfile::NamedTempFile;

use crate::support::http_server::HttpServer;
use crate::support::process::run;
use crate::support::raw::Client;
use crate::support::sidecar::Sidecar;
use crate::support::spanner::{builder, create_session, rpc};
use crate::support::{PATIENCE, eventually};

const UNAVAILABLE: u32 = 14;
const TOKEN: &str = "ya29.the-first-token-of-the-sidecar";
const NEXT_TOKEN: &str = "ya29.the-next-token-of-the-sidecar";

async fn start(builder: Builder) -> Sim {
    builder.start().await.expect("the simulator starts")
}

/// The CA of a simulator, as a file.
fn ca(sim: &Sim) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(sim.ca_pem().expect("TLS").as_bytes()).expect("writes");
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().expect("text")
}

#[tokio::test]
async fn calls_go_over_tls_to_an_upstream_whose_authority_is_trusted() {
    let sim = start(builder().tls(["127.0.0.1"])).await;
    let ca = ca(&sim);
    let sidecar = Sidecar::start(&sim.uri(), &["--upstream-ca-file", path(&ca), "--credentials", "none"]).await;
    Client::connect(sidecar.address).await.works().await;
    let call = &sim.recorded_of("CreateSession")[0];
    assert_eq!((&*call.scheme, &*call.authority), ("https", &*sim.addr().to_string()));
}

#[tokio::test]
async fn the_certificates_name_can_be_another_than_the_hosts() {
    let sim = start(builder().tls(["spanner.example"])).await;
    let ca = ca(&sim);
    let arguments = ["--upstream-ca-file", path(&ca), "--credentials", "none", "--upstream-server-name", "spanner.example"];
    let sidecar = Sidecar::start(&sim.uri(), &arguments).await;
    Client::connect(sidecar.address).await.works().await;
}

/// Starts a sidecar that can't trust its upstream: the call's status and the log have to say why.
async fn is_refused(sim: &Sim, arguments: &[&str], reasons: &[&str]) {
    let mut sidecar = Sidecar::start_listening(&sim.uri(), arguments).await;
    let line = sidecar.line("can't connect to the upstream").await;
    assert_eq!(line["level"], "WARN");
    let client = Client::connect(sidecar.address).await;
    let answer = client.call(&rpc("CreateSession"), &create_session(), &[]).await;
    answer.expect_status(UNAVAILABLE, &["E0201", "certificate"]);
    for reason in reasons {
        assert!(answer.message().contains(reason), "{reason:?} is not in {:?}", answer.message());
        assert!(line["error"].as_str().is_some_and(|error| error.contains(reason)), "{reason:?} is not in {line}");
    }
    assert_eq!(sidecar.get("/readiness").await.0, 503);
    assert!(sim.recorded().is_empty(), "nothing is sent to whom nobody trusts");
}

#[tokio::test]
async fn an_upstream_of_another_authority_is_refused_and_the_reason_told() {
    let sim = start(builder().tls(["127.0.0.1"])).await;
    let other = ca(&start(builder().tls(["127.0.0.1"])).await);
    is_refused(&sim, &["--upstream-ca-file", path(&other), "--credentials", "none"], &["127.0.0.1", "certificate"]).await;
}

#[tokio::test]
async fn an_upstream_that_only_a_private_authority_vouches_for_is_refused_by_default() {
    let sim = start(builder().tls(["127.0.0.1"])).await;
    is_refused(&sim, &["--credentials", "none"], &["UnknownIssuer"]).await;
}

#[tokio::test]
async fn an_upstream_with_a_certificate_for_another_name_is_refused_and_both_names_told() {
    let sim = start(builder().tls(["spanner.example"])).await;
    let ca = ca(&sim);
    is_refused(&sim, &["--upstream-ca-file", path(&ca), "--credentials", "none"], &["127.0.0.1", "spanner.example"]).await;
}

/// A metadata server that hands out one token after the other, each good for `seconds`.
async fn metadata(tokens: &'static [&'static str], seconds: u64) -> HttpServer {
    let count = Arc::new(AtomicUsize::new(0));
    HttpServer::start(move |request| {
        if !request.line.starts_with("GET /computeMetadata/v1/instance/service-accounts/default/token") {
            return ("404 Not Found", "", String::new());
        }
        let token = tokens[count.fetch_add(1, Ordering::Relaxed).min(tokens.len() - 1)];
        let body = format!("{{\"access_token\":\"{token}\",\"expires_in\":{seconds},\"token_type\":\"Bearer\"}}");
        ("200 OK", "content-type: application/json\r\nmetadata-flavor: Google\r\n", body)
    })
    .await
}

#[tokio::test]
async fn the_sidecars_token_replaces_the_clients_and_no_token_is_ever_in_the_log() {
    let sim = start(builder().tls(["127.0.0.1"]).token(TOKEN)).await;
    let (ca, metadata) = (ca(&sim), metadata(&[TOKEN], 3600).await);
    let host = metadata.address.to_string();
    let environment = [("GCE_METADATA_HOST", &*host)];
    let arguments = ["--upstream-ca-file", path(&ca), "--credentials", "metadata", "--log-level", "trace"];
    let sidecar = Sidecar::start_in(&environment, &sim.uri(), &arguments).await;
    let client = Client::connect(sidecar.address).await;
    let clients_own = "Bearer ya29.of-the-client";
    let answer = client.call(&rpc("CreateSession"), &create_session(), &[("authorization", clients_own)]).await;
    assert_eq!(answer.code(), Some(0), "{answer:?}");
    let seen: Vec<String> = sim.recorded_of("CreateSession")[0]
        .headers
        .get_all("authorization")
        .iter()
        .map(|value| value.to_str().expect("text").to_owned())
        .collect();
    assert_eq!(seen, [format!("Bearer {TOKEN}")]);
    let asked = &metadata.requests()[0];
    assert_eq!(asked.header("metadata-flavor"), Some("Google"));
    assert!(sidecar.metric("spanner_sidecar_token_expiry_timestamp_seconds").await > 0.0);
    assert_eq!(sidecar.metric("spanner_sidecar_dependency_up{dependency=\"credentials\"}").await, 1.0);
    let log = sidecar.log().join("\n");
    assert!(log.contains("access token fetched"), "{log}");
    for secret in [TOKEN, "ya29.of-the-client"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{line:?}");
    }
    for page in ["/status", "/metrics"] {
        assert!(!sidecar.get(page).await.1.contains("ya29"), "{page}");
    }
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_and_no_call_fails_meanwhile() {
    let sim = start(builder().tls(["127.0.0.1"]).token(TOKEN)).await;
    sim.set_tokens([TOKEN, NEXT_TOKEN]);
    let (ca, metadata) = (ca(&sim), metadata(&[TOKEN, NEXT_TOKEN], 3).await);
    let host = metadata.address.to_string();
    let environment = [("GCE_METADATA_HOST", &*host)];
    let sidecar = Sidecar::start_in(&environment, &sim.uri(), &["--upstream-ca-file", path(&ca), "--credentials", "metadata"]).await;
    let client = Client::connect(sidecar.address).await;
    let renewed = format!("Bearer {NEXT_TOKEN}");
    eventually("the next token is used", async || {
        client.works().await;
        sim.recorded_of("CreateSession").last().is_some_and(|call| call.header("authorization") == Some(&renewed))
    })
    .await;
}

#[tokio::test]
async fn without_a_token_calls_learn_why_and_work_as_soon_as_there_is_one() {
    let sim = start(builder().tls(["127.0.0.1"]).token(TOKEN)).await;
    let ca = ca(&sim);
    let address = crate::support::unused_address();
    let host = address.to_string();
    let environment = [("GCE_METADATA_HOST", &*host)];
    let arguments = ["--upstream-ca-file", path(&ca), "--credentials", "metadata"];
    let sidecar = Sidecar::start_listening_in(&environment, &sim.uri(), &arguments).await;
    let client = Client::connect(sidecar.address).await;
    let answer = client.call(&rpc("CreateSession"), &create_session(), &[]).await;
    answer.expect_status(UNAVAILABLE, &["E0202", &host, "refused"]);
    assert_eq!(sidecar.get("/readiness").await.0, 503);
    assert!(sim.recorded().is_empty(), "no call goes out without a token");
    let token = format!("{{\"access_token\":\"{TOKEN}\",\"expires_in\":3600,\"token_type\":\"Bearer\"}}");
    let _metadata = HttpServer::start_at(address, move |_| ("200 OK", "metadata-flavor: Google\r\n", token.clone())).await;
    eventually("ready", async || sidecar.get("/readiness").await.0 == 200).await;
    client.works().await;
    assert!(sim.eventually(PATIENCE, |sim| !sim.recorded().is_empty()).await);
}

#[tokio::test]
async fn a_token_is_never_sent_to_a_plaintext_rest_upstream() {
    let rest_upstream = ["--rest-upstream", "http://127.0.0.1:1"];
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--http-port",
        "0",
        "--admin-port",
        "0",
        "--upstream",
        "https://127.0.0.1:1",
        "--credentials",
        "metadata",
    ];
    // As --upstream, which is refused together with credentials when it is plaintext.
    let refused = run(&[&arguments[..], &rest_upstream].concat(), &[]).await;
    assert_eq!(refused.code, Some(78), "{refused:?}");
    for text in ["--rest-upstream", "plaintext", "https"] {
        assert!(refused.stderr.contains(text), "{text} is not in {refused:?}");
    }
}
