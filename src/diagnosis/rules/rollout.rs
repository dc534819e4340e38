//! The workload as a whole: its size, its rollouts, a comparison of its replicas.

use jiff::{SignedDuration, Timestamp};

use super::health::is_health_page;
use super::queries::{began, fails, pod_vantages, pods, probe_fact, target, warnings, workload};
use super::text::{kubectl, kubectl_name, some, stamp, undo, workload_name};
use super::{Finding, is_explained_before, matches_any};
use crate::api::{Cause, Confidence, ErrorClass, WorkloadKind};
use crate::diagnosis::evidence::{Evidence, Pod, Vantage, Workload};

/// Kubernetes' default progressDeadlineSeconds of a Deployment; other kinds have none and get the same limit.
const PROGRESS_DEADLINE: SignedDuration = SignedDuration::from_secs(600);
/// How long after a pod's startup budget a failure still counts as "right after" the new template: time for the
/// rollout, and for the probes that confirm the failure.
const AFTER_ROLLOUT: SignedDuration = SignedDuration::from_mins(5);

/// The longest startup budget that the rules reckon with. The spec of a pod may multiply to any number of seconds, and a
/// time that lies that far ahead does not exist.
const MAX_STARTUP: SignedDuration = SignedDuration::from_hours(24);

/// The time that the pods may take to start, at most [`MAX_STARTUP`].
pub(super) fn startup(e: &Evidence) -> SignedDuration {
    let seconds = i64::try_from(e.subject.startup_seconds).unwrap_or(i64::MAX);
    SignedDuration::from_secs(seconds.min(MAX_STARTUP.as_secs()))
}

pub(super) fn scaled_to_zero(e: &Evidence) -> Option<Finding> {
    workload(e).filter(|workload| workload.wanted == 0)?;
    let name = workload_name(e);
    let advice = match &e.subject.workload {
        Some(workload) if workload.kind != WorkloadKind::DaemonSet => format!(
            "If that is not intended: {} (look for a HorizontalPodAutoscaler or another controller that scales it)",
            kubectl(e, format_args!("scale {} --replicas=1", kubectl_name(workload)))
        ),
        _ => "If that is not intended, correct its node selector: no node matches it".to_owned(),
    };
    Some(
        Finding::new(
            Cause::ScaledToZero,
            format!("{name} is scaled to zero: there is nothing that could answer"),
            advice,
        )
        .fact(format!("{name} wants 0 replicas")),
    )
}

/// Whether some pods do not have the newest template yet.
fn is_unfinished(workload: &Workload) -> bool {
    let is_behind = !workload.on_delete && (workload.updated < workload.wanted || workload.current > workload.updated);
    workload.wanted > 0 && (!workload.observed || is_behind)
}

fn is_stuck(e: &Evidence, workload: &Workload) -> bool {
    // A Deployment reports its own deadline.
    let says_so = e.subject.workload.as_ref().is_none_or(|w| w.kind == WorkloadKind::Deployment);
    let limit = PROGRESS_DEADLINE.max(startup(e));
    let late = || workload.template_since.is_some_and(|since| e.gathered_at.duration_since(since) > limit);
    workload.deadline_exceeded || (!says_so && is_unfinished(workload) && late())
}

fn progress(workload: &Workload) -> String {
    let Workload { wanted, updated, ready, current, .. } = workload;
    format!("{updated} of {wanted} updated, {ready} ready, {current} exist")
}

pub(super) fn rollout_in_progress(e: &Evidence) -> Option<Finding> {
    let workload = workload(e).filter(|workload| is_unfinished(workload) && !is_stuck(e, workload))?;
    let matters = fails(e) || workload.ready < workload.wanted;
    if !matters || is_explained_before(e, Cause::RolloutInProgress) {
        return None;
    }
    let name = workload_name(e);
    let advice = match &e.subject.workload {
        Some(reference) if workload.paused => {
            format!("The rollout is paused: {}", kubectl(e, format_args!("rollout resume {}", kubectl_name(reference))))
        }
        Some(reference) => {
            format!("Wait for it: {}", kubectl(e, format_args!("rollout status {}", kubectl_name(reference))))
        }
        None => "Wait for it".to_owned(),
    };
    Some(
        Finding::new(
            Cause::RolloutInProgress,
            format!("a rollout of {name} is under way: {}", progress(workload)),
            advice,
        )
        .at_most(Confidence::Likely)
        .facts(workload.template_since.map(|at| format!("its newest template is from {}", stamp(at))))
        .needs(&e.pods),
    )
}

