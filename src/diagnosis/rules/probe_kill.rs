//! Containers that the kubelet kills because a probe of it fails. Its events are the witness, not the exit code: a process
//! that handles SIGTERM ends with 0, 1 or any other code.

use jiff::SignedDuration;

use super::Finding;
use super::containers::{last_words, state, whose};
use super::queries::{ends, unfinished_rollout, warnings};
use crate::api::{Cause, Confidence};
use crate::diagnosis::evidence::{Container, Ended, Evidence, Pod, Warning};
use crate::diagnosis::extract::Extract;

/// How much older than the end of a container an event about it may be. The kubelet sends at most one event in five
/// minutes about the same object once it has sent many, so that the last event of a loop may be that old.
const BEFORE: SignedDuration = SignedDuration::from_mins(10);

/// A probe that killed a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProbeKill {
    /// `liveness` or `startup`.
    probe: &'static str,
    /// The event that says so.
    event: &'static str,
    /// Nothing else explains how it ended.
    pub(super) is_certain: bool,
}

/// The probe that killed this container, if one did.
pub(super) fn killed_by_probe(e: &Evidence, pod: &Pod, container: &Container, end: &Ended) -> Option<ProbeKill> {
    if let Some(probe) = event(e, pod, container, end, "Killing") {
        return Some(ProbeKill { probe, event: "Killing", is_certain: true });
    }
    let probe = event(e, pod, container, end, "Unhealthy")?;
    let is_signal = matches!(end.exit_code, 137 | 143);
    // A process that crashes while it starts fails its probes, too: then its own words explain it.
    let explains_itself = || last_words(container, end).as_ref().and_then(Extract::summary).is_some();
    (is_signal || !explains_itself()).then_some(ProbeKill { probe, event: "Unhealthy", is_certain: is_signal })
}

/// The fact that a probe fails too, for a container that explains its end itself.
pub(super) fn probe_fails_too(e: &Evidence, pod: &Pod, container: &Container, end: &Ended) -> Option<String> {
    let probe = event(e, pod, container, end, "Unhealthy")?;
    Some(format!("event Unhealthy: the {probe} probe of pod {} failed too", pod.name))
}

/// The probe, liveness or startup, that an event with this reason about this run of the container names.
fn event(e: &Evidence, pod: &Pod, container: &Container, end: &Ended, reason: &str) -> Option<&'static str> {
    let is_about = |warning: &&Warning| warning.container.as_ref().is_none_or(|name| *name == container.name);
    let is_recent = |warning: &&Warning| match (warning.at, end.ended) {
        (Some(at), Some(ended)) => ended.duration_since(at) <= BEFORE,
        _ => true,
    };
    let reasons = [reason];
    let mut about = warnings(e, pod, &reasons).filter(is_about).filter(is_recent);
    about.find_map(|warning| probe(container, warning))
}

/// The probe in the note of an event. The rest of an `Unhealthy` note holds the backend's answer.
fn probe(container: &Container, warning: &Warning) -> Option<&'static str> {
    let note = &warning.note;
    let (liveness, startup) = match warning.reason.as_str() {
        // Without the container in its field path the event names it in its note: `Container app failed …`.
        "Killing" if warning.container.is_none() && !note.contains(&format!("ontainer {} ", container.name)) => {
            return None;
        }
        "Killing" => (note.contains("failed liveness probe"), note.contains("failed startup probe")),
        _ => (note.starts_with("Liveness probe"), note.starts_with("Startup probe")),
    };
    // Without such a probe the event is about another pod of this name.
    let has_probe = container.probes.0 || container.probes.1;
    match (liveness, startup) {
        (true, _) if has_probe => Some("liveness"),
        (_, true) if has_probe => Some("startup"),
        _ => None,
    }
}

pub(super) fn crash_loop_killed_by_liveness(e: &Evidence) -> Option<Finding> {
    let killed = |(pod, container, end)| Some((pod, container, end, killed_by_probe(e, pod, container, end)?));
    let (pod, container, end, by) = ends(e).into_iter().find_map(killed)?;
    let ProbeKill { probe, event, is_certain } = by;
    let cure = if probe == "startup" {
        "Give its startupProbe a larger failureThreshold".to_owned()
    } else if container.probes.0 {
        "Let its livenessProbe wait longer (timeoutSeconds, failureThreshold) and ask nothing of other services"
            .to_owned()
    } else {
        "Add a startupProbe, so that the livenessProbe waits until it has started".to_owned()
    };
    let finding = Finding::new(
        Cause::CrashLoopKilledByLiveness,
        format!("the {probe} probe of {} kills it (exit {}) before it answers", whose(pod, container), end.exit_code),
        format!("{cure}, or give it more CPU. Restarting it starts the same race again"),
    )
    .fact(state(pod, container, end))
    .fact(format!("event {event}: the {probe} probe of pod {} failed", pod.name))
    .facts(unfinished_rollout(e));
    Some(if is_certain {
        finding
    } else {
        let other = format!("not seen: the event Killing, without which exit {} may be its own", end.exit_code);
        finding.at_most(Confidence::Likely).fact(other)
    })
}
