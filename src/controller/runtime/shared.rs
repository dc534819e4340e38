//! The parts that the reconciles of both kinds use.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use kube::api::Api;
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::calls::CallKind;
use super::kept::NotKept;
use super::kind::{Kind, ObjectEntry as _, ReconcileError};
use super::recovery::Recovery;
use super::state::ReconcileStates;
use super::wake::ReconcileTrigger;
use crate::cluster::events::Reporter;
use crate::cluster::{LONGEST_WAIT, StatusWriter, WriteError};
use crate::controller::remediation::Remediator;
use crate::controller::unreadable::Unreadable;
use crate::leadership::{Leadership, WritePermit};
use crate::metrics::Metrics;
use crate::schedule::checkpoints::{Checkpointed as _, Checkpoints};
use crate::schedule::{FairShare, Place, Watchdog};
use crate::time::Clock;

/// The number of calls about Secrets, pods and events in flight at once, for each kind: over HTTP/1.1 each call opens a
/// connection, and a fleet that is created at once would open thousands. Namespaces share them: one alone has 16 in flight.
const CALLS_IN_FLIGHT: usize = 32;

/// The parts that the reconciles of both kinds share.
pub struct Shared {
    /// A client that sends each request once.
    pub client: Client,
    /// The only writer of status.
    pub writer: StatusWriter,
    /// Publishes events.
    pub reporter: Reporter,
    /// The state of the election.
    pub leadership: watch::Receiver<Leadership>,
    /// The wall clock and the monotonic clock.
    pub clock: Clock,
    /// The metrics of the operator.
    pub metrics: Arc<Metrics>,
    /// Notices a task that keeps its thread.
    pub watchdog: Watchdog,
    /// Remediation, with limits over both kinds.
    pub remediator: Arc<Remediator>,
    /// Marks objects whose status cannot be read.
    pub unreadable: Unreadable,
}

impl Shared {
    /// A permit as of now, if this replica has led without a break since `permit` was given.
    ///
    /// # Errors
    /// [`WriteError::NotLeader`] when it has not.
    pub fn renew_permit(&self, permit: &WritePermit) -> Result<WritePermit, ReconcileError> {
        let current = self.leadership.borrow().permit(self.clock.now());
        current.filter(|current| current.epoch() == permit.epoch()).ok_or(ReconcileError::Status(WriteError::NotLeader))
    }
}

/// The parts that each kind has for itself, next to the shared ones.
pub struct Runtime<K: Kind> {
    shared: Arc<Shared>,
    /// The reconcile states of all objects.
    pub states: ReconcileStates<K>,
    /// The queue of checkpoints.
    pub checkpoints: Arc<Checkpoints<K::Entry>>,
    /// Requests reconciles.
    pub trigger: ReconcileTrigger,
    recovery: Recovery,
    /// The losses that were logged: one line for each, not for each object.
    losses: Mutex<HashSet<String>>,
    /// The occurrence of the last event about another writer, by the numbers of entries.
    contests: Mutex<HashMap<u64, String>>,
    /// Between 0 and 1, another one in each process.
    pub jitter: f64,
    /// Whether the next steps panic.
    #[cfg(test)]
    pub panics: std::sync::atomic::AtomicBool,
    calls: FairShare,
}

impl<K: Kind> Runtime<K> {
    /// A runtime without objects.
    pub fn new(shared: Arc<Shared>, checkpoints: Arc<Checkpoints<K::Entry>>, trigger: ReconcileTrigger) -> Self {
        Self {
            shared,
            states: ReconcileStates::default(),
            checkpoints,
            trigger,
            recovery: Recovery::default(),
            #[cfg(test)]
            panics: Default::default(),
            losses: Mutex::default(),
            contests: Mutex::default(),
            jitter: f64::from(std::process::id() % 97) / 97.0,
            calls: FairShare::new(CALLS_IN_FLIGHT),
        }
    }

    /// Waits for the permission to make a call about a Secret, pods or an event of this namespace.
    pub async fn call_permit(&self, namespace: &Arc<str>) -> Place {
        self.calls.acquire(namespace, false).await
    }

    /// Notes that a call about an object failed: no such call is made before its next try, whatever wakes the object.
    /// `asked` is the wait that the server asked for. Returns the number of failures in a row.
    pub fn call_failed(&self, entry: &K::Entry, call: CallKind, asked: Option<Duration>) -> u32 {
        let now = self.clock.now();
        let number = entry.number();
        let (failures, wait) = self.states.failed(number, call, asked, now);
        let wait = self.recovery.failed(call, (number, entry.key()), wait, now).max(asked.unwrap_or_default());
        self.states.hold(number, call, now + wait.min(LONGEST_WAIT));
        failures
    }

    /// Notes that a call about an object succeeded, and wakes the objects that wait for the same kind of call.
    pub fn call_succeeded(&self, entry: &K::Entry, call: CallKind) {
        self.states.succeeded(entry.number(), call);
        for (number, key) in self.recovery.succeeded(call, entry.number(), &entry.key().namespace) {
            self.states.shorten(number, call);
            self.trigger.wake(&key);
        }
    }

    /// Whether a kind of call may be made about an object now.
    pub fn may_call(&self, entry: &K::Entry, call: CallKind) -> bool {
        self.states.wait(entry.number(), call, self.clock.now()).is_none()
    }

    /// Whether this kind of status lost these fields for the first time in this process.
    pub fn is_first_loss(&self, not_kept: &NotKept) -> bool {
        self.losses.lock().insert(not_kept.message())
    }

    /// Whether a contest about an object is reported for the first time with this occurrence.
    pub fn is_first_contest(&self, number: u64, occurrence: &str) -> bool {
        let before = self.contests.lock().insert(number, occurrence.to_owned());
        before.as_deref() != Some(occurrence)
    }

    /// Forgets an object that was deleted.
    pub fn forget(&self, number: u64) {
        self.contests.lock().remove(&number);
        self.states.remove(number);
        self.recovery.remove(number);
    }

    /// The API of the namespace of an object.
    pub fn api(&self, object: &K::Object) -> Api<K::Object> {
        Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default())
    }
}

impl<K: Kind> Deref for Runtime<K> {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}
