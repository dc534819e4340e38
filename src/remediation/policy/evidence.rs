//! Checks of the cause and of the evidence for it.

use super::target::workload;
use super::{Objection, objection};
use crate::api::{AttemptOutcome, Confidence, Diagnosis, PastAttempt, RestartHelps};
use crate::remediation::input::{InsideView, PolicyInput, RestartMeans, Rollout, WorkloadLookup};
use crate::remediation::text::{format_time, name_list};

/// The object was never healthy: there is no state to restore.
pub(super) fn never_healthy(input: &PolicyInput<'_>) -> Option<Objection> {
    if input.verdict.was_healthy {
        None
    } else {
        objection("it was never healthy, so there is nothing that a restart would restore")
    }
}

/// Most of the site is silent.
pub(super) fn mass_silence(input: &PolicyInput<'_>) -> Option<Objection> {
    let counts = input.verdict.mass_silence.as_deref()?;
    objection(format!("its site is silent as a whole, so the way to us is the suspect: {counts}"))
}

/// The prober is blind for the object.
pub(super) fn blind(input: &PolicyInput<'_>) -> Option<Objection> {
    objection(format!("we cannot see it at present: {}", input.verdict.blind.as_deref()?))
}

/// A restart does not cure the cause.
pub(super) fn cannot_help(input: &PolicyInput<'_>) -> Option<Objection> {
    if let Some((workload, Rollout::Failed(why))) = workload(input).map(|workload| (workload, &workload.rollout)) {
        let display_name = &workload.display_name;
        return objection(format!(
            "the last rollout of {display_name} failed, and a restart rolls out the same again: {why}"
        ));
    }
    match &input.verdict.diagnosis {
        None => objection("no cause is known, so nothing says that a restart would help"),
        Some(Diagnosis { cause, message, restart_helps: RestartHelps::No, .. }) => {
            objection(format!("a restart does not cure {cause}: {message}"))
        }
        Some(_) => None,
    }
}

/// The one restart that is tried for this cause did not cure it.
pub(super) fn already_tried(input: &PolicyInput<'_>) -> Option<Objection> {
    let diagnosis = input.verdict.diagnosis.as_ref().filter(|found| found.restart_helps == RestartHelps::Once)?;
    let ledger = input.status.ledger.as_ref()?;
    let is_failed = |past: &&PastAttempt| {
        matches!(past.outcome, AttemptOutcome::NotCured | AttemptOutcome::RolloutFailed | AttemptOutcome::TimedOut)
    };
    let counts = input.status.history.iter().filter(|past| past.start_time.0 >= ledger.start_time.0);
    let tried = counts.filter(is_failed).find(|past| past.cause == diagnosis.cause.as_str())?;
    objection(format!(
        "a restart is tried once for {}, and that of {} ended {}",
        diagnosis.cause,
        format_time(tried.start_time.0),
        tried.outcome
    ))
}

/// The workload could not be read. This applies to requests as well.
pub(super) fn unseen(input: &PolicyInput<'_>) -> Option<Objection> {
    let RestartMeans::Workload(reference) = input.means else { return None };
    let display_name = format!("{} {}/{}", reference.kind, input.namespace, reference.name);
    match input.workload {
        WorkloadLookup::NotLooked => objection(format!("{display_name} was not looked at")),
        WorkloadLookup::Forbidden(why) => objection(format!("{display_name} may not be read: {why}")),
        WorkloadLookup::Failed(why) => objection(format!("{display_name} could not be read: {why}")),
        WorkloadLookup::Absent | WorkloadLookup::Found(_) => None,
    }
}

/// The cause is only possible, or evidence is missing.
pub(super) fn possible(input: &PolicyInput<'_>) -> Option<Objection> {
    if let Some(found) = input.verdict.diagnosis.as_ref().filter(|found| found.confidence == Confidence::Possible) {
        return objection(format!(
            "{} is only possible, and what is only possible is not acted upon: {}",
            found.cause, found.message
        ));
    }
    let workload = workload(input)?;
    let why = workload.template.revisions_unread.as_deref()?;
    objection(format!("when {} was restarted last, and by whom, could not be read: {why}", workload.display_name))
}

/// No pod of the workload fails, so the failure lies before it. Heartbeats of a connector come from inside the workload,
/// so this does not apply to connectors.
pub(super) fn pods_healthy(input: &PolicyInput<'_>) -> Option<Objection> {
    let InsideView::Pods { failing, passing, unready } = &input.verdict.inside else { return None };
    let workload = workload(input)?;
    if !failing.is_empty() || *unready {
        return None;
    }
    objection(if passing.is_empty() {
        format!(
            "nothing was seen to fail inside {}: the kubelet calls none of its pods not ready, and none was probed by its own address",
            workload.display_name
        )
    } else {
        format!(
            "the pods of {} pass at their own addresses ({}): what fails lies before them",
            workload.display_name,
            name_list(passing)
        )
    })
}
