//! Locks of read-write transactions. Who comes second is ABORTED at once: nothing here waits.

use std::time::Duration;

use super::table::Key;
use super::txn::{TxnState, aborted};
use super::{Lock, State};
use crate::status::Status;

/// Spanner aborts transactions that do nothing for this long when others wait for their locks.
const IDLE: Duration = Duration::from_secs(10);

impl State {
    /// Locks a row (or the database) for a transaction, or aborts it when another one holds the lock.
    pub(super) fn lock_row(&mut self, id: &[u8], table: &str, key: &Key) -> Result<(), Status> {
        let wanted = self.lock_for(table, key);
        self.lock(id, wanted)
    }

    pub(super) fn lock_for(&self, table: &str, key: &Key) -> Lock {
        let whole = self.behaviour.one_transaction_per_database;
        if whole { Lock::Database } else { Lock::Row(table.to_ascii_lowercase(), key.clone()) }
    }

    /// With conflicts per database, reads lock as well.
    pub(super) fn lock_for_read(&mut self, id: &[u8]) -> Result<(), Status> {
        if self.behaviour.one_transaction_per_database { self.lock(id, Lock::Database) } else { Ok(()) }
    }

    fn lock(&mut self, id: &[u8], wanted: Lock) -> Result<(), Status> {
        let Some(database) = self.txns.get(id).map(|txn| txn.database.clone()) else {
            return Err(aborted());
        };
        match self.free_lock(&database, &wanted, id) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(status) => {
                self.end(id, TxnState::Aborted);
                return Err(status);
            }
        }
        if let Some(txn) = self.txns.get_mut(id) {
            txn.locks.push(wanted.clone());
        }
        self.database(&database)?.locks.insert(wanted, id.to_vec());
        Ok(())
    }

    /// Makes a lock free, by aborting a holder that does nothing. Returns whether `id` holds it already.
    pub(super) fn free_lock(&mut self, database: &str, wanted: &Lock, id: &[u8]) -> Result<bool, Status> {
        let Some(holder) = self.databases.get(database).and_then(|d| d.locks.get(wanted)).cloned() else {
            return Ok(false);
        };
        if holder == id {
            return Ok(true);
        }
        if self.txns.get(&holder).is_some_and(|txn| txn.last_used.elapsed() < IDLE) {
            return Err(aborted());
        }
        self.end(&holder, TxnState::Aborted);
        Ok(false)
    }
}
