//! The operator's own record of its work on each object, between two reconciles.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use kube::Resource as _;
use parking_lot::Mutex;

use super::calls::{CallKind, CallRetries, WriteAllowance};
use super::contest::Contest;
use super::kept::NotKept;
use super::kind::Kind;
use crate::cluster::events::Event;
use crate::time::Moment;

/// Events about one state of one object on average: one in this time.
const EVENT_PERIOD: Duration = Duration::from_secs(60);

/// Events about one state of one object at once.
const EVENTS_AT_ONCE: u32 = 3;

/// At most this many events of one object wait for their next try; the oldest are dropped first.
const MAX_UNPUBLISHED: usize = 16;

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
    /// The API server kept a status of this object that was written in this epoch. A definition that is older than the
    /// operator drops fields, and then nothing may be acted upon.
    pub is_verified: bool,
    /// The writes of other programs.
    pub contest: Contest,
    /// Nothing may be written or done in this step: another program writes this status, and knows more.
    pub is_held_back: bool,
    /// What the API server did not keep of the last status; `None` for almost all objects.
    pub not_kept: Option<Box<NotKept>>,
    /// Events that could not be published, for the next try; `None` for almost all objects.
    #[expect(clippy::box_collection, reason = "8 bytes for each object instead of 24")]
    unpublished: Option<Box<Vec<Event>>>,
    /// The states whose events were published in the last minutes, and when all of them are allowed again.
    #[expect(clippy::box_collection, reason = "8 bytes for each object instead of 24")]
    published_states: Option<Box<Vec<(&'static str, Moment)>>>,
    /// The part that only this kind has.
    pub notes: K::Notes,
}

impl<K: Kind> Default for ReconcileState<K> {
    fn default() -> Self {
        Self {
            epoch: 0,
            latest: None,
            published: false,
            is_verified: false,
            contest: Contest::default(),
            is_held_back: false,
            not_kept: None,
            unpublished: None,
            published_states: None,
            notes: K::Notes::default(),
        }
    }
}

impl<K: Kind> ReconcileState<K> {
    /// Keeps the object as it was written.
    pub fn keep_written(&mut self, written: &K::Object) {
        self.contest.note_own(Some(&status_of::<K>(written)));
        self.latest = Some(Box::new(written.clone()));
    }

    /// Notes the status of an object as the watch delivered it; returns whether another program wrote it.
    pub fn note_seen(&mut self, seen: &K::Object, now: Moment) -> bool {
        // An older one is on its way while the own write is not.
        self.latest.is_none() && self.contest.note_seen(&status_of::<K>(seen), now)
    }

    /// The object as the operator wrote it, if that is younger than `seen`.
    pub fn newer_than(&mut self, seen: &K::Object) -> Option<K::Object> {
        let version = |of: &K::Object| of.meta().resource_version.as_deref()?.parse::<u64>().ok();
        let is_own_newer = self.latest.as_deref().and_then(version) > version(seen);
        if !is_own_newer {
            self.latest = None;
        }
        self.latest.as_deref().cloned()
    }

    /// Counts an event about a state, if one is allowed now: one for each state and minute, and `EVENTS_AT_ONCE` at once. An
    /// object that alternates between two states would hide the events of all others.
    pub fn may_publish(&mut self, state: &'static str, now: Moment) -> bool {
        let states = self.published_states.get_or_insert_default();
        states.retain(|(_, full_at)| *full_at > now);
        let known = states.iter().position(|(known, _)| *known == state).unwrap_or_else(|| {
            states.push((state, now));
            states.len() - 1
        });
        let (_, full_at) = &mut states[known];
        let is_allowed = full_at.since(now) <= EVENT_PERIOD * (EVENTS_AT_ONCE - 1);
        if is_allowed {
            *full_at = *full_at + EVENT_PERIOD;
        }
        is_allowed
    }

    /// Takes the events that could not be published: the caller publishes them, or keeps them again.
    pub fn take_unpublished(&mut self) -> Vec<Event> {
        self.unpublished.take().map(|events| *events).unwrap_or_default()
    }

