//! The built-in Spanner: sessions, transactions and tables in memory. Synchronous: one request in, one reply out.

mod admin;
mod commit;
mod ddl;
mod dml;
mod eval;
mod lex;
mod locks;
mod partition;
mod query;
mod result;
mod selector;
mod session;
mod sql;
mod statement;
mod table;
mod txn;
mod value;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use googleapis_tonic_google_spanner_admin_instance_v1::google::longrunning::Operation;
use googleapis_tonic_google_spanner_admin_instance_v1::google::spanner::admin::instance::v1::Instance;
use googleapis_tonic_google_spanner_v1::google::spanner::v1;
use prost::Message;

use crate::grpc;
use crate::lock;
use crate::status::{Code, Status};
use session::Session;
use table::{Key, Table};
use txn::{Txn, TxnId};

/// Ends of transactions that are remembered, so that late calls get the right error.
const REMEMBERED_TRANSACTIONS: usize = 10_000;

/// What the set-up can change.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    pub(crate) sessions_per_batch: usize,
    pub(crate) rows_per_message: usize,
    pub(crate) commit_asks_for_retry: bool,
    pub(crate) one_transaction_per_database: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour { sessions_per_batch: 100, rows_per_message: 100, commit_asks_for_retry: false, one_transaction_per_database: false }
    }
}

/// The answer to a request: messages in their gRPC frames.
pub(crate) enum Reply {
    Unary(Bytes),
    /// Made one by one while they are sent.
    Stream(Messages),
}

pub(crate) type Messages = Box<dyn Iterator<Item = Result<Bytes, Status>> + Send>;

impl Reply {
    fn unary(message: &impl Message) -> Self {
        Reply::Unary(grpc::frame_proto(message))
    }
}

/// The service: everything behind one lock, held only while a request is worked on.
pub(crate) struct Spanner {
    state: Mutex<State>,
}

struct State {
    behaviour: Behaviour,
    /// The newest timestamp given out, in microseconds; they only rise.
    clock: u64,
    next_id: u64,
    instances: BTreeMap<String, Instance>,
    databases: BTreeMap<String, Database>,
    sessions: HashMap<String, Session>,
    txns: HashMap<TxnId, Txn>,
    ended_txns: VecDeque<TxnId>,
    operations: BTreeMap<String, Operation>,
}

struct Database {
    ddl: Vec<String>,
    /// By the name in lower case.
    tables: HashMap<String, Table>,
    created: u64,
    /// Held by read-write transactions until they end.
    locks: HashMap<Lock, TxnId>,
}

/// What a transaction locks: a row, or everything when conflicts are found per database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Lock {
    Row(String, Key),
    Database,
}

