//! Retries failed reconciles, such as a failed write of the status.

use std::sync::Arc;
use std::time::Duration;

use kube::Resource as _;
use kube::runtime::controller::Action;

use super::kind::{Kind, ObjectEntry as _, ReconcileError};
use super::wake::Guarded;
use crate::api::Key;
use crate::cluster::WriteError;
use crate::controller::remediation::Remediable as _;
use crate::schedule::checkpoints::Checkpointed as _;

/// The first wait after a failure; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Transitions are retried without end. This wait is long enough not to hurt an API server in trouble, and short enough
/// that a recovered API server soon receives what is outstanding.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

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
    let failures = kind.runtime().states.failed(entry.number());
    let (kind, Key { namespace, name }) = (K::Object::KIND, entry.key());
    if failures.is_power_of_two() && failures > 1 {
        tracing::warn!(kind, %namespace, %name, %error, failures, "not done yet; trying again until it is");
    } else {
        tracing::debug!(kind, %namespace, %name, %error, "trying again");
    }
    Action::requeue(wait_after(failures))
}

/// The wait until the next try, by the number of failures in a row, at least one.
pub fn wait_after(failures: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_WAIT)
}
