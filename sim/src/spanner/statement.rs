//! DML in transactions: single statements, batches, replays, partitioned DML.

use googleapis_tonic_google_spanner_v1::google::spanner::v1;
use v1::result_set_stats::RowCount;

use super::dml;
use super::eval::Params;
use super::query::fingerprint;
use super::result::Outcome;
use super::selector::{Kind, Use};
use super::sql::{self, Statement};
use super::txn::TxnState;
use super::{Reply, State, failed_precondition, invalid};
use crate::status::{Code, Status};

impl State {
    pub(super) fn execute_batch_dml(&mut self, request: &v1::ExecuteBatchDmlRequest) -> Result<Reply, Status> {
        if request.statements.is_empty() {
            return Err(invalid("No statements in batch DML request."));
        }
        let usage = self.select(&request.session, request.transaction.as_ref())?;
        let mut parsed = Vec::with_capacity(request.statements.len());
        let mut failure = None;
        let mut prints = 0u64;
        for statement in &request.statements {
            match sql::parse(&statement.sql) {
                Ok(dml) if dml.is_dml() => parsed.push((dml, statement)),
                Ok(_) => failure = Some(invalid("ExecuteBatchDml request only supports DML statements.")),
                Err(status) => failure = Some(status),
            }
            if failure.is_some() {
                break;
            }
            prints = prints.rotate_left(5) ^ fingerprint(&statement.sql, statement.params.as_ref());
        }
        let statements: Vec<_> = parsed.iter().map(|(dml, s)| (dml, Params { values: s.params.as_ref(), types: &s.param_types })).collect();
        let (counts, failed) = self.dml(&usage, &statements, request.seqno, prints)?;
        let status = failed.or(failure).unwrap_or_else(Status::ok);
        if status.code == Code::Aborted {
            return Err(status);
        }
        let mut transaction = usage.shown;
        if counts.is_empty()
            && let Some(begun) = &transaction
        {
            self.end(&begun.id, TxnState::RolledBack);
        }
        let result_sets = counts.into_iter().map(|count| {
            let outcome = Outcome { transaction: transaction.take(), ..Outcome::rows_changed(count) };
            outcome.result_set()
        });
        let result_sets = result_sets.collect();
        let precommit_token = match &usage.kind {
            Kind::ReadWrite(id) => self.precommit_token(id),
            _ => None,
        };
        Ok(Reply::unary(&v1::ExecuteBatchDmlResponse { result_sets, status: Some(status.to_proto()), precommit_token }))
    }

    /// Runs DML statements one after the other. Returns the row counts of those that worked and the failure of the one
    /// that did not; `Err` is for requests that are wrong as a whole.
    pub(super) fn dml(
        &mut self,
        usage: &Use,
        statements: &[(&Statement, Params<'_>)],
        seqno: i64,
        fingerprint: u64,
    ) -> Result<(Vec<RowCount>, Option<Status>), Status> {
        let id = match &usage.kind {
            Kind::ReadWrite(id) => id,
            Kind::PartitionedDml(id) => {
                let count = self.partitioned_dml(usage, id, statements)?;
                return Ok((vec![RowCount::RowCountLowerBound(count)], None));
            }
            Kind::Snapshot { multi_use: true, .. } => {
                return Err(failed_precondition("DML statements can only be performed in a read-write transaction."));
            }
            Kind::Snapshot { multi_use: false, .. } | Kind::SingleUseReadWrite => {
                return Err(invalid("DML statements may not be performed in single-use transactions, to avoid replay."));
            }
        };
        if let Some(counts) = self.replayed(id, seqno, fingerprint)? {
            return Ok((counts.into_iter().map(RowCount::RowCountExact).collect(), None));
        }
        let mut counts = Vec::with_capacity(statements.len());
        let mut failure = None;
        for (statement, params) in statements {
            match self.dml_statement(usage, id, statement, params) {
                Ok(count) => counts.push(count),
                Err(status) => {
                    failure = Some(status);
                    break;
                }
            }
        }
        if failure.is_none()
            && seqno > 0
            && let Some(txn) = self.txns.get_mut(id)
        {
            txn.done.push((seqno, fingerprint, counts.clone()));
        }
        Ok((counts.into_iter().map(RowCount::RowCountExact).collect(), failure))
    }

    /// The counts of an earlier request with the same sequence number.
    fn replayed(&self, id: &[u8], seqno: i64, fingerprint: u64) -> Result<Option<Vec<i64>>, Status> {
        let Some(txn) = self.txns.get(id).filter(|_| seqno > 0) else {
            return Ok(None);
        };
        match txn.done.iter().find(|(done, ..)| *done == seqno) {
            Some((_, same, counts)) if *same == fingerprint => Ok(Some(counts.clone())),
            Some(_) => Err(invalid(format!("Previously received a different request with this seqno. seqno={seqno}"))),
            None => match txn.done.iter().map(|(done, ..)| *done).max() {
                Some(last) if last > seqno => {
                    Err(invalid(format!("Request has an out-of-order seqno. Request seqno={seqno}. Last seen seqno={last}.")))
                }
                _ => Ok(None),
            },
        }
    }

    fn dml_statement(&mut self, usage: &Use, id: &[u8], statement: &Statement, params: &Params<'_>) -> Result<i64, Status> {
        self.lock_for_read(id)?;
        let plan = dml::plan(&self.view(usage, dml::table_of(statement)?, u64::MAX)?, statement, params)?;
        let table = dml::table_of(statement)?.to_ascii_lowercase();
        self.remember_read(id, &table, &plan.read);
        for key in plan.writes.keys() {
            self.lock_row(id, &table, key)?;
        }
        if let Some(txn) = self.txns.get_mut(id) {
            txn.writes.entry(table).or_default().extend(plan.writes);
        }
        Ok(plan.count)
    }

    fn partitioned_dml(&mut self, usage: &Use, id: &[u8], statements: &[(&Statement, Params<'_>)]) -> Result<i64, Status> {
        let [(statement, params)] = statements else {
            return Err(invalid("PartitionedDml transaction may only be used to execute one statement"));
        };
        if matches!(statement, Statement::Insert(_)) {
            return Err(invalid("INSERT is not supported for Partitioned DML"));
        }
        let table = dml::table_of(statement)?;
        let plan = dml::plan(&self.view(usage, table, u64::MAX)?, statement, params)?;
        let writes = [(table.to_ascii_lowercase(), plan.writes.into_iter().collect())].into();
        self.write(&usage.database, writes, id)?;
        Ok(plan.count)
    }
}
