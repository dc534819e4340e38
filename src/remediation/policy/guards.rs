//! Checks of what a person or the workload itself forbids.

use jiff::SignedDuration;

use super::target::{is_whole, target, workload};
use super::{Objection, objection};
use crate::api::RemediationMode;
use crate::remediation::input::{AgentPresence, PolicyInput, RestartMeans, Rollout, Target, Workload, WorkloadLookup};
use crate::remediation::text::format_time;

/// `spec.remediation` is not set, or the operator runs with `--remediation off`.
pub(super) fn off(input: &PolicyInput<'_>) -> Option<Objection> {
    if !input.fleet.limits.is_on {
        return objection("the operator runs with --remediation off: nothing is restarted");
    }
    match (input.spec, input.request) {
        (Some(_), _) => None,
        (None, None) => objection("spec.remediation is not set: nothing is restarted"),
        (None, Some(_)) => {
            objection("a restart was asked for, and spec.remediation is not set: set its mode to Restart to allow it")
        }
    }
}

/// The workload is in a namespace of Kubernetes, or is vigie itself.
pub(super) fn guarded(input: &PolicyInput<'_>) -> Option<Objection> {
    if input.namespace.starts_with("kube-") {
        return objection(format!("nothing is restarted in namespace {}: kube-* is Kubernetes' own", input.namespace));
    }
    let workload = workload(input).filter(|workload| workload.is_vigie)?;
    objection(format!("{} is vigie itself, which does not restart itself", workload.display_name))
}

/// Remedies are paused.
pub(super) fn paused(input: &PolicyInput<'_>) -> Option<Objection> {
    objection(input.paused?)
}

/// The workload does not exist.
pub(super) fn not_found(input: &PolicyInput<'_>) -> Option<Objection> {
    match (input.means, input.workload) {
        (RestartMeans::Nothing, _) => {
            objection("neither spec.workloadRef nor spec.agentRef names what could be restarted")
        }
        (RestartMeans::Workload(reference), WorkloadLookup::Absent) => objection(format!(
            "spec.workloadRef names {} {}, which does not exist in namespace {}",
            reference.kind, reference.name, input.namespace
        )),
        (RestartMeans::Workload(_), WorkloadLookup::Found(workload)) if workload.is_terminating => {
            objection(format!("{} is being deleted", workload.display_name))
        }
        _ => None,
    }
}

/// The workload, or the means, is not the one that the attempt was decided for.
pub(super) fn replaced(input: &PolicyInput<'_>) -> Option<Objection> {
    let decided_for = input.status.current.as_ref()?.workload_uid.as_deref();
    match (decided_for, input.means) {
        (None, RestartMeans::Agent(_)) => return None,
        (None, _) => return objection("it was decided for the agent, and spec.agentRef is not set any more"),
        (Some(_), RestartMeans::Agent(_)) => {
            return objection("it was decided for a workload, and spec.agentRef is set instead now");
        }
        (Some(_), RestartMeans::Workload(_) | RestartMeans::Nothing) => {}
    }
    let other = workload(input).filter(|workload| decided_for != Some(&workload.uid));
    match other {
        Some(Workload { display_name, uid, .. }) => {
            objection(format!("{display_name} is another one now, with UID {uid}"))
        }
        None => not_found(input),
    }
}

/// A controller owns the workload and would revert a restart.
pub(super) fn managed(input: &PolicyInput<'_>) -> Option<Objection> {
    let workload = workload(input)?;
    let owner = workload.controller.as_ref().filter(|_| is_whole(input))?;
    objection(format!(
        "{} belongs to {owner}, which would revert a restart of it; with spec.remediation.strategy Pod its pods can be evicted",
        workload.display_name
    ))
}

