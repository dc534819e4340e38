//! Containers that exit again and again (CrashLoopBackOff), and why.

use super::containers::{affected, how_many, is_killed_for_memory, last_log, last_words, state, whose};
use super::probe_kill::{killed_by_probe, probe_fails_too};
use super::queries::{beside_each_other, ends, suspects, unfinished_rollout, waiting};
use super::{Finding, is_explained_before};
use crate::api::{Cause, Confidence};
use crate::diagnosis::evidence::{Container, Ended, Evidence, Pod};
use crate::diagnosis::extract::{Extract, ExtractSubject};

/// The first container that ended with an error, and whose last message is of this kind.
pub(super) fn last_message_of_kind(
    e: &Evidence,
    of: impl Fn(ExtractSubject) -> bool,
) -> Option<(&Pod, &Container, &Ended, Extract)> {
    let failed = ends(e).into_iter().filter(|(.., end)| end.exit_code != 0 && !is_killed_for_memory(end));
    failed
        .filter_map(|(pod, container, end)| Some((pod, container, end, last_words(container, end)?)))
        .find(|(.., words)| of(words.kind))
}

pub(super) fn crash_loop_config(e: &Evidence) -> Option<Finding> {
    let (pod, container, end, words) =
        last_message_of_kind(e, |kind| matches!(kind, ExtractSubject::Configuration | ExtractSubject::PortInUse(_)))?;
    let logs = last_log(e, pod, container);
    let (what, advice) = match words.kind {
        ExtractSubject::PortInUse(port) => {
            let port = port.map(|port| format!("port {port}")).unwrap_or_else(|| "its port".to_owned());
            let shared = if pod.host_network {
                " The pod uses the host's network: look for the other process on its node."
            } else {
                ""
            };
            (
                format!("{port} is in use already"),
                format!(
                    "Give it another port, or stop what holds {port} (two servers of one pod, or server.port and management.server.port alike).{shared} Its last words: {logs}"
                ),
            )
        }
        _ => {
            let action =
                words.action.as_deref().map(|action| format!("It advises itself: \"{action}\" ")).unwrap_or_default();
            (
                "its configuration is wrong".to_owned(),
                format!("{action}Correct the configuration; a restart repeats the same start. Its last words: {logs}"),
            )
        }
    };
    let summary = words.summary().map(|summary| format!(": {summary}")).unwrap_or_default();
    Some(
        Finding::new(
            Cause::CrashLoopConfig,
            format!("{} ends at start, {what}{summary}", whose(pod, container)),
            advice,
        )
        .fact(state(pod, container, end))
        .facts(words.exception.map(|class| format!("exception: {class}")))
        .facts(unfinished_rollout(e)),
    )
}

fn is_clean(end: &Ended) -> bool {
    end.reason == "Completed" && end.exit_code == 0
}

pub(super) fn exited_cleanly(e: &Evidence) -> Option<Finding> {
    let killed = |(pod, container, end): &(&Pod, &Container, &Ended)| killed_by_probe(e, pod, container, end);
    let clean = ends(e).into_iter().filter(|(.., end)| is_clean(end)).map(|found| (found, killed(&found)));
    // A server that is told to end by the kubelet may end without an error too.
    let ((pod, container, end), probe) =
        clean.into_iter().find(|(_, killed)| !killed.is_some_and(|by| by.is_certain))?;
    let finding = Finding::new(
        Cause::ExitedCleanly,
        format!(
            "{} ended by itself without an error (Completed, exit 0){}",
            whose(pod, container),
            how_many(e, affected(e, |_, end| is_clean(end)))
        ),
        "Its command does not stay: correct command and args in the pod template so that the server keeps running in the foreground. The kubelet starts it again by itself",
    )
    .fact(state(pod, container, end));
    let finding = if probe.is_some() { finding.at_most(Confidence::Possible) } else { finding };
    Some(if e.subject.has_agent { finding.restart_once() } else { finding })
}

pub(super) fn crash_loop(e: &Evidence) -> Option<Finding> {
    let (pod, container, end) = looping(e).filter(|_| !is_explained_before(e, Cause::CrashLoop))?;
    let words = end.and_then(|end| last_words(container, end));
    let summary = words.as_ref().and_then(Extract::summary).map(|summary| format!(": {summary}")).unwrap_or_default();
    let how = match end {
        Some(end) if end.reason == "Error" || end.reason.is_empty() => {
            format!("exit {}{}", end.exit_code, signal(end.exit_code))
        }
        Some(end) => format!("{}, exit {}", end.reason, end.exit_code),
        None => "how it ended is not known".to_owned(),
    };
    let silent = "what it said last (terminationMessagePolicy: FallbackToLogsOnError would keep it)";
    let loops = if waiting(container) == Some("CrashLoopBackOff") { "ends again and again" } else { "has ended" };
    let finding = Finding::new(
        Cause::CrashLoop,
        format!("{} {loops} ({how}, {} restarts){summary}", whose(pod, container), container.restarts),
        format!("Read why in its last words: {}. The kubelet restarts it by itself", last_log(e, pod, container)),
    )
    .facts(end.map(|end| state(pod, container, end)))
    .facts(end.and_then(|end| probe_fails_too(e, pod, container, end)))
    .facts(unfinished_rollout(e));
    Some(if summary.is_empty() { finding.lacking(silent) } else { finding })
}

/// A container that crashes repeatedly: the kubelet backs off, it has ended, or it crashed twice recently.
fn looping(e: &Evidence) -> Option<(&Pod, &Container, Option<&Ended>)> {
    let backs_off = suspects(e).into_iter().flat_map(|pod| beside_each_other(pod).map(move |c| (pod, c)));
    let mut backs_off = backs_off.filter(|(_, c)| waiting(c) == Some("CrashLoopBackOff"));
    if let Some((pod, container)) = backs_off.next() {
        return Some((pod, container, container.last.as_ref()));
    }
    let crashed =
        |(_, c, end): &(&Pod, &Container, &Ended)| end.exit_code != 0 && (c.terminated.is_some() || c.restarts >= 2);
    ends(e).into_iter().find(crashed).map(|(pod, container, end)| (pod, container, Some(end)))
}

/// The signal behind an exit code above 128, by the shell's convention.
fn signal(code: i32) -> &'static str {
    match code {
        134 => " (SIGABRT: an assertion or the runtime itself)",
        137 => " (SIGKILL: somebody killed it; nothing says that it was for memory)",
        139 => " (SIGSEGV: native code)",
        143 => " (SIGTERM: it was asked to end)",
        _ => "",
    }
}
