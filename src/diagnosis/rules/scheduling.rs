//! Pods without a working node: the node is lost, or the scheduler finds none.

use super::Finding;
use super::containers::{describe, how_many};
use super::ended_pods::{ended_by_node, ended_with_node};
use super::queries::{fails, pods, unfinished_rollout, workload};
use super::text::{since, some};
use crate::api::{Cause, Confidence};
use crate::diagnosis::evidence::{Container, Evidence, Pod};

pub(super) fn node_lost(e: &Evidence) -> Option<Finding> {
    let lacks_pods = || workload(e).is_some_and(|workload| workload.ready < workload.wanted);
    if !fails(e) && !lacks_pods() {
        return None;
    }
    let not_ready = e.nodes_not_ready.found();
    let on_lost = |pod: &&Pod| {
        let node = pod.node.as_ref().filter(|node| not_ready.is_some_and(|lost| lost.contains_key(*node)));
        let unknown = |c: &Container| c.terminated.as_ref().is_some_and(|end| end.reason == "ContainerStatusUnknown");
        node.is_some() || pod.reason.as_deref() == Some("NodeLost") || pod.containers.iter().any(unknown)
    };
    // A pod that is being deleted may wait for its lost node; one that has ended for good was replaced.
    let lost: Vec<&Pod> = e.living_pods().filter(on_lost).collect();
    let Some(first) = lost.first() else { return ended_with_node(e) };
    let node = first.node.as_deref().unwrap_or("unknown");
    let down = not_ready.and_then(|nodes| nodes.get(node));
    let names: Vec<&str> = lost.iter().map(|pod| pod.name.as_str()).collect();
    let state = match down {
        Some(at) => format!("is not Ready{}", since(*at)),
        None => "has lost the state of its containers".to_owned(),
    };
    let others_ready = pods(e).iter().all(|pod| pod.ready || lost.iter().any(|lost| lost.name == pod.name));
    let finding = Finding::new(
        Cause::NodeLost,
        format!("node {node} {state}; on it: pod {}", some(&names, 3)),
        format!(
            "Repair or remove node {node} (`kubectl describe node {node}`); its pods are replaced when the node controller evicts them, about five minutes after it was lost"
        ),
    )
    .facts(lost.iter().take(4).map(|pod| format!("pod {} is on node {}", pod.name, pod.node.as_deref().unwrap_or("?"))));
    Some(if others_ready { finding } else { finding.at_most(Confidence::Likely) }.needs(&e.nodes_not_ready))
}

pub(super) fn unschedulable(e: &Evidence) -> Option<Finding> {
    let pending: Vec<&Pod> =
        pods(e).into_iter().filter(|pod| pod.phase == "Pending" && pod.unscheduled.is_some()).collect();
    let Some(pod) = pending.first() else { return ended_by_node(e) };
    let (reason, message) = pod.unscheduled.as_ref()?;
    let affected = how_many(e, pending.len());
    let (said, advice) = if reason == "SchedulingGated" {
        let advice =
            format!("Remove the scheduling gates of pod {}, or find out who should: {}", pod.name, describe(e, pod));
        (format!("pod {} is held back by a scheduling gate{affected}", pod.name), advice)
    } else {
        let advice = "Give the cluster room for it (another node, smaller requests), or correct its node selector, affinity, tolerations or volumes, as the scheduler's words say";
        // Sentences after the first are about preemption and resource claims, not about the nodes.
        let words = message.split(". ").next().unwrap_or_default().trim_end_matches('.');
        (format!("no node takes pod {}{affected}: {words}", pod.name), advice.to_owned())
    };
    Some(
        Finding::new(Cause::Unschedulable, said, advice)
            .fact(format!("pod {} is Pending, PodScheduled is False ({reason})", pod.name))
            .facts(unfinished_rollout(e)),
    )
}