impl Spanner {
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        let state = State {
            behaviour,
            clock: 0,
            next_id: 0,
            instances: BTreeMap::new(),
            databases: BTreeMap::new(),
            sessions: HashMap::new(),
            txns: HashMap::new(),
            ended_txns: VecDeque::new(),
            operations: BTreeMap::new(),
        };
        Spanner { state: Mutex::new(state) }
    }

    /// Creates a database, and its instance if it is missing.
    pub(crate) fn create_database(&self, name: &str, ddl: &[String]) -> Result<(), Status> {
        lock(&self.state).create_database_with_instance(name, ddl)
    }

    pub(crate) fn lose_sessions(&self) {
        let mut state = lock(&self.state);
        state.sessions.clear();
        state.txns.clear();
        state.ended_txns.clear();
        for database in state.databases.values_mut() {
            database.locks.clear();
        }
    }

    pub(crate) fn session_names(&self) -> Vec<String> {
        let mut names: Vec<String> = lock(&self.state).sessions.keys().cloned().collect();
        names.sort();
        names
    }

    /// Answers one request.
    pub(crate) fn answer(&self, path: &str, message: Bytes) -> Result<Reply, Status> {
        let (service, method) = path.strip_prefix('/').and_then(|p| p.split_once('/')).unwrap_or((path, ""));
        match service {
            "google.spanner.v1.Spanner" => self.spanner(method, message),
            "google.spanner.admin.database.v1.DatabaseAdmin" => lock(&self.state).database_admin(method, message),
            "google.spanner.admin.instance.v1.InstanceAdmin" => lock(&self.state).instance_admin(method, message),
            "google.longrunning.Operations" => lock(&self.state).operations(method, message),
            _ => Err(unimplemented(path)),
        }
    }

    fn spanner(&self, method: &str, message: Bytes) -> Result<Reply, Status> {
        let mut state = lock(&self.state);
        let state = &mut *state;
        match method {
            "CreateSession" => state.create_session(decode(message)?),
            "BatchCreateSessions" => state.batch_create_sessions(&decode(message)?),
            "GetSession" => state.get_session(&decode(message)?),
            "ListSessions" => state.list_sessions(&decode(message)?),
            "DeleteSession" => state.delete_session(&decode(message)?),
            "BeginTransaction" => state.begin_transaction(&decode(message)?),
            "Commit" => state.commit(decode(message)?),
            "Rollback" => state.rollback(&decode(message)?),
            "BatchWrite" => state.batch_write(decode(message)?),
            "Read" => state.read(&decode(message)?)?.unary(),
            "StreamingRead" => {
                let request: v1::ReadRequest = decode(message)?;
                Ok(state.read(&request)?.stream(&request.resume_token, state.behaviour.rows_per_message))
            }
            "ExecuteSql" => state.execute_sql(&decode(message)?)?.unary(),
            "ExecuteStreamingSql" => {
                let request: v1::ExecuteSqlRequest = decode(message)?;
                Ok(state.execute_sql(&request)?.stream(&request.resume_token, state.behaviour.rows_per_message))
            }
            "ExecuteBatchDml" => state.execute_batch_dml(&decode(message)?),
            "PartitionQuery" => state.partition_query(&decode(message)?),
            "PartitionRead" => state.partition_read(&decode(message)?),
            _ => Err(unimplemented(method)),
        }
    }
}

impl State {
    /// A timestamp later than all before it.
    fn tick(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros());
        self.clock = u64::try_from(now).unwrap_or(0).max(self.clock + 1);
        self.clock
    }

    /// The time of a strong read: not before any commit so far.
    fn now(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros());
        self.clock = u64::try_from(now).unwrap_or(0).max(self.clock);
        self.clock
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn database(&mut self, name: &str) -> Result<&mut Database, Status> {
        self.databases.get_mut(name).ok_or_else(|| database_not_found(name))
    }
}

impl Database {
    fn table(&self, name: &str) -> Result<&Table, Status> {
        self.tables.get(&name.to_ascii_lowercase()).ok_or_else(|| table_not_found(name))
    }
}

fn decode<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|e| invalid(format!("sim: the request is not a valid message: {e}")))
}

fn invalid(text: impl Into<String>) -> Status {
    Status::new(Code::InvalidArgument, text)
}

fn failed_precondition(text: impl Into<String>) -> Status {
    Status::new(Code::FailedPrecondition, text)
}

fn unimplemented(what: &str) -> Status {
    Status::new(Code::Unimplemented, format!("sim: {what} is not served here"))
}

fn database_not_found(name: &str) -> Status {
    let kind = "type.googleapis.com/google.spanner.admin.database.v1.Database";
    Status::new(Code::NotFound, format!("Database not found: {name}")).resource(kind, name, "Database does not exist.")
}

fn session_not_found(name: &str) -> Status {
    let kind = "type.googleapis.com/google.spanner.v1.Session";
    Status::new(Code::NotFound, format!("Session not found: {name}")).resource(kind, name, "Session does not exist.")
}

fn table_not_found(name: &str) -> Status {
    Status::new(Code::NotFound, format!("Table not found: {name}"))
}
