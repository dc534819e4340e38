//! Retries failed reconciles, such as a failed write of the status.

use std::sync::Arc;
use std::time::Duration;

use kube::Resource as _;

use super::calls::CallKind;
use super::kind::{Kind, ObjectEntry as _, ReconcileError};
use super::queue::Action;
use super::shared::Runtime;
use super::wake::Guarded;
use crate::api::Key;
use crate::cluster::WriteError;
use crate::controller::remediation::Remediable as _;
use crate::schedule::checkpoints::Checkpointed as _;

/// The wait after a write whose turn came later than its permit lasted.
const AFTER_LOST_PERMIT: Duration = Duration::from_millis(200);

/// The wait before an unreadable object is tried again.
const AFTER_UNREADABLE: Duration = Duration::from_secs(60);

/// Failed reconciles are retried without end, with growing waits. The second, fourth, eighth … failure in a row is logged
/// as a warning.
pub fn retry<K: Kind>(object: Arc<Guarded<K::Object>>, error: &ReconcileError, kind: Arc<K>) -> Action {
    let Ok(object) = &object.0 else { return Action::requeue(AFTER_UNREADABLE) };
    let Some(entry) = kind.entry(&Key::of(object.meta())) else { return Action::await_change() };
    if matches!(error, ReconcileError::Status(WriteError::NotLeader)) {
        // The write waited longer for its turn than its permit lasted. A new leader, or this replica when it leads
        // again, reconciles everything again.
        return Action::requeue(AFTER_LOST_PERMIT);
    }
    let runtime = kind.runtime();
    log_failure::<K>(&entry, CallKind::Status, error, error.retry_after(), runtime);
    let now = runtime.clock.now();
    runtime.states.write_wait(entry.number(), now).map_or_else(|| Action::requeue(Duration::ZERO), Action::requeue)
}

/// Notes that a call about an object failed, and logs the second, fourth, eighth … failure in a row as a warning.
pub fn log_failure<K: Kind>(
    entry: &K::Entry,
    call: CallKind,
    error: &dyn std::fmt::Display,
    asked: Option<Duration>,
    runtime: &Runtime<K>,
) {
    let failures = runtime.call_failed(entry, call, asked);
    let (kind, Key { namespace, name }) = (K::Object::KIND, entry.key());
    if failures.is_power_of_two() && failures > 1 {
        tracing::warn!(kind, %namespace, %name, %error, failures, "not done yet; trying again until it is");
    } else {
        tracing::debug!(kind, %namespace, %name, %error, "trying again");
    }
}
