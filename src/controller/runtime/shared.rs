//! The parts that the reconciles of both kinds use.

use std::ops::Deref;
use std::sync::Arc;

use kube::api::Api;
use kube::{Client, ResourceExt as _};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::kind::{Kind, ReconcileError};
use super::state::ReconcileStates;
use super::wake::ReconcileTrigger;
use crate::cluster::events::Reporter;
use crate::cluster::{StatusWriter, WriteError};
use crate::controller::remediation::Remediator;
use crate::controller::unreadable::Unreadable;
use crate::leadership::{Leadership, WritePermit};
use crate::metrics::Metrics;
use crate::schedule::checkpoints::Checkpoints;
use crate::time::Clock;

/// The number of calls about Secrets, pods and events in flight at once, for each kind: over HTTP/1.1 each call opens a
/// connection, and a fleet that is created at once would open thousands.
const CALLS_IN_FLIGHT: usize = 16;

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
    pub trigger: ReconcileTrigger<K::Object>,
    calls: Semaphore,
}

impl<K: Kind> Runtime<K> {
    /// A runtime without objects.
    pub fn new(
        shared: Arc<Shared>,
        checkpoints: Arc<Checkpoints<K::Entry>>,
        trigger: ReconcileTrigger<K::Object>,
    ) -> Self {
        Self {
            shared,
            states: ReconcileStates::default(),
            checkpoints,
            trigger,
            calls: Semaphore::new(CALLS_IN_FLIGHT),
        }
    }

    /// Waits for the permission to make a call about a Secret, pods or an event.
    pub async fn call_permit(&self) -> SemaphorePermit<'_> {
        self.calls.acquire().await.expect("it is never closed")
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
