//! Calls that fail on one connection and are sent again on another, and those that must not be.

use std::collections::BTreeSet;

use prost::Message;
use spanner_sim::v1::transaction_selector::Selector;
use spanner_sim::{GoAway, Script, Sim, v1};
use tokio::task::JoinSet;

use crate::support::raw::{Answer, Client, frame};
use crate::support::sidecar::Sidecar;
use crate::support::spanner::{SESSION, commit, create_session, read_write, rpc, select, select_in, sim};
use crate::support::{PATIENCE, eventually};

const UNAVAILABLE: u32 = 14;
const REQUEST_ID: &str = "x-goog-spanner-request-id";

/// A sidecar whose channels are all connected: there is another one to turn to.
async fn connected(sim: &Sim) -> (Sidecar, Client) {
    let sidecar = Sidecar::start(&sim.uri(), &["--channels", "4"]).await;
    eventually("all channels are connected", async || sidecar.metric("spanner_sidecar_channels{state=\"ready\"}").await == 4.0).await;
    let client = Client::connect(sidecar.address).await;
    (sidecar, client)
}

async fn call(client: &Client, method: &str, request: &impl Message) -> Answer {
    client.call(&rpc(method), request, &[(REQUEST_ID, "1.0123456789abcdef.2.3.45.1")]).await
}

