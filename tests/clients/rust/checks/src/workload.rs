//! What the checks share: the database, a client of it, and the few calls that most of them make.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use serde_json::Value as Json;

use crate::library::{Admin, Bound, Client, Code, Failure, KeySet, Library, Reader, Row, Source, Statement, Timestamp, Type, Value};
use crate::schema::{self, Digest};

pub(crate) struct Workload {
    pub(crate) library: Box<dyn Library>,
    pub(crate) admin: Arc<dyn Admin>,
    pub(crate) project: String,
    pub(crate) instance: String,
    pub(crate) database: String,
    /// Set once the database exists.
    pub(crate) client: OnceLock<Arc<dyn Client>>,
    /// True while the instance exists.
    pub(crate) created: AtomicBool,
}

impl Workload {
    pub(crate) fn client(&self) -> Result<&Arc<dyn Client>, Failure> {
        self.client.get().ok_or_else(|| "there is no database to run it on".to_owned().into())
    }

    /// The client to run a transaction with while one of `client()`'s is open.
    pub(crate) async fn overlapping(&self) -> Result<Arc<dyn Client>, Failure> {
        if self.library.features().one_session { self.library.connect(&self.database).await } else { self.client().cloned() }
    }

    /// The admin API's answer for what does not exist.
    pub(crate) fn admin_not_found(&self) -> Code {
        if self.library.features().admin_speaks_json { Code::INTERNAL } else { Code::NOT_FOUND }
    }

    /// Ends what `overlapping()` returned.
    pub(crate) async fn close_overlapping(&self, other: Arc<dyn Client>) {
        if self.library.features().one_session {
            other.close().await;
        }
    }

    /// Reads in a strong single-use transaction.
    pub(crate) async fn single(&self, source: Source) -> Result<Vec<Row>, Failure> {
        collect(&mut *self.client()?.single(Bound::Strong).await?, source).await
    }

    pub(crate) async fn strings(&self, source: Source) -> Result<Vec<String>, Failure> {
        first_strings(self.single(source).await?)
    }

    pub(crate) async fn count(&self, sql: &str) -> Result<i64, Failure> {
        integer(&mut *self.client()?.single(Bound::Strong).await?, query_integer(sql)).await
    }

    pub(crate) async fn balance(&self, account: &str) -> Result<i64, Failure> {
        let mut reader = self.client()?.single(Bound::Strong).await?;
        integer(&mut *reader, schema::read_balance(account)).await
    }

    pub(crate) async fn set_balance(&self, account: &str, balance: i64) -> Result<Timestamp, Failure> {
        self.client()?.apply(vec![schema::set_balance(account, balance)]).await
    }

    /// Reads even numbers by key and odd ones by a query.
    pub(crate) async fn read_one_singer(&self, number: usize) -> Result<(), Failure> {
        let id = schema::singer_id(number);
        if number.is_multiple_of(2) {
            let keys = KeySet::Keys(vec![id.as_str().into()]);
            let rows = self.single(schema::read_singers(keys)).await?;
            expect("row", &rows, &vec![schema::singer(number)])
        } else {
            let sql = "SELECT SingerId FROM Singers WHERE SingerId = @id";
            let statement = Statement::new(sql).with("id", id.as_str());
            let rows = self.strings(query(statement, [Type::String])).await?;
            expect("query", &rows, &vec![id])
        }
    }

    pub(crate) async fn still_works(&self) -> Result<(), Failure> {
        self.read_one_singer(0).await.map_err(in_step("afterwards"))
    }
}

pub(crate) fn query(statement: impl Into<Statement>, types: impl Into<Vec<Type>>) -> Source {
    Source::Query { statement: statement.into(), types: types.into() }
}

pub(crate) fn query_integer(statement: impl Into<Statement>) -> Source {
    query(statement, [Type::Int64])
}

impl From<&str> for Statement {
    fn from(sql: &str) -> Self {
        Statement::new(sql)
    }
}

pub(crate) async fn collect<R>(reader: &mut R, source: Source) -> Result<Vec<Row>, Failure>
where
    R: Reader + ?Sized,
{
    let mut rows = Vec::new();
    reader
        .rows(source, &mut |row| {
            rows.push(row);
            Ok(())
        })
        .await?;
    Ok(rows)
}

pub(crate) async fn digest<R>(reader: &mut R, source: Source) -> Result<Digest, Failure>
where
    R: Reader + ?Sized,
{
    let mut digest = Digest::default();
    reader
        .rows(source, &mut |row| {
            digest.add(&row);
            Ok(())
        })
        .await?;
    Ok(digest)
}

/// The one integer of a result.
pub(crate) async fn integer<R>(reader: &mut R, source: Source) -> Result<i64, Failure>
where
    R: Reader + ?Sized,
{
    match collect(reader, source).await?.as_slice() {
        [row] => match row.as_slice() {
            [Value::Int64(number)] => Ok(*number),
            other => Err(format!("{other:?} is not one integer").into()),
        },
        rows => Err(format!("{} rows came instead of one", rows.len()).into()),
    }
}

pub(crate) fn first_strings(rows: Vec<Row>) -> Result<Vec<String>, Failure> {
    rows.into_iter()
        .map(|row| match row.into_iter().next() {
            Some(Value::String(text)) => Ok(text),
            other => Err(format!("{other:?} is not a string").into()),
        })
        .collect()
}

pub(crate) fn expect<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, want: &T) -> Result<(), Failure> {
    if got == want { Ok(()) } else { Err(format!("{what}: got {got:?}, expected {want:?}").into()) }
}

/// Returns what the error says, and fails unless there is one with this code.
pub(crate) fn expect_code<T>(what: &str, result: Result<T, Failure>, want: Code) -> Result<Json, Failure> {
    match result {
        Ok(_) => Err(format!("{what}: succeeded, expected {}", want.name()).into()),
        Err(failure) if failure.code() == Some(want) => Ok(failure.describe()),
        Err(failure) => Err(format!("{what}: expected {}, got {failure}", want.name()).into()),
    }
}

/// Names the step that failed. An aborted transaction's error must reach the library as it was, without this.
pub(crate) fn in_step(step: &str) -> impl FnOnce(Failure) -> Failure {
    move |failure| format!("{step}: {failure}").into()
}