    /// Keeps events that could not be published.
    pub fn keep_unpublished(&mut self, events: impl IntoIterator<Item = Event>) {
        let mut events = events.into_iter().peekable();
        if events.peek().is_some() {
            let unpublished = self.unpublished.get_or_insert_default();
            unpublished.extend(events);
            unpublished.drain(..unpublished.len().saturating_sub(MAX_UNPUBLISHED));
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

fn status_of<K: Kind>(object: &K::Object) -> serde_json::Value {
    serde_json::to_value(object).map(|mut object| object["status"].take()).unwrap_or_default()
}

/// The record of one object: the state, which a running reconcile takes out, and what others write meanwhile.
#[derive(Debug)]
struct Record<K: Kind> {
    state: ReconcileState<K>,
    /// A checkpoint is due, by the leader of this epoch.
    checkpoint: Option<u64>,
    /// The calls that failed; `None` for almost all objects.
    retries: Option<Box<CallRetries>>,
    writes: WriteAllowance,
}

impl<K: Kind> Default for Record<K> {
    fn default() -> Self {
        Self { state: ReconcileState::default(), checkpoint: None, retries: None, writes: WriteAllowance::default() }
    }
}

/// The reconcile states of all objects of a kind, by the number of their entry. Each has an allocation of its own: a map has
/// up to twice as many places as it needs.
#[derive(Debug)]
pub struct ReconcileStates<K: Kind>(Mutex<HashMap<u64, Box<Record<K>>>>);

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

    /// Counts a call that failed; returns the number of failures in a row, and the wait.
    pub fn failed(&self, number: u64, call: CallKind, asked: Option<Duration>, now: Moment) -> (u32, Duration) {
        let mut records = self.0.lock();
        records.entry(number).or_default().retries.get_or_insert_default().failed(call, asked, now)
    }

    /// Makes no such call about an object before this moment.
    pub fn hold(&self, number: u64, call: CallKind, not_before: Moment) {
        let mut records = self.0.lock();
        records.entry(number).or_default().retries.get_or_insert_default().hold(call, not_before);
    }

    /// Ends a row of failures.
    pub fn succeeded(&self, number: u64, call: CallKind) {
        self.change_retries(number, |retries| retries.succeeded(call));
    }

    /// Notes that the same kind of call succeeded for another object.
    pub fn shorten(&self, number: u64, call: CallKind) {
        self.change_retries(number, |retries| retries.shorten(call));
    }

    fn change_retries(&self, number: u64, change: impl FnOnce(&mut CallRetries)) {
        if let Some(retries) = self.0.lock().get_mut(&number).and_then(|record| record.retries.as_mut()) {
            change(retries);
        }
    }

    /// The wait until a kind of call may be made; `None` when it may be made now.
    pub fn wait(&self, number: u64, call: CallKind, now: Moment) -> Option<Duration> {
        self.0.lock().get(&number)?.retries.as_ref()?.wait(call, now)
    }

    /// The wait until the next call may be made that may not be made now.
    pub fn next_call(&self, number: u64, now: Moment) -> Option<Duration> {
        self.0.lock().get(&number)?.retries.as_ref()?.next(now)
    }

    /// The wait until the status may be written; `None` when it may be written now.
    pub fn write_wait(&self, number: u64, now: Moment) -> Option<Duration> {
        let records = self.0.lock();
        let record = records.get(&number)?;
        let failed = record.retries.as_ref().and_then(|retries| retries.wait(CallKind::Status, now));
        failed.max(record.writes.wait(now))
    }

    /// Counts a write of the status.
    pub fn spend_write(&self, number: u64, now: Moment) {
        self.0.lock().entry(number).or_default().writes.spend(now);
    }

    /// As after a minute: every call may be made.
    #[cfg(test)]
    pub fn open(&self, number: u64) {
        self.change_retries(number, |retries| *retries = CallRetries::default());
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
            self.states.change_retries(self.number, |retries| *retries = CallRetries::default());
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
