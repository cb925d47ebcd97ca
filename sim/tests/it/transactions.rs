//! Transactions: conflicts, aborts, precommit tokens, snapshots.

use spanner_sim::{Sim, v1};
use v1::mutation::Operation;
use v1::result_set_stats::RowCount;
use v1::transaction_selector::Selector;

use crate::client::{Client, DATABASE, DDL};
use crate::requests::{begin, commit, commit_once, insert, read_all, read_only, read_write, selector, sql, users};

#[tokio::test]
async fn batch_dml_stops_at_the_first_failure() {
    let (_sim, client, session) = users(true).await;
    let statement = |sql: &str| v1::execute_batch_dml_request::Statement { sql: sql.into(), ..Default::default() };
    let request = v1::ExecuteBatchDmlRequest {
        session: session.clone(),
        transaction: selector(Selector::Begin(read_write())),
        statements: vec![
            statement("INSERT INTO Users (Id, Name) VALUES (4, 'dee'), (5, 'eve')"),
            statement("INSERT INTO Users (Id) VALUES (1)"),
            statement("DELETE FROM Users WHERE true"),
        ],
        seqno: 1,
        ..Default::default()
    };
    let response: v1::ExecuteBatchDmlResponse = client.unary("ExecuteBatchDml", &session, &request).await;
    assert_eq!(response.result_sets.len(), 1);
    assert_eq!(response.result_sets[0].stats.as_ref().unwrap().row_count, Some(RowCount::RowCountExact(2)));
    assert_eq!(response.status.unwrap().code, 6);
    assert_eq!(response.precommit_token.unwrap().seq_num, 1);
}

#[tokio::test]
async fn the_transaction_that_comes_second_is_aborted_with_a_delay() {
    let (_sim, client, first) = users(false).await;
    let second = client.session(false).await;
    let update = |session: &str| v1::ExecuteSqlRequest {
        transaction: selector(Selector::Begin(read_write())),
        seqno: 1,
        ..sql(session, "UPDATE Users SET Balance = 0 WHERE Id = 1")
    };
    let id = client.sql(&update(&first)).await.metadata.unwrap().transaction.unwrap().id;
    let loser = client.call("ExecuteSql", &second, &update(&second)).await;
    assert_eq!(loser.code(), 10);
    assert!(loser.trailers.contains_key("google.rpc.retryinfo-bin"));
    let request = v1::RollbackRequest { session: first.clone(), transaction_id: id };
    assert_eq!(client.call("Rollback", &first, &request).await.code(), 0);
    client.sql(&update(&second)).await;
}

#[tokio::test]
async fn a_read_that_is_no_longer_true_aborts_the_commit() {
    let (_sim, client, session) = users(false).await;
    let writer = client.session(false).await;
    let id = begin(&client, &session, read_write()).await.id;
    let request = v1::ReadRequest { transaction: selector(Selector::Id(id.clone())), ..read_all(&session) };
    let _: v1::ResultSet = client.unary("Read", &session, &request).await;
    client.call("Commit", &writer, &commit_once(&writer, vec![insert(&[["8", "x", "0"]])])).await;
    assert_eq!(client.call("Commit", &session, &commit(&session, &id)).await.code(), 10);
}

#[tokio::test]
async fn a_regular_session_has_one_transaction_at_a_time() {
    let (_sim, client, session) = users(false).await;
    let old = begin(&client, &session, read_write()).await.id;
    let new = begin(&client, &session, read_write()).await.id;
    let late = client.call("Commit", &session, &commit(&session, &old)).await;
    assert_eq!(late.code(), 9);
    assert!(late.text().contains("invalidated by a later transaction"));
    assert_eq!(client.call("Commit", &session, &commit(&session, &new)).await.code(), 0);
    assert_eq!(client.call("Commit", &session, &commit(&session, b"nonsense")).await.code(), 5);
}

#[tokio::test]
async fn a_multiplexed_session_needs_the_newest_precommit_token() {
    let sim = Sim::builder().database(DATABASE, [DDL]).commit_asks_for_retry(true).start().await.unwrap();
    let client = Client::connect(sim.addr()).await;
    let session = client.session(true).await;
    let request = v1::BeginTransactionRequest {
        session: session.clone(),
        options: Some(read_write()),
        mutation_key: Some(insert(&[["1", "x", "0"]])),
        ..Default::default()
    };
    let begun: v1::Transaction = client.unary("BeginTransaction", &session, &request).await;
    let without = commit(&session, &begun.id);
    assert_eq!(client.call("Commit", &session, &without).await.code(), 9);
    let first = v1::CommitRequest { precommit_token: begun.precommit_token, ..without };
    let retry: v1::CommitResponse = client.unary("Commit", &session, &first).await;
    let Some(v1::commit_response::MultiplexedSessionRetry::PrecommitToken(token)) = retry.multiplexed_session_retry else {
        panic!("no token to retry with")
    };
    assert_eq!((retry.commit_timestamp, token.seq_num), (None, 2));
    assert_eq!(client.call("Commit", &session, &first).await.code(), 9, "the old token");
    let second = v1::CommitRequest { precommit_token: Some(token), ..first };
    let done: v1::CommitResponse = client.unary("Commit", &session, &second).await;
    assert!(done.commit_timestamp.is_some());
}

#[tokio::test]
async fn snapshots_stay_as_they_were() {
    let (_sim, client, session) = users(true).await;
    let snapshot = begin(&client, &session, read_only()).await;
    assert!(snapshot.read_timestamp.is_some());
    let delete = v1::mutation::Delete { table: "Users".into(), key_set: read_all("").key_set };
    let delete = v1::Mutation { operation: Some(Operation::Delete(delete)) };
    client.call("Commit", &session, &commit_once(&session, vec![delete])).await;
    let old = v1::ReadRequest { transaction: selector(Selector::Id(snapshot.id.clone())), ..read_all(&session) };
    let set: v1::ResultSet = client.unary("Read", &session, &old).await;
    assert_eq!(set.rows.len(), 3);
    let new: v1::ResultSet = client.unary("Read", &session, &read_all(&session)).await;
    assert_eq!(new.rows.len(), 0);
    let dml = v1::ExecuteSqlRequest { transaction: old.transaction, ..sql(&session, "DELETE FROM Users WHERE Id = 1") };
    assert_eq!(client.call("ExecuteSql", &session, &dml).await.code(), 9);
    let dml = sql(&session, "DELETE FROM Users WHERE Id = 1");
    assert_eq!(client.call("ExecuteSql", &session, &dml).await.code(), 3, "no DML in single use");
}
