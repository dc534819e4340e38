//! Containers that the kubelet cannot start, and init containers that fail.

use super::Finding;
use super::config_missing::is_other_config_error;
use super::containers::{describe, how_many, is_being_created, last_log, whose};
use super::queries::{ended, pods, suspects, unfinished_rollout, waiting, warnings};
use super::text::list;
use crate::api::Cause;
use crate::diagnosis::evidence::{Container, Evidence, Pod};
use crate::diagnosis::extract;

/// Waiting reasons of a container that cannot be created or started (pkg/kubelet/container, kuberuntime).
const CANNOT_START: &[&str] =
    &["RunContainerError", "CreateContainerError", "CreateContainerConfigError", "PostStartHookError"];

/// Warnings about a sandbox or a volume: the container waits in `ContainerCreating` meanwhile.
const CANNOT_CREATE: &[&str] = &["FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox"];

/// A container that cannot start: the pod, the container, the state as a fact, and the reason.
struct StartFailure<'a> {
    pod: &'a Pod,
    container: &'a Container,
    fact: String,
    why: String,
}

/// A container waits because the kubelet cannot create or start it. `CreateContainerConfigError` for missing
/// configuration belongs to the rule [`super::config_missing`].
fn waits_to_start(pod: &Pod) -> Option<StartFailure<'_>> {
    let cannot_start = |(_, (reason, said)): &(&Container, &(String, String))| {
        let lacks_config = reason == "CreateContainerConfigError" && !is_other_config_error(said);
        CANNOT_START.contains(&reason.as_str()) && !lacks_config
    };
    let waiting = pod.containers.iter().filter_map(|container| Some((container, container.waiting.as_ref()?)));
    let (container, (reason, said)) = waiting.into_iter().find(cannot_start)?;
    let why = extract::start_error(said).unwrap_or_else(|| "the container cannot be created".to_owned());
    Some(StartFailure { pod, container, fact: reason.clone(), why })
}

/// A container exited with one of the codes 126 to 128, which mean that its command did not start.
fn exited_at_start<'a>(e: &Evidence, pod: &'a Pod) -> Option<StartFailure<'a>> {
    let end = |c| ended(e, c).filter(|end| (126..=128).contains(&end.exit_code)).map(|end| (c, end));
    let (container, end) = pod.containers.iter().find_map(end)?;
    let said = end.message.as_deref().and_then(extract::start_error);
    let why = said.unwrap_or_else(|| exit_means(end.exit_code).to_owned());
    Some(StartFailure { pod, container, fact: format!("{}, exit {}", end.reason, end.exit_code), why })
}

/// A container stays in `ContainerCreating` because its sandbox or a volume fails.
fn cannot_be_created<'a>(e: &'a Evidence, pod: &'a Pod) -> Option<StartFailure<'a>> {
    let container = pod.containers.iter().find(|c| is_being_created(c))?;
    let warning = warnings(e, pod, CANNOT_CREATE).next()?;
    let node = pod.node.as_deref().unwrap_or("?");
    let why = match warning.reason.as_str() {
        "FailedCreatePodSandBox" => format!("node {node} cannot set up the pod's network or sandbox"),
        _ => format!("node {node} cannot mount one of its volumes"),
    };
    Some(StartFailure { pod, container, fact: format!("ContainerCreating, {}", warning.reason), why })
}

pub(super) fn container_cannot_start(e: &Evidence) -> Option<Finding> {
    let pods = suspects(e);
    let StartFailure { pod, container, fact, why } = pods
        .iter()
        .find_map(|pod| waits_to_start(pod))
        .or_else(|| pods.iter().find_map(|pod| exited_at_start(e, pod)))
        .or_else(|| pods.iter().find_map(|pod| cannot_be_created(e, pod)))?;
    let advice = format!(
        "Correct the command, the mounts, the security context or the hook in the pod template, as the kubelet's words say: {}",
        describe(e, pod)
    );
    let message = format!("{} cannot start: {why}", whose(pod, container));
    Some(
        Finding::new(Cause::ContainerCannotStart, message, advice)
            .fact(format!("{}: {fact}", whose(pod, container)))
            .facts(unfinished_rollout(e)),
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
    let summary = end.and_then(|end| end.message.as_deref()).and_then(|said| extract::extract(said).summary());
    let said = summary.map(|summary| format!(": {summary}")).unwrap_or_default();
    let logs = last_log(e, pod, container);
    Some(
        Finding::new(
            Cause::InitContainerFailing,
            format!("init container {} of pod {} fails{}{said}", container.name, pod.name, how_many(e, found.len())),
            format!("Nothing else of the pod starts before it succeeds. Read its last words: {logs}"),
        )
        .fact(format!("init container {} {}", container.name, list(&facts)))
        .facts(unfinished_rollout(e)),
    )
}
