//! What a person or the workload itself forbids.

use jiff::SignedDuration;

use super::target::{is_whole, target, workload};
use super::{Objection, no};
use crate::api::RemediationMode;
use crate::remediation::input::{Agent, Lookup, PolicyInput, RestartMeans, Rollout, Target, Workload};
use crate::remediation::text::stamp;

/// Nobody asked for remedies.
pub(super) fn off(s: &PolicyInput<'_>) -> Option<Objection> {
    if !s.around.limits.is_on {
        return no("the operator runs with --remediation off: nothing is restarted");
    }
    match (s.spec, s.request) {
        (Some(_), _) => None,
        (None, None) => no("spec.remediation is not set: nothing is restarted"),
        (None, Some(_)) => {
            no("a restart was asked for, and spec.remediation is not set: set its mode to Restart to allow it")
        }
    }
}

/// Kubernetes' own namespaces, and vigie itself.
pub(super) fn guarded(s: &PolicyInput<'_>) -> Option<Objection> {
    if s.namespace.starts_with("kube-") {
        return no(format!("nothing is restarted in namespace {}: kube-* is Kubernetes' own", s.namespace));
    }
    let workload = workload(s).filter(|workload| workload.is_vigie)?;
    no(format!("{} is vigie itself, which does not restart itself", workload.called))
}

/// Who paused it said why.
pub(super) fn paused(s: &PolicyInput<'_>) -> Option<Objection> {
    no(s.paused?)
}

/// There is nothing to restart.
pub(super) fn not_found(s: &PolicyInput<'_>) -> Option<Objection> {
    match (s.means, s.workload) {
        (RestartMeans::Nothing, _) => no("neither spec.workloadRef nor spec.agentRef names what could be restarted"),
        (RestartMeans::Workload(reference), Lookup::Absent) => no(format!(
            "spec.workloadRef names {} {}, which does not exist in namespace {}",
            reference.kind, reference.name, s.namespace
        )),
        (RestartMeans::Workload(_), Lookup::Found(workload)) if workload.is_going => {
            no(format!("{} is being deleted", workload.called))
        }
        _ => None,
    }
}

/// It is not what the attempt was decided for.
pub(super) fn replaced(s: &PolicyInput<'_>) -> Option<Objection> {
    let decided_for = s.status.current.as_ref()?.workload_uid.as_deref();
    match (decided_for, s.means) {
        (None, RestartMeans::Agent(_)) => return None,
        (None, _) => return no("it was decided for the agent, and spec.agentRef is not set any more"),
        (Some(_), RestartMeans::Agent(_)) => {
            return no("it was decided for a workload, and spec.agentRef is set instead now");
        }
        (Some(_), RestartMeans::Workload(_) | RestartMeans::Nothing) => {}
    }
    let other = workload(s).filter(|workload| decided_for != Some(&workload.uid));
    match other {
        Some(Workload { called, uid, .. }) => no(format!("{called} is another one now, with UID {uid}")),
        None => not_found(s),
    }
}

/// A controller owns it and would revert us.
pub(super) fn managed(s: &PolicyInput<'_>) -> Option<Objection> {
    let workload = workload(s)?;
    let owner = workload.controller.as_ref().filter(|_| is_whole(s))?;
    no(format!(
        "{} belongs to {owner}, which would revert a restart of it; with spec.remediation.strategy Pod its pods can be evicted",
        workload.called
    ))
}

/// `spec.paused` of a Deployment: it rolls nothing out.
pub(super) fn workload_paused(s: &PolicyInput<'_>) -> Option<Objection> {
    let workload = workload(s).filter(|workload| workload.is_paused && is_whole(s))?;
    no(format!("{} is paused (spec.paused) and would not roll out", workload.called))
}

/// Nobody wants it to run.
pub(super) fn scaled_to_zero(s: &PolicyInput<'_>) -> Option<Objection> {
    let workload = workload(s).filter(|workload| workload.replicas <= 0)?;
    let what = if workload.is_daemon_set { "no node is wanted for it" } else { "it is scaled to 0 replicas" };
    no(format!("{}: {what}", workload.called))
}

/// It rolls nothing out until somebody deletes its pods.
pub(super) fn on_delete(s: &PolicyInput<'_>) -> Option<Objection> {
    let workload = workload(s).filter(|workload| workload.is_on_delete && is_whole(s))?;
    no(format!(
        "the update strategy of {} is OnDelete: it would not roll out; with spec.remediation.strategy Pod its pods can be evicted",
        workload.called
    ))
}

/// A rollout is under way.
pub(super) fn rolling(s: &PolicyInput<'_>) -> Option<Objection> {
    let workload = workload(s)?;
    let Rollout::InProgress(figures) = &workload.rollout else { return None };
    no(format!("a rollout of {} is under way: {figures}", workload.called))
}

/// Its template is younger than the time for which it must be unhealthy, and it is not ours.
pub(super) fn restarted_by_others(s: &PolicyInput<'_>) -> Option<Objection> {
    let seconds = s.spec?.unhealthy_for_seconds;
    let workload = workload(s).filter(|workload| !is_ours(s, workload))?;
    let since = workload.template.since?;
    let until = since.checked_add(SignedDuration::from_secs(seconds.into())).ok()?;
    (s.now < until).then(|| Objection {
        message: format!(
            "the template of {} was changed at {}, not by us, and unhealthyForSeconds is {seconds}",
            workload.called,
            stamp(since)
        ),
        again: Some(until),
    })
}

/// Whether its present template came with an attempt of this object. Who changes it later keeps our annotation, so a
/// template that is younger than the end of that attempt is another's.
fn is_ours(s: &PolicyInput<'_>, workload: &Workload) -> bool {
    let template = &workload.template;
    let Some(id) = &template.attempt else { return template.is_stripped };
    let current = s.status.current.as_ref().is_some_and(|current| current.id == *id);
    let mut past = s.status.history.iter().filter(|past| past.id == *id);
    template.is_stripped || current || past.any(|past| template.since.is_none_or(|since| since <= past.end_time.0))
}

/// The agent that would restart it does not beat.
pub(super) fn agent_silent(s: &PolicyInput<'_>) -> Option<Objection> {
    match s.means {
        RestartMeans::Agent(Agent { is_heard: false }) => {
            no("its agent is silent, so nobody can be asked to restart the unit")
        }
        RestartMeans::Agent(_) | RestartMeans::Workload(_) | RestartMeans::Nothing => None,
    }
}

/// Everything is decided, and nothing is touched.
pub(super) fn suggest_only(s: &PolicyInput<'_>) -> Option<Objection> {
    s.spec.filter(|spec| spec.mode == RemediationMode::Suggest)?;
    let called = workload(s).map_or("its workload", |workload| &workload.called);
    let what = match target(s) {
        Ok(Target::Pod { name, .. }) => format!("pod {name} of {called} would have been evicted"),
        Ok(Target::Agent) => "its agent would have been asked to restart its unit".to_owned(),
        Ok(Target::Rollout) | Err(_) => format!("{called} would have been restarted"),
    };
    let asked = s.request.map(|_| "; set spec.remediation.mode to Restart to have it done").unwrap_or_default();
    no(format!("{what}, and spec.remediation.mode is Suggest{asked}"))
}
