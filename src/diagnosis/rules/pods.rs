//! What the kubelet and the scheduler say: pods that do not run at all.

use std::sync::LazyLock;

use regex::Regex;

use super::Finding;
use super::crash::last_log;
use super::seen::{ended, fails, pods, suspects, unfinished_rollout, waiting, warnings, workload};
use super::words::{kubectl, list, since, some};
use crate::api::{Cause, Confidence};
use crate::diagnosis::evidence::{Container, Evidence, Pod};
use crate::diagnosis::extract;

/// The kubelet's words for an image that does not come (pkg/kubelet/images/types.go).
const IMAGE: &[&str] = &[
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "SignatureValidationFailed",
    "ImageInspectError",
];
/// The kubelet's words for a container that cannot be created or started (pkg/kubelet/container, kuberuntime).
const CANNOT_START: &[&str] =
    &["RunContainerError", "CreateContainerError", "CreateContainerConfigError", "PostStartHookError"];
/// Warnings about a sandbox or a volume: the container waits in `ContainerCreating` meanwhile.
const CANNOT_CREATE: &[&str] = &["FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox"];

/// `container app of pod web-1`.
pub(super) fn whose(pod: &Pod, container: &Container) -> String {
    format!("container {} of pod {}", container.name, pod.name)
}

/// ` (2 of 3 pods)`, or nothing for the only one.
pub(super) fn how_many(e: &Evidence, affected: usize) -> String {
    match pods(e).len() {
        0 | 1 => String::new(),
        all => format!(" ({affected} of {all} pods)"),
    }
}

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
    let lost: Vec<&Pod> = e.pods.found()?.iter().filter(on_lost).collect();
    let first = lost.first()?;
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
    .all_seen(lost.iter().take(4).map(|pod| format!("pod {} is on node {}", pod.name, pod.node.as_deref().unwrap_or("?"))));
    Some(if others_ready { finding } else { finding.at_most(Confidence::Likely) }.needs(&e.nodes_not_ready))
}

pub(super) fn unschedulable(e: &Evidence) -> Option<Finding> {
    let pending: Vec<&Pod> =
        pods(e).into_iter().filter(|pod| pod.phase == "Pending" && pod.unscheduled.is_some()).collect();
    let pod = pending.first()?;
    let (reason, message) = pod.unscheduled.as_ref()?;
    let affected = how_many(e, pending.len());
    let (said, advice) = if reason == "SchedulingGated" {
        let advice =
            format!("Remove the scheduling gates of pod {}, or find out who should: {}", pod.name, describe(e, pod));
        (format!("pod {} is held back by a scheduling gate{affected}", pod.name), advice)
    } else {
        let advice = "Give the cluster room for it (another node, smaller requests), or correct its node selector, affinity, tolerations or volumes, as the scheduler's words say";
        // What follows its first sentence is about preemption and resource claims, and says nothing more of the nodes.
        let words = message.split(". ").next().unwrap_or_default().trim_end_matches('.');
        (format!("no node takes pod {}{affected}: {words}", pod.name), advice.to_owned())
    };
    Some(
        Finding::new(Cause::Unschedulable, said, advice)
            .seen(format!("pod {} is Pending, PodScheduled is False ({reason})", pod.name))
            .all_seen(unfinished_rollout(e)),
    )
}

fn describe(e: &Evidence, pod: &Pod) -> String {
    kubectl(e, format_args!("describe pod {}", pod.name))
}

/// The first container, init containers before others, that waits for one of these reasons, and in how many pods.
fn first_waiting<'a>(e: &'a Evidence, reasons: &[&str]) -> Option<(&'a Pod, &'a Container, &'a str, &'a str, usize)> {
    let waits = |pod: &'a Pod| {
        let all = pod.init.iter().chain(&pod.containers);
        all.filter_map(|c| c.waiting.as_ref().map(|(reason, said)| (c, reason.as_str(), said.as_str())))
            .find(|(_, reason, _)| reasons.contains(reason))
    };
    let affected: Vec<_> = pods(e).into_iter().filter_map(|pod| Some((pod, waits(pod)?))).collect();
    let (pod, (container, reason, said)) = *affected.first()?;
    Some((pod, container, reason, said, affected.len()))
}

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
        // Before "not found" and the like: nobody was asked yet.
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
        .seen(format!("{} waits: {reason}", whose(pod, container)))
        .all_seen(unfinished_rollout(e)),
    )
}

