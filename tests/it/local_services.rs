//! What is answered here, or over HTTP/1.1: health, reflection, REST.

use prost::Message;
use tokio::time::timeout;

use crate::support::emulator::Emulator;
use crate::support::http_server::HttpServer;
use crate::support::raw::{Client, frame};
use crate::support::sidecar::{Sidecar, http, http_with};
use crate::support::spanner::sim;
use crate::support::{PATIENCE, eventually};

const NOT_FOUND: u32 = 5;
const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

const SERVICE_UNKNOWN: i32 = 3;
const NOT_SERVING: i32 = 2;
const SERVING: i32 = 1;

/// grpc.health.v1.HealthCheckRequest
#[derive(Clone, PartialEq, Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// grpc.health.v1.HealthCheckResponse
#[derive(Clone, PartialEq, Message)]
struct HealthResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

fn service(name: &str) -> HealthRequest {
    HealthRequest { service: name.into() }
}

#[tokio::test]
async fn the_health_service_says_what_the_readiness_probe_says() {
    let address = crate::support::unused_address();
    let sidecar = Sidecar::start_listening(&format!("http://{address}"), &[]).await;
    let client = Client::connect(sidecar.address).await;
    let names = ["", "google.spanner.v1.Spanner"];
    for name in names {
        assert_eq!(client.call(CHECK, &service(name), &[]).await.decode::<HealthResponse>().status, NOT_SERVING, "{name:?}");
    }
    let sim = crate::support::spanner::builder().listen(address.to_string()).start().await.expect("the address is free");
    for name in names {
        eventually("serving", async || client.call(CHECK, &service(name), &[]).await.decode::<HealthResponse>().status == SERVING).await;
    }
    assert_eq!(sidecar.get("/readiness").await.0, 200);
    assert_eq!(client.call(CHECK, &service("no.such.Service"), &[]).await.code(), Some(NOT_FOUND));
    assert!(sim.recorded().is_empty(), "nothing of it goes upstream");
}

async fn watch(client: &Client, name: &str) -> h2::RecvStream {
    let call = client.open(WATCH, frame(&service(name).encode_to_vec()), true, &[]).await;
    timeout(PATIENCE, call.response).await.expect("in time").expect("an answer").into_body()
}

/// The next status of a watch.
async fn next(body: &mut h2::RecvStream) -> i32 {
    let chunk = timeout(PATIENCE, body.data()).await.expect("in time").expect("a message").expect("data");
    HealthResponse::decode(&chunk[5..]).expect("a message").status
}

#[tokio::test]
async fn a_watch_of_the_health_service_sees_the_drain_begin() {
    let sim = sim().await;
    let mut sidecar = Sidecar::start(&sim.uri(), &["--max-sigterm-delay", "5s"]).await;
    let client = Client::connect(sidecar.address).await;
    let mut known = watch(&client, "").await;
    assert_eq!(next(&mut known).await, SERVING);
    sidecar.signal("TERM");
    assert_eq!(next(&mut known).await, NOT_SERVING);
    drop((known, client));
    assert_eq!(sidecar.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_watch_of_a_service_that_is_not_known_is_told_so_and_stays_open() {
    let sim = sim().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let client = Client::connect(sidecar.address).await;
    let mut unknown = watch(&client, "no.such.Service").await;
    // The health checking protocol: no error, for the service may come.
    assert_eq!(next(&mut unknown).await, SERVICE_UNKNOWN);
    assert!(!unknown.is_end_stream());
}

/// grpc.reflection.v1.ServerReflectionRequest; v1alpha has the same numbers.
#[derive(Clone, PartialEq, Message)]
struct ReflectionRequest {
    #[prost(string, tag = "7")]
    list_services: String,
}

/// grpc.reflection.v1.ServerReflectionResponse
#[derive(Clone, PartialEq, Message)]
struct ReflectionResponse {
    #[prost(message, optional, tag = "6")]
    list: Option<ServiceList>,
}

#[derive(Clone, PartialEq, Message)]
struct ServiceList {
    #[prost(message, repeated, tag = "1")]
    services: Vec<Service>,
}

#[derive(Clone, PartialEq, Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
}

#[tokio::test]
async fn reflection_lists_what_is_served_in_both_versions() {
    let sim = sim().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let client = Client::connect(sidecar.address).await;
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let answer = client.call(&path, &ReflectionRequest { list_services: "*".into() }, &[]).await;
        let names: Vec<String> =
            answer.decode::<ReflectionResponse>().list.expect("a list").services.into_iter().map(|service| service.name).collect();
        for expected in [
            "google.spanner.v1.Spanner",
            "google.spanner.admin.database.v1.DatabaseAdmin",
            "google.spanner.admin.instance.v1.InstanceAdmin",
            "google.longrunning.Operations",
            "grpc.health.v1.Health",
            &format!("grpc.reflection.{version}.ServerReflection"),
        ] {
            assert!(names.iter().any(|name| name == expected), "{version}: {expected} is not in {names:?}");
        }
    }
    assert!(sim.recorded().is_empty(), "nothing of it goes upstream");
}

