//! What is known of the cause, and how well.

use super::target::workload;
use super::{Objection, no};
use crate::api::{AttemptOutcome, Confidence, Diagnosis, PastAttempt, RestartHelps};
use crate::remediation::input::{InsideView, Lookup, PolicyInput, RestartMeans, Rollout};
use crate::remediation::text::{some, stamp};

/// A restart restores what was; there was nothing.
pub(super) fn never_healthy(s: &PolicyInput<'_>) -> Option<Objection> {
    if s.verdict.was_healthy {
        None
    } else {
        no("it was never healthy, so there is nothing that a restart would restore")
    }
}

/// Most of its site is silent.
pub(super) fn mass_silence(s: &PolicyInput<'_>) -> Option<Objection> {
    let counts = s.verdict.mass_silence.as_deref()?;
    no(format!("its site is silent as a whole, so the way to us is the suspect: {counts}"))
}

/// We do not see.
pub(super) fn blind(s: &PolicyInput<'_>) -> Option<Objection> {
    no(format!("we cannot see it at present: {}", s.verdict.blind.as_deref()?))
}

/// The cause is not one that goes away with the process.
pub(super) fn cannot_help(s: &PolicyInput<'_>) -> Option<Objection> {
    if let Some((workload, Rollout::Failed(why))) = workload(s).map(|workload| (workload, &workload.rollout)) {
        let called = &workload.called;
        return no(format!("the last rollout of {called} failed, and a restart rolls out the same again: {why}"));
    }
    match &s.verdict.diagnosis {
        None => no("no cause is known, so nothing says that a restart would help"),
        Some(Diagnosis { cause, message, restart_helps: RestartHelps::No, .. }) => {
            no(format!("a restart does not cure {cause}: {message}"))
        }
        Some(_) => None,
    }
}

/// Once, for this cause, was in vain.
pub(super) fn already_tried(s: &PolicyInput<'_>) -> Option<Objection> {
    let diagnosis = s.verdict.diagnosis.as_ref().filter(|found| found.restart_helps == RestartHelps::Once)?;
    let ledger = s.status.ledger.as_ref()?;
    let is_failed = |past: &&PastAttempt| {
        matches!(past.outcome, AttemptOutcome::NotCured | AttemptOutcome::RolloutFailed | AttemptOutcome::TimedOut)
    };
    let counts = s.status.history.iter().filter(|past| past.start_time.0 >= ledger.start_time.0);
    let tried = counts.filter(is_failed).find(|past| past.cause == diagnosis.cause.as_str())?;
    no(format!(
        "a restart is tried once for {}, and that of {} ended {}",
        diagnosis.cause,
        stamp(tried.start_time.0),
        tried.outcome
    ))
}

/// The workload could not be read. There is no judging what was not seen, for nobody.
pub(super) fn unseen(s: &PolicyInput<'_>) -> Option<Objection> {
    let RestartMeans::Workload(reference) = s.means else { return None };
    let called = format!("{} {}/{}", reference.kind, s.namespace, reference.name);
    match s.workload {
        Lookup::NotLooked => no(format!("{called} was not looked at")),
        Lookup::Forbidden(why) => no(format!("{called} may not be read: {why}")),
        Lookup::Failed(why) => no(format!("{called} could not be read: {why}")),
        Lookup::Absent | Lookup::Found(_) => None,
    }
}

/// A guess, or evidence that is missing.
pub(super) fn possible(s: &PolicyInput<'_>) -> Option<Objection> {
    if let Some(found) = s.verdict.diagnosis.as_ref().filter(|found| found.confidence == Confidence::Possible) {
        return no(format!(
            "{} is only possible, and what is only possible is not acted upon: {}",
            found.cause, found.message
        ));
    }
    let workload = workload(s)?;
    let why = workload.template.unread.as_deref()?;
    no(format!("when {} was restarted last, and by whom, could not be read: {why}", workload.called))
}

/// Nothing fails inside the workload: what fails lies before it. A connector speaks from the inside by itself.
pub(super) fn pods_healthy(s: &PolicyInput<'_>) -> Option<Objection> {
    let InsideView::Seen { failing, passing, unready } = &s.verdict.inside else { return None };
    let workload = workload(s)?;
    if !failing.is_empty() || *unready {
        return None;
    }
    no(if passing.is_empty() {
        format!(
            "nothing was seen to fail inside {}: the kubelet calls none of its pods not ready, and none was probed by its own address",
            workload.called
        )
    } else {
        format!(
            "the pods of {} pass at their own addresses ({}): what fails lies before them",
            workload.called,
            some(passing)
        )
    })
}
