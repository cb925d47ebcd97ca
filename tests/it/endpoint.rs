//! Calls pass, and what they carry is what it should be.

use spanner_sim::{Sim, v1};

use crate::support::DATABASE;
use crate::support::raw::Client;
use crate::support::sidecar::Sidecar;

const CREATE_SESSION: &str = "/google.spanner.v1.Spanner/CreateSession";

async fn sim() -> Sim {
    Sim::builder()
        .database(DATABASE, ["CREATE TABLE T (K INT64, V STRING(MAX)) PRIMARY KEY (K)"])
        .start()
        .await
        .expect("the simulator starts")
}

#[tokio::test]
async fn a_call_reaches_spanner_with_the_routing_headers_that_its_client_left_out() {
    let sim = sim().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let client = Client::connect(sidecar.address).await;
    let request = v1::CreateSessionRequest { database: DATABASE.into(), ..Default::default() };
    let session: v1::Session = client.call(CREATE_SESSION, &request, &[("x-custom", "kept")]).await.decode();
    assert!(session.name.starts_with(DATABASE), "{session:?}");
    let call = &sim.recorded_of("CreateSession")[0];
    assert_eq!(call.header("google-cloud-resource-prefix"), Some(DATABASE));
    assert_eq!(call.header("x-goog-request-params"), Some("database=projects%2Fp%2Finstances%2Fi%2Fdatabases%2Fd"));
    assert_eq!(call.header("x-goog-spanner-route-to-leader"), Some("true"));
    assert_eq!(call.header("x-custom"), Some("kept"));
}
