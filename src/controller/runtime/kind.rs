//! The parts in which Connectors and MonitoredBackends differ, and the values that one reconcile step carries.

use std::cmp::Ordering;
use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::shared::Runtime;
use super::state::ReconcileState;
use crate::api::{Key, Transition};
use crate::cluster::events::Event;
use crate::cluster::{CallError, WriteError};
use crate::controller::remediation::{NextStep, Remediable};
use crate::leadership::WritePermit;
use crate::schedule::checkpoints::Checkpointed;
use crate::time::Now;

/// The in-memory entry of one object.
pub trait ObjectEntry: Checkpointed + Send + Sync + 'static {
    /// Namespace and name of the object.
    fn key(&self) -> &Key;

    /// Whether the object has this UID: one that was deleted and created again has another one.
    fn has_uid(&self, uid: &str) -> bool;
}

/// One kind of custom resource, implemented by the context of its reconciles.
pub trait Kind: Sized + Send + Sync + 'static {
    /// The custom resource.
    type Object: Remediable
        + Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static;
    /// The in-memory entry of one object.
    type Entry: ObjectEntry;
    /// A copy of that entry at one moment.
    type Snapshot: Send + Sync;
    /// The closed list of states.
    type State: FromStr;
    /// The status of the object.
    type Status: Clone + Serialize + DeserializeOwned + Send + Sync;
    /// The part of the reconcile state that only this kind has.
    type Notes: Debug + Default + Send;

    /// The number of reconciles that run at once in each scope. Namespaces share them: one alone has half.
    const RECONCILES_AT_ONCE: u16;
    /// The state of an object whose stored form cannot be read.
    const UNKNOWN: &'static str;
    /// The noun for the time that checkpoints keep up to date, as the report of a budget that is too small names it.
    const CHECKPOINTED: &'static str;
    /// The limit that a stale checkpoint exceeds, by its name in that report.
    const STALE_AFTER: &'static str;

    /// The parts that both kinds have.
    fn runtime(&self) -> &Runtime<Self>;

    /// The entry of one object.
    fn entry(&self, key: &Key) -> Option<Arc<Self::Entry>>;

    /// All entries, in no particular order.
    fn entries(&self) -> Vec<Arc<Self::Entry>>;

    /// Whether this entry is still the entry of its object.
    fn is_current(&self, entry: &Self::Entry) -> bool;

    /// Adds or updates the entry of an object; returns the entry of its deleted predecessor of the same name.
    fn upsert(&self, object: &Self::Object) -> Option<Arc<Self::Entry>>;

    /// Removes an entry with its timers.
    fn remove(&self, entry: &Arc<Self::Entry>);

    /// Copies the entry.
    fn snapshot(&self, entry: &Arc<Self::Entry>, now: Now) -> Self::Snapshot;

    /// One reconcile step: observe, assess, decide, apply.
    fn step(&self, step: &mut Step<'_, Self>) -> impl Future<Output = Result<NextStep, ReconcileError>> + Send;

    /// The object with another status.
    fn with_status(object: &Self::Object, status: Self::Status) -> Self::Object;

    /// The transitions in the stored status, the newest first.
    fn transitions(object: &Self::Object) -> &[Transition];

    /// The event of the newest transition in the stored status.
    fn state_event(object: &Self::Object) -> Option<Event>;

    /// The fields of the status that a checkpoint writes.
    fn checkpoint_patch(current: &Self::Status) -> Value;

    /// Records in the entry that the status was written with the contents of the snapshot.
    fn note_written(&self, step: &Step<'_, Self>, written: &Self::Object);

    /// Compares the stored status with what this process has heard of the object: `Less` when another program has heard of
    /// it since, `Greater` when this process has.
    fn compare_knowledge(&self, _step: &Step<'_, Self>) -> Ordering {
        Ordering::Equal
    }

    /// Since when a transition of this object could have been noticed, on the wall clock: the lag of a transition is
    /// not counted from an earlier time.
    fn could_notice_since(&self, _entry: &Self::Entry, _now: Now) -> Option<Timestamp> {
        None
    }
}

/// The values of one reconcile step.
pub struct Step<'a, K: Kind> {
    /// The permit to write, from the start of the step.
    pub permit: WritePermit,
    /// The in-memory entry of the object.
    pub entry: Arc<K::Entry>,
    /// The object: as the watch delivered it, or as the operator wrote it later.
    pub object: &'a K::Object,
    /// The copy of the entry from the start of the step.
    pub live: K::Snapshot,
    /// The start of the step.
    pub now: Now,
    /// The reconcile state of the object.
    pub state: &'a mut ReconcileState<K>,
}

/// The result of `decide`.
#[derive(Clone, Debug)]
pub struct Plan<S> {
    /// The status to write; `None` when only timestamps and figures would change.
    pub status: Option<S>,
    /// The status with every timestamp and figure current: a checkpoint writes these.
    pub current: S,
    /// The events to publish after the status has been written.
    pub events: Vec<Event>,
    /// When the change that is to be written became due; `None` when the state does not change.
    pub due_at: Option<Timestamp>,
    /// Only sentences for people would change, such as the text of an error.
    pub is_words_only: bool,
}

/// Why a reconcile failed. The controller retries it.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The status was not written.
    #[error("its status was not written: {0}")]
    Status(#[from] WriteError),
    /// The token Secret was not read or written.
    #[error("its token was not delivered: {0}")]
    Secret(CallError),
    /// A step panicked, which is a defect of this program.
    #[error("a step panicked: {0}")]
    Panicked(String),
    /// The condition of an unreadable object was not written.
    #[error("the condition that says that it cannot be read was not written: {0}")]
    Unreadable(#[from] CallError),
}

impl ReconcileError {
    /// Whether the API server may have applied the status write: no definitive answer was received.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Status(error) if error.outcome_unknown())
    }

    /// The wait that the API server asked for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status(WriteError::Call(error)) | Self::Secret(error) | Self::Unreadable(error) => {
                error.retry_after()
            }
            Self::Status(WriteError::NotLeader) | Self::Panicked(_) => None,
        }
    }
}
