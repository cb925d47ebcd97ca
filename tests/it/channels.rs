//! Which channel a call takes: a transaction stays on its own, everything else goes where the fewest are.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use spanner_sim::v1::commit_request::Transaction;
use spanner_sim::v1::transaction_selector::Selector;
use spanner_sim::{Script, Sim, v1};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::raw::{Client, frame};
use crate::support::sidecar::Sidecar;
use crate::support::spanner::{SESSION, commit_of, read_write, rpc, select, select_in, session, sim};
use crate::support::{PATIENCE, eventually};

const TRANSACTIONS: usize = 24;
const STATEMENTS: usize = 8;
const LABEL: &str = "x-transaction";

async fn connected(sim: &Sim) -> Sidecar {
    let sidecar = Sidecar::start(&sim.uri(), &["--channels", "4"]).await;
    eventually("all channels are connected", async || sidecar.metric("spanner_sidecar_channels{state=\"ready\"}").await == 4.0).await;
    sidecar
}

/// How a transaction begins.
#[derive(Debug, Clone, Copy)]
enum Begin {
    Explicit,
    WithQuery,
    WithStream,
    WithBatch,
}

impl Begin {
    /// Begins a transaction on `session`; the answer's id.
    async fn begin(self, client: &Client, session: &str, metadata: &[(&str, &str)]) -> Vec<u8> {
        let inline = || Selector::Begin(read_write());
        let metadata_of = |metadata: Option<v1::ResultSetMetadata>| metadata.expect("metadata").transaction.expect("a transaction").id;
        match self {
            Begin::Explicit => {
                let request = v1::BeginTransactionRequest { session: session.into(), options: Some(read_write()), ..Default::default() };
                client.call(&rpc("BeginTransaction"), &request, metadata).await.decode::<v1::Transaction>().id
            }
            Begin::WithQuery => {
                let answer = client.call(&rpc("ExecuteSql"), &select_in(session, inline()), metadata).await;
                metadata_of(answer.decode::<v1::ResultSet>().metadata)
            }
            Begin::WithStream => {
                let answer = client.call(&rpc("ExecuteStreamingSql"), &select_in(session, inline()), metadata).await;
                let first = v1::PartialResultSet::decode(answer.messages()[0]).expect("a message");
                metadata_of(first.metadata)
            }
            Begin::WithBatch => {
                let statement = v1::execute_batch_dml_request::Statement { sql: "DELETE FROM T WHERE K = -1".into(), ..Default::default() };
                let request = v1::ExecuteBatchDmlRequest {
                    session: session.into(),
                    transaction: Some(v1::TransactionSelector { selector: Some(inline()) }),
                    statements: vec![statement],
                    seqno: 1,
                    ..Default::default()
                };
                let answer = client.call(&rpc("ExecuteBatchDml"), &request, metadata).await.decode::<v1::ExecuteBatchDmlResponse>();
                metadata_of(answer.result_sets[0].metadata.clone())
            }
        }
    }
}

/// One transaction from its begin to its commit, each call labelled.
async fn transaction(client: Client, begin: Begin, label: String) {
    let session = session(&client).await;
    let metadata = [(LABEL, &*label)];
    let id = begin.begin(&client, &session, &metadata).await;
    for _ in 0..STATEMENTS {
        let request = select_in(&session, Selector::Id(id.clone()));
        let answer = client.call(&rpc("ExecuteStreamingSql"), &request, &metadata).await;
        assert_eq!((answer.code(), &answer.reset), (Some(0), &None), "{answer:?}");
    }
    let request = commit_of(&session, Transaction::TransactionId(id));
    client.call(&rpc("Commit"), &request, &metadata).await.decode::<v1::CommitResponse>();
}

/// Reads without a break until told to stop.
async fn load(client: Client, mut stop: watch::Receiver<bool>) {
    let session = session(&client).await;
    while !*stop.borrow_and_update() {
        client.call(&rpc("ExecuteSql"), &select(&session), &[]).await.decode::<v1::ResultSet>();
    }
}

