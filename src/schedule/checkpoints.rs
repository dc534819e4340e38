//! Checkpoints: the times and figures of objects whose state does not change are written once in a period, within one budget
//! for all kinds. Namespaces take turns; of the objects of one namespace, the oldest goes first.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::fair_share::{Held, may_take};
use crate::time::Moment;

/// An object with times and figures that are written once in a period.
pub trait Checkpointed {
    /// The number of the object, unique within its kind.
    fn number(&self) -> u64;

    /// The namespace of the object.
    fn namespace(&self) -> &Arc<str>;

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
    turns: Mutex<Turns>,
}

/// The turns of namespaces: without them, the checkpoints of thousands of objects of one tenant would be older than those of
/// all others, and go first.
#[derive(Debug, Default)]
struct Turns {
    count: u64,
    /// The last turn of each namespace.
    last: HashMap<Arc<str>, u64>,
}

impl Turns {
    fn take(&mut self, namespace: &Arc<str>) {
        self.count += 1;
        // Removed when the map has doubled. A namespace that had no turn for so long is the next one anyway.
        let known = self.last.len();
        if known.is_power_of_two() && !self.last.contains_key(namespace) {
            let recent = self.count.saturating_sub(known as u64);
            self.last.retain(|_, turn| *turn > recent);
        }
        self.last.insert(namespace.clone(), self.count);
    }
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
        Self { per_second, bucket: Mutex::default(), turns: Mutex::default() }
    }

    /// The last turn of a namespace; the one with the lowest goes first.
    fn last_turn(&self, namespace: &str) -> u64 {
        self.turns.lock().last.get(namespace).copied().unwrap_or(0)
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
    due: Mutex<HashMap<Arc<str>, Heap<T>>>,
    staleness: AtomicU64,
    in_flight: Mutex<HashMap<Arc<str>, usize>>,
}

/// The checkpoints that one kind may have in flight, shared between namespaces as by
/// [`FairShare`](super::FairShare).
#[derive(Clone, Debug)]
pub struct Slots {
    all: usize,
    taken: usize,
    held: HashMap<Arc<str>, usize>,
}

impl Slots {
    /// Whether the namespace may have another checkpoint in flight.
    fn has_room(&self, namespace: &str) -> bool {
        let held = Held { all: self.held.get(namespace).copied().unwrap_or(0), suspects: 0 };
        may_take(self.all, self.taken, held, false)
    }

    fn take(&mut self, namespace: &Arc<str>) {
        self.taken += 1;
        *self.held.entry(namespace.clone()).or_default() += 1;
    }
}

/// The objects of one namespace.
type Heap<T> = BinaryHeap<Reverse<Due<T>>>;

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

