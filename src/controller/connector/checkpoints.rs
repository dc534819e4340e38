//! Writing the last contact of unchanged connectors: oldest first, within a budget.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::health::Moment;
use crate::heartbeat::entry::Entry;
use crate::heartbeat::registry::Registry;

/// Who is due for a checkpoint, and when; see `--checkpoint-seconds` and `--status-writes-per-second`.
pub struct Checkpoints {
    period: Duration,
    per_second: u32,
    queue: Mutex<Queue>,
    staleness: AtomicU64,
}

#[derive(Default)]
struct Queue {
    due: BinaryHeap<Reverse<Due>>,
    /// What the budget allows right now, in writes; never more than a second's worth, so that a pause is not followed
    /// by a burst.
    allowance: f64,
    measured_at: Moment,
}

#[derive(Clone)]
struct Due {
    at: Moment,
    entry: Arc<Entry>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.entry.number).cmp(&(other.at, other.entry.number))
    }
}

/// What the budget cannot keep up with.
#[derive(Clone, Debug, PartialEq)]
pub struct Shortfall {
    /// How old the oldest written last contact of a beating connector is.
    pub staleness: Duration,
    /// The `lateAfterSeconds` of that connector, which it exceeds.
    pub late: Duration,
}

impl Checkpoints {
    /// Nothing is due yet.
    pub fn new(period: Duration, per_second: u32) -> Self {
        Self { period, per_second, queue: Mutex::default(), staleness: AtomicU64::new(0) }
    }

    /// An entry is new.
    pub fn add(&self, entry: Arc<Entry>) {
        let at = entry.unwritten().written_at + self.period;
        self.queue.lock().due.push(Reverse(Due { at, entry }));
    }

    /// How old the oldest written last contact of a beating connector is, at the last look.
    pub fn staleness(&self) -> Duration {
        Duration::from_micros(self.staleness.load(Ordering::Relaxed))
    }

    /// Those whose turn it is at `now`. To be called several times a second by a leader, and by nobody else.
    pub fn take_due(&self, registry: &Registry, now: Moment) -> (Vec<Arc<Entry>>, Option<Shortfall>) {
        let mut queue = self.queue.lock();
        let most = f64::from(self.per_second);
        queue.allowance = (queue.allowance + now.since(queue.measured_at).as_secs_f64() * most).min(most);
        queue.measured_at = now;
        let mut turns = Vec::new();
        let mut oldest = None;
        let mut over_budget = false;
        while let Some(Reverse(next)) = queue.due.peek()
            && next.at <= now
        {
            let next = next.clone();
            let unwritten = next.entry.unwritten();
            let is_known =
                registry.get(&next.entry.identity.key).is_some_and(|known| known.number == next.entry.number);
            let due_at = unwritten.written_at + self.period;
            if is_known && due_at <= now && unwritten.contact.is_some() && unwritten.beats {
                oldest = oldest.or(Some(unwritten));
                if queue.allowance < 1.0 {
                    over_budget = true;
                    break;
                }
                queue.allowance -= 1.0;
                turns.push(next.entry.clone());
            }
            queue.due.pop();
            if is_known {
                // Due again a period from now; what was written meanwhile, by a transition say, is its own turn.
                let at = if due_at > now { due_at } else { now + self.period };
                queue.due.push(Reverse(Due { at, entry: next.entry }));
            }
        }
        let staleness = oldest.map_or(Duration::ZERO, |oldest| now.since(oldest.written_at));
        self.staleness.store(u64::try_from(staleness.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let shortfall = oldest
            // Writes that the API server refuses make them old as well, and no budget would help.
            .filter(|oldest| over_budget && staleness > oldest.late.max(self.period * 2))
            .map(|oldest| Shortfall { staleness, late: oldest.late });
        (turns, shortfall)
    }
}

#[cfg(test)]
mod tests;