async fn stays_on_its_channel(begin: Begin) {
    let sim = sim().await;
    let sidecar = connected(&sim).await;
    let client = Client::connect(sidecar.address).await;
    let (stop, stopped) = watch::channel(false);
    let mut background = JoinSet::new();
    for _ in 0..6 {
        background.spawn(load(client.clone(), stopped.clone()));
    }
    let mut transactions = JoinSet::new();
    for number in 0..TRANSACTIONS {
        transactions.spawn(transaction(client.clone(), begin, number.to_string()));
    }
    transactions.join_all().await;
    stop.send(true).expect("listeners");
    background.join_all().await;

    let mut used = BTreeMap::<String, BTreeSet<u64>>::new();
    for call in sim.recorded() {
        if let Some(label) = call.header(LABEL) {
            used.entry(label.to_owned()).or_default().insert(call.connection);
        }
    }
    assert_eq!(used.len(), TRANSACTIONS);
    for (transaction, connections) in &used {
        assert_eq!(connections.len(), 1, "transaction {transaction} was on {connections:?}");
    }
    let all: BTreeSet<u64> = used.values().flatten().copied().collect();
    assert!(all.len() > 1, "all on one channel: nothing was shown");
}

#[tokio::test]
async fn a_transaction_stays_on_the_channel_of_its_begin() {
    stays_on_its_channel(Begin::Explicit).await;
}

#[tokio::test]
async fn a_transaction_begun_with_a_query_stays_on_its_channel() {
    stays_on_its_channel(Begin::WithQuery).await;
}

#[tokio::test]
async fn a_transaction_begun_with_a_streamed_query_stays_on_its_channel() {
    stays_on_its_channel(Begin::WithStream).await;
}

#[tokio::test]
async fn a_transaction_begun_with_batch_dml_stays_on_its_channel() {
    stays_on_its_channel(Begin::WithBatch).await;
}

#[tokio::test]
async fn a_transaction_whose_channel_is_gone_goes_on_on_another() {
    let sim = sim().await;
    let sidecar = connected(&sim).await;
    let client = Client::connect(sidecar.address).await;
    let session = session(&client).await;
    let id = Begin::Explicit.begin(&client, &session, &[]).await;
    let began_on = sim.recorded_of("BeginTransaction")[0].connection;
    let connection = sim.connections().into_iter().find(|connection| connection.number() == began_on).expect("open");
    connection.goaway_gracefully();
    assert!(sim.eventually(PATIENCE, |sim| sim.connections().iter().all(|connection| connection.number() != began_on)).await);
    let request = commit_of(&session, Transaction::TransactionId(id));
    client.call(&rpc("Commit"), &request, &[]).await.decode::<v1::CommitResponse>();
    assert_ne!(sim.recorded_of("Commit")[0].connection, began_on);
}

#[tokio::test]
async fn new_calls_go_to_the_channel_with_the_fewest_in_flight() {
    let sim = sim().await;
    let sidecar = connected(&sim).await;
    let client = Client::connect(sidecar.address).await;
    sim.script("ExecuteSql", Script::new().hang().forever());
    let mut calls = Vec::new();
    for number in 1..=8 {
        let body = frame(&select(SESSION).encode_to_vec());
        calls.push(client.open(&rpc("ExecuteSql"), body, true, &[]).await);
        assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == number).await);
    }
    let open = |sim: &Sim| -> Vec<usize> { sim.connections().iter().map(spanner_sim::Connection::open_streams).collect() };
    assert_eq!(open(&sim), [2, 2, 2, 2]);
    // The two calls of one channel end; the next two are to go there.
    let freed = sim.recorded_of("ExecuteSql")[0].connection;
    let on_it: Vec<bool> = sim.recorded_of("ExecuteSql").iter().map(|call| call.connection == freed).collect();
    let mut keep = on_it.iter();
    calls.retain(|_| !keep.next().expect("a call each"));
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 6).await);
    for number in 7..=8 {
        let body = frame(&select(SESSION).encode_to_vec());
        calls.push(client.open(&rpc("ExecuteSql"), body, true, &[]).await);
        assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == number).await);
    }
    assert_eq!(open(&sim), [2, 2, 2, 2]);
}
