//! Which channel each open transaction began on: moving one may abort it.

use std::time::Duration;

use moka::sync::Cache;

use crate::upstream::pool::ChannelId;

/// How many transactions are remembered, per worker. One that is forgotten still works, on any channel.
const CAPACITY: u64 = 10_000;

/// How long an unused transaction is remembered. Spanner aborts an idle read-write transaction after 10 s; a read-only one
/// may pause for longer, and moving it costs nothing but warm caches.
const IDLE: Duration = Duration::from_secs(120);

pub(super) struct Affinity {
    channels: Cache<Box<[u8]>, ChannelId>,
}

impl Affinity {
    pub(super) fn new() -> Affinity {
        Affinity { channels: Cache::builder().max_capacity(CAPACITY).time_to_idle(IDLE).build() }
    }

    pub(super) fn learn(&self, transaction: &[u8], channel: ChannelId) {
        self.channels.insert(transaction.into(), channel);
    }

    pub(super) fn channel(&self, transaction: &[u8]) -> Option<ChannelId> {
        self.channels.get(transaction)
    }

    pub(super) fn forget(&self, transaction: &[u8]) {
        self.channels.invalidate(transaction);
    }
}
