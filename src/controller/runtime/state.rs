//! The operator's own record of its work on each object, between two reconciles.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

use kube::Resource as _;
use parking_lot::Mutex;

use super::kind::Kind;
use crate::cluster::events::Event;

/// The reconcile state of one object. The fleet has one for each object, so it is kept small.
#[derive(Debug)]
pub struct ReconcileState<K: Kind> {
    /// The leadership epoch that this state is from.
    epoch: u64,
    /// The object as the operator wrote it last, until the watch has delivered it: the store is older until then, and a
    /// decision from it would repeat the write in vain.
    latest: Option<Box<K::Object>>,
    /// The event of the newest transition was published, by this process or before it.
    pub published: bool,
    /// Events that could not be published, for the next try; `None` for almost all objects.
    #[expect(clippy::box_collection, reason = "8 bytes for each object instead of 24")]
    unpublished: Option<Box<Vec<Event>>>,
    /// The part that only this kind has.
    pub notes: K::Notes,
}

impl<K: Kind> Default for ReconcileState<K> {
    fn default() -> Self {
        Self { epoch: 0, latest: None, published: false, unpublished: None, notes: K::Notes::default() }
    }
}

impl<K: Kind> ReconcileState<K> {
    /// Keeps the object as it was written.
    pub fn keep_written(&mut self, written: &K::Object) {
        self.latest = Some(Box::new(written.clone()));
    }

    /// Forgets the object as the operator wrote it: the API server has another one.
    pub fn forget_written(&mut self) {
        self.latest = None;
    }

    /// The object as the operator wrote it, if that is younger than `seen`.
    pub fn newer_than(&mut self, seen: &K::Object) -> Option<K::Object> {
        let version = |of: &K::Object| of.meta().resource_version.as_deref()?.parse::<u64>().ok();
        let is_younger = self.latest.as_deref().and_then(version) > version(seen);
        if !is_younger {
            self.latest = None;
        }
        self.latest.as_deref().cloned()
    }

    /// Takes the events that could not be published: the caller publishes them, or keeps them again.
    pub fn take_unpublished(&mut self) -> Vec<Event> {
        self.unpublished.take().map(|events| *events).unwrap_or_default()
    }

    /// Keeps events that could not be published.
    pub fn keep_unpublished(&mut self, events: impl IntoIterator<Item = Event>) {
        let mut events = events.into_iter().peekable();
        if events.peek().is_some() {
            self.unpublished.get_or_insert_default().extend(events);
        }
    }

    /// Keeps the `events` of a status write whose answer was lost. The API server may have applied it: then the next try
    /// finds nothing to write, and no events in its plan.
    pub fn keep_events_of_lost_write(&mut self, events: &[Event]) {
        // The event of a state follows from the stored status, which shows whether the write was applied.
        self.published = false;
        let of_a_state = |event: &Event| event.reason.parse::<K::State>().is_ok();
        let mut unpublished = self.take_unpublished();
        // The other events are facts, whether or not the write was applied. Each try decides again, with another time
        // and the same occurrence.
        for event in events.iter().filter(|event| !of_a_state(event)) {
            if !unpublished.iter().any(|known| known.occurrence == event.occurrence) {
                unpublished.push(event.clone());
            }
        }
        self.keep_unpublished(unpublished);
    }
}

/// The record of one object: the state, which a running reconcile takes out, and what others write meanwhile.
#[derive(Debug)]
struct Record<K: Kind> {
    state: ReconcileState<K>,
    /// A checkpoint is due, by the leader of this epoch.
    checkpoint: Option<u64>,
    /// Failed reconciles in a row.
    failures: u32,
}

impl<K: Kind> Default for Record<K> {
    fn default() -> Self {
        Self { state: ReconcileState::default(), checkpoint: None, failures: 0 }
    }
}

/// The reconcile states of all objects of a kind, by the number of their entry.
#[derive(Debug)]
pub struct ReconcileStates<K: Kind>(Mutex<HashMap<u64, Record<K>>>);

impl<K: Kind> Default for ReconcileStates<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Kind> ReconcileStates<K> {
    /// Takes the state of an object out until the returned guard is dropped. kube runs one reconcile per object at a
    /// time, so no other reconcile misses it.
    pub fn take(&self, number: u64) -> TakenState<'_, K> {
        let state = std::mem::take(&mut self.0.lock().entry(number).or_default().state);
        TakenState { states: self, number, state }
    }

    /// Marks a checkpoint as due, in the leadership `epoch`.
    pub fn mark_checkpoint(&self, number: u64, epoch: u64) {
        self.0.lock().entry(number).or_default().checkpoint = Some(epoch);
    }

    /// Takes the mark of a checkpoint; returns whether it was due in this `epoch`.
    pub fn take_checkpoint(&self, number: u64, epoch: u64) -> bool {
        let mut records = self.0.lock();
        records.get_mut(&number).and_then(|record| record.checkpoint.take()) == Some(epoch)
    }

    /// Counts a failure; returns the number of failures in a row.
    pub fn failed(&self, number: u64) -> u32 {
        let mut records = self.0.lock();
        let record = records.entry(number).or_default();
        record.failures = record.failures.saturating_add(1);
        record.failures
    }

    /// Ends a row of failures.
    pub fn succeeded(&self, number: u64) {
        if let Some(record) = self.0.lock().get_mut(&number) {
            record.failures = 0;
        }
    }

    /// Forgets an object.
    pub fn remove(&self, number: u64) {
        self.0.lock().remove(&number);
    }
}

/// The state of one object during a reconcile. Dropping it puts the state back, also after an error, a panic or the
/// cancellation of the reconcile; not when the object was removed meanwhile.
#[derive(Debug)]
pub struct TakenState<'a, K: Kind> {
    states: &'a ReconcileStates<K>,
    number: u64,
    state: ReconcileState<K>,
}

impl<K: Kind> TakenState<'_, K> {
    /// Clears a state of another epoch: another replica may have led in between.
    pub fn begin(&mut self, epoch: u64) {
        if self.state.epoch != epoch {
            self.state = ReconcileState { epoch, ..ReconcileState::default() };
            self.states.succeeded(self.number);
        }
    }
}

impl<K: Kind> Deref for TakenState<'_, K> {
    type Target = ReconcileState<K>;

    fn deref(&self) -> &ReconcileState<K> {
        &self.state
    }
}

impl<K: Kind> DerefMut for TakenState<'_, K> {
    fn deref_mut(&mut self) -> &mut ReconcileState<K> {
        &mut self.state
    }
}

impl<K: Kind> Drop for TakenState<'_, K> {
    fn drop(&mut self) {
        if let Some(record) = self.states.0.lock().get_mut(&self.number) {
            record.state = std::mem::take(&mut self.state);
        }
    }
}
