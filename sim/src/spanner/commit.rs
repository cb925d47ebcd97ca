//! Commit and BatchWrite: mutations, conflicts, precommit tokens.

use std::collections::HashMap;

use googleapis_tonic_google_spanner_v1::google::spanner::v1;
use v1::commit_request::Transaction as Which;
use v1::commit_response::{CommitStats, MultiplexedSessionRetry};
use v1::mutation::Operation;
use v1::transaction_options::Mode as Wanted;

use super::dml::{self, WriteKind};
use super::table::{Overlay, Row};
use super::txn::{Mode, TxnState, aborted, invalidated};
use super::value::{self, timestamp};
use super::{Reply, State, failed_precondition, invalid};
use crate::grpc;
use crate::status::Status;

/// What is to be written, by table.
type Writes = HashMap<String, Overlay>;

impl State {
    pub(super) fn commit(&mut self, request: v1::CommitRequest) -> Result<Reply, Status> {
        let database = self.session(&request.session)?.database.clone();
        let response = match &request.transaction {
            None => {
                return Err(invalid("No transaction ID or single use transaction options specified."));
            }
            Some(Which::SingleUseTransaction(options)) => {
                if !matches!(options.mode, Some(Wanted::ReadWrite(_))) {
                    return Err(failed_precondition("Cannot commit a single-use transaction that is not read-write."));
                }
                self.commit_mutations(&database, &request.mutations, &[], Writes::new())?
            }
            Some(Which::TransactionId(id)) => {
                let id = id.clone();
                if let Some(response) = self.check_commit(&request, &id)? {
                    return Ok(Reply::unary(&response));
                }
                self.commit_transaction(&database, &request, &id)?
            }
        };
        let (at, count) = response;
        let response = response_at(at, request.return_commit_stats.then_some(count));
        if let Some(Which::TransactionId(id)) = &request.transaction {
            self.end(id, TxnState::Committed(response.clone()));
        }
        Ok(Reply::unary(&response))
    }

    /// Checks the state and the precommit token. `Some` is an answer that is not a commit, or a repeated one.
    fn check_commit(&mut self, request: &v1::CommitRequest, id: &[u8]) -> Result<Option<v1::CommitResponse>, Status> {
        let asks = self.behaviour.commit_asks_for_retry;
        let txn = self.txn(&request.session, id)?;
        if txn.mode != Mode::ReadWrite {
            return Err(failed_precondition("Cannot commit or rollback a read-only or partitioned-dml transaction."));
        }
        match &txn.state {
            TxnState::Active => {}
            // A repeated Commit gets the first one's answer.
            TxnState::Committed(response) => return Ok(Some(response.clone())),
            TxnState::RolledBack => {
                return Err(failed_precondition("Cannot commit a transaction after it has been rolled back."));
            }
            TxnState::Aborted => return Err(aborted()),
            TxnState::Invalidated => return Err(invalidated()),
        }
        if !txn.multiplexed {
            return Ok(None);
        }
        // google/spanner/v1/spanner.proto, CommitRequest.precommit_token.
        let newest = txn.precommit_seq;
        match &request.precommit_token {
            None => {
                return Err(failed_precondition(
                    "sim: a commit on a multiplexed session needs the precommit token with the highest seq_num",
                ));
            }
            Some(token) if token.seq_num != newest => {
                return Err(failed_precondition(format!(
                    "sim: the precommit token has seq_num {}, the newest one is {newest}",
                    token.seq_num
                )));
            }
            Some(_) => {}
        }
        if !asks || txn.asked_for_retry {
            return Ok(None);
        }
        txn.asked_for_retry = true;
        let retry = self.precommit_token(id).map(MultiplexedSessionRetry::PrecommitToken);
        Ok(Some(v1::CommitResponse { multiplexed_session_retry: retry, ..v1::CommitResponse::default() }))
    }

    fn commit_transaction(&mut self, database: &str, request: &v1::CommitRequest, id: &[u8]) -> Result<(u64, i64), Status> {
        let writes = self.txns.get(id).map(|txn| txn.writes.clone()).unwrap_or_default();
        let result =
            if self.has_conflict(database, id) { Err(aborted()) } else { self.commit_mutations(database, &request.mutations, id, writes) };
        result.inspect_err(|status| {
            let aborted = status.code == crate::Code::Aborted;
            self.end(id, if aborted { TxnState::Aborted } else { TxnState::RolledBack });
        })
    }

    /// Whether something that the transaction read was written since.
    fn has_conflict(&self, database: &str, id: &[u8]) -> bool {
        let (Some(txn), Some(database)) = (self.txns.get(id), self.databases.get(database)) else {
            return true;
        };
        txn.reads.iter().any(|(table, span, at)| database.tables.get(table).is_none_or(|table| table.changed_since(span, *at)))
    }

