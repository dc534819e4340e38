//! Writing what changes all the time of objects whose state does not: oldest first, within one budget for all kinds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::time::Moment;

/// What is known of an object and written back once in a while.
pub trait Checkpointed {
    /// Counts the objects of its kind.
    fn number(&self) -> u64;

    /// What of it is not written yet.
    fn unwritten(&self) -> PendingWrite;
}

/// The part of one object's state that its stored status does not have yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingWrite {
    /// The last contact or probe, when it is younger than the written one.
    pub contact: Option<Moment>,
    /// When the stored status was written last.
    pub written_at: Moment,
    /// Whether the object is Online or Up: a checkpoint is for what is unchanged.
    pub beats: bool,
    /// The age of the written contact from which the object counts as late.
    pub late: Duration,
}

/// How many checkpoints a second may be written, of all kinds together (`--status-writes-per-second`).
#[derive(Debug)]
pub struct WriteBudget {
    per_second: u32,
    purse: Mutex<TokenBucket>,
}

/// What the budget allows right now, in writes; never more than a second's worth, so that a pause is not followed by a
/// burst.
#[derive(Debug, Default)]
struct TokenBucket {
    allowance: f64,
    measured_at: Moment,
}

impl WriteBudget {
    /// So many a second, from now on.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, purse: Mutex::default() }
    }

    /// Spends one write, if there is one.
    fn spend(&self, now: Moment) -> bool {
        let mut purse = self.purse.lock();
        let most = f64::from(self.per_second);
        purse.allowance = (purse.allowance + now.since(purse.measured_at).as_secs_f64() * most).min(most);
        purse.measured_at = purse.measured_at.max(now);
        let is_enough = purse.allowance >= 1.0;
        if is_enough {
            purse.allowance -= 1.0;
        }
        is_enough
    }
}

/// Who is due for a checkpoint, and when; see `--checkpoint-seconds`.
pub struct Checkpoints<T> {
    period: Duration,
    budget: Arc<WriteBudget>,
    due: Mutex<BinaryHeap<Reverse<Due<T>>>>,
    staleness: AtomicU64,
}

struct Due<T> {
    at: Moment,
    entry: Arc<T>,
}

impl<T> Clone for Due<T> {
    fn clone(&self) -> Self {
        Self { at: self.at, entry: self.entry.clone() }
    }
}

impl<T: Checkpointed> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Checkpointed> Eq for Due<T> {}

impl<T: Checkpointed> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Checkpointed> Ord for Due<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.entry.number()).cmp(&(other.at, other.entry.number()))
    }
}

/// What the budget cannot keep up with.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetExceeded {
    /// How old the oldest written last contact of a beating connector is.
    pub staleness: Duration,
    /// The `lateAfterSeconds` of that connector, which it exceeds.
    pub late: Duration,
}

impl<T: Checkpointed> Checkpoints<T> {
    /// Nothing is due yet.
    pub fn new(period: Duration, budget: Arc<WriteBudget>) -> Self {
        Self { period, budget, due: Mutex::default(), staleness: AtomicU64::new(0) }
    }

    /// An entry is new.
    pub fn add(&self, entry: Arc<T>) {
        let at = entry.unwritten().written_at + self.period;
        self.due.lock().push(Reverse(Due { at, entry }));
    }

    /// How old the oldest written last contact of a beating connector is, at the last look.
    pub fn staleness(&self) -> Duration {
        Duration::from_micros(self.staleness.load(Ordering::Relaxed))
    }

    /// Those whose turn it is at `now`, `room` at most. To be called several times a second by a leader, and by nobody
    /// else. `is_known` says whether an object is still there.
    pub fn take_due(
        &self,
        is_known: impl Fn(&T) -> bool,
        room: usize,
        now: Moment,
    ) -> (Vec<Arc<T>>, Option<BudgetExceeded>) {
        let mut due = self.due.lock();
        let mut turns = Vec::new();
        let mut oldest = None;
        let mut over_budget = false;
        while let Some(Reverse(next)) = due.peek()
            && next.at <= now
        {
            let next = next.clone();
            let unwritten = next.entry.unwritten();
            let is_known = is_known(&next.entry);
            let due_at = unwritten.written_at + self.period;
            if is_known && due_at <= now && unwritten.contact.is_some() && unwritten.beats {
                oldest = oldest.or(Some(unwritten));
                if turns.len() == room {
                    break;
                }
                if !self.budget.spend(now) {
                    over_budget = true;
                    break;
                }
                turns.push(next.entry.clone());
            }
            due.pop();
            if is_known {
                // Due again a period from now; what was written meanwhile, by a transition say, is its own turn.
                let at = if due_at > now { due_at } else { now + self.period };
                due.push(Reverse(Due { at, entry: next.entry }));
            }
        }
        let staleness = oldest.map_or(Duration::ZERO, |oldest| now.since(oldest.written_at));
        self.staleness.store(u64::try_from(staleness.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let shortfall = oldest
            // Writes that the API server refuses make them old as well, and no budget would help.
            .filter(|oldest| over_budget && staleness > oldest.late.max(self.period * 2))
            .map(|oldest| BudgetExceeded { staleness, late: oldest.late });
        (turns, shortfall)
    }
}

#[cfg(test)]
mod tests;
