//! Texts and facts about containers that several rules use.

use super::queries::{ends, is_sidecar, pods, waiting};
use super::text::{kubectl, stamp};
use crate::diagnosis::evidence::{Container, Ended, Evidence, Pod};
use crate::diagnosis::extract::{Extract, ExtractSubject, extract};

/// `container app of pod web-1`.
pub(super) fn whose(pod: &Pod, container: &Container) -> String {
    let kind = match pod.init.iter().find(|init| init.name == container.name) {
        Some(init) if is_sidecar(pod, init) => "sidecar container",
        Some(_) => "init container",
        None => "container",
    };
    format!("{kind} {} of pod {}", container.name, pod.name)
}

/// ` (2 of 3 pods)`, or nothing for a single pod.
pub(super) fn how_many(e: &Evidence, affected: usize) -> String {
    match pods(e).len() {
        0 | 1 => String::new(),
        all => format!(" ({affected} of {all} pods)"),
    }
}

pub(super) fn describe(e: &Evidence, pod: &Pod) -> String {
    kubectl(e, format_args!("describe pod {}", pod.name))
}

/// The backend's termination message, else the tail of its log, through the extractor.
pub(super) fn last_words(container: &Container, end: &Ended) -> Option<Extract> {
    let message = end.message.as_deref().filter(|message| !message.trim().is_empty());
    let text = message.or(container.log_tail.as_deref())?;
    let mut read = extract(text);
    // A truncated message may say less than the log.
    if read.kind == ExtractSubject::Other
        && let Some(log) = &container.log_tail
    {
        let log = extract(log);
        if log.kind != ExtractSubject::Other || read.summary().is_none() {
            read = log;
        }
    }
    Some(read)
}

/// The command that prints its last log. A container that ended and was not started again is not a previous one.
pub(super) fn last_log(e: &Evidence, pod: &Pod, container: &Container) -> String {
    let previous = if container.terminated.is_some() { "" } else { " --previous" };
    kubectl(e, format_args!("logs {} -c {}{previous}", pod.name, container.name))
}

/// The state of a container that ended, as a fact.
pub(super) fn state(pod: &Pod, container: &Container, end: &Ended) -> String {
    let at = end.ended.map(|at| format!(" at {}", stamp(at))).unwrap_or_default();
    let waits = waiting(container).map(|reason| format!(", {reason}")).unwrap_or_default();
    format!("{}: {}, exit {}{at}{waits}", whose(pod, container), end.reason, end.exit_code)
}

/// Number of pods with a container that ended in this way.
pub(super) fn affected(e: &Evidence, holds: impl Fn(&Container, &Ended) -> bool) -> usize {
    let mut names: Vec<&str> =
        ends(e).into_iter().filter(|(_, c, end)| holds(c, end)).map(|(pod, ..)| pod.name.as_str()).collect();
    names.dedup();
    names.len()
}

/// The runtime's word decides, not the exit code: 137 without it may come from any process that sends SIGKILL.
pub(super) fn is_out_of_memory(end: &Ended) -> bool {
    end.reason == "OOMKilled"
}

/// Whether the kernel killed the container's first process for memory. With another exit code it killed one of the
/// others, and the first one ended in its own way: its last words still count.
pub(super) fn is_killed_for_memory(end: &Ended) -> bool {
    is_out_of_memory(end) && end.exit_code == 137
}

/// The first container that waits for one of these reasons, init containers first, and the number of affected pods.
pub(super) fn first_waiting<'a>(
    e: &'a Evidence,
    reasons: &[&str],
) -> Option<(&'a Pod, &'a Container, &'a str, &'a str, usize)> {
    let waits = |pod: &'a Pod| {
        let all = pod.init.iter().chain(&pod.containers);
        all.filter_map(|c| c.waiting.as_ref().map(|(reason, said)| (c, reason.as_str(), said.as_str())))
            .find(|(_, reason, _)| reasons.contains(reason))
    };
    let affected: Vec<_> = pods(e).into_iter().filter_map(|pod| Some((pod, waits(pod)?))).collect();
    let (pod, (container, reason, said)) = *affected.first()?;
    Some((pod, container, reason, said, affected.len()))
}

pub(super) fn is_being_created(container: &Container) -> bool {
    waiting(container).is_some_and(|reason| reason == "ContainerCreating" || reason == "PodInitializing")
}
