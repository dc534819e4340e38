//! What is told of attempts: each once, also across a restart of ours.

use jiff::Timestamp;

use super::Told;
use crate::api::{Attempt, AttemptOutcome, AttemptPhase, PastAttempt, RemediationStatus};

pub(super) fn started(attempt: &Attempt, message: &str) -> Told {
    Told {
        reason: "RestartStarted",
        is_warning: false,
        note: message.to_owned(),
        at: attempt.start_time.0,
        occurrence: format!("RestartStarted/{}", attempt.id),
    }
}

pub(super) fn outcome_of(past: &PastAttempt) -> Told {
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
    Told {
        reason,
        is_warning: past.outcome != AttemptOutcome::Succeeded,
        note: format!("{}: {}", past.outcome, past.message),
        at: past.end_time.0,
        occurrence: format!("{reason}/{}", past.id),
    }
}

/// What is told again after a restart of ours: whoever wrote it may have been killed before it could tell. Told already,
/// it is the same occurrence.
pub fn retold(status: &RemediationStatus, since: Timestamp) -> Vec<Told> {
    let ended = status.history.first().filter(|past| past.end_time.0 >= since);
    let begun = status.current.as_ref().filter(|current| current.phase != AttemptPhase::Reserved);
    let begun = begun.map(|current| started(current, &format!("a restart is under way, for {}", current.cause)));
    begun.into_iter().chain(ended.map(outcome_of)).collect()
}
