//! The checks' values in the library's terms, and back.

use checks::{Bound, Failure, KeySet, Mutation, Row, Statement, Timestamp, Type, Value, Write};
use gcloud_googleapis::spanner::v1::Mutation as LibraryMutation;
use gcloud_spanner::key::{Key, KeyRange, KeySet as LibraryKeySet, RangeKind, all_keys};
use gcloud_spanner::mutation::{insert, insert_or_update, update};
use gcloud_spanner::row::{Row as LibraryRow, TryFromValue};
use gcloud_spanner::statement::{Statement as LibraryStatement, ToKind};
use gcloud_spanner::value::{CommitTimestamp, Timestamp as LibraryTimestamp, TimestampBound};
use time::OffsetDateTime;

pub(crate) fn timestamp(at: LibraryTimestamp) -> Timestamp {
    Timestamp { seconds: at.seconds, nanos: at.nanos }
}

fn library_timestamp(at: Timestamp) -> LibraryTimestamp {
    LibraryTimestamp { seconds: at.seconds, nanos: at.nanos }
}

fn date_time(at: Timestamp) -> OffsetDateTime {
    let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanos).expect("the checks stay within a few centuries")
}

pub(crate) fn bound(at: Bound) -> TimestampBound {
    match at {
        Bound::Strong => TimestampBound::strong_read(),
        Bound::ExactStaleness(duration) => TimestampBound::exact_staleness(duration),
        Bound::MaxStaleness(duration) => TimestampBound::max_staleness(duration),
        Bound::ReadTimestamp(at) => TimestampBound::read_timestamp(library_timestamp(at)),
        Bound::MinReadTimestamp(at) => TimestampBound::min_read_timestamp(library_timestamp(at)),
    }
}

pub(crate) fn statement(statement: Statement) -> LibraryStatement {
    let mut library = LibraryStatement::new(statement.sql);
    for (name, value) in statement.params {
        match value {
            Value::String(text) | Value::Json(text) => library.add_param(name, &text),
            Value::Int64(number) => library.add_param(name, &number),
            Value::Float64(number) => library.add_param(name, &number),
            Value::Bool(truth) => library.add_param(name, &truth),
            Value::Bytes(bytes) => library.add_param(name, &bytes),
            Value::Timestamp(at) => library.add_param(name, &date_time(at)),
            Value::Strings(texts) => library.add_param(name, &texts),
            Value::CommitTimestamp => library.add_param(name, &CommitTimestamp::new()),
            Value::Null(kind) => match kind {
                Type::String | Type::Json => library.add_param(name, &None::<String>),
                Type::Int64 => library.add_param(name, &None::<i64>),
                Type::Float64 => library.add_param(name, &None::<f64>),
                Type::Bool => library.add_param(name, &None::<bool>),
                Type::Bytes => library.add_param(name, &None::<Vec<u8>>),
                Type::Timestamp => library.add_param(name, &None::<OffsetDateTime>),
                Type::Strings => library.add_param(name, &None::<Vec<String>>),
            },
        }
    }
    library
}

pub(crate) fn key_set(keys: KeySet) -> LibraryKeySet {
    let key = |value| Key::new(&*kind(value));
    match keys {
        KeySet::All => all_keys(),
        KeySet::Keys(values) => values.into_iter().map(key).collect::<Vec<_>>().into(),
        KeySet::ClosedOpen(start, end) => KeyRange::new(key(start), key(end), RangeKind::ClosedOpen).into(),
        KeySet::OpenClosed(start, end) => KeyRange::new(key(start), key(end), RangeKind::OpenClosed).into(),
    }
}

pub(crate) fn mutation(mutation: Mutation) -> LibraryMutation {
    let write = match mutation.write {
        Write::Insert => insert,
        Write::Update => update,
        Write::InsertOrUpdate => insert_or_update,
    };
    let (columns, values): (Vec<&str>, Vec<Box<dyn ToKind>>) =
        mutation.columns.into_iter().map(|(column, value)| (column, kind(value))).unzip();
    let values: Vec<&dyn ToKind> = values.iter().map(|value| &**value).collect();
    write(mutation.table, &columns, &values)
}

/// Mutations and keys carry no types: any NULL will do.
fn kind(value: Value) -> Box<dyn ToKind> {
    match value {
        Value::Null(_) => Box::new(None::<i64>),
        Value::String(text) | Value::Json(text) => Box::new(text),
        Value::Int64(number) => Box::new(number),
        Value::Float64(number) => Box::new(number),
        Value::Bool(truth) => Box::new(truth),
        Value::Bytes(bytes) => Box::new(bytes),
        Value::Timestamp(at) => Box::new(date_time(at)),
        Value::Strings(texts) => Box::new(texts),
        Value::CommitTimestamp => Box::new(CommitTimestamp::new()),
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
                Type::Timestamp => get(row, index, |at: OffsetDateTime| {
                    let (seconds, nanos) = (at.unix_timestamp(), at.nanosecond() as i32);
                    Value::Timestamp(Timestamp { seconds, nanos })
                }),
                Type::Strings => get(row, index, Value::Strings),
                Type::Json => get(row, index, Value::Json),
            };
            Ok(value?.unwrap_or(Value::Null(*kind)))
        })
        .collect()
}

fn get<T: TryFromValue>(row: &LibraryRow, index: usize, wrap: impl FnOnce(T) -> Value) -> Result<Option<Value>, Failure> {
    let value: Option<T> = row.column(index).map_err(|error| error.to_string())?;
    Ok(value.map(wrap))
}