/// What upstream saw of a call that must have come twice: on two channels, with the same bytes, the second one marked.
fn assert_repeated_once(sim: &Sim, method: &str) {
    let copies = sim.recorded_of(method);
    assert_eq!(copies.len(), 2, "{method}");
    assert_ne!(copies[0].connection, copies[1].connection, "{method}: the same channel again");
    assert!(copies[0].body.is_empty() || copies[0].body == copies[1].body, "{method}: other bytes");
    let ids: Vec<_> = copies.iter().map(|copy| copy.header(REQUEST_ID)).collect();
    assert_eq!(ids, [Some("1.0123456789abcdef.2.3.45.1"), Some("1.0123456789abcdef.2.3.45.2")], "{method}");
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_on_another_channel_also_for_a_commit() {
    let sim = sim().await;
    let (sidecar, client) = connected(&sim).await;
    let committed = v1::CommitResponse { snapshot_timestamp: Some(Default::default()), ..Default::default() };
    sim.script("Commit", Script::refuse());
    sim.script("Commit", Script::answer(&committed));
    assert_eq!(call(&client, "Commit", &commit(SESSION)).await.decode::<v1::CommitResponse>(), committed);
    assert_repeated_once(&sim, "Commit");
    assert_eq!(sidecar.metric("spanner_sidecar_retries_total{reason=\"refused_stream\"}").await, 1.0);
}

#[tokio::test]
async fn a_call_beyond_the_last_stream_of_a_goaway_is_sent_again_also_for_a_commit() {
    let sim = sim().await;
    let (sidecar, client) = connected(&sim).await;
    sim.script("Commit", Script::new().goaway(GoAway::BeforeThis(0)).hang());
    sim.script("Commit", Script::answer(&v1::CommitResponse::default()));
    call(&client, "Commit", &commit(SESSION)).await.decode::<v1::CommitResponse>();
    assert_repeated_once(&sim, "Commit");
    assert_eq!(sidecar.metric("spanner_sidecar_retries_total{reason=\"unprocessed\"}").await, 1.0);
}

#[tokio::test]
async fn a_goaway_lets_the_calls_that_it_covers_finish_and_moves_the_others() {
    let sim = sim().await;
    let (_sidecar, client) = connected(&sim).await;
    sim.script("Commit", Script::answer(&v1::CommitResponse::default()).forever());
    let mut calls = JoinSet::new();
    for _ in 0..200 {
        let client = client.clone();
        calls.spawn(async move { call(&client, "Commit", &commit(SESSION)).await });
    }
    assert!(sim.eventually(PATIENCE, |sim| sim.recorded_of("Commit").len() >= 50).await);
    sim.connections().iter().for_each(spanner_sim::Connection::goaway_gracefully);
    for answer in calls.join_all().await {
        answer.decode::<v1::CommitResponse>();
    }
    client.works().await;
}

#[tokio::test]
async fn a_call_that_three_channels_refuse_ends_and_its_caller_learns_that_it_had_no_effect() {
    let sim = sim().await;
    let (_sidecar, client) = connected(&sim).await;
    sim.script("Commit", Script::refuse().forever());
    call(&client, "Commit", &commit(SESSION)).await.expect_status(UNAVAILABLE, &["E0302", "no effect"]);
    let used: Vec<u64> = sim.recorded_of("Commit").iter().map(|call| call.connection).collect();
    let distinct: BTreeSet<&u64> = used.iter().collect();
    assert_eq!((used.len(), distinct.len()), (3, 3), "on {used:?}");
}

#[tokio::test]
async fn what_only_reads_is_repeated_when_its_connection_is_lost() {
    let sim = sim().await;
    let (_sidecar, client) = connected(&sim).await;
    let read = v1::ReadRequest {
        session: SESSION.into(),
        table: "T".into(),
        columns: vec!["K".into()],
        key_set: Some(v1::KeySet { all: true, ..Default::default() }),
        ..Default::default()
    };
    let begin = v1::BeginTransactionRequest { session: SESSION.into(), options: Some(read_write()), ..Default::default() };
    let requests: [(&str, Vec<u8>); 7] = [
        ("ExecuteSql", select(SESSION).encode_to_vec()),
        ("ExecuteStreamingSql", select(SESSION).encode_to_vec()),
        ("Read", read.encode_to_vec()),
        ("StreamingRead", read.encode_to_vec()),
        ("BeginTransaction", begin.encode_to_vec()),
        ("CreateSession", create_session().encode_to_vec()),
        ("GetSession", v1::GetSessionRequest { name: SESSION.into() }.encode_to_vec()),
    ];
    for (method, request) in requests {
        eventually("a channel to lose and one to turn to", async || sim.connections().len() >= 2).await;
        // Each call loses its connection before anything of its answer is out.
        sim.script(method, Script::new().tcp_reset());
        sim.script(method, Script::new().message_bytes(b"answer"));
        let answer = client.call_bytes(&rpc(method), frame(&request), &[(REQUEST_ID, "1.0123456789abcdef.2.3.45.1")]).await;
        assert_eq!((answer.code(), answer.messages()), (Some(0), vec![&b"answer"[..]]), "{method}: {answer:?}");
        assert_repeated_once(&sim, method);
    }
}

#[tokio::test]
async fn what_may_have_changed_something_is_not_repeated_when_its_connection_is_lost() {
    let sim = sim().await;
    let (_sidecar, client) = connected(&sim).await;
    let dml = |selector| v1::ExecuteSqlRequest { sql: "DELETE FROM T WHERE TRUE".into(), seqno: 1, ..select_in(SESSION, selector) };
    let batch = v1::ExecuteBatchDmlRequest {
        session: SESSION.into(),
        transaction: Some(v1::TransactionSelector { selector: Some(Selector::Id(b"tx".to_vec())) }),
        seqno: 1,
        ..Default::default()
    };
    let in_transaction = v1::commit_request::Transaction::TransactionId(b"tx".to_vec());
    let rollback = v1::RollbackRequest { session: SESSION.into(), transaction_id: b"tx".to_vec() };
    let requests: [(&str, Vec<u8>); 8] = [
        ("Commit", commit(SESSION).encode_to_vec()),
        ("Commit", crate::support::spanner::commit_of(SESSION, in_transaction).encode_to_vec()),
        ("ExecuteSql", dml(Selector::Id(b"tx".to_vec())).encode_to_vec()),
        ("ExecuteSql", dml(Selector::Begin(read_write())).encode_to_vec()),
        ("ExecuteStreamingSql", dml(Selector::Id(b"tx".to_vec())).encode_to_vec()),
        ("ExecuteBatchDml", batch.encode_to_vec()),
        ("Rollback", rollback.encode_to_vec()),
        ("BatchWrite", v1::BatchWriteRequest { session: SESSION.into(), ..Default::default() }.encode_to_vec()),
    ];
    for (method, request) in requests {
        eventually("a channel to lose and one to turn to", async || sim.connections().len() >= 2).await;
        sim.clear_recorded();
        sim.script(method, Script::new().tcp_reset());
        let second = sim.script(method, Script::new().message_bytes(b"answer"));
        client
            .call_bytes(&rpc(method), frame(&request), &[])
            .await
            .expect_status(UNAVAILABLE, &["E0301", "not known whether the call took effect"]);
        assert_eq!(sim.recorded_of(method).len(), 1, "{method} came twice");
        second.remove();
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_begun_again_and_ends_with_a_status() {
    let sim = sim().await;
    let (_sidecar, client) = connected(&sim).await;
    sim.script("ExecuteStreamingSql", Script::new().message_bytes(b"first").close());
    let answer = call(&client, "ExecuteStreamingSql", &select(SESSION)).await;
    assert_eq!((answer.messages(), answer.trailers_only), (vec![&b"first"[..]], false));
    answer.expect_status(UNAVAILABLE, &["E0301"]);
    assert_eq!(sim.recorded_of("ExecuteStreamingSql").len(), 1);
}

#[tokio::test]
async fn a_reset_that_tells_nothing_of_the_call_passes_as_it_came() {
    const INTERNAL_ERROR: u32 = 2;
    let sim = sim().await;
    let (_sidecar, client) = connected(&sim).await;
    for script in [Script::new().reset(INTERNAL_ERROR), Script::new().message_bytes(b"first").reset(INTERNAL_ERROR)] {
        sim.clear_recorded();
        sim.script("ExecuteStreamingSql", script);
        let answer = call(&client, "ExecuteStreamingSql", &select(SESSION)).await;
        assert_eq!((answer.reset.as_deref(), answer.code()), (Some("INTERNAL_ERROR"), None), "{answer:?}");
        assert_eq!(sim.recorded_of("ExecuteStreamingSql").len(), 1);
    }
}

#[tokio::test]
async fn a_long_request_that_has_streamed_through_can_not_be_sent_again_and_its_caller_is_told() {
    let sim = sim().await;
    let (_sidecar, client) = connected(&sim).await;
    sim.script("Commit", Script::refuse());
    let answer = client.call_bytes(&rpc("Commit"), frame(&vec![0; 1 << 20]), &[]).await;
    answer.expect_status(UNAVAILABLE, &["E0302", "no effect"]);
    assert_eq!(sim.recorded_of("Commit").len(), 1);
}