    /// Adds mutations to what has been written, and writes it all. Returns the timestamp and the mutation count.
    fn commit_mutations(
        &mut self,
        database: &str,
        mutations: &[v1::Mutation],
        id: &[u8],
        mut writes: Writes,
    ) -> Result<(u64, i64), Status> {
        let mut count = 0;
        for mutation in mutations {
            let operation = mutation.operation.as_ref().ok_or_else(|| invalid("Mutation has no operation."))?;
            count += self.mutate(database, operation, &mut writes)?;
        }
        Ok((self.write(database, writes, id)?, count))
    }

    fn mutate(&mut self, database: &str, operation: &Operation, writes: &mut Writes) -> Result<i64, Status> {
        let (kind, write) = match operation {
            Operation::Insert(write) => (WriteKind::Insert, write),
            Operation::Update(write) => (WriteKind::Update, write),
            Operation::InsertOrUpdate(write) => (WriteKind::InsertOrUpdate, write),
            Operation::Replace(write) => (WriteKind::Replace, write),
            Operation::Delete(delete) => {
                let table = self.database(database)?.table(&delete.table)?;
                let overlay = writes.entry(delete.table.to_ascii_lowercase()).or_default();
                return dml::delete(table, u64::MAX, overlay, &delete.key_set.clone().unwrap_or_default());
            }
            Operation::Send(_) | Operation::Ack(_) => {
                return Err(invalid("sim: unsupported mutation: queues"));
            }
        };
        let table = self.database(database)?.table(&write.table)?;
        let overlay = writes.entry(write.table.to_ascii_lowercase()).or_default();
        dml::write(table, u64::MAX, overlay, kind, write)
    }

    /// Writes rows at a new timestamp, unless another transaction holds a lock on one of them.
    pub(super) fn write(&mut self, database: &str, writes: Writes, id: &[u8]) -> Result<u64, Status> {
        for (table, overlay) in &writes {
            for key in overlay.keys() {
                let lock = self.lock_for(table, key);
                self.free_lock(database, &lock, id)?;
            }
        }
        let at = self.tick();
        let database = self.database(database)?;
        for (name, overlay) in writes {
            let Some(table) = database.tables.get_mut(&name) else {
                continue;
            };
            for (key, row) in overlay {
                match row {
                    Some(row) if row.iter().any(value::is_commit_timestamp) => {
                        let row = stamped(table, &row, at);
                        table.write(table.key_of(&row), Some(row), at);
                    }
                    row => table.write(key, row, at),
                }
            }
        }
        Ok(at)
    }

    /// Each group commits for itself; the answer is a stream with one response per group.
    pub(super) fn batch_write(&mut self, request: v1::BatchWriteRequest) -> Result<Reply, Status> {
        let database = self.session(&request.session)?.database.clone();
        if request.mutation_groups.is_empty() {
            return Err(invalid("Invalid BatchWrite request: no mutation groups."));
        }
        let mut responses = Vec::with_capacity(request.mutation_groups.len());
        for (index, group) in request.mutation_groups.iter().enumerate() {
            let result = self.commit_mutations(&database, &group.mutations, &[], Writes::new());
            let indexes = vec![i32::try_from(index).unwrap_or(i32::MAX)];
            let (status, commit_timestamp) = match result {
                Ok((at, _)) => (Status::ok(), Some(timestamp(at))),
                Err(status) => (status, None),
            };
            let status = Some(status.to_proto());
            responses.push(v1::BatchWriteResponse { indexes, status, commit_timestamp });
        }
        Ok(Reply::Stream(Box::new(responses.into_iter().map(|response| Ok(grpc::frame_proto(&response))))))
    }
}

fn response_at(at: u64, count: Option<i64>) -> v1::CommitResponse {
    v1::CommitResponse {
        commit_timestamp: Some(timestamp(at)),
        commit_stats: count.map(|mutation_count| CommitStats { mutation_count }),
        ..v1::CommitResponse::default()
    }
}

/// The row with the commit's timestamp where it was asked for.
fn stamped(table: &super::table::Table, row: &Row, at: u64) -> Row {
    let stamp = |(v, column): (&prost_types::Value, &super::table::Column)| {
        let takes = column.allows_commit_timestamp && value::is_commit_timestamp(v);
        if takes { value::text(timestamp(at).to_string()) } else { v.clone() }
    };
    row.iter().zip(&table.columns).map(stamp).collect::<Vec<_>>().into()
}
