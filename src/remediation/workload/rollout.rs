//! Progress of a rollout, as `kubectl rollout status` evaluates it (kubectl, polymorphichelpers/rollout_status.go).
//!
//! One state is added. kubectl waits for availability whatever the cause of its loss. Here replicas that all have the newest
//! template and are not available are [`Rollout::Unavailable`]: a hung process that fails its readiness probe looks the same,
//! and a restart is meant for that.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};

use crate::cluster::revisions::is_observed;
use crate::remediation::Rollout;

/// Reason of `Progressing` of a Deployment whose new replicas were not ready in time.
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
/// Reason of `Progressing` of a Deployment whose last rollout completed. It stays until the next rollout, also when replicas
/// fail.
const FINISHED: &str = "NewReplicaSetAvailable";

pub(super) fn of_deployment(deployment: &Deployment) -> Rollout {
    let status = deployment.status.clone().unwrap_or_default();
    if !is_observed(&deployment.metadata, status.observed_generation) {
        return unobserved();
    }
    let mut conditions = status.conditions.iter().flatten();
    let progressing = conditions.find(|condition| condition.type_ == "Progressing");
    let reason = progressing.and_then(|condition| condition.reason.as_deref());
    if let Some(failed) = progressing.filter(|_| reason == Some(TIMED_OUT)) {
        let words = failed.message.clone().unwrap_or_default();
        return Rollout::Failed(if words.is_empty() { TIMED_OUT.to_owned() } else { words });
    }
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let updated = status.updated_replicas.unwrap_or(0);
    let old = status.replicas.unwrap_or(0) - updated;
    let available = status.available_replicas.unwrap_or(0);
    match () {
        () if updated < wanted => not_updated(updated, wanted),
        () if old > 0 => Rollout::InProgress(format!("{old} replicas with an old template are left")),
        () if available >= updated => Rollout::Complete,
        // Without the condition (no progress deadline) a rollout and unhealthy replicas cannot be told apart.
        () if reason.is_none() || reason == Some(FINISHED) => Rollout::Unavailable(figures(available, updated)),
        () => Rollout::InProgress(figures(available, updated)),
    }
}

pub(super) fn of_stateful_set(set: &StatefulSet) -> Rollout {
    let (spec, status) = (set.spec.clone().unwrap_or_default(), set.status.clone().unwrap_or_default());
    if !is_observed(&set.metadata, status.observed_generation) {
        return unobserved();
    }
    let wanted = spec.replicas.unwrap_or(1);
    let rolling = spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    // Replicas below the partition keep the old template on purpose.
    let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or(0);
    let due = if is_on_delete_set(set) { 0 } else { wanted - partition };
    let (updated, available) = (status.updated_replicas.unwrap_or(0), status.available_replicas.unwrap_or(0));
    match () {
        () if updated < due => not_updated(updated, due),
        () if status.replicas > wanted => {
            Rollout::InProgress(format!("{} replicas exist, not {wanted}", status.replicas))
        }
        () if available < wanted => Rollout::Unavailable(figures(available, wanted)),
        () => Rollout::Complete,
    }
}

pub(super) fn of_daemon_set(set: &DaemonSet) -> Rollout {
    let status = set.status.clone().unwrap_or_default();
    if !is_observed(&set.metadata, status.observed_generation) {
        return unobserved();
    }
    let wanted = status.desired_number_scheduled;
    let (updated, available) = (status.updated_number_scheduled.unwrap_or(0), status.number_available.unwrap_or(0));
    match () {
        () if updated < wanted && !is_on_delete_daemon(set) => not_updated(updated, wanted),
        () if available < wanted => Rollout::Unavailable(figures(available, wanted)),
        () => Rollout::Complete,
    }
}

/// Whether the update strategy of a StatefulSet is `OnDelete`: an old template is no rollout then.
pub(super) fn is_on_delete_set(set: &StatefulSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("OnDelete"))
}

/// Whether the update strategy of a DaemonSet is `OnDelete`.
pub(super) fn is_on_delete_daemon(set: &DaemonSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("OnDelete"))
}

fn unobserved() -> Rollout {
    Rollout::InProgress("its controller has not seen the newest spec yet".to_owned())
}

fn not_updated(updated: i32, due: i32) -> Rollout {
    Rollout::InProgress(format!("{updated} of {due} replicas have the newest template"))
}

fn figures(available: i32, of: i32) -> String {
    format!("{available} of {of} replicas are available")
}
