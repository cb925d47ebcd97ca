//! Transactions: what one remembers, how it begins and ends.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use googleapis_tonic_google_spanner_v1::google::spanner::v1;
use v1::transaction_options::Mode as Wanted;

use super::table::{Overlay, Span};
use super::value::timestamp;
use super::{Lock, REMEMBERED_TRANSACTIONS, Reply, State, failed_precondition, invalid, session_not_found};
use crate::status::{Code, Status};

/// What ABORTED tells clients to wait.
const RETRY_DELAY: Duration = Duration::from_millis(10);

pub(super) type TxnId = Vec<u8>;

pub(super) struct Txn {
    pub(super) session: String,
    pub(super) database: String,
    pub(super) multiplexed: bool,
    pub(super) mode: Mode,
    pub(super) state: TxnState,
    /// By table, in lower case.
    pub(super) writes: HashMap<String, Overlay>,
    /// What was read, and the time of that.
    pub(super) reads: Vec<(String, Span, u64)>,
    /// DML that was done, for replays: sequence number, fingerprint of the statement, row counts.
    pub(super) done: Vec<(i64, u64, Vec<i64>)>,
    pub(super) precommit_seq: i32,
    pub(super) asked_for_retry: bool,
    pub(super) locks: Vec<Lock>,
    pub(super) last_used: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    ReadWrite,
    ReadOnly { at: u64 },
    PartitionedDml,
}

#[derive(Clone, Debug)]
pub(super) enum TxnState {
    Active,
    Committed(v1::CommitResponse),
    RolledBack,
    Aborted,
    /// A later transaction began in the same regular session.
    Invalidated,
}

pub(super) fn aborted() -> Status {
    Status::new(Code::Aborted, "Transaction was aborted.").retry_after(RETRY_DELAY)
}

impl State {
    /// Begins a transaction; in a regular session it ends the one before.
    pub(super) fn begin(&mut self, session: &str, options: &v1::TransactionOptions) -> Result<v1::Transaction, Status> {
        let (mode, shows_time) = match &options.mode {
            None => return Err(invalid("Bad Usage: the transaction's mode is missing.")),
            Some(Wanted::ReadWrite(_)) => (Mode::ReadWrite, false),
            Some(Wanted::PartitionedDml(_)) => (Mode::PartitionedDml, false),
            Some(Wanted::ReadOnly(options)) => (Mode::ReadOnly { at: self.read_time(options, false)? }, options.return_read_timestamp),
        };
        let id = format!("sim-txn-{:08}", self.id()).into_bytes();
        let found = self.session(session)?;
        let (database, multiplexed) = (found.database.clone(), found.proto.multiplexed);
        let before = if multiplexed { None } else { found.current.replace(id.clone()) };
        if let Some(before) = before {
            self.end(&before, TxnState::Invalidated);
        }
        let txn = Txn {
            session: session.to_owned(),
            database,
            multiplexed,
            mode,
            state: TxnState::Active,
            writes: HashMap::new(),
            reads: Vec::new(),
            done: Vec::new(),
            precommit_seq: 0,
            asked_for_retry: false,
            locks: Vec::new(),
            last_used: Instant::now(),
        };
        self.txns.insert(id.clone(), txn);
        let read_timestamp = match mode {
            Mode::ReadOnly { at } if shows_time => Some(timestamp(at)),
            _ => None,
        };
        Ok(v1::Transaction { id, read_timestamp, ..v1::Transaction::default() })
    }

    pub(super) fn begin_transaction(&mut self, request: &v1::BeginTransactionRequest) -> Result<Reply, Status> {
        let options = request.options.clone().unwrap_or_default();
        let mut shown = self.begin(&request.session, &options)?;
        if request.mutation_key.is_some() {
            shown.precommit_token = self.precommit_token(&shown.id);
        }
        Ok(Reply::unary(&shown))
    }

