//! The one writer of status: leader only, bounded, limited in time, and counted.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use thiserror::Error;
use tokio::sync::Semaphore;

use super::call::{CALL_TIMEOUT, CallError, within};
use crate::clock::Clock;
use crate::leader::Permit;

/// Who writes, in `metadata.managedFields`; without it the API server records `unknown`.
pub const FIELD_MANAGER: &str = "vigie";

/// Transitions in flight at once: measured, an API server gives no more writes per second beyond 8 to 32
/// (liveness.md, "Last contact in etcd").
const TRANSITIONS_IN_FLIGHT: usize = 16;

/// Checkpoints in flight at once. They have places of their own, so that a transition never waits behind one.
const CHECKPOINTS_IN_FLIGHT: usize = 4;

/// Why a status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteReason {
    /// Something visible changed.
    Transition,
    /// Nothing but the last contact changed.
    Checkpoint,
    /// An attempt is reserved, or its outcome recorded.
    Remedy,
}

impl WriteReason {
    /// Every reason, for registering metrics.
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

/// Who counts our writes.
pub trait WriteMetrics: Send + Sync {
    /// One request was sent. `result` is `ok`, a [`CallError::result_label`], or `abandoned` when we stopped waiting
    /// for the answer because the task was ended.
    fn wrote(&self, reason: WriteReason, result: &'static str);
}

/// Why a status was not written, as far as we know.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The permit ran out before the request could be sent. Nothing was sent.
    #[error("not written: we do not lead any more")]
    NotLeader,
    /// The request failed, or could not be made.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// The one writer of status. Cloning is cheap, and clones share the places in flight.
///
/// Give it [`Api`]s that are made of [`super::Clients::lease`], which sends each request once: then one call here is
/// one request, and none is sent after the permit ran out.
#[derive(Clone)]
pub struct StatusWriter {
    clock: Clock,
    metrics: Arc<dyn WriteMetrics>,
    transitions: Arc<Semaphore>,
    checkpoints: Arc<Semaphore>,
}

impl StatusWriter {
    /// A writer with all its places free.
    pub fn new(clock: Clock, metrics: Arc<dyn WriteMetrics>) -> Self {
        Self {
            clock,
            metrics,
            transitions: Arc::new(Semaphore::new(TRANSITIONS_IN_FLIGHT)),
            checkpoints: Arc::new(Semaphore::new(CHECKPOINTS_IN_FLIGHT)),
        }
    }

    /// Replaces the status of `object`, which carries the resourceVersion that was read; gives the object as written.
    ///
    /// # Errors
    /// [`WriteError::NotLeader`] when the permit ran out before a place in flight was free;
    /// [`CallError::Conflict`] when the object was changed meanwhile; [`CallError::Invalid`], with nothing sent, when
    /// it carries no resourceVersion, without which nothing would hold back a leader that is none any more.
    pub async fn replace<K>(&self, permit: &Permit, api: &Api<K>, object: &K) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let name = object.name_any();
        let what = format!("writing the status of {} {}", K::kind(&()), path(api, &name));
        fenced(&what, object.meta().resource_version.as_deref().unwrap_or_default())?;
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let call = async { api.replace_status(&name, &params, object).await };
        self.send(WriteReason::Transition, permit, &what, call).await
    }

    /// Merges `status_patch` into the status of one object, if it still has `resource_version`.
    ///
    /// `status_patch` is what stands *under* `status`, such as `{"lastHeartbeatTime": "…"}`.
    ///
    /// # Errors
    /// As [`StatusWriter::replace`].
    pub async fn checkpoint<K>(
        &self,
        permit: &Permit,
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
        self.send(WriteReason::Checkpoint, permit, &what, call).await
    }

    async fn send<T>(
        &self,
        reason: WriteReason,
        permit: &Permit,
        what: &str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, WriteError> {
        let places = match reason {
            WriteReason::Checkpoint => &self.checkpoints,
            WriteReason::Transition | WriteReason::Remedy => &self.transitions,
        };
        let _place = places.acquire().await.expect("the semaphores are never closed");
        // Asked again here: the wait for the place may have outlasted the permit.
        if !permit.is_current(self.clock.now()) {
            return Err(WriteError::NotLeader);
        }
        let mut sent = Sent { metrics: self.metrics.as_ref(), reason, result: "abandoned" };
        let answer = within(what, CALL_TIMEOUT, call).await;
        sent.result = answer.as_ref().map_or_else(CallError::result_label, |_| "ok");
        Ok(answer?)
    }
}

/// A request that was sent; counted when it is dropped, so that one whose task is ended is counted too.
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
