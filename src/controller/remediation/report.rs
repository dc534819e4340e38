//! The parts of a step result that a reconcile uses, in the controller's types.

use std::time::Duration;

use jiff::Timestamp;

use super::FollowUp;
use super::subject::Remediable;
use crate::api::{Condition, ConditionType, RemediationStatus, conditions};
use crate::cluster::WriteReason;
use crate::cluster::events::{Event, EventType};
use crate::remediation::attempt::{EventDraft, StepResult};
use crate::view::RemedyView;

/// The reason of the status write that `result` is part of.
pub fn write_reason<K: Remediable>(before: &K, result: &StepResult, is_transition: bool) -> WriteReason {
    let current = before.remediation_status().and_then(|status| status.current.as_ref());
    let is_remedy = !is_transition && current != result.status.current.as_ref();
    if is_remedy { WriteReason::Remedy } else { WriteReason::Transition }
}

/// When the next step of an object is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// At once.
    Now,
    /// After this time; `None`: at the next change.
    Wait(Option<Duration>),
}

/// When the next step is due because of `result`.
pub fn next_step(result: &StepResult, follow_up: FollowUp, now: Timestamp) -> NextStep {
    let wait = result.check_again_at.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
    match follow_up {
        FollowUp::Immediate => NextStep::Now,
        FollowUp::After(wait) => NextStep::Wait(Some(wait)),
        FollowUp::Scheduled if wait == Some(Duration::ZERO) => NextStep::Now,
        FollowUp::Scheduled => NextStep::Wait(wait),
    }
}

/// The remediation of an object in the live view.
pub fn view(conditions: &[Condition], status: Option<&RemediationStatus>) -> RemedyView {
    let remediating = conditions::get(conditions, ConditionType::Remediating);
    let idle = remediating.filter(|condition| condition.status == "False");
    RemedyView {
        denial: idle.and_then(|condition| condition.reason.parse().ok()),
        last_outcome: status.and_then(|status| status.history.first()).map(|past| past.outcome),
    }
}

/// The events to publish about the object.
pub fn events(drafts: &[EventDraft]) -> impl Iterator<Item = Event> + '_ {
    drafts.iter().map(|draft| Event {
        kind: if draft.is_warning { EventType::Warning } else { EventType::Normal },
        reason: draft.reason,
        action: "Restart",
        note: draft.note.clone(),
        at: draft.at,
        occurrence: draft.occurrence.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{AttemptOutcome, Denial, Reason, Truth, condition};

    #[test]
    fn a_view_has_the_denial_that_stands_and_the_last_outcome() {
        let at = "2026-11-22T12:00:00Z";
        let status: RemediationStatus = serde_json::from_value(json!({"history": [
            {"id": "b", "cause": "Hung", "outcome": "TimedOut", "restarted": true, "cured": false, "startTime": at, "endTime": at},
            {"id": "a", "cause": "Hung", "outcome": "Succeeded", "restarted": true, "cured": true, "startTime": at, "endTime": at},
        ]}))
        .expect("it is a status");
        let remediating = |truth, reason| [condition(ConditionType::Remediating, truth, reason, String::new(), 1)];
        let denial = view(&remediating(Truth::False, Reason::GaveUp), Some(&status));
        assert_eq!(denial, RemedyView { denial: Some(Denial::GaveUp), last_outcome: Some(AttemptOutcome::TimedOut) });
        assert_eq!(view(&remediating(Truth::False, Reason::Idle), None), RemedyView::default());
        assert_eq!(view(&remediating(Truth::True, Reason::RestartInProgress), None).denial, None);
    }
}
