//! The only writer of status: requires a permit of the leader, limits concurrency and time, and counts each request.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use thiserror::Error;

use super::call::{CALL_TIMEOUT, CallError, within};
use crate::leadership::WritePermit;
use crate::schedule::FairShare;
use crate::time::Clock;

/// The field manager in `metadata.managedFields`; without one the API server records `unknown`.
pub const FIELD_MANAGER: &str = "vigie";

/// Transitions in flight at once: measured, an API server gives no more writes per second beyond 8 to 32
/// (`docs/design/liveness.md`, "Last contact in etcd"). Namespaces share them: one alone has 16 in flight, and the next one
/// finds a free place however many objects of the first change at once.
const TRANSITIONS_IN_FLIGHT: usize = 32;

/// Checkpoints in flight at once. They have slots of their own, so that a transition never waits for a checkpoint. One
/// namespace alone has 4 in flight: where its writes take long, as behind a slow admission webhook, an object of another
/// one would wait with its checkpoint, and its next transition behind that.
const CHECKPOINTS_IN_FLIGHT: usize = 8;

/// The reason of a status write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteReason {
    /// A visible change.
    Transition,
    /// Only the last contact changed.
    Checkpoint,
    /// The reservation or the outcome of an attempt.
    Remedy,
}

impl WriteReason {
    /// All reasons, for the registration of metrics.
    pub const ALL: &'static [Self] = &[Self::Transition, Self::Checkpoint, Self::Remedy];

    /// The reason as a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transition => "transition",
            Self::Checkpoint => "checkpoint",
            Self::Remedy => "remedy",
        }
    }
}

/// Counts the writes.
pub trait WriteMetrics: Send + Sync {
    /// Counts one request. `result` is `ok`, a [`CallError::result_label`], or `abandoned` when the task was cancelled before
    /// the response.
    fn wrote(&self, reason: WriteReason, result: &'static str);
}

/// The error of a status write.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The permit expired before the request could be sent. Nothing was sent.
    #[error("not written: we do not lead any more")]
    NotLeader,
    /// The request failed, or could not be built.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl WriteError {
    /// Whether the status may have been written: no definitive answer was received.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::NotLeader => false,
            Self::Call(error) => error.outcome_unknown(),
        }
    }
}

/// The only writer of status. Cloning is cheap, and clones share the slots.
///
/// Callers pass [`Api`]s of [`super::Clients::no_retry`], which sends each request once: then one call here is one
/// request, and none is sent after the permit expired.
#[derive(Clone)]
pub struct StatusWriter {
    clock: Clock,
    metrics: Arc<dyn WriteMetrics>,
    transitions: FairShare,
    checkpoints: FairShare,
}

impl StatusWriter {
    /// A writer with all slots free.
    pub fn new(clock: Clock, metrics: Arc<dyn WriteMetrics>) -> Self {
        Self {
            clock,
            metrics,
            transitions: FairShare::new(TRANSITIONS_IN_FLIGHT),
            checkpoints: FairShare::new(CHECKPOINTS_IN_FLIGHT),
        }
    }

    /// Replaces the status of `object`, if it still has the resourceVersion of `object`; returns the object as written.
    ///
    /// # Errors
    /// [`WriteError::NotLeader`] when the permit expired before a slot was free; [`CallError::Conflict`] when the object was
    /// changed meanwhile; [`CallError::Invalid`], with nothing sent, when it has no resourceVersion, which is what stops the
    /// write of a former leader.
    pub async fn replace<K>(
        &self,
        reason: WriteReason,
        permit: &WritePermit,
        api: &Api<K>,
        object: &K,
    ) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let name = object.name_any();
        let what = format!("writing the status of {} {}", K::kind(&()), path(api, &name));
        fenced(&what, object.meta().resource_version.as_deref().unwrap_or_default())?;
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let call = async { api.replace_status(&name, &params, object).await };
        self.send(reason, (permit, api.namespace()), &what, call).await
    }

    /// Merges `status_patch` into the status of one object, if it still has `resource_version`.
    ///
    /// `status_patch` is the content of `status`, such as `{"lastHeartbeatTime": "…"}`.
    ///
    /// # Errors
    /// As [`StatusWriter::replace`].
    pub async fn checkpoint<K>(
        &self,
        permit: &WritePermit,
        api: &Api<K>,
        name: &str,
        resource_version: &str,
        status_patch: serde_json::Value,
    ) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let what = format!("writing a checkpoint of {} {}", K::kind(&()), path(api, name));
        fenced(&what, resource_version)?;
        let patch = json!({ "metadata": { "resourceVersion": resource_version }, "status": status_patch });
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(patch);
        let call = async { api.patch_status(name, &params, &patch).await };
        self.send(WriteReason::Checkpoint, (permit, api.namespace()), &what, call).await
    }

    async fn send<T>(
        &self,
        reason: WriteReason,
        (permit, namespace): (&WritePermit, Option<&str>),
        what: &str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, WriteError> {
        let slots = match reason {
            WriteReason::Checkpoint => &self.checkpoints,
            WriteReason::Transition | WriteReason::Remedy => &self.transitions,
        };
        let _slot = slots.acquire(&namespace.unwrap_or_default().into(), false).await;
        // Checked again: the wait for the slot may have outlasted the permit.
        if !permit.is_current(self.clock.now()) {
            return Err(WriteError::NotLeader);
        }
        let mut sent = Sent { metrics: self.metrics.as_ref(), reason, result: "abandoned" };
        let result = within(what, CALL_TIMEOUT, call).await;
        sent.result = result.as_ref().map_or_else(CallError::result_label, |_| "ok");
        Ok(result?)
    }
}

/// A request that was sent. It is counted when it is dropped, so that a request of a cancelled task is counted too.
struct Sent<'a> {
    metrics: &'a dyn WriteMetrics,
    reason: WriteReason,
    result: &'static str,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.metrics.wrote(self.reason, self.result);
    }
}

fn path<K: Resource>(api: &Api<K>, name: &str) -> String {
    api.namespace().map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

fn fenced(what: &str, resource_version: &str) -> Result<(), WriteError> {
    if resource_version.is_empty() {
        return Err(CallError::Invalid(format!("{what}: the resourceVersion that was read is missing")).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