    /// A transaction of this session, whatever its state.
    pub(super) fn txn(&mut self, session: &str, id: &[u8]) -> Result<&mut Txn, Status> {
        if !self.sessions.contains_key(session) {
            return Err(session_not_found(session));
        }
        let not_found = || {
            let text = format!("Transaction not found: {}", String::from_utf8_lossy(id));
            Status::new(Code::NotFound, text)
        };
        let txn = self.txns.get_mut(id).ok_or_else(not_found)?;
        if txn.session != session {
            return Err(invalid("Transaction was started in a different session"));
        }
        txn.last_used = Instant::now();
        Ok(txn)
    }

    /// A transaction that reads and writes are still possible in.
    pub(super) fn active(&mut self, session: &str, id: &[u8]) -> Result<&mut Txn, Status> {
        let txn = self.txn(session, id)?;
        match txn.state {
            TxnState::Active => Ok(txn),
            TxnState::Aborted => Err(aborted()),
            TxnState::Invalidated => Err(invalidated()),
            TxnState::Committed(_) | TxnState::RolledBack => {
                Err(failed_precondition("Cannot start a read or query within a transaction after Commit() or Rollback() has been called."))
            }
        }
    }

    /// The next precommit token, for read-write transactions on multiplexed sessions.
    pub(super) fn precommit_token(&mut self, id: &[u8]) -> Option<v1::MultiplexedSessionPrecommitToken> {
        let txn = self.txns.get_mut(id)?;
        if !txn.multiplexed || txn.mode != Mode::ReadWrite {
            return None;
        }
        txn.precommit_seq += 1;
        let token = format!("{}:precommit:{}", String::from_utf8_lossy(id), txn.precommit_seq);
        Some(v1::MultiplexedSessionPrecommitToken { precommit_token: token.into_bytes(), seq_num: txn.precommit_seq })
    }

    /// Ends an active transaction: releases its locks and forgets its writes.
    pub(super) fn end(&mut self, id: &[u8], state: TxnState) {
        let Some(txn) = self.txns.get_mut(id).filter(|txn| matches!(txn.state, TxnState::Active)) else {
            return;
        };
        txn.state = state;
        txn.writes = HashMap::new();
        txn.reads = Vec::new();
        let locks = std::mem::take(&mut txn.locks);
        if let Some(database) = self.databases.get_mut(&txn.database) {
            for lock in locks {
                database.locks.remove(&lock);
            }
        }
        self.ended_txns.push_back(id.to_vec());
        if self.ended_txns.len() > REMEMBERED_TRANSACTIONS
            && let Some(oldest) = self.ended_txns.pop_front()
        {
            self.txns.remove(&oldest);
        }
    }

    /// Forgets all transactions of a session.
    pub(super) fn drop_transactions(&mut self, session: &str) {
        let ids: Vec<TxnId> = self.txns.iter().filter(|(_, txn)| txn.session == session).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.end(&id, TxnState::RolledBack);
            self.txns.remove(&id);
        }
        self.ended_txns.retain(|id| self.txns.contains_key(id));
    }

    pub(super) fn rollback(&mut self, request: &v1::RollbackRequest) -> Result<Reply, Status> {
        let txn = self.txn(&request.session, &request.transaction_id)?;
        if txn.mode != Mode::ReadWrite {
            return Err(failed_precondition("Cannot commit or rollback a read-only or partitioned-dml transaction."));
        }
        match txn.state {
            TxnState::Committed(_) => Err(failed_precondition("Cannot rollback a transaction after it has been committed.")),
            TxnState::Invalidated => Err(invalidated()),
            TxnState::Active | TxnState::RolledBack | TxnState::Aborted => {
                self.end(&request.transaction_id, TxnState::RolledBack);
                Ok(Reply::unary(&()))
            }
        }
    }
}

pub(super) fn invalidated() -> Status {
    failed_precondition("This transaction has been invalidated by a later transaction in the same session.")
}
