//! What the checks need from a client library, in terms that no library owns.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
pub type Row = Vec<Value>;

/// Takes the rows of a result one by one, as they arrive. An error ends the stream: the rest is not read.
pub type Sink<'a> = &'a mut (dyn FnMut(Row) -> Result<(), Failure> + Send);

/// The body of a read-write transaction. The library's retry loop may run it more than once; what it returned last is
/// what the transaction returns.
pub type Body = Arc<dyn for<'tx> Fn(&'tx mut (dyn Transaction + 'tx)) -> BoxFuture<'tx, Result<Json, Failure>> + Send + Sync>;

#[async_trait]
pub trait Library: Send + Sync {
    fn features(&self) -> Features;
    /// `database` is a full resource name, here and everywhere.
    async fn connect(&self, database: &str) -> Result<Arc<dyn Client>, Failure>;
    /// The clients of the admin API.
    async fn admin(&self) -> Result<Arc<dyn Admin>, Failure>;
}

/// In what the libraries differ.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// All of a client's calls run in one multiplexed session. The emulator makes an ordinary session of it, which holds
    /// one transaction at a time: transactions that overlap need a client each.
    pub one_session: bool,
    /// A query can carry a request tag.
    pub request_tags: bool,
    /// `batch_update` returns the counts of the statements before the one that failed. They are applied all the same.
    pub counts_of_failed_batch: bool,
    pub batch_write: bool,
    /// What the library calls a deadline that has passed.
    pub deadline_code: Code,
    /// Rows of a result without resume tokens, as the emulator's are, come before its end.
    pub rows_before_the_end: bool,
    /// The admin API is called in JSON. Where an error has details, the emulator fails to put them in JSON and answers
    /// INTERNAL instead.
    pub admin_speaks_json: bool,
}

#[async_trait]
pub trait Admin: Send + Sync {
    async fn instance_configs(&self, project: &str) -> Result<Vec<String>, Failure>;
    async fn create_instance(&self, project: &str, instance_id: &str, config: &str) -> Result<(), Failure>;
    async fn delete_instance(&self, instance: &str) -> Result<(), Failure>;
    async fn create_database(&self, instance: &str, database_id: &str, ddl: Vec<String>) -> Result<(), Failure>;
    async fn update_ddl(&self, database: &str, ddl: Vec<String>) -> Result<(), Failure>;
    async fn ddl(&self, database: &str) -> Result<Vec<String>, Failure>;
    /// Lists over as many pages as there are when each holds `page_size` databases.
    async fn databases(&self, instance: &str, page_size: i32) -> Result<Vec<String>, Failure>;
    async fn drop_database(&self, database: &str) -> Result<(), Failure>;
}

/// Its futures need not be `Send`, since those of google-cloud-spanner's read-write transactions are not.
#[async_trait(?Send)]
pub trait Client: Send + Sync {
    /// A read-only transaction for one read or query.
    async fn single(&self, bound: Bound) -> Result<Box<dyn Reader>, Failure>;
    /// A read-only transaction for several.
    async fn snapshot(&self, bound: Bound) -> Result<Box<dyn Snapshot>, Failure>;
    /// Runs `body` in a read-write transaction with this tag until it commits or fails for good. Returns the commit
    /// timestamp and what `body` returned.
    async fn read_write(&self, tag: Option<&str>, body: Body) -> Result<(Timestamp, Json), Failure>;
    /// Commits mutations in a transaction of their own and returns its timestamp.
    async fn apply(&self, mutations: Vec<Mutation>) -> Result<Timestamp, Failure>;
    async fn partitioned_update(&self, statement: Statement) -> Result<i64, Failure>;
    /// Partitions `source`, reads every partition, and returns how many there were.
    async fn read_partitions(&self, source: Source, sink: Sink<'_>) -> Result<usize, Failure>;
    /// Writes each mutation as a group of its own. Called only where [`Features::batch_write`] says so.
    async fn batch_write(&self, mutations: Vec<Mutation>) -> Result<(), Failure>;
    /// Runs a single-use query with the library's own means to limit its time, and fails with
    /// [`Features::deadline_code`] when it has passed.
    async fn query_with_deadline(&self, statement: Statement, deadline: Duration) -> Result<Vec<Row>, Failure>;
    async fn close(self: Arc<Self>);
}

#[async_trait]
pub trait Reader: Send {
    async fn rows(&mut self, source: Source, sink: Sink<'_>) -> Result<(), Failure>;
}

pub trait Snapshot: Reader {
    /// Known after the first read at the latest.
    fn read_timestamp(&self) -> Option<Timestamp>;
}

#[async_trait]
pub trait Transaction: Reader {
    async fn update(&mut self, statement: Statement) -> Result<i64, Failure>;
    /// Returns the row counts of the statements before the one that failed, and its error.
    async fn batch_update(&mut self, statements: Vec<Statement>) -> (Vec<i64>, Option<Failure>);
    fn buffer(&mut self, mutations: Vec<Mutation>) -> Result<(), Failure>;
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null(Type),
    String(String),
    Int64(i64),
    Float64(f64),
    Bool(bool),
    Bytes(Vec<u8>),
    Timestamp(Timestamp),
    Strings(Vec<String>),
    Json(String),
    /// Written only: Spanner puts the commit timestamp in its place.
    CommitTimestamp,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Int64(number)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    String,
    Int64,
    Float64,
    Bool,
    Bytes,
    Timestamp,
    Strings,
    Json,
}

/// Time since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    pub seconds: i64,
    pub nanos: i32,
}

#[derive(Clone, Copy, Debug)]
pub enum Bound {
    Strong,
    ExactStaleness(Duration),
    MaxStaleness(Duration),
    ReadTimestamp(Timestamp),
    MinReadTimestamp(Timestamp),
}

#[derive(Clone, Debug)]
pub struct Statement {
    pub sql: String,
    pub params: Vec<(&'static str, Value)>,
    pub request_tag: Option<&'static str>,
}

impl Statement {
    pub(crate) fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), params: Vec::new(), request_tag: None }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.params.push((name, value.into()));
        self
    }
}

