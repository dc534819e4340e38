//! A workload whose pods have all ended for good: the reason of the newest one, and that no other took its place.

use super::Finding;
use super::queries::{fails, pods, workload};
use super::text::{kubectl, kubectl_name, value, workload_name};
use crate::api::{Cause, Confidence};
use crate::diagnosis::evidence::{Container, Evidence, Pod};

/// The newest pod, if all pods have ended for good although some are wanted.
pub(super) fn newest_ended(e: &Evidence) -> Option<&Pod> {
    let lacks = || workload(e).is_some_and(|workload| workload.ready < workload.wanted);
    let is_wanted = workload(e).is_none_or(|workload| workload.wanted > 0);
    if !pods(e).is_empty() || !is_wanted || !(fails(e) || lacks()) {
        return None;
    }
    e.newest_ended_pods().first().copied()
}

/// Reasons of the kubelet for pods that ended with their node (pkg/kubelet/nodeshutdown; the node controllers).
fn is_node_gone(e: &Evidence, pod: &Pod) -> bool {
    let unknown = |c: &Container| c.terminated.as_ref().is_some_and(|end| end.reason == "ContainerStatusUnknown");
    let is_not_ready = || {
        let nodes = e.nodes_not_ready.found();
        pod.node.as_ref().is_some_and(|node| nodes.is_some_and(|nodes| nodes.contains_key(node)))
    };
    match pod.reason.as_deref() {
        Some("NodeShutdown" | "Shutdown" | "Terminated" | "NodeLost") => true,
        None | Some("") => pod.containers.iter().any(unknown) || is_not_ready(),
        Some(_) => false,
    }
}

/// How the node ended or refused a pod for this reason (pkg/kubelet/eviction, preemption and lifecycle), and the advice.
fn ended_because(reason: &str, node: &str) -> Option<(String, String)> {
    let node_named = format!("`kubectl describe node {node}`");
    Some(match reason {
        "Evicted" => (
            format!("node {node} evicted it for lack of memory, disk or process ids"),
            format!(
                "Look at what node {node} lacks ({node_named}); set requests that cover what the pods use, also of ephemeral-storage, or add a node"
            ),
        ),
        "Preempting" => (
            format!("node {node} ended it to make room for a critical pod"),
            format!("Give the cluster room (another node, smaller requests): {node_named}"),
        ),
        "NodeAffinity" => (
            format!("node {node} refused it: the node's labels do not match its node selector or affinity"),
            format!(
                "Correct nodeSelector and affinity in the pod template, or the labels of node {node}: {node_named}"
            ),
        ),
        "UnexpectedAdmissionError" | "TopologyAffinityError" => (
            format!("node {node} refused it: it could not allocate its devices, CPUs or memory"),
            format!("Look at the device plugins and the resource managers of node {node}: {node_named}"),
        ),
        "NodePorts" => (
            format!("node {node} refused it: a host port that it wants is taken"),
            format!("Free the host port on node {node}, or take hostPort out of the pod template: {node_named}"),
        ),
        _ => {
            let resource = value(reason.strip_prefix("OutOf").filter(|resource| !resource.is_empty())?);
            (
                format!("node {node} refused it: not enough {resource} is free"),
                format!(
                    "Give node {node} room (smaller requests, another node). Pods that the scheduler does not know of take it away: static pods, or pods with a nodeName of their own: {node_named}"
                ),
            )
        }
    })
}

fn finding(e: &Evidence, pod: &Pod, cause: Cause, (why, advice): (String, String)) -> Finding {
    let reason = value(pod.reason.as_deref().unwrap_or("no reason"));
    let controller = match &e.subject.workload {
        Some(workload) => kubectl(e, format_args!("describe {}", kubectl_name(workload))),
        None => kubectl(e, "get events"),
    };
    // The resource and the amounts stand in the first sentence.
    let said = pod.message.as_deref().map(|said| value(said.split(". ").next().unwrap_or_default()));
    Finding::new(
        cause,
        format!("all pods of {} have ended, the newest one is {}: {why} ({reason})", workload_name(e), pod.name),
        format!("{advice}. If no other pod comes, its controller says why: {controller}"),
    )
    // Why no other pod took its place is not seen.
    .at_most(Confidence::Likely)
    .fact(format!("pod {}: {}, {reason}", pod.name, pod.phase))
    .facts(said.filter(|said| !said.is_empty()).map(|said| format!("the node says: {said}")))
    .fact(format!("{} pods have ended, none lives", e.newest_ended_pods().len()))
}

/// The newest pod ended with its node.
pub(super) fn ended_with_node(e: &Evidence) -> Option<Finding> {
    let pod = newest_ended(e).filter(|pod| is_node_gone(e, pod))?;
    let node = pod.node.as_deref().unwrap_or("unknown");
    let why = format!("it ended with its node {node}");
    let advice = format!("Bring node {node} back, or add another one (`kubectl describe node {node}`)");
    Some(finding(e, pod, Cause::NodeLost, (why, advice)).needs(&e.nodes_not_ready))
}

/// A node ended or refused the newest pod.
pub(super) fn ended_by_node(e: &Evidence) -> Option<Finding> {
    let pod = newest_ended(e)?;
    let told = ended_because(pod.reason.as_deref()?, pod.node.as_deref().unwrap_or("unknown"))?;
    Some(finding(e, pod, Cause::Unschedulable, told))
}
