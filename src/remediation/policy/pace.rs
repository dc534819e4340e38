//! How long, how often, and how many times.

use jiff::SignedDuration;

use super::{Objection, no};
use crate::api::Cause;
use crate::remediation::history::{FLAP_WINDOW, FLAPS, bad_for, turns, unhealthy_since};
use crate::remediation::input::{Health, PolicyInput};
use crate::remediation::text::stamp;

/// A container that has just ended looks like one that runs with its port closed, until the kubelet has said so and we
/// have looked again (seconds; the second look comes 5 s after the first).
const SETTLES: i32 = 10;

/// It is healthy, or nobody knows.
pub(super) fn not_unhealthy(s: &PolicyInput<'_>) -> Option<Objection> {
    match s.verdict.health() {
        Health::Unhealthy => None,
        Health::Healthy => no("it is healthy"),
        Health::Unknown => no("how it is now is not known, and what is not known to be unhealthy is not restarted"),
    }
}

/// Many things pass by themselves.
pub(super) fn not_long_enough(s: &PolicyInput<'_>) -> Option<Objection> {
    if let Some(no) = not_unhealthy(s) {
        return Some(no);
    }
    let asked = s.spec?.unhealthy_for_seconds;
    let is_fresh_end = s.verdict.diagnosis.as_ref().is_some_and(|found| found.cause == Cause::MainPortDead);
    let seconds = if is_fresh_end { asked.max(SETTLES) } else { asked };
    let spells = &s.verdict.spells;
    let missing = SignedDuration::from_secs(seconds.into()) - bad_for(spells, s.now);
    if missing <= SignedDuration::ZERO {
        return None;
    }
    let since = unhealthy_since(spells).unwrap_or(s.now);
    let of =
        if seconds == asked { "unhealthyForSeconds" } else { "what this cause takes to be told from a crash, in s" };
    Some(Objection {
        message: format!(
            "unhealthy since {}, which is not yet {of} ({seconds}) of time in which it was known to be",
            stamp(since)
        ),
        again: s.now.checked_add(missing).ok(),
    })
}

/// It comes and goes by itself; a restart would be one change more.
pub(super) fn flapping(s: &PolicyInput<'_>) -> Option<Objection> {
    let turns = turns(&s.verdict.spells, s.status, s.now);
    // The newest of them: as many as it takes, so that the words stay when an older one is forgotten.
    let (newest, oldest) = (turns.first()?, turns.get(FLAPS - 1)?);
    Some(Objection {
        message: format!(
            "it changed {FLAPS} times between healthy and unhealthy from {} to {}, and no restart of ours was the reason",
            stamp(*oldest),
            stamp(*newest)
        ),
        again: oldest.checked_add(FLAP_WINDOW).ok(),
    })
}

/// The backoff after the last attempt.
pub(super) fn cooling_down(s: &PolicyInput<'_>) -> Option<Objection> {
    let next = s.status.next_attempt_time.as_ref()?.0;
    (s.now < next).then(|| Objection {
        message: format!("the next attempt is made at {} at the earliest (backoffSeconds)", stamp(next)),
        again: Some(next),
    })
}

/// The budget is used up: that of the object, or of all who share its workload.
pub(super) fn gave_up(s: &PolicyInput<'_>) -> Option<Objection> {
    let spec = s.spec?;
    let own = s.status.ledger.as_ref().map_or(0, |ledger| ledger.attempts);
    let shared = s.around.shared_attempts;
    let max = s.around.shared_max.map_or(spec.max_attempts, |others| others.min(spec.max_attempts));
    if own.saturating_add(shared) < max {
        return None;
    }
    if max <= 0 {
        let whose = if spec.max_attempts <= 0 {
            "spec.remediation.maxAttempts"
        } else {
            "maxAttempts of another object with this workload"
        };
        return no(format!("{whose} is 0: it is never restarted"));
    }
    let since =
        s.status.ledger.as_ref().map(|ledger| format!(" since {}", stamp(ledger.start_time.0))).unwrap_or_default();
    let reset = spec.reset_after_seconds;
    no(if s.around.shared_max.is_some() || shared > 0 {
        format!(
            "the attempts of all objects with this workload are counted together, and their smallest maxAttempts is {max}: {own} were made for this one{since}, {shared} for the others; resetAfterSeconds ({reset}) of health empties its count"
        )
    } else {
        format!(
            "maxAttempts ({max}) are used up: {own} were made{since}; resetAfterSeconds ({reset}) of health empties the count"
        )
    })
}
