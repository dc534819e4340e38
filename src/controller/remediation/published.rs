//! Which attempts have had their events published in this epoch of leadership.

use std::collections::HashMap;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::api::{AttemptPhase, RemediationStatus};
use crate::cluster::events::REPUBLISH_WINDOW;
use crate::leadership::WritePermit;
use crate::remediation::attempt::{EventDraft, events_to_repeat};
use crate::remediation::fleet::ObjectId;

/// The newest attempts of each object whose events were handed to the caller in this epoch. Of all other attempts the
/// process that wrote them may have been killed before it published them.
#[derive(Default)]
pub(super) struct Published(Mutex<Epoch>);

#[derive(Default)]
struct Epoch {
    number: u64,
    newest: HashMap<ObjectId, NewestAttempts>,
}

/// The attempts of an object that have events: the one in progress, once it has started, and the last one that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct NewestAttempts {
    started: Option<String>,
    ended: Option<String>,
}

impl NewestAttempts {
    fn of(status: &RemediationStatus) -> Self {
        let started = status.current.as_ref().filter(|current| current.phase != AttemptPhase::Reserved);
        Self {
            started: started.map(|current| current.id.clone()),
            ended: status.history.first().map(|past| past.id.clone()),
        }
    }
}

impl Published {
    /// Events of attempts that a former leader or process wrote and may not have published. An event that was published
    /// is the same occurrence again.
    pub(super) fn missing(
        &self,
        permit: &WritePermit,
        id: &ObjectId,
        status: &RemediationStatus,
        now: Timestamp,
    ) -> Vec<EventDraft> {
        let mut epoch = self.0.lock();
        if epoch.number != permit.epoch() {
            *epoch = Epoch { number: permit.epoch(), newest: HashMap::new() };
        }
        let newest = NewestAttempts::of(status);
        if newest == NewestAttempts::default() || epoch.newest.get(id) == Some(&newest) {
            return Vec::new();
        }
        epoch.newest.insert(id.clone(), newest);
        events_to_repeat(status, now - REPUBLISH_WINDOW)
    }

    /// Notes that the caller publishes the events of the newest attempts in `status`.
    pub(super) fn insert(&self, id: &ObjectId, status: &RemediationStatus) {
        self.0.lock().newest.insert(id.clone(), NewestAttempts::of(status));
    }

    /// Forgets an object, so that its events are published again.
    pub(super) fn remove(&self, id: &ObjectId) {
        self.0.lock().newest.remove(id);
    }
}
