//! Looks whether the workload that a Connector names exists: a wrong name is told at once, not when a restart is wanted.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::ResourceExt as _;
use kube::api::Api;

use super::assess::state_of;
use super::reconcile::Context;
use crate::api::{ConditionType, ConditionValue, Connector, Reason, WorkloadKind, WorkloadRef};
use crate::cluster::{CALL_TIMEOUT, CallError, within};
use crate::controller::remediation::Remediable as _;
use crate::controller::runtime::Step;
use crate::time::Moment;

/// The period of the look while the workload exists: that of the look at the token Secret.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// The first and the longest wait until the next look while it does not exist. It is often created together with its
/// Connector, a moment later.
const MISSING_WAITS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// A fleet that was taken over is spread over the period in this many parts.
const SPREAD: u64 = 997;

/// The result of the last look at the workload.
#[derive(Debug)]
pub struct WorkloadNote {
    /// Kind and name, as a hash: another reference is looked up at once.
    reference: u64,
    /// When to look again.
    pub(super) look_at: Moment,
    /// Since when looks have found nothing.
    missing_since: Option<Moment>,
}

/// Whether the workload of a Connector exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkloadPresence {
    /// It was not looked up now: the stored condition stands.
    Unchanged,
    /// It exists, or the spec names none.
    Present,
    /// It does not exist; the sentence says so.
    Missing(String),
}

/// The wait until the next look at a workload that has been missing for `missing`.
fn wait_while_missing(missing: Duration) -> Duration {
    missing.clamp(MISSING_WAITS.0, MISSING_WAITS.1)
}

fn hash_of(reference: &WorkloadRef) -> u64 {
    let mut hasher = DefaultHasher::new();
    (reference.kind.as_str(), &reference.name).hash(&mut hasher);
    hasher.finish()
}

/// The sentence of the condition about a workload that does not exist.
fn missing(reference: &WorkloadRef, namespace: &str) -> WorkloadPresence {
    WorkloadPresence::Missing(format!(
        "spec.workloadRef names {} {}, which does not exist in namespace {namespace}: nothing could be restarted",
        reference.kind, reference.name
    ))
}

impl Context {
    /// Looks up the workload when that is due. A transition that waits to be written goes first.
    pub(super) async fn look_up_workload_if_due(&self, step: &mut Step<'_, Self>) -> WorkloadPresence {
        let connector = step.object;
        let Some(reference) = &connector.spec.workload_ref else {
            step.state.notes.workload = None;
            return WorkloadPresence::Present;
        };
        let status = connector.status.as_ref();
        let is_turning =
            status.and_then(|status| status.state).is_some_and(|state| state != state_of(connector, &step.live));
        if connector.metadata.deletion_timestamp.is_some() || is_turning {
            return WorkloadPresence::Unchanged;
        }
        let (now, hash) = (step.now.moment, hash_of(reference));
        let spread = (step.entry.number % SPREAD) as f64 / SPREAD as f64;
        let note = step.state.notes.workload.take().map(|note| *note).filter(|note| note.reference == hash);
        let note = note.or_else(|| taken_over(connector, hash, now + LOOK_EVERY.mul_f64(spread)));
        if let Some(note) = note.as_ref().filter(|note| now < note.look_at) {
            let presence = if note.missing_since.is_some() {
                missing(reference, &connector.namespace().unwrap_or_default())
            } else {
                WorkloadPresence::Present
            };
            step.state.notes.workload = Some(Box::new(WorkloadNote { ..*note }));
            return presence;
        }
        let (presence, missing_since, wait) = match self.look_up(connector, reference).await {
            Ok(()) => (WorkloadPresence::Present, None, LOOK_EVERY),
            Err(CallError::NotFound) => {
                let since = note.and_then(|note| note.missing_since).unwrap_or(now);
                let namespace = connector.namespace().unwrap_or_default();
                (missing(reference, &namespace), Some(since), wait_while_missing(now.since(since)))
            }
            // It may exist: a failed look is no evidence. Without the permission it stays so.
            Err(CallError::Forbidden(_)) => (WorkloadPresence::Unchanged, None, LOOK_EVERY),
            Err(_) => (WorkloadPresence::Unchanged, None, MISSING_WAITS.1),
        };
        let note = WorkloadNote { reference: hash, look_at: now + wait, missing_since };
        step.state.notes.workload = Some(Box::new(note));
        presence
    }

    async fn look_up(&self, connector: &Connector, reference: &WorkloadRef) -> Result<(), CallError> {
        let WorkloadRef { kind, name } = reference;
        let namespace = connector.namespace().unwrap_or_default();
        let what = format!("reading {kind} {namespace}/{name}");
        let client = self.client.clone();
        let _permit = self.call_permit(&namespace.as_str().into()).await;
        match kind {
            WorkloadKind::Deployment => {
                let api: Api<Deployment> = Api::namespaced(client, &namespace);
                within(&what, CALL_TIMEOUT, api.get_metadata(name)).await.map(drop)
            }
            WorkloadKind::StatefulSet => {
                let api: Api<StatefulSet> = Api::namespaced(client, &namespace);
                within(&what, CALL_TIMEOUT, api.get_metadata(name)).await.map(drop)
            }
            WorkloadKind::DaemonSet => {
                let api: Api<DaemonSet> = Api::namespaced(client, &namespace);
                within(&what, CALL_TIMEOUT, api.get_metadata(name)).await.map(drop)
            }
        }
    }
}

/// The note for a Connector that a predecessor has judged by its present spec: it is looked up within the usual time.
fn taken_over(connector: &Connector, reference: u64, look_at: Moment) -> Option<WorkloadNote> {
    let observed = connector.status.as_ref().map(|status| status.observed_generation);
    let accepted = ConditionValue::stored(connector.conditions(), ConditionType::Accepted)?;
    let is_judged = observed == connector.metadata.generation && accepted.reason != Reason::WorkloadNotFound;
    is_judged.then_some(WorkloadNote { reference, look_at, missing_since: None })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn after_a_takeover_the_look_is_put_off_only_where_the_present_spec_was_judged_and_nothing_was_missing() {
        let connector = |generation: i64, reason: &str| {
            let accepted = json!({ "type": "Accepted", "status": "True", "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" });
            let object = json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "metadata": { "name": "paris", "generation": 2 },
                "spec": {}, "status": { "observedGeneration": generation, "conditions": [accepted] } });
            serde_json::from_value::<Connector>(object).unwrap()
        };
        let is_put_off = |connector: &Connector| taken_over(connector, 7, Moment::default()).is_some();
        assert!(is_put_off(&connector(2, "Accepted")));
        assert!(!is_put_off(&connector(1, "Accepted")), "the spec of now was not judged");
        assert!(!is_put_off(&connector(2, "WorkloadNotFound")), "it may have been created");
    }

    #[test]
    fn a_missing_workload_is_looked_up_soon_and_then_once_a_minute() {
        for (missing, wait) in [(0, 2), (1, 2), (10, 10), (60, 60), (86_400, 60)] {
            let waits = wait_while_missing(Duration::from_secs(missing));
            assert_eq!(waits, Duration::from_secs(wait), "missing for {missing} s");
        }
    }
}