/// What the kubelet says of an object or a key that is missing (kubelet_pods.go, env and volume sources).
fn missing_object(said: &str) -> Option<(String, Option<String>)> {
    static OBJECT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?i)\b(configmap|secret)s? "([a-z0-9.-]{1,253})" not found"#).expect("a constant pattern")
    });
    static KEY: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"couldn't find key ([-._a-zA-Z0-9]{1,253}) in (ConfigMap|Secret) [a-z0-9-]{1,63}/([a-z0-9.-]{1,253})",
        )
        .expect("a constant pattern")
    });
    static REFERENCES: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"references non-existent (config|secret) key: ([-._a-zA-Z0-9]{1,253})").expect("a constant pattern")
    });
    let kind = |word: &str| if word.to_lowercase().starts_with('c') { "ConfigMap" } else { "Secret" };
    if let Some(key) = KEY.captures(said) {
        return Some((format!("{} {}", kind(&key[2]), &key[3]), Some(key[1].to_owned())));
    }
    if let Some(object) = OBJECT.captures(said) {
        return Some((format!("{} {}", kind(&object[1]), &object[2]), None));
    }
    let key = REFERENCES.captures(said)?;
    Some((format!("the {} that a volume names", kind(&key[1])), Some(key[2].to_owned())))
}

pub(super) fn config_missing(e: &Evidence) -> Option<Finding> {
    let mounts = || {
        pods(e).into_iter().find_map(|pod| {
            let container = pod.init.iter().chain(&pod.containers).find(|c| is_being_created(c))?;
            let said = warnings(e, pod, &["FailedMount"]).find(|warning| missing_object(&warning.note).is_some())?;
            Some((pod, container, "FailedMount", said.note.as_str(), 1))
        })
    };
    let (pod, container, reason, said, affected) = first_waiting(e, &["CreateContainerConfigError"])
        .filter(|found| !is_other_config_error(found.3))
        .or_else(mounts)?;
    let (what, object, advice) = match missing_object(said) {
        Some((object, Some(key))) => {
            let advice = format!("Add the key {key} to {object}, or correct the reference in the pod template");
            (format!("{object} has no key {key}"), object, advice)
        }
        Some((object, None)) => {
            let advice = format!(
                "Create {object} in namespace {}, or correct the reference in the pod template",
                e.subject.namespace
            );
            (format!("{object} does not exist"), object, advice)
        }
        None => {
            let advice = format!("Read which ConfigMap, Secret or key it is: {}", describe(e, pod));
            ("a ConfigMap, a Secret or a key in it is missing".to_owned(), "its configuration".to_owned(), advice)
        }
    };
    let finding = Finding::new(
        Cause::ConfigMissing,
        format!("{} cannot start: {what}{}", whose(pod, container), how_many(e, affected)),
        format!("{advice}. The kubelet tries again by itself"),
    )
    .seen(format!("{} waits for {object}: {reason}", whose(pod, container)))
    .all_seen(unfinished_rollout(e));
    Some(if missing_object(said).is_some() { finding } else { finding.at_most(Confidence::Likely) })
}

/// `CreateContainerConfigError` also stands for a security context that cannot be met, or a bad subPath.
fn is_other_config_error(said: &str) -> bool {
    ["runAsNonRoot", "run as root", "non-numeric user", "subPath"].iter().any(|word| said.contains(word))
}

fn is_being_created(container: &Container) -> bool {
    waiting(container).is_some_and(|reason| reason == "ContainerCreating" || reason == "PodInitializing")
}

