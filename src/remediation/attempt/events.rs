//! Events of attempts: each is published once, also across a restart of the operator.

use jiff::Timestamp;

use super::result::EventDraft;
use crate::api::{Attempt, AttemptOutcome, AttemptPhase, PastAttempt, RemediationStatus};

/// `RestartStarted` of an attempt in progress.
pub(super) fn started(attempt: &Attempt, message: &str) -> EventDraft {
    restart_started(&attempt.id, attempt.start_time.0, message.to_owned())
}

fn restart_started(id: &str, at: Timestamp, note: String) -> EventDraft {
    EventDraft { reason: "RestartStarted", is_warning: false, note, at, occurrence: format!("RestartStarted/{id}") }
}

/// The event of an attempt that ended.
pub(super) fn ended(past: &PastAttempt) -> EventDraft {
    let reason = match past.outcome {
        AttemptOutcome::Succeeded => "RestartSucceeded",
        AttemptOutcome::NotCured => "RestartNotCured",
        AttemptOutcome::RolloutFailed
        | AttemptOutcome::TimedOut
        | AttemptOutcome::Superseded
        | AttemptOutcome::Recalled
        | AttemptOutcome::Abandoned
        | AttemptOutcome::Refused => "RestartFailed",
    };
    EventDraft {
        reason,
        is_warning: past.outcome != AttemptOutcome::Succeeded,
        note: format!("{}: {}", past.outcome, past.message),
        at: past.end_time.0,
        occurrence: format!("{reason}/{}", past.id),
    }
}

/// Events of the newest attempts that ended since `since` or are in progress, to publish again after a restart of the
/// operator: the process that wrote the status may have been killed before it published the end, and an earlier one
/// before it published the start. An event that was published already is the same occurrence.
pub fn events_to_repeat(status: &RemediationStatus, since: Timestamp) -> Vec<EventDraft> {
    let is_started = |current: &&Attempt| current.phase != AttemptPhase::Reserved;
    let current = status.current.as_ref().filter(is_started);
    let current = current.map(|current| started(current, &format!("a restart is under way, for {}", current.cause)));
    let past = status.history.first().filter(|past| past.end_time.0 >= since);
    let note = |past: &PastAttempt| format!("a restart was done, for {}", past.cause);
    let restarted = past.filter(|past| past.restarted);
    let restarted = restarted.map(|past| restart_started(&past.id, past.start_time.0, note(past)));
    current.into_iter().chain(restarted).chain(past.map(ended)).collect()
}
