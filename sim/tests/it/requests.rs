//! Requests that tests send.

use spanner_sim::prost_types::{ListValue, Value, value::Kind};
use spanner_sim::{Sim, v1};
use v1::commit_request::Transaction as Which;
use v1::mutation::{Operation, Write};
use v1::transaction_options::{Mode, ReadOnly, ReadWrite};
use v1::transaction_selector::Selector;

use crate::client::{Client, sim};

pub(crate) fn text(s: &str) -> Value {
    Value { kind: Some(Kind::StringValue(s.into())) }
}

pub(crate) fn list(values: &[&str]) -> ListValue {
    ListValue { values: values.iter().map(|s| text(s)).collect() }
}

pub(crate) fn read_write() -> v1::TransactionOptions {
    v1::TransactionOptions { mode: Some(Mode::ReadWrite(ReadWrite::default())), ..Default::default() }
}

pub(crate) fn read_only() -> v1::TransactionOptions {
    let options = ReadOnly { return_read_timestamp: true, ..Default::default() };
    v1::TransactionOptions { mode: Some(Mode::ReadOnly(options)), ..Default::default() }
}

pub(crate) fn selector(selector: Selector) -> Option<v1::TransactionSelector> {
    Some(v1::TransactionSelector { selector: Some(selector) })
}

pub(crate) fn insert(rows: &[[&str; 3]]) -> v1::Mutation {
    let write = Write {
        table: "Users".into(),
        columns: ["Id", "Name", "Balance"].map(String::from).to_vec(),
        values: rows.iter().map(|row| list(row)).collect(),
    };
    v1::Mutation { operation: Some(Operation::Insert(write)) }
}

pub(crate) fn commit_once(session: &str, mutations: Vec<v1::Mutation>) -> v1::CommitRequest {
    v1::CommitRequest {
        session: session.into(),
        mutations,
        transaction: Some(Which::SingleUseTransaction(read_write())),
        ..Default::default()
    }
}

pub(crate) fn commit(session: &str, id: &[u8]) -> v1::CommitRequest {
    let transaction = Some(Which::TransactionId(id.to_vec()));
    v1::CommitRequest { session: session.into(), transaction, ..Default::default() }
}

pub(crate) fn sql(session: &str, sql: &str) -> v1::ExecuteSqlRequest {
    v1::ExecuteSqlRequest { session: session.into(), sql: sql.into(), ..Default::default() }
}

pub(crate) fn read_all(session: &str) -> v1::ReadRequest {
    v1::ReadRequest {
        session: session.into(),
        table: "Users".into(),
        columns: vec!["Name".into()],
        key_set: Some(v1::KeySet { all: true, ..Default::default() }),
        ..Default::default()
    }
}

pub(crate) fn strings(rows: &[ListValue]) -> Vec<String> {
    let shown = |v: &Value| match &v.kind {
        Some(Kind::StringValue(s)) => s.clone(),
        other => format!("{other:?}"),
    };
    rows.iter().map(|row| row.values.iter().map(shown).collect::<Vec<_>>().join(" ")).collect()
}

/// A simulator with three users, a client, and a session.
pub(crate) async fn users(multiplexed: bool) -> (Sim, Client, String) {
    let sim = sim().await;
    let client = Client::connect(sim.addr()).await;
    let session = client.session(multiplexed).await;
    let rows = insert(&[["1", "ann", "10"], ["2", "bob", "20"], ["3", "cy", "30"]]);
    let _: v1::CommitResponse = client.unary("Commit", &session, &commit_once(&session, vec![rows])).await;
    (sim, client, session)
}

pub(crate) async fn begin(client: &Client, session: &str, options: v1::TransactionOptions) -> v1::Transaction {
    let request = v1::BeginTransactionRequest { session: session.into(), options: Some(options), ..Default::default() };
    client.unary("BeginTransaction", session, &request).await
}