/// `spec.paused` of the Deployment is set: it would not roll out.
pub(super) fn workload_paused(input: &PolicyInput<'_>) -> Option<Objection> {
    let workload = workload(input).filter(|workload| workload.is_paused && is_whole(input))?;
    objection(format!("{} is paused (spec.paused) and would not roll out", workload.display_name))
}

/// The workload is scaled to zero.
pub(super) fn scaled_to_zero(input: &PolicyInput<'_>) -> Option<Objection> {
    let workload = workload(input).filter(|workload| workload.replicas <= 0)?;
    let what = if workload.is_daemon_set { "no node is wanted for it" } else { "it is scaled to 0 replicas" };
    objection(format!("{}: {what}", workload.display_name))
}

/// The workload rolls out only when its pods are deleted.
pub(super) fn on_delete(input: &PolicyInput<'_>) -> Option<Objection> {
    let workload = workload(input).filter(|workload| workload.is_on_delete && is_whole(input))?;
    objection(format!(
        "the update strategy of {} is OnDelete: it would not roll out; with spec.remediation.strategy Pod its pods can be evicted",
        workload.display_name
    ))
}

/// A rollout is in progress.
pub(super) fn rolling(input: &PolicyInput<'_>) -> Option<Objection> {
    let workload = workload(input)?;
    let Rollout::InProgress(figures) = &workload.rollout else { return None };
    objection(format!("a rollout of {} is under way: {figures}", workload.display_name))
}

/// Another party changed the template within `unhealthyForSeconds`.
pub(super) fn restarted_by_others(input: &PolicyInput<'_>) -> Option<Objection> {
    let seconds = input.spec?.unhealthy_for_seconds;
    let workload = workload(input).filter(|workload| !is_of_own_attempt(input, workload))?;
    let since = workload.template.since?;
    let until = since.checked_add(SignedDuration::from_secs(seconds.into())).ok()?;
    (input.now < until).then(|| Objection {
        message: format!(
            "the template of {} was changed at {}, not by us, and unhealthyForSeconds is {seconds}",
            workload.display_name,
            format_time(since)
        ),
        check_again_at: Some(until),
    })
}

/// Whether the present template came with an attempt of this object. A later change by another party keeps the
/// annotation, so a template that is younger than the end of that attempt is not of the attempt.
fn is_of_own_attempt(input: &PolicyInput<'_>, workload: &Workload) -> bool {
    let template = &workload.template;
    let Some(id) = &template.attempt else { return template.is_stripped };
    let current = input.status.current.as_ref().is_some_and(|current| current.id == *id);
    let mut past = input.status.history.iter().filter(|past| past.id == *id);
    template.is_stripped || current || past.any(|past| template.since.is_none_or(|since| since <= past.end_time.0))
}

/// No heartbeats arrive from the agent.
pub(super) fn agent_silent(input: &PolicyInput<'_>) -> Option<Objection> {
    match input.means {
        RestartMeans::Agent(AgentPresence { is_heard: false }) => {
            objection("its agent is silent, so nobody can be asked to restart the unit")
        }
        RestartMeans::Agent(_) | RestartMeans::Workload(_) | RestartMeans::Nothing => None,
    }
}

/// The mode is Suggest: everything is decided, and nothing is touched.
pub(super) fn suggest_only(input: &PolicyInput<'_>) -> Option<Objection> {
    input.spec.filter(|spec| spec.mode == RemediationMode::Suggest)?;
    let display_name = workload(input).map_or("its workload", |workload| &workload.display_name);
    let what = match target(input) {
        Ok(Target::Pod { name, .. }) => format!("pod {name} of {display_name} would have been evicted"),
        Ok(Target::Agent) => "its agent would have been asked to restart its unit".to_owned(),
        Ok(Target::Rollout) | Err(_) => format!("{display_name} would have been restarted"),
    };
    let asked = input.request.map(|_| "; set spec.remediation.mode to Restart to have it done").unwrap_or_default();
    objection(format!("{what}, and spec.remediation.mode is Suggest{asked}"))
}
