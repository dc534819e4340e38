//! What would be restarted: the workload, one pod of it, or the agent's unit.

use super::{Objection, no};
use crate::api::{Cause, Strategy};
use crate::remediation::input::{InsideView, Lookup, Pod, PolicyInput, RestartMeans, Target, Workload};
use crate::remediation::text::{count, some};

/// The workload, where the spec names one and it was seen.
pub(super) fn workload<'a>(s: &PolicyInput<'a>) -> Option<&'a Workload> {
    match (s.means, s.workload) {
        (RestartMeans::Workload(_), Lookup::Found(workload)) => Some(workload),
        _ => None,
    }
}

/// What would be restarted, or why that is not known.
pub(super) fn target(s: &PolicyInput<'_>) -> Result<Target, String> {
    if let RestartMeans::Agent(_) = s.means {
        return Ok(Target::Agent);
    }
    let workload = workload(s).ok_or("its workload was not seen")?;
    let strategy = s.spec.map_or(Strategy::Auto, |spec| spec.strategy);
    match &s.verdict.inside {
        InsideView::Beats { pod_uid } => beating(s, workload, strategy, pod_uid.as_deref()),
        InsideView::Seen { failing, passing, unready } => {
            let bad = bad_pods(workload, failing, *unready);
            let others_pass = if failing.is_empty() && passing.is_empty() {
                running(workload).iter().any(|pod| pod.is_ready)
            } else {
                !passing.is_empty()
            };
            seen(s, workload, strategy, &Replicas { failing, bad, others_pass })
        }
    }
}

/// Whether the attempt that is under way, or else the one that would be made, is about the workload as a whole. An
/// eviction needs neither a template that rolls out nor an owner that leaves it alone.
pub(super) fn is_whole(s: &PolicyInput<'_>) -> bool {
    match &s.status.current {
        Some(current) => current.workload_uid.is_some() && current.pod_uid.is_none(),
        None => target(s) == Ok(Target::Rollout),
    }
}

fn running(workload: &Workload) -> Vec<&Pod> {
    workload.pods.iter().filter(|pod| !pod.is_going).collect()
}

fn is_many(workload: &Workload) -> bool {
    workload.replicas > 1 || running(workload).len() > 1
}

fn one(pod: &Pod) -> Target {
    Target::Pod { name: pod.name.clone(), uid: pod.uid.clone() }
}

/// The only pod there is.
fn only(workload: &Workload) -> Result<Target, String> {
    running(workload).first().map(|pod| one(pod)).ok_or_else(|| format!("no pod of {} runs", workload.called))
}

/// A connector is one pod. Its neighbours are gateways of their own, so that even `Rollout` does not take them along,
/// unless a person asks for it.
fn beating(s: &PolicyInput<'_>, workload: &Workload, strategy: Strategy, uid: Option<&str>) -> Result<Target, String> {
    let Workload { called, is_daemon_set, replicas, .. } = workload;
    if strategy == Strategy::Rollout && s.request.is_some() {
        return Ok(Target::Rollout);
    }
    if !is_many(workload) {
        // A DaemonSet of one node has more of them tomorrow: it is never rolled out by itself.
        return if strategy == Strategy::Pod || *is_daemon_set { only(workload) } else { Ok(Target::Rollout) };
    }
    let pods = running(workload);
    let named = uid.and_then(|uid| pods.iter().find(|pod| pod.uid == uid));
    let pods = || count(i64::from(*replicas).max(i64::try_from(pods.len()).unwrap_or(i64::MAX)), "pod");
    match (named, uid) {
        (Some(pod), _) => Ok(one(pod)),
        (None, Some(uid)) => {
            Err(format!("{called} has {}, and {uid}, which its last beat named, is none of them", pods()))
        }
        (None, None) => Err(format!("{called} has {}, and its beats do not say which is theirs (pod_uid)", pods())),
    }
}

/// How the replicas of a backend stand beside each other.
struct Replicas<'a> {
    failing: &'a [String],
    /// Those of the failing that still run.
    bad: Vec<&'a Pod>,
    others_pass: bool,
}

/// Pods that fail at their own address; where no pod was looked at there, those that the kubelet calls not ready.
fn bad_pods<'a>(workload: &'a Workload, failing: &[String], unready: bool) -> Vec<&'a Pod> {
    let is_bad = |pod: &&Pod| if failing.is_empty() { unready && !pod.is_ready } else { failing.contains(&pod.name) };
    running(workload).into_iter().filter(is_bad).collect()
}

fn seen(
    s: &PolicyInput<'_>,
    workload: &Workload,
    strategy: Strategy,
    replicas: &Replicas<'_>,
) -> Result<Target, String> {
    let Replicas { failing, bad, others_pass } = replicas;
    let is_one_bad = s.verdict.diagnosis.as_ref().is_some_and(|found| found.cause == Cause::OneReplicaBad);
    // "Never as a whole by itself": by itself is without a person who asks.
    let is_spared = workload.is_daemon_set && s.request.is_none();
    let wants_pod = match strategy {
        _ if is_spared => true,
        Strategy::Pod => true,
        Strategy::Rollout => false,
        Strategy::Auto => is_one_bad || is_many(workload) && *others_pass && !bad.is_empty(),
    };
    if strategy != Strategy::Rollout && !failing.is_empty() && bad.is_empty() {
        return Err(format!("pod {} of {}, which failed, is not there any more", some(failing), workload.called));
    }
    if !wants_pod {
        return Ok(Target::Rollout);
    }
    // One attempt is one pod; first one that may be evicted.
    let chosen = bad.iter().find(|pod| pod.protected.is_none()).or(bad.first());
    match chosen {
        Some(pod) => Ok(one(pod)),
        None if !is_many(workload) => only(workload),
        None => Err(format!("which pod of {} is bad is not known: none was seen to fail", workload.called)),
    }
}

/// It is one pod of many, and nobody knows which.
pub(super) fn unknown(s: &PolicyInput<'_>) -> Option<Objection> {
    target(s).err().and_then(no)
}

/// The pod's disruption budget forbids to evict it now. A rollout evicts nothing.
pub(super) fn protected(s: &PolicyInput<'_>) -> Option<Objection> {
    let Ok(Target::Pod { name, uid }) = target(s) else { return None };
    let pod = workload(s)?.pods.iter().find(|pod| pod.uid == uid)?;
    no(format!("pod {name} may not be evicted now: {}", pod.protected.as_deref()?))
}
