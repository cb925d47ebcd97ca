//! How a request reads or writes: its TransactionSelector, resolved.

use googleapis_tonic_google_spanner_v1::google::spanner::v1;
use v1::transaction_options::{Mode as Wanted, ReadOnly, read_only::TimestampBound};
use v1::transaction_selector::Selector;

use super::txn::{Mode, TxnId};
use super::value::{micros, timestamp};
use super::{State, failed_precondition, invalid};
use crate::status::Status;

/// How far back reads reach (the default version retention period).
const RETENTION_MICROS: u64 = 3_600_000_000;
/// A read time this far ahead is taken as a clock that is a little fast.
const FUTURE_MICROS: u64 = 1_000_000;

/// How a request reads or writes, resolved from its TransactionSelector.
#[derive(Clone, Debug)]
pub(super) struct Use {
    pub(super) database: String,
    pub(super) kind: Kind,
    /// What the first result's metadata says of the transaction.
    pub(super) shown: Option<v1::Transaction>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Snapshot {
        at: u64,
        multi_use: bool,
    },
    ReadWrite(TxnId),
    PartitionedDml(TxnId),
    /// Single-use read-write: no request but Commit can do with it.
    SingleUseReadWrite,
}

impl State {
    /// Resolves a selector; an inline begin makes the transaction.
    pub(super) fn select(&mut self, session: &str, selector: Option<&v1::TransactionSelector>) -> Result<Use, Status> {
        let database = self.session(session)?.database.clone();
        match selector.and_then(|s| s.selector.as_ref()) {
            None => self.single_use(database, &v1::TransactionOptions::default()),
            Some(Selector::SingleUse(options)) => self.single_use(database, options),
            Some(Selector::Id(id)) => {
                let txn = self.active(session, id)?;
                let kind = match txn.mode {
                    Mode::ReadWrite => Kind::ReadWrite(id.clone()),
                    Mode::ReadOnly { at } => Kind::Snapshot { at, multi_use: true },
                    Mode::PartitionedDml => Kind::PartitionedDml(id.clone()),
                };
                Ok(Use { database, kind, shown: None })
            }
            Some(Selector::Begin(options)) => {
                let shown = self.begin(session, options)?;
                let id = shown.id.clone();
                let kind = match self.active(session, &id)?.mode {
                    Mode::ReadWrite => Kind::ReadWrite(id),
                    Mode::ReadOnly { at } => Kind::Snapshot { at, multi_use: true },
                    Mode::PartitionedDml => {
                        return Err(invalid("Bad Usage: partitioned DML cannot be begun inline."));
                    }
                };
                Ok(Use { database, kind, shown: Some(shown) })
            }
        }
    }

    fn single_use(&mut self, database: String, options: &v1::TransactionOptions) -> Result<Use, Status> {
        match &options.mode {
            None => Ok(Use { database, kind: Kind::Snapshot { at: self.now(), multi_use: false }, shown: None }),
            Some(Wanted::ReadOnly(options)) => {
                let at = self.read_time(options, true)?;
                let shown = options
                    .return_read_timestamp
                    .then(|| v1::Transaction { read_timestamp: Some(timestamp(at)), ..v1::Transaction::default() });
                Ok(Use { database, kind: Kind::Snapshot { at, multi_use: false }, shown })
            }
            Some(Wanted::ReadWrite(_)) => Ok(Use { database, kind: Kind::SingleUseReadWrite, shown: None }),
            Some(Wanted::PartitionedDml(_)) => Err(invalid("Bad Usage: partitioned DML needs BeginTransaction.")),
        }
    }

    pub(super) fn read_time(&mut self, options: &ReadOnly, single_use: bool) -> Result<u64, Status> {
        let now = self.now();
        let ago = |d: &prost_types::Duration| {
            let seconds = u64::try_from(d.seconds).unwrap_or(0);
            let nanos = u64::try_from(d.nanos).unwrap_or(0);
            now.saturating_sub(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000))
        };
        let only_single = |name: &str| {
            let text = format!("Timestamp bound: {name} for read can be only be used for a single use transaction.");
            if single_use { Ok(()) } else { Err(invalid(text)) }
        };
        let at = match &options.timestamp_bound {
            None | Some(TimestampBound::Strong(_)) => now,
            Some(TimestampBound::ReadTimestamp(time)) => micros(time),
            Some(TimestampBound::ExactStaleness(staleness)) => ago(staleness),
            // The freshest data is always at hand, so bounded staleness reads the newest.
            Some(TimestampBound::MinReadTimestamp(time)) => {
                only_single("min_read_timestamp")?;
                micros(time).max(now)
            }
            Some(TimestampBound::MaxStaleness(_)) => {
                only_single("max_staleness")?;
                now
            }
        };
        if at.saturating_add(RETENTION_MICROS) < now {
            let at = timestamp(at);
            let text = format!("Read-only transaction timestamp {at} has exceeded the maximum timestamp staleness");
            return Err(failed_precondition(text));
        }
        if at > now + FUTURE_MICROS {
            return Err(invalid("sim: reads at a future time are not supported"));
        }
        self.clock = self.clock.max(at);
        Ok(at)
    }
}