/// A REST upstream that answers with what it was asked.
async fn rest() -> HttpServer {
    HttpServer::start(|request| {
        let body = format!("{{\"asked\": {:?}}}", request.line);
        ("200 OK", "content-type: application/json\r\nx-custom: kept\r\nconnection: keep-alive\r\n", body)
    })
    .await
}

#[tokio::test]
async fn rest_requests_pass_to_the_rest_upstream() {
    let (sim, rest) = (sim().await, rest().await);
    let sidecar = Sidecar::start(&sim.uri(), &["--rest-upstream", &format!("http://{}", rest.address)]).await;
    let request = format!(
        "POST /v1/projects/p/instances?instanceId=a%2Fb&x= HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nx-goog-api-client: gl-test/1\r\nconnection: close\r\nkeep-alive: timeout=5\r\ncontent-length: 18\r\n\r\n{{\"instance\": \"\u{e9}\"}}",
        sidecar.address
    );
    let (code, body) = http_with(sidecar.address, &request).await;
    assert_eq!((code, &*body), (200, "{\"asked\": \"POST /v1/projects/p/instances?instanceId=a%2Fb&x= HTTP/1.1\"}"));
    let seen = &rest.requests()[0];
    assert_eq!(seen.body, "{\"instance\": \"\u{e9}\"}".as_bytes());
    assert_eq!(seen.header("host"), Some(&*rest.address.to_string()));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("x-goog-api-client"), Some("gl-test/1"));
    assert_eq!(seen.header("keep-alive"), None, "it belongs to the client's own connection");
    assert!(sim.recorded().is_empty());
}

#[tokio::test]
async fn rest_requests_of_one_connection_share_an_upstream_connection() {
    let (sim, rest) = (sim().await, rest().await);
    let sidecar = Sidecar::start(&sim.uri(), &["--rest-upstream", &format!("http://{}", rest.address)]).await;
    let get = |path: &str, close: &str| format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{close}\r\n", sidecar.address);
    let requests = [get("/v1/first", ""), get("/v1/second", ""), get("/v1/third", "connection: close\r\n")].concat();
    let (code, answers) = http_with(sidecar.address, &requests).await;
    assert_eq!(code, 200);
    for path in ["/v1/first", "/v1/second", "/v1/third"] {
        assert!(answers.contains(path), "{path} is not in {answers}");
    }
    assert_eq!(rest.requests().iter().map(|request| request.connection).collect::<Vec<_>>(), [0, 0, 0]);
}

#[tokio::test]
async fn a_web_page_is_refused_and_nothing_goes_upstream() {
    let (sim, rest) = (sim().await, rest().await);
    let sidecar = Sidecar::start(&sim.uri(), &["--rest-upstream", &format!("http://{}", rest.address)]).await;
    for origin in ["http://example.com", "null", "http://127.0.0.1:9010"] {
        let request = format!("GET /v1/x HTTP/1.1\r\nhost: {}\r\norigin: {origin}\r\nconnection: close\r\n\r\n", sidecar.address);
        let (code, body) = http_with(sidecar.address, &request).await;
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((code, body["error"]["code"].as_u64()), (403, Some(403)));
        assert_eq!(body["error"]["status"], "PERMISSION_DENIED");
        assert!(body["error"]["message"].as_str().is_some_and(|message| message.starts_with("spanner-sidecar: E0106")), "{body}");
    }
    assert!(rest.requests().is_empty() && sim.recorded().is_empty());
}

#[tokio::test]
async fn without_the_rest_upstream_a_request_gets_503_and_the_reason() {
    let sim = sim().await;
    let nobody = crate::support::unused_address();
    let sidecar = Sidecar::start(&sim.uri(), &["--rest-upstream", &format!("http://{nobody}")]).await;
    let (code, body) = timeout(PATIENCE, http(sidecar.address, "GET", "/v1/projects/p/instances")).await.expect("in time");
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((code, body["error"]["code"].as_u64()), (503, Some(503)));
    assert_eq!(body["error"]["status"], "UNAVAILABLE");
    let message = body["error"]["message"].as_str().expect("text");
    for text in ["E0204", &nobody.to_string(), "--rest-upstream"] {
        assert!(message.contains(text), "{text} is not in {message}");
    }
    Client::connect(sidecar.address).await.works().await;
}

#[tokio::test]
async fn the_emulators_rest_api_answers_as_it_does_directly() {
    let Some(emulator) = Emulator::start() else { return };
    let rest = format!("http://{}", emulator.rest);
    let sidecar = Sidecar::start(&format!("http://{}", emulator.grpc), &["--rest-upstream", &rest]).await;
    for path in ["/v1/projects/p/instanceConfigs", "/v1/projects/p/instances/none", "/v1/no/such/thing"] {
        let direct = http(emulator.rest, "GET", path).await;
        let proxied = http(sidecar.address, "GET", path).await;
        assert!(direct.0 >= 200 && !direct.1.is_empty(), "{path}: {direct:?}");
        assert_eq!(proxied, direct, "{path}");
    }
}
