//! Containers that the kubelet cannot start, and init containers that fail.

use jiff::SignedDuration;

use super::Finding;
use super::config_missing::is_other_config_error;
use super::containers::{describe, how_many, is_being_created, is_out_of_memory, last_log, whose};
use super::queries::{ended, has_begun, is_sidecar, pods, suspects, unfinished_rollout, waiting, warnings};
use super::text::list;
use crate::api::{Cause, Confidence};
use crate::diagnosis::evidence::{Container, Ended, Evidence, Pod};
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
    let why = match reason.as_str() {
        // The message holds the words of the hook's own command.
        "PostStartHookError" => "its postStart hook failed".to_owned(),
        _ => extract::start_error(said).unwrap_or_else(|| "the container cannot be created".to_owned()),
    };
    Some(StartFailure { pod, container, fact: reason.clone(), why })
}

/// How long a container runs at most whose command does not start: the exit codes alone mean it.
const NEVER_RAN: SignedDuration = SignedDuration::from_secs(10);

/// A container ended because its command did not start: its last words say so, or the runtime's reason; else one of
/// the exit codes 126 to 128 right after its start.
fn exited_at_start<'a>(e: &Evidence, pod: &'a Pod) -> Option<StartFailure<'a>> {
    pod.containers.iter().find_map(|container| {
        let end = ended(e, container)?;
        let why = never_executed(container, end)?;
        Some(StartFailure { pod, container, fact: format!("{}, exit {}", end.reason, end.exit_code), why })
    })
}

fn never_executed(container: &Container, end: &Ended) -> Option<String> {
    let message = end.message.as_deref().filter(|message| !message.trim().is_empty());
    let words = message.or(container.log_tail.as_deref());
    if end.exit_code == 0 {
        return None;
    }
    if let Some(why) = words.and_then(extract::exec_error) {
        return Some(why);
    }
    let ran = || end.began.zip(end.ended).is_some_and(|(began, ended)| ended.duration_since(began) > NEVER_RAN);
    let is_reason = matches!(end.reason.as_str(), "StartError" | "ContainerCannotRun");
    if !is_reason && (!(126..=128).contains(&end.exit_code) || ran()) {
        return None;
    }
    let said = message.and_then(extract::start_error);
    Some(said.unwrap_or_else(|| exit_means(end.exit_code).to_owned()))
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
    let message = format!("{} cannot start: {why}", whose(pod, container));
    let finding = Finding::new(Cause::ContainerCannotStart, message, start_advice(e, pod, &why))
        .fact(format!("{}: {fact}", whose(pod, container)))
        .facts(unfinished_rollout(e));
    // It may succeed at the next attempt.
    Some(if why.ends_with("in time") { finding.at_most(Confidence::Likely) } else { finding })
}

/// Advice by the reason, which is one of our own texts.
fn start_advice(e: &Evidence, pod: &Pod, why: &str) -> String {
    let node = pod.node.as_deref().unwrap_or("?");
    let describe = describe(e, pod);
    let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
    if says(&["exec format error"]) {
        return format!(
            "Build the image for the architecture of node {node} (`kubectl get node {node} -o jsonpath={{.status.nodeInfo.architecture}}`), or let the pod run on nodes of its own one (nodeSelector kubernetes.io/arch). A script needs a first line such as #!/bin/sh"
        );
    }
    if says(&["no such file or directory", "executable file not found", "does not exist"]) {
        return format!(
            "Correct command and args in the pod template, or put the file into the image. If it is there, its interpreter is not: look at the first line of a script (#!, without a carriage return at its end) and at the loader of a binary (musl, glibc). The kubelet's words: {describe}"
        );
    }
    if says(&["memory"]) {
        return format!("Raise resources.limits.memory of the container. The kubelet's words: {describe}");
    }
    if says(&["in time", "earlier attempt"]) {
        return format!(
            "The kubelet tries again by itself. If it stays so, look at node {node}: its load, its disk, its runtime and its way to the API server. The kubelet's words: {describe}"
        );
    }
    if says(&["cgroup"]) {
        return format!("Correct the container's resources, or look at the runtime of node {node}: {describe}");
    }
    if says(&["postStart"]) {
        return format!(
            "Correct lifecycle.postStart in the pod template; its output is in the kubelet's words: {describe}"
        );
    }
    format!(
        "Correct the command, the mounts, the security context or the hook in the pod template, as the kubelet's words say: {describe}"
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
        let failed = |end: &Ended| end.exit_code != 0 && !is_out_of_memory(end);
        let last = ended(e, c);
        // Memory has a rule of its own.
        (waits && !last.is_some_and(is_out_of_memory)) || (!c.ready && last.is_some_and(failed))
    };
    // Sidecars that run beside the pod's own containers are looked at with these.
    let blocking = |pod: &Pod| !has_begun(pod);
    let found: Vec<(&Pod, &Container)> = pods(e)
        .into_iter()
        .filter(|pod| !pod.ready)
        .filter_map(|pod| {
            let mut first = pod.init.iter().filter(|init| blocking(pod) || !is_sidecar(pod, init));
            Some((pod, first.find(failing)?))
        })
        .collect();
    let (pod, container) = *found.first()?;
    let end = ended(e, container);
    let mut facts = Vec::new();
    facts.extend(waiting(container).map(|reason| format!("waits: {reason}")));
    facts.extend(end.map(|end| format!("ended with {}, exit {}", end.reason, end.exit_code)));
    let summary = end.and_then(|end| end.message.as_deref()).and_then(|said| extract::extract(said).summary());
    let said = summary.map(|summary| format!(": {summary}")).unwrap_or_default();
    let logs = last_log(e, pod, container);
    let done = if is_sidecar(pod, container) { "has started" } else { "succeeds" };
    Some(
        Finding::new(
            Cause::InitContainerFailing,
            format!("init container {} of pod {} fails{}{said}", container.name, pod.name, how_many(e, found.len())),
            format!("Nothing else of the pod starts before it {done}. Read its last words: {logs}"),
        )
        .fact(format!("init container {} {}", container.name, list(&facts)))
        .facts(unfinished_rollout(e)),
    )
}
