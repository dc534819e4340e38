//! Images that the kubelet cannot pull (ErrImagePull, ImagePullBackOff).

use super::Finding;
use super::containers::{describe, first_waiting, how_many, whose};
use super::queries::unfinished_rollout;
use crate::api::Cause;
use crate::diagnosis::evidence::Evidence;

/// Waiting reasons of a container whose image cannot be pulled (pkg/kubelet/images/types.go).
const IMAGE: &[&str] = &[
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "SignatureValidationFailed",
    "ImageInspectError",
];

pub(super) fn image_pull_failed(e: &Evidence) -> Option<Finding> {
    let (pod, container, reason, said, affected) = first_waiting(e, IMAGE)?;
    let image = &container.image;
    let has = |words: &[&str]| words.iter().any(|word| said.to_lowercase().contains(word));
    let (why, advice) = if reason == "InvalidImageName" {
        ("its name is not valid", format!("Correct the image name {image} in the pod template"))
    } else if reason == "ErrImageNeverPull" {
        (
            "imagePullPolicy is Never and the node has no such image",
            format!("Load {image} onto the node, or let it be pulled"),
        )
    } else if has(&["unauthorized", "denied", "authentication required", "forbidden", "401", "403"]) {
        ("the registry wants other credentials", "Check imagePullSecrets of the pod and that the image name is right: registries say so of private and of missing images alike".to_owned())
    } else if has(&["no such host"]) {
        // Before "not found" and similar: no registry was contacted yet.
        (
            "the name of its registry does not exist for the node",
            format!("Correct the registry in the image name {image}, or look at the DNS that the node uses"),
        )
    } else if has(&["not found", "manifest unknown", "404", "no such"]) {
        ("the registry has no such image", format!("Correct the tag or digest of {image}, or push it"))
    } else if has(&["timeout", "deadline", "refused", "unreachable", "toomanyrequests", "i/o"]) {
        (
            "the registry cannot be reached from the node, or turns it away",
            format!(
                "Check the path from node {} to the registry: DNS, proxy, rate limit",
                pod.node.as_deref().unwrap_or("?")
            ),
        )
    } else {
        ("the node cannot get it", format!("Read the kubelet's words: {}", describe(e, pod)))
    };
    Some(
        Finding::new(
            Cause::ImagePullFailed,
            format!(
                "{} cannot start: image {image} is not pulled, {why}{}",
                whose(pod, container),
                how_many(e, affected)
            ),
            advice,
        )
        .fact(format!("{} waits: {reason}", whose(pod, container)))
        .facts(unfinished_rollout(e)),
    )
}