pub(super) fn rollout_stuck(e: &Evidence) -> Option<Finding> {
    let workload = workload(e).filter(|workload| is_stuck(e, workload))?;
    if is_explained_before(e, Cause::RolloutInProgress) {
        return None;
    }
    let name = workload_name(e);
    let waits = pods(e).into_iter().filter(|pod| !pod.ready).max_by_key(|pod| pod.created);
    let inspect = match waits {
        Some(pod) => kubectl(e, format_args!("describe pod {}", pod.name)),
        None => kubectl(e, "get pods"),
    };
    let advice = match undo(e) {
        Some(undo) => {
            format!("Go back to the template before: {undo}; or find out why the new pods do not get ready: {inspect}")
        }
        None => format!("Find out why the new pods do not get ready: {inspect}"),
    };
    let whose = waits.map(|pod| format!(", its pod {} does not get ready", pod.name)).unwrap_or_default();
    let fact = if workload.deadline_exceeded {
        "Progressing is False: ProgressDeadlineExceeded"
    } else {
        "its rollout is older than ten minutes"
    };
    Some(
        Finding::new(
            Cause::RolloutStuck,
            format!("the rollout of {name} does not get on{whose}: {}", progress(workload)),
            advice,
        )
        .fact(format!("{name}: {fact}"))
        .facts(waits.and_then(|pod| {
            warnings(e, pod, &["Unhealthy"]).next()?;
            Some(format!("pod {}: the kubelet's probe of it fails", pod.name))
        }))
        .needs(&e.pods),
    )
}

/// A pod that may still be starting is not a bad replica. One that has passed a probe since its containers started, the
/// operator's or the kubelet's readiness probe, is not starting any more.
fn is_young(e: &Evidence, pod: &Pod, passed: Option<Timestamp>) -> bool {
    let young = |at: Timestamp| {
        let has_passed = passed.is_some_and(|passed| passed >= at) || was_ready_since(pod, at);
        e.gathered_at.duration_since(at) < startup(e) && !has_passed
    };
    began(pod).is_none_or(young)
}

/// Whether a readiness probe passed since the containers began at `at`. Without one a pod is Ready when it runs. `Ready`
/// becomes False with the start of the containers, and a later change to False means that it was True in between.
fn was_ready_since(pod: &Pod, at: Timestamp) -> bool {
    let has_readiness = pod.containers.iter().any(|container| container.probes.2);
    // Both times have a resolution of one second.
    has_readiness && pod.ready_changed.is_some_and(|changed| changed.duration_since(at) > SignedDuration::from_secs(1))
}

/// Bad replicas, good replicas, and the first bad vantage: by probes of their own addresses, else by `Ready`.
fn bad_beside_good(e: &Evidence) -> (Vec<&str>, Vec<&str>, Option<&Vantage>) {
    let find = |name: &str| pods(e).into_iter().find(|pod| pod.name == name);
    let probed: Vec<(&str, &Vantage)> = pod_vantages(e).collect();
    if probed.is_empty() {
        let (good, bad): (Vec<&Pod>, Vec<&Pod>) = pods(e).into_iter().partition(|pod| pod.ready);
        let bad = bad.into_iter().filter(|pod| !is_young(e, pod, None)).map(|pod| pod.name.as_str()).collect();
        return (bad, good.into_iter().map(|pod| pod.name.as_str()).collect(), None);
    }
    // A pod that passes but is not ready gets no traffic; it still counts as good.
    let good = probed.iter().filter(|(_, vantage)| vantage.ok).map(|(name, _)| *name).collect();
    // A failure that is not confirmed yet makes a pod neither good nor bad.
    let is_bad = |(name, vantage): &&(&str, &Vantage)| {
        let is_confirmed = !vantage.ok && vantage.confirmed != Some(false);
        // One that answers has started, well or not.
        let is_starting = |pod| !vantage.any_byte && is_young(e, pod, vantage.last_passed);
        is_confirmed && find(name).is_none_or(|pod| !is_starting(pod))
    };
    let bad = probed.iter().filter(is_bad);
    let bad: Vec<&(&str, &Vantage)> = bad.collect();
    (bad.iter().map(|(name, _)| *name).collect(), good, bad.first().map(|(_, vantage)| *vantage))
}

