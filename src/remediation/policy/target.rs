//! The target of a restart: the workload, one of its pods, or the agent's unit.

use super::{Objection, objection};
use crate::api::{Cause, Strategy};
use crate::remediation::input::{InsideView, Pod, PolicyInput, RestartMeans, Target, Workload, WorkloadLookup};
use crate::remediation::text::{count, name_list};

/// The workload, where the spec names one and it was found.
pub(super) fn workload<'a>(input: &PolicyInput<'a>) -> Option<&'a Workload> {
    match (input.means, input.workload) {
        (RestartMeans::Workload(_), WorkloadLookup::Found(workload)) => Some(workload),
        _ => None,
    }
}

/// The target, or the reason why it is not known.
pub(super) fn target(input: &PolicyInput<'_>) -> Result<Target, String> {
    if let RestartMeans::Agent(_) = input.means {
        return Ok(Target::Agent);
    }
    let workload = workload(input).ok_or("its workload was not seen")?;
    let strategy = input.spec.map_or(Strategy::Auto, |spec| spec.strategy);
    match &input.verdict.inside {
        InsideView::Heartbeats { pod_uid } => target_of_connector(input, workload, strategy, pod_uid.as_deref()),
        InsideView::Pods { failing, passing, unready } => {
            let bad = bad_pods(workload, failing, *unready);
            let others_pass = if failing.is_empty() && passing.is_empty() {
                running(workload).iter().any(|pod| pod.is_ready)
            } else {
                !passing.is_empty()
            };
            target_of_backend(input, workload, strategy, &Replicas { failing, bad, others_pass })
        }
    }
}

/// Whether the attempt in progress, or else the one that would begin, restarts the workload as a whole. An eviction needs
/// neither a template that rolls out nor an owner that keeps the annotation.
pub(super) fn is_whole(input: &PolicyInput<'_>) -> bool {
    match &input.status.current {
        Some(current) => current.workload_uid.is_some() && current.pod_uid.is_none(),
        None => target(input) == Ok(Target::Rollout),
    }
}

fn running(workload: &Workload) -> Vec<&Pod> {
    workload.pods.iter().filter(|pod| !pod.is_terminating).collect()
}

fn is_many(workload: &Workload) -> bool {
    workload.replicas > 1 || running(workload).len() > 1
}

fn one(pod: &Pod) -> Target {
    Target::Pod { name: pod.name.clone(), uid: pod.uid.clone() }
}

/// The only pod of the workload.
fn only(workload: &Workload) -> Result<Target, String> {
    running(workload).first().map(|pod| one(pod)).ok_or_else(|| format!("no pod of {} runs", workload.display_name))
}

/// A connector is one pod. Other pods of the workload are other gateways, so Rollout never restarts them unless a person
/// requests it.
fn target_of_connector(
    input: &PolicyInput<'_>,
    workload: &Workload,
    strategy: Strategy,
    uid: Option<&str>,
) -> Result<Target, String> {
    let Workload { display_name, is_daemon_set, replicas, .. } = workload;
    if strategy == Strategy::Rollout && input.request.is_some() {
        return Ok(Target::Rollout);
    }
    if !is_many(workload) {
        // A DaemonSet of one node may have more nodes tomorrow: it is rolled out only on request.
        return if strategy == Strategy::Pod || *is_daemon_set { only(workload) } else { Ok(Target::Rollout) };
    }
    let pods = running(workload);
    let named = uid.and_then(|uid| pods.iter().find(|pod| pod.uid == uid));
    let pods = || count(i64::from(*replicas).max(i64::try_from(pods.len()).unwrap_or(i64::MAX)), "pod");
    match (named, uid) {
        (Some(pod), _) => Ok(one(pod)),
        (None, Some(uid)) => {
            Err(format!("{display_name} has {}, and {uid}, which its last beat named, is none of them", pods()))
        }
        (None, None) => {
            Err(format!("{display_name} has {}, and its beats do not say which is theirs (pod_uid)", pods()))
        }
    }
}

/// The replicas of a backend, by their health.
struct Replicas<'a> {
    failing: &'a [String],
    /// The failing pods that still run.
    bad: Vec<&'a Pod>,
    others_pass: bool,
}

/// Pods that fail at their own address; where no such probe was made, pods that the kubelet reports as not ready.
fn bad_pods<'a>(workload: &'a Workload, failing: &[String], unready: bool) -> Vec<&'a Pod> {
    let is_bad = |pod: &&Pod| if failing.is_empty() { unready && !pod.is_ready } else { failing.contains(&pod.name) };
    running(workload).into_iter().filter(is_bad).collect()
}

fn target_of_backend(
    input: &PolicyInput<'_>,
    workload: &Workload,
    strategy: Strategy,
    replicas: &Replicas<'_>,
) -> Result<Target, String> {
    let Replicas { failing, bad, others_pass } = replicas;
    let is_one_bad = input.verdict.diagnosis.as_ref().is_some_and(|found| found.cause == Cause::OneReplicaBad);
    // A DaemonSet is rolled out as a whole only on a person's request.
    let needs_request = workload.is_daemon_set && input.request.is_none();
    let wants_pod = match strategy {
        _ if needs_request => true,
        Strategy::Pod => true,
        Strategy::Rollout => false,
        Strategy::Auto => is_one_bad || is_many(workload) && *others_pass && !bad.is_empty(),
    };
    if strategy != Strategy::Rollout && !failing.is_empty() && bad.is_empty() {
        return Err(format!(
            "pod {} of {}, which failed, is not there any more",
            name_list(failing),
            workload.display_name
        ));
    }
    if !wants_pod {
        return Ok(Target::Rollout);
    }
    // One attempt is one pod: prefer a pod that may be evicted.
    let chosen = bad.iter().find(|pod| pod.protected_by.is_none()).or(bad.first());
    match chosen {
        Some(pod) => Ok(one(pod)),
        None if !is_many(workload) => only(workload),
        None => Err(format!("which pod of {} is bad is not known: none was seen to fail", workload.display_name)),
    }
}

/// The target is one pod of many, and it is not known which.
pub(super) fn unknown(input: &PolicyInput<'_>) -> Option<Objection> {
    target(input).err().and_then(objection)
}

/// A disruption budget forbids the eviction of the pod now. A rollout evicts nothing.
pub(super) fn protected(input: &PolicyInput<'_>) -> Option<Objection> {
    let Ok(Target::Pod { name, uid }) = target(input) else { return None };
    let pod = workload(input)?.pods.iter().find(|pod| pod.uid == uid)?;
    objection(format!("pod {name} may not be evicted now: {}", pod.protected_by.as_deref()?))
}