/// The object of a queue whose checkpoint is written next.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// The last turn of that namespace.
    pub turn: u64,
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
        Self { period, due: Mutex::default(), staleness: AtomicU64::new(0), in_flight: Mutex::default() }
    }

    /// Adds an object.
    pub fn add(&self, entry: Arc<T>) {
        let at = entry.unwritten().written_at + self.period;
        self.due.lock().entry(entry.namespace().clone()).or_default().push(Reverse(Due { at, entry }));
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
    pub fn begin(&self, namespace: &Arc<str>) -> CheckpointGuard<'_> {
        *self.in_flight.lock().entry(namespace.clone()).or_default() += 1;
        CheckpointGuard { in_flight: &self.in_flight, namespace: namespace.clone() }
    }

    /// The shares of `all` slots, less the checkpoints of this kind that are being written or wait for the writer.
    pub fn slots(&self, all: usize) -> Slots {
        let held = self.in_flight.lock().clone();
        Slots { all, taken: held.values().sum(), held }
    }

    /// Of the objects whose checkpoint is due at `now`, the oldest one of the namespace with the lowest turn. `turn` returns
    /// the last turn of a namespace, or `None` when it has no room; `is_known` returns whether an object still exists.
    pub fn next(
        &self,
        is_known: impl Fn(&T) -> bool,
        turn: impl Fn(&str) -> Option<u64>,
        now: Moment,
    ) -> Option<Candidate> {
        let mut queues = self.due.lock();
        let first = |(namespace, due): (&Arc<str>, &mut BinaryHeap<Reverse<Due<T>>>)| {
            let (at, pending) = self.first(due, &is_known, now)?;
            let limit = pending.late.max(self.period * 2);
            Some(Candidate { namespace: namespace.clone(), turn: turn(namespace)?, at, pending, limit })
        };
        let next = queues.iter_mut().filter_map(first).min_by_key(|candidate| (candidate.turn, candidate.at));
        queues.retain(|_, due| !due.is_empty());
        next
    }

    /// The first object of one namespace whose checkpoint is due; it stays the first.
    fn first(
        &self,
        due: &mut BinaryHeap<Reverse<Due<T>>>,
        is_known: impl Fn(&T) -> bool,
        now: Moment,
    ) -> Option<(Moment, PendingWrite)> {
        while let Some(Reverse(first)) = due.peek()
            && first.at <= now
        {
            let first = first.clone();
            let pending = first.entry.unwritten();
            let is_known = is_known(&first.entry);
            let due_at = pending.written_at + self.period;
            if is_known && due_at <= now && pending.contact.is_some() && pending.is_checkpointed {
                return Some((first.at, pending));
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

    /// Takes the object of this namespace that [`Checkpoints::next`] returned; it is due again a period later.
    pub fn take(&self, namespace: &str, now: Moment) -> Option<Arc<T>> {
        let mut queues = self.due.lock();
        let due = queues.get_mut(namespace)?;
        let Reverse(first) = due.pop()?;
        due.push(Reverse(Due { at: now + self.period, entry: first.entry.clone() }));
        Some(first.entry)
    }
}

/// A checkpoint in flight, until it is dropped.
#[derive(Debug)]
pub struct CheckpointGuard<'a> {
    in_flight: &'a Mutex<HashMap<Arc<str>, usize>>,
    namespace: Arc<str>,
}

impl Drop for CheckpointGuard<'_> {
    fn drop(&mut self) {
        let mut in_flight = self.in_flight.lock();
        if let Some(count) = in_flight.get_mut(&self.namespace) {
            *count -= 1;
            if *count == 0 {
                in_flight.remove(&self.namespace);
            }
        }
    }
}

/// The queue of one kind at a hand-out.
pub trait CheckpointQueue {
    /// The checkpoints that the reconciles of this kind have room for.
    fn slots(&self) -> Slots;

    /// The object whose checkpoint is written next: see [`Checkpoints::next`].
    fn next(&self, turn: &dyn Fn(&str) -> Option<u64>, now: Moment) -> Option<Candidate>;

    /// Hands the next object of this namespace to its reconcile.
    fn hand_out(&self, namespace: &str, now: Moment);

    /// Sets the age of the oldest written contact of an object that is due.
    fn set_staleness(&self, staleness: Duration);
}

/// Hands out the checkpoints that are due at `now` within the budget and the room of each queue. Namespaces take turns, over
/// all queues, so that one with thousands of objects makes the contacts of no other old; each has a share of the room of a
/// queue, so that one whose writes hang holds back no other. Of one namespace, the oldest goes first. Only a leader calls
/// this, several times a second. Returns for each queue whether the budget is too small for it.
pub fn hand_out<const N: usize>(
    queues: &[&dyn CheckpointQueue; N],
    budget: &WriteBudget,
    now: Moment,
) -> [Option<BudgetExceeded>; N] {
    let mut slots = queues.map(CheckpointQueue::slots);
    let oldest = queues.map(|queue| queue.next(&|_: &str| Some(0), now));
    let mut is_over_budget = [false; N];
    loop {
        let next: [_; N] = std::array::from_fn(|at| {
            let turn = |namespace: &str| slots[at].has_room(namespace).then(|| budget.last_turn(namespace));
            queues[at].next(&turn, now)
        });
        let candidates = next.iter().enumerate().filter_map(|(at, next)| Some((at, next.as_ref()?)));
        let Some((first, candidate)) = candidates.min_by_key(|(at, next)| (next.turn, next.at, *at)) else { break };
        if !budget.spend(now) {
            is_over_budget = next.map(|next| next.is_some());
            break;
        }
        budget.turns.lock().take(&candidate.namespace);
        slots[first].take(&candidate.namespace);
        queues[first].hand_out(&candidate.namespace, now);
    }
    std::array::from_fn(|at| {
        let oldest = oldest[at].as_ref();
        let staleness = oldest.map_or(Duration::ZERO, |oldest| now.since(oldest.pending.written_at));
        queues[at].set_staleness(staleness);
        // Writes that the API server refuses make the contacts old as well, and a larger budget would not help.
        oldest
            .filter(|oldest| is_over_budget[at] && staleness > oldest.limit)
            .map(|oldest| BudgetExceeded { staleness, late: oldest.pending.late })
    })
}

#[cfg(test)]
mod tests;
