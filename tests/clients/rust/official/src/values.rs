//! The checks' values in the library's terms, and back.

use checks::{Bound, Failure, KeySet, Mutation, Row, Source, Statement, Timestamp, Type, Value, Write};
use google_cloud_spanner::key::{Key, KeyRange, KeySet as LibraryKeySet};
use google_cloud_spanner::mutation::Mutation as LibraryMutation;
use google_cloud_spanner::read::ReadRequest;
use google_cloud_spanner::result::Row as LibraryRow;
use google_cloud_spanner::statement::Statement as LibraryStatement;
use google_cloud_spanner::transaction::{Timestamp as LibraryTimestamp, TimestampBound};
use google_cloud_spanner::types;
use google_cloud_spanner::value::{FromValue, Type as LibraryType, Value as LibraryValue};

use crate::failed;

pub(crate) fn timestamp(at: LibraryTimestamp) -> Timestamp {
    Timestamp { seconds: at.seconds(), nanos: at.nanos() }
}

fn library_timestamp(at: Timestamp) -> LibraryTimestamp {
    LibraryTimestamp::clamp(at.seconds, at.nanos)
}

pub(crate) fn bound(at: Bound) -> TimestampBound {
    match at {
        Bound::Strong => TimestampBound::strong(),
        Bound::ExactStaleness(duration) => TimestampBound::exact_staleness(duration),
        Bound::MaxStaleness(duration) => TimestampBound::max_staleness(duration),
        Bound::ReadTimestamp(at) => TimestampBound::read_timestamp(library_timestamp(at)),
        Bound::MinReadTimestamp(at) => TimestampBound::min_read_timestamp(library_timestamp(at)),
    }
}

pub(crate) fn statement(statement: Statement) -> LibraryStatement {
    let mut builder = LibraryStatement::builder(statement.sql);
    for (name, value) in statement.params {
        let kind = library_type(&value);
        builder = builder.add_typed_param(name, library_value(value), kind);
    }
    if let Some(tag) = statement.request_tag {
        builder = builder.set_request_tag(tag);
    }
    builder.build()
}

/// For a `Source::Read`.
pub(crate) fn read_request(source: Source) -> ReadRequest {
    let Source::Read { table, index, columns, keys, limit, .. } = source else {
        unreachable!("queries are statements");
    };
    let builder = ReadRequest::builder(table, columns);
    let configured = match index {
        Some(index) => builder.with_index(index, key_set(keys)),
        None => builder.with_keys(key_set(keys)),
    };
    if limit > 0 { configured.set_limit(limit).build() } else { configured.build() }
}

fn key_set(keys: KeySet) -> LibraryKeySet {
    let key = |value| Key::new(vec![library_value(value)]);
    match keys {
        KeySet::All => LibraryKeySet::all(),
        KeySet::Keys(values) => {
            let add = |set: google_cloud_spanner::builder::KeySetBuilder, value| set.add_key(key(value));
            values.into_iter().fold(LibraryKeySet::builder(), add).build()
        }
        KeySet::ClosedOpen(start, end) => KeyRange::closed_open(key(start), key(end)).into(),
        KeySet::OpenClosed(start, end) => KeyRange::open_closed(key(start), key(end)).into(),
    }
}

pub(crate) fn mutation(mutation: Mutation) -> LibraryMutation {
    let builder = match mutation.write {
        Write::Insert => LibraryMutation::new_insert_builder(mutation.table),
        Write::Update => LibraryMutation::new_update_builder(mutation.table),
        Write::InsertOrUpdate => LibraryMutation::new_insert_or_update_builder(mutation.table),
    };
    let set = mutation.columns.into_iter();
    set.fold(builder, |builder, (column, value)| builder.set(column).to(library_value(value))).build()
}

fn library_value(value: Value) -> LibraryValue {
    match value {
        Value::Null(_) => LibraryValue::null(),
        Value::String(text) | Value::Json(text) => text.into(),
        Value::Int64(number) => number.into(),
        Value::Float64(number) => number.into(),
        Value::Bool(truth) => truth.into(),
        Value::Bytes(bytes) => bytes.into(),
        Value::Timestamp(at) => library_timestamp(at).into(),
        Value::Strings(texts) => texts.into(),
        Value::CommitTimestamp => "spanner.commit_timestamp()".into(),
    }
}

fn library_type(value: &Value) -> LibraryType {
    match value {
        Value::String(_) | Value::Null(Type::String) => types::string(),
        Value::Int64(_) | Value::Null(Type::Int64) => types::int64(),
        Value::Float64(_) | Value::Null(Type::Float64) => types::float64(),
        Value::Bool(_) | Value::Null(Type::Bool) => types::bool(),
        Value::Bytes(_) | Value::Null(Type::Bytes) => types::bytes(),
        Value::Timestamp(_) | Value::CommitTimestamp | Value::Null(Type::Timestamp) => types::timestamp(),
        Value::Strings(_) | Value::Null(Type::Strings) => types::array(types::string()),
        Value::Json(_) | Value::Null(Type::Json) => types::json(),
    }
}

pub(crate) fn decode(row: &LibraryRow, types: &[Type]) -> Result<Row, Failure> {
    types
        .iter()
        .enumerate()
        .map(|(index, kind)| {
            let value = match kind {
                Type::String => get(row, index, Value::String),
                Type::Int64 => get(row, index, Value::Int64),
                Type::Float64 => get(row, index, Value::Float64),
                Type::Bool => get(row, index, Value::Bool),
                Type::Bytes => get(row, index, Value::Bytes),
                Type::Timestamp => get(row, index, |at| Value::Timestamp(timestamp(at))),
                Type::Strings => get(row, index, Value::Strings),
                Type::Json => get(row, index, Value::Json),
            };
            Ok(value?.unwrap_or(Value::Null(*kind)))
        })
        .collect()
}

fn get<T: FromValue>(row: &LibraryRow, index: usize, wrap: impl FnOnce(T) -> Value) -> Result<Option<Value>, Failure> {
    Ok(row.get::<Option<T>>(index).map_err(failed)?.map(wrap))
}
