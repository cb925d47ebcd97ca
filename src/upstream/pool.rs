//! The channels of one worker: kept open in the background, handed out by fewest in flight.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use super::channel::Channel;
use super::connect::Connector;
use crate::metrics::{Dependency, Metrics};

/// How many calls may wait for a free stream, per worker. A full queue answers at once instead of growing.
const MAX_QUEUE: usize = 16_384;

/// First and last pause between attempts to connect.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The channels.
pub struct Pool {
    slots: Vec<Slot>,
    /// A channel became ready, or a stream was freed while somebody waited.
    room: Notify,
    waiting: Cell<usize>,
    last_error: RefCell<String>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Slot {
    channel: RefCell<Option<Rc<Channel>>>,
    generation: Cell<u32>,
}

/// Which channel a call used: its place, and which of the connections that were in that place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelId {
    slot: u32,
    generation: u32,
}

/// Why no channel could be had.
#[derive(Debug, PartialEq, Eq)]
pub enum PoolError {
    /// None is connected; the last error.
    NotReady(String),
    /// All are at their limit and so is the queue behind them; its length.
    QueueFull(usize),
    /// The caller's deadline passed in the queue.
    Deadline,
}

/// A stream's place on a channel, given back on drop.
pub struct Lease {
    pool: Rc<Pool>,
    /// The channel.
    pub channel: Rc<Channel>,
    /// Its name.
    pub id: ChannelId,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.channel.leave();
        if self.pool.waiting.get() > 0 {
            self.pool.room.notify_one();
        }
    }
}

impl Pool {
    /// Starts to open `size` channels on the current thread.
    pub fn start(connector: Connector, size: usize, metrics: Arc<Metrics>) -> Rc<Pool> {
        let pool = Rc::new(Pool {
            slots: std::iter::repeat_with(Slot::default).take(size).collect(),
            room: Notify::new(),
            waiting: Cell::new(0),
            last_error: RefCell::new("the first connection is still being opened".into()),
            metrics,
        });
        for slot in 0..size {
            tokio::task::spawn_local(keep_open(pool.clone(), connector.clone(), slot));
        }
        pool
    }

    /// A place on the channel with the fewest calls in flight, or on `pinned` as long as that one is connected. A channel in
    /// `failed` is taken only when there is no other.
    pub fn try_lease(self: &Rc<Self>, pinned: Option<ChannelId>, failed: &[ChannelId]) -> Option<Lease> {
        if let Some(channel) = pinned.filter(|id| !failed.contains(id)).and_then(|id| self.connected(id)) {
            // Moving an open transaction may abort it, so it rather waits for its own channel.
            return channel.has_room().then(|| self.lease(channel, pinned.map_or(0, |id| id.slot)));
        }
        let mut best: Option<(Rc<Channel>, u32)> = None;
        let rank = |channel: &Channel, slot: u32| (failed.contains(&self.id(slot)), channel.in_flight());
        for (index, slot) in (0..).zip(&self.slots) {
            let slot = slot.channel.borrow();
            if let Some(channel) = slot.as_ref().filter(|channel| channel.has_room())
                && best.as_ref().is_none_or(|(best, at)| rank(channel, index) < rank(best, *at))
            {
                best = Some((channel.clone(), index));
            }
        }
        best.map(|(channel, slot)| self.lease(channel, slot))
    }

    /// As [`Pool::try_lease`], waiting until `deadline` for a free stream and until `ready_by` for a connected channel.
    pub async fn lease_by(
        self: &Rc<Self>,
        pinned: Option<ChannelId>,
        failed: &[ChannelId],
        deadline: Option<Instant>,
        ready_by: Instant,
    ) -> Result<Lease, PoolError> {
        if self.waiting.get() >= MAX_QUEUE {
            return Err(PoolError::QueueFull(MAX_QUEUE));
        }
        let _waiting = Waiting::enter(&self.waiting);
        loop {
            let room = self.room.notified();
            if let Some(lease) = self.try_lease(pinned, failed) {
                return Ok(lease);
            }
            let limit = if self.any_connected() { deadline } else { Some(deadline.map_or(ready_by, |deadline| deadline.min(ready_by))) };
            match limit {
                None => room.await,
                Some(limit) if timeout_at(limit, room).await.is_ok() => {}
                Some(_) if !self.any_connected() => return Err(PoolError::NotReady(self.last_error.borrow().clone())),
                Some(_) => return Err(PoolError::Deadline),
            }
        }
    }

    /// Whether at least one channel is connected.
    pub fn any_connected(&self) -> bool {
        self.slots.iter().any(|slot| slot.channel.borrow().as_ref().is_some_and(|channel| !channel.is_gone()))
    }

    fn connected(&self, id: ChannelId) -> Option<Rc<Channel>> {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.generation.get() == id.generation)?;
        slot.channel.borrow().as_ref().filter(|channel| !channel.is_gone()).cloned()
    }

    fn lease(self: &Rc<Self>, channel: Rc<Channel>, slot: u32) -> Lease {
        channel.enter();
        Lease { pool: self.clone(), channel, id: self.id(slot) }
    }

    fn id(&self, slot: u32) -> ChannelId {
        ChannelId { slot, generation: self.slots[slot as usize].generation.get() }
    }

    fn put(&self, slot: usize, channel: Rc<Channel>) {
        let slot = &self.slots[slot];
        slot.generation.set(slot.generation.get().wrapping_add(1));
        slot.channel.replace(Some(channel));
        self.metrics.channels_ready.inc();
        self.metrics.dependency(Dependency::Upstream, true);
        self.room.notify_waiters();
    }

    fn remove(&self, slot: usize) {
        self.slots[slot].channel.replace(None);
        if self.metrics.channels_ready.dec() == 1 {
            self.metrics.dependency(Dependency::Upstream, false);
        }
    }
}

/// Counts a waiter, also when its future is dropped.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn enter(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Keeps one slot filled: open, serve until the channel takes no new streams, open the next.
async fn keep_open(pool: Rc<Pool>, connector: Connector, slot: usize) {
    let mut pause = BACK_OFF.0;
    for turn in slot.. {
        match Channel::open(&connector, turn).await {
            Ok(channel) => {
                let opened = Instant::now();
                pool.put(slot, channel.clone());
                channel.gone_signal.notified().await;
                pool.remove(slot);
                if opened.elapsed() > BACK_OFF.1 {
                    pause = BACK_OFF.0;
                    continue;
                }
            }
            Err(error) => {
                let error = error.to_string();
                if *pool.last_error.borrow() != error {
                    tracing::warn!(upstream = %connector.endpoint(), error, "can't connect to the upstream");
                    pool.last_error.replace(error);
                }
            }
        }
        // Also after a connection that ended soon: a peer that accepts and hangs up must not be flooded.
        sleep(pause).await;
        pause = (pause * 2).min(BACK_OFF.1);
    }
}
