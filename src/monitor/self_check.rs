//! Keeps whether the operator's own probes can be trusted, by the fleet's results and the check of its own connectivity.
//! While they cannot, backends that are unreachable are not judged (`ProbeBlind`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::entry::Backend;
use crate::health::availability::Availability;
use crate::health::visibility::{Fleet, LastProbe, Namespaces, Visibility};
use crate::time::{Clock, Moment};

/// The shortest wait for a verdict that is held back.
const SHORTEST_HOLD: Duration = Duration::from_millis(100);

/// The state of the self check.
pub struct SelfCheck {
    clock: Clock,
    fleet: Mutex<Fleet>,
    /// The message of the last connectivity check that failed; `None` when it passed.
    connectivity_failure: Mutex<Option<String>>,
    /// Until when a verdict on an unreachable backend of these namespaces is held back.
    held: Mutex<Option<(Moment, BTreeSet<Arc<str>>)>>,
    /// Why and where visibility is lost, while it is.
    lost: Mutex<Option<(String, Namespaces)>>,
}

/// A change of visibility.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum VisibilityChange {
    None,
    /// Visibility was lost, for this reason, or in more namespaces.
    Lost(String),
    /// It was lost in fewer namespaces than before.
    Recovered,
}

impl SelfCheck {
    /// Starts with normal visibility.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            fleet: Mutex::default(),
            connectivity_failure: Mutex::default(),
            held: Mutex::default(),
            lost: Mutex::default(),
        }
    }

    /// Records that a round of `backend` ended. `unreachable`: it failed in resolve or connect and received no packet.
    pub(super) fn record_round(&self, backend: &Backend, probe: LastProbe, unreachable: bool) {
        self.fleet.lock().record_probe(backend.number, probe, unreachable);
    }

    /// Removes a deleted backend.
    pub fn remove(&self, backend: &Backend) {
        self.fleet.lock().remove(backend.number);
    }

    /// Why `backend` cannot be judged, if so: it is unreachable while visibility is lost, or was at its last probe.
    pub fn blind_for(&self, backend: &Backend) -> Option<String> {
        let why = self.lost.lock().as_ref().filter(|(_, lost)| covers(lost, backend)).map(|(why, _)| why.clone());
        let fleet = self.fleet.lock();
        match why {
            Some(why) => fleet.is_unreachable(backend.number).then_some(why),
            None => fleet
                .awaits_probe(backend.number)
                .then(|| "we could not see, and have not probed it since we see again".to_owned()),
        }
    }

    /// Whether visibility is lost.
    pub fn is_blind(&self) -> bool {
        self.lost.lock().is_some()
    }

    /// How long a verdict of Down on `backend` is to wait, until it is clear whether visibility is lost; `None` when the
    /// verdict can be published now.
    pub fn holds_verdict(&self, backend: &Backend, availability: Availability) -> Option<Duration> {
        let held = self.held.lock();
        let (until, _) = held.as_ref().filter(|(_, namespaces)| namespaces.contains(&backend.key.namespace))?;
        let waits = availability == Availability::Down && self.fleet.lock().is_unreachable(backend.number);
        waits.then(|| until.since(self.clock.now()).max(SHORTEST_HOLD))
    }

    /// Updates visibility and the time until which verdicts are held back. Returns the change of visibility.
    pub(super) fn update_visibility(&self) -> VisibilityChange {
        let now = self.clock.now();
        let failure = self.connectivity_failure.lock().clone();
        let visibility = self.fleet.lock().visibility(failure.as_deref(), now);
        *self.held.lock() = match &visibility {
            Visibility::Suspect(until, namespaces) => Some((*until, namespaces.clone())),
            Visibility::Normal | Visibility::Lost(..) => None,
        };
        let next = match visibility {
            Visibility::Lost(why, namespaces) => Some((why, namespaces)),
            Visibility::Normal | Visibility::Suspect(..) => None,
        };
        let mut lost = self.lost.lock();
        let before = lost.as_ref().map(|(_, namespaces)| namespaces.clone());
        let after = next.as_ref().map(|(_, namespaces)| namespaces.clone());
        if before == after {
            // Its figures change with every probe; the reason that was told stands.
            return VisibilityChange::None;
        }
        *lost = next;
        if let Some(recovered) = before.as_ref().and_then(|before| left(before, after.as_ref())) {
            self.fleet.lock().recovered(recovered, now);
        }
        match (&*lost, before) {
            (Some((why, now)), before) if before.as_ref().is_none_or(|before| is_wider(now, before)) => {
                VisibilityChange::Lost(why.clone())
            }
            _ => VisibilityChange::Recovered,
        }
    }

    /// Whether any backend is unreachable: only then connectivity is checked.
    pub(super) fn needs_check(&self) -> bool {
        self.fleet.lock().has_unreachable()
    }

    /// Records the result of the connectivity check. Returns whether it changed.
    pub(super) fn record_check(&self, failure: Option<String>) -> bool {
        let mut known = self.connectivity_failure.lock();
        let changed = *known != failure;
        *known = failure;
        changed
    }
}

fn covers(lost: &Namespaces, backend: &Backend) -> bool {
    lost.as_ref().is_none_or(|lost| lost.contains(&backend.key.namespace))
}

/// Whether visibility is lost in namespaces in which it was not.
fn is_wider(now: &Namespaces, before: &Namespaces) -> bool {
    match (now, before) {
        (None, before) => before.is_some(),
        (Some(_), None) => false,
        (Some(now), Some(before)) => !now.is_subset(before),
    }
}

/// The namespaces in which visibility recovered, if it did in any.
fn left(before: &Namespaces, after: Option<&Namespaces>) -> Option<Namespaces> {
    match (before, after) {
        (before, None) => Some(before.clone()),
        (_, Some(None)) => None,
        (None, Some(Some(_))) => Some(None),
        (Some(before), Some(Some(after))) => {
            Some(Some(before - after)).filter(|left| left.iter().flatten().next().is_some())
        }
    }
}
