//! Requests of `google.spanner.v1` and their parts, as the cases need them.

use spanner_sim::prost_types::{ListValue, Value, value::Kind};
use spanner_sim::v1;
use v1::commit_request::Transaction;
use v1::execute_batch_dml_request::Statement;
use v1::mutation::{Operation, Write};
use v1::transaction_options::{Mode, ReadOnly, ReadWrite, read_only::TimestampBound};
use v1::transaction_selector::Selector;

use super::case::Kept;

pub(super) fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.into())) }
}

pub(super) fn row(values: &[&str]) -> ListValue {
    ListValue { values: values.iter().map(|value| text(value)).collect() }
}

pub(super) fn options(mode: Mode) -> v1::TransactionOptions {
    v1::TransactionOptions { mode: Some(mode), ..Default::default() }
}

pub(super) fn read_write() -> v1::TransactionOptions {
    options(Mode::ReadWrite(ReadWrite::default()))
}

pub(super) fn read_only(bound: TimestampBound) -> v1::TransactionOptions {
    options(Mode::ReadOnly(ReadOnly { return_read_timestamp: true, timestamp_bound: Some(bound) }))
}

pub(super) fn single_use(options: v1::TransactionOptions) -> Option<v1::TransactionSelector> {
    Some(v1::TransactionSelector { selector: Some(Selector::SingleUse(options)) })
}

pub(super) fn begin(options: v1::TransactionOptions) -> Option<v1::TransactionSelector> {
    Some(v1::TransactionSelector { selector: Some(Selector::Begin(options)) })
}

pub(super) fn within(id: Vec<u8>) -> Option<v1::TransactionSelector> {
    Some(v1::TransactionSelector { selector: Some(Selector::Id(id)) })
}

/// A statement in the session that is kept as `session`.
pub(super) fn sql(kept: &Kept, sql: &str) -> v1::ExecuteSqlRequest {
    v1::ExecuteSqlRequest { session: kept.text("session"), sql: sql.into(), ..Default::default() }
}

pub(super) fn read(kept: &Kept, table: &str, columns: &[&str]) -> v1::ReadRequest {
    let key_set = Some(v1::KeySet { all: true, ..Default::default() });
    let columns = columns.iter().map(ToString::to_string).collect();
    v1::ReadRequest { session: kept.text("session"), table: table.into(), columns, key_set, ..Default::default() }
}

pub(super) fn insert(table: &str, columns: &[&str], values: &[ListValue]) -> v1::Mutation {
    let columns = columns.iter().map(ToString::to_string).collect();
    v1::Mutation { operation: Some(Operation::Insert(Write { table: table.into(), columns, values: values.to_vec() })) }
}

pub(super) fn rows(from: u32, to: u32) -> Vec<ListValue> {
    (from..=to).map(|key| row(&[&key.to_string(), &format!("value {key}")])).collect()
}

pub(super) fn write_once(kept: &Kept, mutations: Vec<v1::Mutation>) -> v1::CommitRequest {
    let transaction = Some(Transaction::SingleUseTransaction(read_write()));
    v1::CommitRequest { session: kept.text("session"), mutations, transaction, return_commit_stats: true, ..Default::default() }
}

pub(super) fn commit(kept: &Kept, transaction: &str, mutations: Vec<v1::Mutation>) -> v1::CommitRequest {
    let id = Some(Transaction::TransactionId(kept.bytes(transaction)));
    v1::CommitRequest { session: kept.text("session"), mutations, transaction: id, ..Default::default() }
}

pub(super) fn begin_transaction(session: String, options: v1::TransactionOptions) -> v1::BeginTransactionRequest {
    v1::BeginTransactionRequest { session, options: Some(options), ..Default::default() }
}

pub(super) fn create_session(database: &str, session: v1::Session) -> v1::CreateSessionRequest {
    v1::CreateSessionRequest { database: database.into(), session: Some(session) }
}

pub(super) fn batch(kept: &Kept, transaction: &str, seqno: i64, statements: &[&str]) -> v1::ExecuteBatchDmlRequest {
    let statement = |sql: &&str| Statement { sql: (*sql).into(), ..Default::default() };
    v1::ExecuteBatchDmlRequest {
        session: kept.text("session"),
        transaction: within(kept.bytes(transaction)),
        statements: statements.iter().map(statement).collect(),
        seqno,
        ..Default::default()
    }
}