pub(super) fn container_cannot_start(e: &Evidence) -> Option<Finding> {
    let waits = || {
        suspects(e).into_iter().find_map(|pod| {
            let waits = |c: &&Container| {
                c.waiting.as_ref().is_some_and(|(reason, said)| {
                    // What configuration it lacks is the business of the rule before.
                    let lacks = reason == "CreateContainerConfigError" && !is_other_config_error(said);
                    CANNOT_START.contains(&reason.as_str()) && !lacks
                })
            };
            let container = pod.containers.iter().find(waits)?;
            let (reason, said) = container.waiting.as_ref()?;
            let why = extract::start_error(said).unwrap_or_else(|| "the container cannot be created".to_owned());
            Some((pod, container, reason.clone(), why))
        })
    };
    let exits = || {
        suspects(e).into_iter().find_map(|pod| {
            let end = |c| ended(e, c).filter(|end| (126..=128).contains(&end.exit_code)).map(|end| (c, end));
            let (container, end) = pod.containers.iter().find_map(end)?;
            let said = end.message.as_deref().and_then(extract::start_error);
            let why = said.unwrap_or_else(|| exit_means(end.exit_code).to_owned());
            Some((pod, container, format!("{}, exit {}", end.reason, end.exit_code), why))
        })
    };
    let cannot_create = || {
        suspects(e).into_iter().find_map(|pod| {
            let container = pod.containers.iter().find(|c| is_being_created(c))?;
            let warning = warnings(e, pod, CANNOT_CREATE).next()?;
            let node = pod.node.as_deref().unwrap_or("?");
            let why = match warning.reason.as_str() {
                "FailedCreatePodSandBox" => format!("node {node} cannot set up the pod's network or sandbox"),
                _ => format!("node {node} cannot mount one of its volumes"),
            };
            Some((pod, container, format!("ContainerCreating, {}", warning.reason), why))
        })
    };
    let (pod, container, fact, why) = waits().or_else(exits).or_else(cannot_create)?;
    let advice = format!(
        "Correct the command, the mounts, the security context or the hook in the pod template, as the kubelet's words say: {}",
        describe(e, pod)
    );
    let message = format!("{} cannot start: {why}", whose(pod, container));
    Some(
        Finding::new(Cause::ContainerCannotStart, message, advice)
            .seen(format!("{}: {fact}", whose(pod, container)))
            .all_seen(unfinished_rollout(e)),
    )
}

fn exit_means(code: i32) -> &'static str {
    match code {
        126 => "its command is not executable",
        127 => "its command does not exist",
        _ => "the runtime could not start its command",
    }
}

pub(super) fn init_container_failing(e: &Evidence) -> Option<Finding> {
    let failing = |c: &&Container| {
        let waits = waiting(c).is_some_and(|reason| reason != "PodInitializing" && reason != "ContainerCreating");
        waits || (!c.ready && ended(e, c).is_some_and(|end| end.exit_code != 0))
    };
    let found: Vec<(&Pod, &Container)> = pods(e)
        .into_iter()
        .filter(|pod| !pod.ready)
        .filter_map(|pod| Some((pod, pod.init.iter().find(failing)?)))
        .collect();
    let (pod, container) = *found.first()?;
    let end = ended(e, container);
    let mut facts = Vec::new();
    facts.extend(waiting(container).map(|reason| format!("waits: {reason}")));
    facts.extend(end.map(|end| format!("ended with {}, exit {}", end.reason, end.exit_code)));
    let told = end.and_then(|end| end.message.as_deref()).and_then(|said| extract::extract(said).told());
    let said = told.map(|told| format!(": {told}")).unwrap_or_default();
    let logs = last_log(e, pod, container);
    Some(
        Finding::new(
            Cause::InitContainerFailing,
            format!("init container {} of pod {} fails{}{said}", container.name, pod.name, how_many(e, found.len())),
            format!("Nothing else of the pod starts before it succeeds. Read its last words: {logs}"),
        )
        .seen(format!("init container {} {}", container.name, list(&facts)))
        .all_seen(unfinished_rollout(e)),
    )
}
