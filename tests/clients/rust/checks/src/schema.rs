//! The tables that the checks share, and the rows whose every value follows from their number.

use sha2::{Digest as _, Sha256};

use serde_json::{Value as Json, json};

use crate::library::{KeySet, Mutation, Row, Source, Timestamp, Type, Value, Write};

/// So many rows are inserted by `insert_mutations`. Later checks add and remove only rows with other keys.
pub(crate) const SINGERS: usize = 1000;

pub(crate) fn ddl() -> Vec<String> {
    let statements = [
        "CREATE TABLE Singers (
  SingerId STRING(36) NOT NULL,
  Plays INT64,
  Rating FLOAT64,
  Active BOOL,
  Photo BYTES(MAX),
  Joined TIMESTAMP,
  Tags ARRAY<STRING(MAX)>,
  Info JSON,
) PRIMARY KEY (SingerId)",
        "CREATE INDEX SingersByPlays ON Singers(Plays)",
        "CREATE TABLE Accounts (
  AccountId STRING(36) NOT NULL,
  Balance INT64 NOT NULL,
  UpdatedAt TIMESTAMP OPTIONS (allow_commit_timestamp=true),
) PRIMARY KEY (AccountId)",
    ];
    statements.map(str::to_owned).to_vec()
}

/// Runs after the tables exist.
pub(crate) fn later_ddl() -> Vec<String> {
    vec!["ALTER TABLE Singers ADD COLUMN Note STRING(MAX)".to_owned()]
}

const SINGER_COLUMNS: [(&str, Type); 8] = [
    ("SingerId", Type::String),
    ("Plays", Type::Int64),
    ("Rating", Type::Float64),
    ("Active", Type::Bool),
    ("Photo", Type::Bytes),
    ("Joined", Type::Timestamp),
    ("Tags", Type::Strings),
    ("Info", Type::Json),
];

pub(crate) fn singer_types() -> Vec<Type> {
    SINGER_COLUMNS.map(|(_, kind)| kind).to_vec()
}

pub(crate) fn singer_id(number: usize) -> String {
    format!("singer-{number:05}")
}

/// A stride that shares no factor with the count gives an index order other than the key order, without duplicates.
pub(crate) fn plays(number: usize) -> i64 {
    (number * 7919 % SINGERS) as i64
}

pub(crate) fn singer(number: usize) -> Row {
    let mut row = vec![
        Value::String(singer_id(number)),
        Value::Int64(plays(number)),
        Value::Float64(number as f64 / 3.0),
        Value::Bool(number.is_multiple_of(2)),
        Value::Bytes(vec![0, number as u8, (number >> 8) as u8, 0xff]),
        Value::Timestamp(Timestamp { seconds: 1_577_836_800 + 60 * number as i64, nanos: 1000 * number as i32 }),
        Value::Strings(vec!["tag".to_owned(), format!("größe-{number}"), String::new()]),
        Value::Json(format!(r#"{{"label":"l{number}","year":{}}}"#, 1950 + number % 70)),
    ];
    if number % 10 == 9 {
        for (value, (_, kind)) in row.iter_mut().zip(SINGER_COLUMNS).skip(2).take(5) {
            *value = Value::Null(kind);
        }
    }
    row
}

pub(crate) fn insert_singer(number: usize) -> Mutation {
    let columns = SINGER_COLUMNS.iter().map(|(name, _)| *name).zip(singer(number)).collect();
    Mutation { write: Write::Insert, table: "Singers", columns }
}

/// All columns of the singers with these keys.
pub(crate) fn read_singers(keys: KeySet) -> Source {
    Source::Read {
        table: "Singers".to_owned(),
        index: None,
        columns: SINGER_COLUMNS.map(|(name, _)| name.to_owned()).to_vec(),
        keys,
        limit: 0,
        types: singer_types(),
    }
}

/// The ids alone.
pub(crate) fn read_ids(keys: KeySet, index: Option<&str>, limit: i64) -> Source {
    Source::Read {
        table: "Singers".to_owned(),
        index: index.map(str::to_owned),
        columns: vec!["SingerId".to_owned()],
        keys,
        limit,
        types: vec![Type::String],
    }
}

pub(crate) fn read_balance(account: &str) -> Source {
    Source::Read {
        table: "Accounts".to_owned(),
        index: None,
        columns: vec!["Balance".to_owned()],
        keys: KeySet::Keys(vec![account.into()]),
        limit: 0,
        types: vec![Type::Int64],
    }
}

/// Creates or changes an account. Each check that needs one has an account of its own.
pub(crate) fn set_balance(account: &str, balance: i64) -> Mutation {
    Mutation {
        write: Write::InsertOrUpdate,
        table: "Accounts",
        columns: vec![("AccountId", account.into()), ("Balance", balance.into()), ("UpdatedAt", Value::CommitTimestamp)],
    }
}

/// Text that two rows share only if they are equal.
pub(crate) fn display(row: &Row) -> String {
    row.iter().map(display_value).collect::<Vec<_>>().join("|")
}

fn display_value(value: &Value) -> String {
    match value {
        Value::Null(_) => "NULL".to_owned(),
        Value::String(text) => format!("{text:?}"),
        Value::Int64(number) => number.to_string(),
        Value::Float64(number) => format!("{number:?}"),
        Value::Bool(truth) => truth.to_string(),
        Value::Bytes(bytes) => hex(bytes),
        Value::Timestamp(at) => format!("{}.{:09}", at.seconds, at.nanos),
        Value::Strings(texts) => format!("{texts:?}"),
        Value::Json(document) => document.clone(),
        Value::CommitTimestamp => "commit timestamp".to_owned(),
    }
}

/// Counts and checksums rows as they are streamed.
#[derive(Default)]
pub(crate) struct Digest {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    sha256: Sha256,
}

impl Digest {
    pub(crate) fn of<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Self {
        let mut digest = Self::default();
        rows.into_iter().for_each(|row| digest.add(row));
        digest
    }

    pub(crate) fn of_singers() -> Self {
        let singers: Vec<Row> = (0..SINGERS).map(singer).collect();
        Self::of(&singers)
    }

    pub(crate) fn add(&mut self, row: &Row) {
        let text = display(row);
        self.rows += 1;
        self.bytes += text.len();
        self.sha256.update(text);
        self.sha256.update("\n");
    }

    pub(crate) fn detail(self) -> Json {
        json!({ "rows": self.rows, "bytes": self.bytes, "sha256": hex(&self.sha256.finalize()) })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
