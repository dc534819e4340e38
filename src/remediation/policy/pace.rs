//! Checks of the pace: time unhealthy, flapping, backoff, number of attempts.

use jiff::SignedDuration;

use super::{Objection, objection};
use crate::api::Cause;
use crate::remediation::history::{FLAP_CHANGES, FLAP_WINDOW, health_changes, unhealthy_duration, unhealthy_since};
use crate::remediation::input::{ObjectHealth, PolicyInput};
use crate::remediation::text::format_time;

/// Seconds. A container that has just ended looks like one that runs with its port closed, until the kubelet has reported
/// it and the operator has gathered evidence again (5 s after the first time).
const SETTLES: i32 = 10;

/// Seconds. A unit that was stopped on purpose is started no sooner: the person may still be at work on its host.
const MEANT: i32 = 600;

/// The object is healthy, or its health is not known.
pub(super) fn not_unhealthy(input: &PolicyInput<'_>) -> Option<Objection> {
    match input.verdict.health() {
        ObjectHealth::Unhealthy => None,
        ObjectHealth::Healthy => objection("it is healthy"),
        ObjectHealth::Unknown => {
            objection("how it is now is not known, and what is not known to be unhealthy is not restarted")
        }
    }
}

/// The object has not been unhealthy for `unhealthyForSeconds`: many failures pass by themselves.
pub(super) fn not_long_enough(input: &PolicyInput<'_>) -> Option<Objection> {
    if let Some(objection) = not_unhealthy(input) {
        return Some(objection);
    }
    let asked = input.spec?.unhealthy_for_seconds;
    let is_fresh_end = input.verdict.diagnosis.as_ref().is_some_and(|found| found.cause == Cause::MainPortDead);
    let (least, what) = match input.verdict.is_stopped_on_purpose {
        true => (MEANT, "for which a stop on purpose is left alone"),
        false if is_fresh_end => (SETTLES, "after which this cause is told from a crash"),
        false => (0, ""),
    };
    let seconds = asked.max(least);
    let intervals = &input.verdict.intervals;
    let missing = SignedDuration::from_secs(seconds.into()) - unhealthy_duration(intervals, input.now);
    if missing <= SignedDuration::ZERO {
        return None;
    }
    let since = unhealthy_since(intervals).unwrap_or(input.now);
    let wanted = match seconds == asked {
        true => format!("unhealthyForSeconds ({seconds}) of time in which it was known to be"),
        false => format!("the {seconds} s {what}"),
    };
    Some(Objection {
        message: format!("unhealthy since {}, which is not yet {wanted}", format_time(since)),
        check_again_at: input.now.checked_add(missing).ok(),
    })
}

/// The object changes between healthy and unhealthy by itself; a restart would add one more change.
pub(super) fn flapping(input: &PolicyInput<'_>) -> Option<Objection> {
    let health_changes = health_changes(&input.verdict.intervals, input.status, input.now);
    // The newest FLAP_CHANGES of them, so that the message stays the same when an older one leaves the window.
    let (newest, oldest) = (health_changes.first()?, health_changes.get(FLAP_CHANGES - 1)?);
    Some(Objection {
        message: format!(
            "it changed {FLAP_CHANGES} times between healthy and unhealthy from {} to {}, and no restart of ours was the reason",
            format_time(*oldest),
            format_time(*newest)
        ),
        check_again_at: oldest.checked_add(FLAP_WINDOW).ok(),
    })
}

/// The backoff after the last attempt has not ended.
pub(super) fn cooling_down(input: &PolicyInput<'_>) -> Option<Objection> {
    let next = input.status.next_attempt_time.as_ref()?.0;
    (input.now < next).then(|| Objection {
        message: format!("the next attempt is made at {} at the earliest (backoffSeconds)", format_time(next)),
        check_again_at: Some(next),
    })
}

/// The attempts are used up: those of the object, or of all objects with its workload.
pub(super) fn gave_up(input: &PolicyInput<'_>) -> Option<Objection> {
    let spec = input.spec?;
    let own = input.status.ledger.as_ref().map_or(0, |ledger| ledger.attempts);
    let shared = input.fleet.shared_attempts;
    let max = input.fleet.shared_max.map_or(spec.max_attempts, |others| others.min(spec.max_attempts));
    if own.saturating_add(shared) < max {
        return None;
    }
    if max <= 0 {
        let whose = if spec.max_attempts <= 0 {
            "spec.remediation.maxAttempts"
        } else {
            "maxAttempts of another object with this workload"
        };
        return objection(format!("{whose} is 0: it is never restarted"));
    }
    let since = input
        .status
        .ledger
        .as_ref()
        .map(|ledger| format!(" since {}", format_time(ledger.start_time.0)))
        .unwrap_or_default();
    let reset = spec.reset_after_seconds;
    objection(if input.fleet.shared_max.is_some() || shared > 0 {
        format!(
            "the attempts of all objects with this workload are counted together, and their smallest maxAttempts is {max}: {own} were made for this one{since}, {shared} for the others; resetAfterSeconds ({reset}) of health empties its count"
        )
    } else {
        format!(
            "maxAttempts ({max}) are used up: {own} were made{since}; resetAfterSeconds ({reset}) of health empties the count"
        )
    })
}
