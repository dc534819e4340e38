//! The log lines about objects: one for each transition and for each step of an attempt, with the same fields for both
//! kinds (docs/operations.md, "Logs"). They are written after the status, so
//! every logged transition is stored.

use crate::api::{Attempt, AttemptOutcome, BackendState, ConnectorState, Key, RemediationStatus, Transition};

/// The object of a log line.
#[derive(Clone, Copy, Debug)]
pub struct LogSubject<'a> {
    /// The kind, as in manifests.
    pub kind: &'static str,
    /// Its namespace and name.
    pub key: &'a Key,
}

/// Logs a transition, as a warning if the object is Offline or Down.
pub fn transition(LogSubject { kind, key: Key { namespace, name } }: LogSubject<'_>, latest: &Transition) {
    let Transition { from, to, cause, time } = latest;
    let from = from.as_deref().unwrap_or_default();
    let cause = cause.map_or("", |cause| cause.as_str());
    let since = time.0;
    if [ConnectorState::Offline.as_str(), BackendState::Down.as_str()].contains(&to.as_str()) {
        tracing::warn!(kind, %namespace, %name, from, to, cause, %since, "transition");
    } else {
        tracing::info!(kind, %namespace, %name, from, to, cause, %since, "transition");
    }
}

/// One step of an attempt, by the status of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptStep<'a> {
    attempt: &'a str,
    cause: &'a str,
    /// `Reserved`, `Restarting`, `Verifying` or `Ended`.
    step: &'static str,
    /// The restart unit, while the attempt has not ended.
    act: &'static str,
    outcome: Option<AttemptOutcome>,
    reason: &'a str,
}

/// The steps between two statuses, in their order.
pub fn steps<'a>(before: Option<&RemediationStatus>, after: &'a RemediationStatus) -> Vec<AttemptStep<'a>> {
    let last = before.and_then(|before| before.history.first()).map(|past| past.id.as_str());
    let ended = after.history.first().filter(|past| last != Some(&past.id)).map(|past| AttemptStep {
        attempt: &past.id,
        cause: &past.cause,
        step: "Ended",
        act: "",
        outcome: Some(past.outcome),
        reason: &past.message,
    });
    let known = |of: &Attempt| (of.id.clone(), of.phase);
    let was = before.and_then(|before| before.current.as_ref()).map(known);
    let current = after.current.as_ref().filter(|current| was.as_ref() != Some(&known(current)));
    let going = current.map(|current| AttemptStep {
        attempt: &current.id,
        cause: &current.cause,
        step: current.phase.as_str(),
        act: act_of(current),
        outcome: None,
        reason: "",
    });
    ended.into_iter().chain(going).collect()
}

fn act_of(attempt: &Attempt) -> &'static str {
    match (&attempt.pod_name, &attempt.workload_uid) {
        (Some(_), _) => "Pod",
        (None, Some(_)) => "Rollout",
        (None, None) => "Agent",
    }
}

/// Logs a step, as a warning if the attempt ended without success.
pub fn attempt(LogSubject { kind, key: Key { namespace, name } }: LogSubject<'_>, step: AttemptStep<'_>) {
    let AttemptStep { attempt, cause, step, act, outcome, reason } = step;
    let is_in_vain = outcome.is_some_and(|outcome| outcome != AttemptOutcome::Succeeded);
    let outcome = outcome.map_or("", AttemptOutcome::as_str);
    if is_in_vain {
        tracing::warn!(kind, %namespace, %name, attempt, step, act, cause, outcome, reason, "attempt");
    } else {
        tracing::info!(kind, %namespace, %name, attempt, step, act, cause, outcome, reason, "attempt");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(current: Option<&str>, ended: Option<&str>) -> RemediationStatus {
        let at = "2026-11-22T12:00:00Z";
        let mut status = json!({});
        if let Some(phase) = current {
            status["current"] = json!({"id": "new", "cause": "WireGuardDown", "startTime": at, "phase": phase,
                "notAfter": at, "workloadUID": "uid"});
        }
        if let Some(id) = ended {
            status["history"] = json!([{"id": id, "cause": "ProcessDown", "outcome": "NotCured", "restarted": true,
                "cured": false, "startTime": at, "endTime": at, "message": "still Offline"}]);
        }
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn each_phase_is_one_step_and_standing_still_is_none() {
        let reserved = status(Some("Reserved"), None);
        let steps_of =
            |before, after| steps(before, after).iter().map(|step| (step.step, step.act)).collect::<Vec<_>>();
        assert_eq!(steps_of(None, &reserved), [("Reserved", "Rollout")]);
        assert_eq!(steps_of(Some(&reserved), &reserved), []);
        assert_eq!(steps_of(Some(&reserved), &status(Some("Verifying"), None)), [("Verifying", "Rollout")]);
    }

    #[test]
    fn an_end_tells_how_and_comes_before_a_new_beginning() {
        let (before, after) = (status(None, Some("old")), status(Some("Reserved"), Some("older-new")));
        let told = steps(Some(&before), &after);
        assert_eq!(told.iter().map(|step| step.step).collect::<Vec<_>>(), ["Ended", "Reserved"]);
        let AttemptStep { attempt, cause, outcome, reason, .. } = told[0];
        assert_eq!((attempt, cause, reason), ("older-new", "ProcessDown", "still Offline"));
        assert_eq!(outcome, Some(AttemptOutcome::NotCured));
        assert_eq!(steps(Some(&before), &before), []);
    }
}