/// Where rows come from, and the types of their columns.
#[derive(Clone, Debug)]
pub enum Source {
    Query { statement: Statement, types: Vec<Type> },
    Read { table: String, index: Option<String>, columns: Vec<String>, keys: KeySet, limit: i64, types: Vec<Type> },
}

impl Source {
    pub fn types(&self) -> &[Type] {
        match self {
            Source::Query { types, .. } | Source::Read { types, .. } => types,
        }
    }
}

/// Keys have one part here.
#[derive(Clone, Debug)]
pub enum KeySet {
    All,
    Keys(Vec<Value>),
    ClosedOpen(Value, Value),
    OpenClosed(Value, Value),
}

#[derive(Clone, Debug)]
pub struct Mutation {
    pub write: Write,
    pub table: &'static str,
    pub columns: Vec<(&'static str, Value)>,
}

#[derive(Clone, Copy, Debug)]
pub enum Write {
    Insert,
    Update,
    InsertOrUpdate,
}

/// Why a check, or a call within one, did not end well.
#[derive(Debug)]
pub enum Failure {
    /// The library's error.
    Call(CallError),
    /// An expectation that did not hold.
    Unexpected(String),
    /// The library or the emulator has no means for this check.
    NotAvailable { reason: String, detail: Json },
}

/// What an application can learn from the library's error.
#[derive(Debug)]
pub struct CallError {
    /// `None` where the library has no gRPC status for it.
    pub code: Option<Code>,
    pub message: String,
    pub details: Vec<Json>,
    source: Box<dyn Error + Send + Sync>,
}

impl CallError {
    pub fn new(code: Option<Code>, message: impl Into<String>, details: Vec<Json>, source: impl Error + Send + Sync + 'static) -> Self {
        Self { code, message: message.into(), details, source: Box::new(source) }
    }
}

impl Failure {
    pub fn code(&self) -> Option<Code> {
        match self {
            Failure::Call(error) => error.code,
            _ => None,
        }
    }

    /// Gives the library its own error back, so that its retry loop sees what it would see in an application.
    pub fn into_source<E: Error + 'static>(self) -> Result<E, Failure> {
        match self {
            Failure::Call(CallError { code, message, details, source }) => match source.downcast::<E>() {
                Ok(error) => Ok(*error),
                Err(source) => Err(Failure::Call(CallError { code, message, details, source })),
            },
            other => Err(other),
        }
    }

    pub fn source<E: Error + 'static>(&self) -> Option<&E> {
        match self {
            Failure::Call(error) => error.source.downcast_ref(),
            _ => None,
        }
    }

    pub(crate) fn describe(&self) -> Json {
        match self {
            Failure::Call(error) => json!({
                "code": error.code.map_or("none", |code| code.name()),
                "message": error.message,
                "details": error.details,
            }),
            other => json!({ "message": other.to_string() }),
        }
    }
}

/// So that `?` works on expectations.
impl From<String> for Failure {
    fn from(text: String) -> Self {
        Failure::Unexpected(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Call(CallError { code: Some(code), message, .. }) => write!(f, "{}: {message}", code.name()),
            Failure::Call(CallError { code: None, message, .. }) => f.write_str(message),
            Failure::Unexpected(text) => f.write_str(text),
            Failure::NotAvailable { reason, .. } => f.write_str(reason),
        }
    }
}

impl Error for Failure {}

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub i32);

impl Code {
    pub const CANCELLED: Code = Code(1);
    pub const INVALID_ARGUMENT: Code = Code(3);
    pub const DEADLINE_EXCEEDED: Code = Code(4);
    pub const NOT_FOUND: Code = Code(5);
    pub const ALREADY_EXISTS: Code = Code(6);
    pub const ABORTED: Code = Code(10);
    pub const OUT_OF_RANGE: Code = Code(11);
    pub const UNIMPLEMENTED: Code = Code(12);
    pub const INTERNAL: Code = Code(13);

    pub fn name(self) -> &'static str {
        const NAMES: [&str; 17] = [
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        ];
        usize::try_from(self.0).ok().and_then(|number| NAMES.get(number)).copied().unwrap_or("not a gRPC code")
    }
}