pub(super) fn one_replica_bad(e: &Evidence) -> Option<Finding> {
    let (bad, good, vantage) = bad_beside_good(e);
    if good.is_empty() || is_explained_before(e, Cause::RolloutInProgress) {
        return None;
    }
    let first = bad.first()?;
    let how = vantage.and_then(|v| v.error_class).map(|class| format!(" ({class})")).unwrap_or_default();
    // A pod that answers on its health page runs, and its body, which is not read, may say that it refuses traffic.
    let answers_health = vantage.is_some_and(|v| v.http_status.is_some() && is_health_page(e, v));
    let finding = Finding::new(
        Cause::OneReplicaBad,
        format!("pod {}{how} fails while {} of {} pass", some(&bad, 3), good.len(), good.len() + bad.len()),
        format!("Replace that pod only: {}; the others are well", kubectl(e, format_args!("delete pod {first}"))),
    );
    let passed = vantage.and_then(|vantage| vantage.last_passed);
    let is_young = pods(e).into_iter().any(|pod| pod.name == *first && is_young(e, pod, passed));
    let finding = match (answers_health, is_young) {
        (true, _) => finding.lacking("the body of its health page"),
        // A server may answer errors until all of it is up.
        (false, true) => finding.at_most(Confidence::Likely).fact(format!(
            "it runs for less than {} s and has not passed yet: it may still be starting",
            e.subject.startup_seconds
        )),
        (false, false) => finding.restart_once(),
    };
    Some(match vantage {
        Some(vantage) => finding.fact(probe_fact(vantage)).fact(format!("passing: pod {}", some(&good, 4))),
        None => finding.fact(format!("pod {} is not Ready", some(&bad, 4))).lacking("the pods at their own addresses"),
    })
}

/// Error classes that a new template may cause, and that do not name a cause themselves.
const UNSPECIFIC: &[ErrorClass] = &[
    ErrorClass::Refused,
    ErrorClass::ConnectTimeout,
    ErrorClass::Reset,
    ErrorClass::FirstByteTimeout,
    ErrorClass::BodyTimeout,
    ErrorClass::HTTPStatus,
    ErrorClass::Assertion,
    ErrorClass::GRPCStatus,
];

/// Causes that name the wrong setting or part: they are more useful than "go back", and mention the rollout in their
/// own evidence.
const MORE_SPECIFIC: &[Cause] = &[
    Cause::ServiceSelectsNothing,
    Cause::ServicePortMismatch,
    Cause::BoundToLoopback,
    Cause::WrongPort,
    Cause::StillStarting,
    Cause::DependencyDown,
    Cause::DiskFull,
    Cause::OutOfService,
    Cause::SlowMetrics,
    Cause::EndpointDisabled,
    Cause::EndpointNotExposed,
    Cause::RegistryMissing,
    Cause::WrongPath,
    Cause::AuthenticationRequired,
    Cause::RateLimited,
];

/// When the newest template was created, if the failure began right after it.
pub(super) fn rollout_before(e: &Evidence) -> Option<Timestamp> {
    let template = workload(e).filter(|workload| !workload.only_restarted)?.template_since?;
    let bad = e.history.bad_since?;
    let right_after = (SignedDuration::ZERO..=startup(e) + AFTER_ROLLOUT).contains(&bad.duration_since(template));
    // A backend that was never healthy was not broken by the template.
    let was_well = e.history.last_healthy.is_some();
    (right_after && was_well).then_some(template)
}

/// The fact for findings that take precedence over [`bad_since_rollout`].
pub(super) fn rollout_fact(e: &Evidence) -> Option<String> {
    let template = rollout_before(e)?;
    let undo = undo(e)?;
    Some(format!("it began right after the new template of {} ({undo} goes back)", stamp(template)))
}

pub(super) fn bad_since_rollout(e: &Evidence) -> Option<Finding> {
    let target = target(e).filter(|target| !target.ok)?;
    let template = rollout_before(e)?;
    let undo = undo(e)?;
    let workload = workload(e)?;
    let all_fail = pod_vantages(e).all(|(_, vantage)| !vantage.ok);
    let unspecific = target.error_class.is_some_and(|class| UNSPECIFIC.contains(&class));
    if !all_fail || !unspecific || is_explained_before(e, Cause::BadSinceRollout) || matches_any(e, MORE_SPECIFIC) {
        return None;
    }
    let name = workload_name(e);
    let revision = workload.revision.map(|(revision, _)| format!(" (revision {revision})")).unwrap_or_default();
    let finding = Finding::new(
        Cause::BadSinceRollout,
        format!("all of {name} fails since right after its new template of {}{revision}", stamp(template)),
        format!("Go back to the template before: {undo}. A restart starts the same template again"),
    )
    .fact(probe_fact(target))
    .facts(e.history.bad_since.map(|at| format!("bad since {}", stamp(at))))
    .facts(e.history.last_healthy.map(|at| format!("healthy last at {}", stamp(at))));
    let probed = pod_vantages(e).next().is_some();
    Some(if probed { finding } else { finding.lacking("the pods at their own addresses") })
}

pub(super) fn flapping(e: &Evidence) -> Option<Finding> {
    let (changes, seconds) = e.history.flapping?;
    Some(
        Finding::new(
            Cause::Flapping,
            format!("it alternates: {changes} changes between healthy and unhealthy within {seconds} s"),
            "Look for what comes and goes: one bad replica behind a Service, a limit that is reached under load, a garbage collector, a probe timeout that is too tight",
        )
        .at_most(Confidence::Likely)
        .facts(target(e).map(probe_fact)),
    )
}
