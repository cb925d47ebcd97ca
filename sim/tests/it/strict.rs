//! What is refused: headers, tokens, deadlines, encodings, malformed requests. And TLS.

use std::io::Write as _;

use spanner_sim::bytes::Bytes;
use spanner_sim::http::HeaderMap;
use spanner_sim::{Matcher, Script, Sim, grpc, v1};

use crate::client::{Client, DATABASE, DDL, SOON, grpc_headers, headers, headers_for, sim};

const CREATE: &str = "/google.spanner.v1.Spanner/CreateSession";

fn create() -> Bytes {
    grpc::frame_proto(&v1::CreateSessionRequest { database: DATABASE.into(), session: None })
}

fn good() -> HeaderMap {
    headers_for("CreateSession", DATABASE)
}

#[tokio::test]
async fn wrong_headers_are_named() {
    let sim = sim().await;
    let client = Client::connect(sim.addr()).await;
    for (name, value, says) in [
        ("te", None, "te is missing"),
        ("x-goog-request-params", None, "x-goog-request-params is missing"),
        ("x-goog-request-params", Some("database=projects/other"), "names \"projects/other\""),
        ("x-goog-request-params", Some("session=x"), "has no database"),
        ("google-cloud-resource-prefix", None, "google-cloud-resource-prefix is missing"),
        ("google-cloud-resource-prefix", Some("d"), "names \"d\""),
        ("grpc-timeout", Some("1h"), "grpc-timeout \"1h\""),
    ] {
        let mut sent = good();
        sent.remove(name);
        sent.extend(value.map(|value| headers(&[(name, value)])).unwrap_or_default());
        let answer = client.raw(CREATE, sent, create()).await.unwrap();
        assert!(answer.code() == 3 && answer.text().contains(says), "{name}: {}", answer.text());
    }
    let mut sent = good();
    sent.insert("content-type", "application/json".parse().unwrap());
    assert_eq!(client.raw(CREATE, sent, create()).await.unwrap().http_status, 415);
    assert_eq!(client.raw(CREATE, good(), create()).await.unwrap().code(), 0);

    let lenient = Sim::builder().strict_headers(false).database(DATABASE, [DDL]).start().await.unwrap();
    let client = Client::connect(lenient.addr()).await;
    assert_eq!(client.raw(CREATE, HeaderMap::new(), create()).await.unwrap().code(), 0);
    for name in ["x-goog-request-params", "google-cloud-resource-prefix"] {
        let wrong = headers(&[(name, "database=other")]);
        assert_eq!(client.raw(CREATE, wrong, create()).await.unwrap().code(), 3, "wrong {name}");
    }
}

#[tokio::test]
async fn a_token_is_asked_for_and_can_change() {
    let sim = Sim::builder().database(DATABASE, [DDL]).token("one").start().await.unwrap();
    let client = Client::connect(sim.addr()).await;
    let with = |token: &str| {
        let mut sent = good();
        sent.insert("authorization", format!("Bearer {token}").parse().unwrap());
        client.raw(CREATE, sent, create())
    };
    assert_eq!(client.raw(CREATE, good(), create()).await.unwrap().code(), 16);
    assert_eq!(with("one").await.unwrap().code(), 0);
    assert_eq!(with("two").await.unwrap().code(), 16);
    sim.set_tokens(["two"]);
    assert_eq!(with("one").await.unwrap().code(), 16);
    assert_eq!(with("two").await.unwrap().code(), 0);
}

#[tokio::test]
async fn deadlines_are_kept() {
    let sim = sim().await;
    let client = Client::connect(sim.addr()).await;
    let mut sent = good();
    sent.insert("grpc-timeout", "20m".parse().unwrap());
    sim.script(Matcher::any(), Script::new().hang());
    let answer = client.raw(CREATE, sent.clone(), create()).await.unwrap();
    assert_eq!((answer.code(), answer.trailers_only), (4, true));
    sim.script(Matcher::any(), Script::new().message_bytes(b"x").hang());
    let answer = client.raw(CREATE, sent, create()).await.unwrap();
    assert_eq!((answer.code(), answer.trailers_only), (4, false));
}

#[tokio::test]
async fn malformed_requests_get_an_answer() {
    let sim = sim().await;
    let client = Client::connect(sim.addr()).await;
    let code = async |path: &str, body: Bytes| client.raw(path, good(), body).await.unwrap().code();
    assert_eq!(code(CREATE, Bytes::new()).await, 13);
    assert_eq!(code(CREATE, create().slice(..20)).await, 13);
    assert_eq!(code(CREATE, Bytes::from_static(b"\0\xff\xff\xff\xff")).await, 13);
    assert_eq!(code(CREATE, grpc::frame(b"\xff\xff")).await, 3);
    assert_eq!(code("/google.spanner.v1.Spanner/NoSuchMethod", grpc::frame(b"")).await, 12);
    assert_eq!(code("/some.other.Service/Method", grpc::frame(b"")).await, 12);
    let mut sent = good();
    sent.insert("grpc-encoding", "zstd".parse().unwrap());
    assert_eq!(client.raw(CREATE, sent, create()).await.unwrap().code(), 12);
}

#[tokio::test]
async fn gzip_requests_are_read() {
    let sim = sim().await;
    let client = Client::connect(sim.addr()).await;
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(&create()[grpc::PREFIX..]).unwrap();
    let mut body = grpc::frame(&gz.finish().unwrap()).to_vec();
    body[0] = 1;
    let mut sent = good();
    sent.insert("grpc-encoding", "gzip".parse().unwrap());
    assert_eq!(client.raw(CREATE, sent, body.into()).await.unwrap().code(), 0);
}

#[tokio::test]
async fn other_http_methods_are_refused() {
    let sim = sim().await;
    let client = Client::connect(sim.addr()).await;
    let request = spanner_sim::http::Request::get(format!("http://sim{CREATE}")).body(()).unwrap();
    let (response, _) = client.h2.clone().ready().await.unwrap().send_request(request, true).unwrap();
    assert_eq!(response.await.unwrap().status(), 405);
}

#[tokio::test]
async fn stopping_closes_everything() {
    let sim = sim().await;
    let client = Client::connect(sim.addr()).await;
    sim.script(Matcher::any(), Script::new().hang());
    let pending = client.open(CREATE, grpc_headers(), true).await.unwrap();
    assert!(sim.eventually(SOON, |sim| sim.open_streams() == 1).await);
    let addr = sim.addr();
    sim.stop().await;
    assert!(pending.answer().await.is_err());
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn tls_is_trusted_by_its_ca_and_speaks_h2() {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

    let names = ["localhost", "127.0.0.1", "spanner.googleapis.com"];
    let sim = Sim::builder().tls(names).database(DATABASE, [DDL]).start().await.unwrap();
    assert!(sim.uri().starts_with("https://"));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(sim.ca_pem().unwrap().as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    for name in names {
        let tcp = tokio::net::TcpStream::connect(sim.addr()).await.unwrap();
        let tls = connector.connect(ServerName::try_from(name).unwrap(), tcp).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let client = Client::over(tls).await;
        assert_eq!(client.raw(CREATE, good(), create()).await.unwrap().code(), 0);
    }
    let tcp = tokio::net::TcpStream::connect(sim.addr()).await.unwrap();
    assert!(connector.connect(ServerName::try_from("other.example").unwrap(), tcp).await.is_err());
    // A client that never finishes its handshake is no connection yet.
    let _silent = tokio::net::TcpStream::connect(sim.addr()).await.unwrap();
    assert!(sim.eventually(Duration::from_secs(5), |sim| sim.connections().is_empty()).await);
}
