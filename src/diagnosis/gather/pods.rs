//! Converts pods to evidence.

use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::containers;
use super::convert::{message, time};
use super::variables::ConfigMaps;
use crate::diagnosis::evidence::Pod;

/// Labels with the revision of the pod's template: a Deployment's hash, or the revision of a StatefulSet or DaemonSet.
const REVISIONS: [&str; 2] = ["pod-template-hash", "controller-revision-hash"];

/// One pod, its environment resolved through `maps`.
pub(super) fn pod(pod: &v1::Pod, maps: &ConfigMaps) -> Pod {
    let (spec, status) = (pod.spec.clone().unwrap_or_default(), pod.status.clone().unwrap_or_default());
    let condition = |type_: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == type_);
    let unscheduled = condition("PodScheduled").filter(|condition| condition.status == "False");
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let statuses = status.container_statuses.as_deref().unwrap_or_default();
    let init_statuses = status.init_container_statuses.as_deref().unwrap_or_default();
    Pod {
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        phase: status.phase.clone().unwrap_or_default(),
        reason: status.reason.clone(),
        message: status.message.as_deref().map(|said| message(Some(said))),
        created: time(pod.metadata.creation_timestamp.as_ref()),
        deleting: pod.metadata.deletion_timestamp.is_some(),
        node: spec.node_name.clone(),
        addresses: addresses(&status),
        ready: condition("Ready").is_some_and(|condition| condition.status == "True"),
        ready_changed: condition("Ready").and_then(|condition| time(condition.last_transition_time.as_ref())),
        unscheduled: unscheduled
            .map(|condition| (condition.reason.clone().unwrap_or_default(), message(condition.message.as_deref()))),
        revision: REVISIONS.iter().find_map(|label| labels.get(*label)).cloned(),
        labels,
        host_network: spec.host_network.unwrap_or(false),
        init: containers::containers(spec.init_containers.as_deref().unwrap_or_default(), init_statuses, maps),
        containers: containers::containers(&spec.containers, statuses, maps),
    }
}

/// All addresses without duplicates, the primary one first; `podIPs` repeats `podIP`.
pub(super) fn addresses(status: &v1::PodStatus) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    for address in status.pod_ip.as_deref().into_iter().chain(listed).filter_map(|text| text.parse().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// Whether the object belongs to the owner of that UID.
pub(super) fn is_owned_by(metadata: &ObjectMeta, uid: &str) -> bool {
    metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid)
}

/// The names of the newest of these pods, at most `most`.
pub(super) fn newest(found: &[ObjectMeta], most: usize) -> Vec<String> {
    let mut found: Vec<&ObjectMeta> = found.iter().collect();
    found.sort_by_key(|pod| std::cmp::Reverse(time(pod.creation_timestamp.as_ref())));
    found.into_iter().take(most).filter_map(|pod| pod.name.clone()).collect()
}

/// Sorts pods that are not ready first, then the youngest.
pub(super) fn sort_failing_first(pods: &mut [Pod]) {
    pods.sort_by_key(|pod| (pod.ready, std::cmp::Reverse(pod.created)));
}

/// Since when a node is not Ready; `None` if it is Ready, an inner `None` if the time is unknown.
pub(super) fn not_ready_since(node: &v1::Node) -> Option<Option<jiff::Timestamp>> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    match conditions.iter().find(|condition| condition.type_ == "Ready") {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(time(ready.last_transition_time.as_ref())),
        // The node never reported.
        None => Some(None),
    }
}
