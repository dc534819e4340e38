//! What is told of attempts: each once, also across a restart of ours.

use jiff::Timestamp;

use super::EventDraft;
use crate::api::{Attempt, AttemptOutcome, AttemptPhase, PastAttempt, RemediationStatus};

pub(super) fn started(attempt: &Attempt, message: &str) -> EventDraft {
    begun(&attempt.id, attempt.start_time.0, message.to_owned())
}

fn begun(id: &str, at: Timestamp, note: String) -> EventDraft {
    EventDraft { reason: "RestartStarted", is_warning: false, note, at, occurrence: format!("RestartStarted/{id}") }
}

pub(super) fn outcome_of(past: &PastAttempt) -> EventDraft {
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

/// What is told again after a restart of ours: whoever wrote it may have been killed before it could tell, of the end and of
/// the beginning that another was killed over before. Told already, it is the same occurrence.
pub fn retold(status: &RemediationStatus, since: Timestamp) -> Vec<EventDraft> {
    let is_under_way = |current: &&Attempt| current.phase != AttemptPhase::Reserved;
    let under_way = status.current.as_ref().filter(is_under_way);
    let under_way =
        under_way.map(|current| started(current, &format!("a restart is under way, for {}", current.cause)));
    let ended = status.history.first().filter(|past| past.end_time.0 >= since);
    let note = |past: &PastAttempt| format!("a restart was done, for {}", past.cause);
    let restarted = ended.filter(|past| past.restarted);
    let restarted = restarted.map(|past| begun(&past.id, past.start_time.0, note(past)));
    under_way.into_iter().chain(restarted).chain(ended.map(outcome_of)).collect()
}
