//! Checkpoints: the times and figures of objects whose state does not change are written once in a period, oldest first,
//! within one budget for all kinds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::time::Moment;

/// An object with times and figures that are written once in a period.
pub trait Checkpointed {
    /// The number of the object, unique within its kind.
    fn number(&self) -> u64;

    /// The part of its state that is not written yet.
    fn unwritten(&self) -> PendingWrite;
}

/// The part of one object's state that its stored status does not have yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingWrite {
    /// The last contact or probe, when it is younger than the written one.
    pub contact: Option<Moment>,
    /// When the stored status was written last.
    pub written_at: Moment,
    /// Whether the object is Online or is probed: other objects get no checkpoints.
    pub is_checkpointed: bool,
    /// The age of the written contact from which the object counts as late.
    pub late: Duration,
}

/// How many checkpoints a second may be written, of all kinds together (`--status-writes-per-second`).
#[derive(Debug)]
pub struct WriteBudget {
    per_second: u32,
    bucket: Mutex<TokenBucket>,
}

/// The writes that the budget allows now; never more than those of one second, so that a pause is not followed by a
/// burst.
#[derive(Debug, Default)]
struct TokenBucket {
    allowance: f64,
    measured_at: Moment,
}

impl WriteBudget {
    /// A budget of this many writes a second.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, bucket: Mutex::default() }
    }

    /// Spends one write, if the budget allows one.
    fn spend(&self, now: Moment) -> bool {
        let mut bucket = self.bucket.lock();
        let most = f64::from(self.per_second);
        bucket.allowance = (bucket.allowance + now.since(bucket.measured_at).as_secs_f64() * most).min(most);
        bucket.measured_at = bucket.measured_at.max(now);
        let is_enough = bucket.allowance >= 1.0;
        if is_enough {
            bucket.allowance -= 1.0;
        }
        is_enough
    }
}

/// The objects of one kind in the order in which their checkpoints are due; see `--checkpoint-seconds`.
pub struct Checkpoints<T> {
    period: Duration,
    due: Mutex<BinaryHeap<Reverse<Due<T>>>>,
    staleness: AtomicU64,
    in_flight: AtomicUsize,
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

/// The budget cannot keep up: the oldest written contact is older than allowed.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetExceeded {
    /// The age of the oldest written contact of an object that is due.
    pub staleness: Duration,
    /// The age from which that object counts as late, which it exceeds.
    pub late: Duration,
}

/// The first object of a queue whose checkpoint is due.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// When it became due.
    pub at: Moment,
    /// The part of its state that is not written yet.
    pub pending: PendingWrite,
    /// The staleness that may be reported as a budget that is too small.
    limit: Duration,
}

impl<T: Checkpointed> Checkpoints<T> {
    /// An empty queue.
    pub fn new(period: Duration) -> Self {
        Self { period, due: Mutex::default(), staleness: AtomicU64::new(0), in_flight: AtomicUsize::new(0) }
    }

    /// Adds an object.
    pub fn add(&self, entry: Arc<T>) {
        let at = entry.unwritten().written_at + self.period;
        self.due.lock().push(Reverse(Due { at, entry }));
    }

    /// The age of the oldest written contact of an object that was due at the last hand-out.
    pub fn staleness(&self) -> Duration {
        Duration::from_micros(self.staleness.load(Ordering::Relaxed))
    }

    /// Sets the staleness as of now.
    pub fn set_staleness(&self, staleness: Duration) {
        self.staleness.store(u64::try_from(staleness.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Counts a checkpoint as in flight until the guard is dropped, from its wait for the writer on: it keeps a reconcile
    /// from another object.
    pub fn begin(&self) -> CheckpointGuard<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        CheckpointGuard(&self.in_flight)
    }

    /// The number of checkpoints of this kind that are being written or wait for the writer.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The first object whose checkpoint is due at `now`; it stays the first. `is_known` returns whether an object still
    /// exists.
    pub fn next(&self, is_known: impl Fn(&T) -> bool, now: Moment) -> Option<Candidate> {
        let mut due = self.due.lock();
        while let Some(Reverse(first)) = due.peek()
            && first.at <= now
        {
            let first = first.clone();
            let pending = first.entry.unwritten();
            let is_known = is_known(&first.entry);
            let due_at = pending.written_at + self.period;
            if is_known && due_at <= now && pending.contact.is_some() && pending.is_checkpointed {
                return Some(Candidate { at: first.at, pending, limit: pending.late.max(self.period * 2) });
            }
            due.pop();
            if is_known {
                // After another write, that of a transition for example, the next checkpoint is due a period later.
                let at = if due_at > now { due_at } else { now + self.period };
                due.push(Reverse(Due { at, entry: first.entry }));
            }
        }
        None
    }

    /// Takes the object that [`Checkpoints::next`] returned; it is due again a period later.
    pub fn take(&self, now: Moment) -> Option<Arc<T>> {
        let mut due = self.due.lock();
        let Reverse(first) = due.pop()?;
        due.push(Reverse(Due { at: now + self.period, entry: first.entry.clone() }));
        Some(first.entry)
    }
}

/// A checkpoint in flight, until it is dropped.
#[derive(Debug)]
pub struct CheckpointGuard<'a>(&'a AtomicUsize);

impl Drop for CheckpointGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The queue of one kind at a hand-out.
pub trait CheckpointQueue {
    /// The number of checkpoints that the reconciles of this kind have room for.
    fn free_slots(&self) -> usize;

    /// The first object whose checkpoint is due at `now`.
    fn next(&self, now: Moment) -> Option<Candidate>;

    /// Hands that object to its reconcile.
    fn hand_out(&self, now: Moment);

    /// Sets the age of the oldest written contact of an object that is due.
    fn set_staleness(&self, staleness: Duration);
}

/// Hands out the checkpoints that are due at `now`, oldest first over all queues, within the budget and the room of each
/// queue. A queue without room does not hold back another one. Only a leader calls this, several times a second. Returns
/// for each queue whether the budget is too small for it.
pub fn hand_out<const N: usize>(
    queues: &[&dyn CheckpointQueue; N],
    budget: &WriteBudget,
    now: Moment,
) -> [Option<BudgetExceeded>; N] {
    let mut free_slots_by_kind = queues.map(CheckpointQueue::free_slots);
    let mut next = queues.map(|queue| queue.next(now));
    let oldest = next;
    let mut is_over_budget = [false; N];
    let has_turn = |free_slots_by_kind: &[usize; N], next: &[Option<Candidate>; N], at: usize| {
        next[at].filter(|_| free_slots_by_kind[at] > 0).map(|candidate| (candidate.at, at))
    };
    while let Some((_, first)) = (0..N).filter_map(|at| has_turn(&free_slots_by_kind, &next, at)).min() {
        if !budget.spend(now) {
            is_over_budget = std::array::from_fn(|at| has_turn(&free_slots_by_kind, &next, at).is_some());
            break;
        }
        queues[first].hand_out(now);
        free_slots_by_kind[first] -= 1;
        next[first] = queues[first].next(now);
    }
    std::array::from_fn(|at| {
        let staleness = oldest[at].map_or(Duration::ZERO, |oldest| now.since(oldest.pending.written_at));
        queues[at].set_staleness(staleness);
        // Writes that the API server refuses make the contacts old as well, and a larger budget would not help.
        oldest[at]
            .filter(|oldest| is_over_budget[at] && staleness > oldest.limit)
            .map(|oldest| BudgetExceeded { staleness, late: oldest.pending.late })
    })
}

#[cfg(test)]
mod tests;
