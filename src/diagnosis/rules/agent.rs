//! The unit behind a backend as the agent on its host sees it: outside the cluster the agent takes the kubelet's part.
//!
//! A unit that the agent could not look at (`Unknown`) is no evidence for any cause.

use jiff::SignedDuration;

use super::Finding;
use super::queries::{fails, passes, probe_fact, target};
use super::rollout::startup;
use super::text::{since, stamp, value};
use crate::api::{AgentView, Cause, Confidence, Target, TargetState};
use crate::diagnosis::evidence::Evidence;

/// The agent's view, while the probe of the target fails.
pub(super) fn failing_view(e: &Evidence) -> Option<&AgentView> {
    e.agent.as_ref()?.view.as_ref().filter(|_| fails(e))
}

/// The unit, if its name has one of the three forms.
pub(super) fn unit_of(view: &AgentView) -> Option<Target> {
    view.unit.as_deref()?.parse().ok()
}

pub(super) fn is_container(view: &AgentView) -> bool {
    match unit_of(view) {
        Some(unit) => !matches!(unit, Target::Unit(_)),
        None if view.unit.is_some() => false,
        None => matches!(view.state, TargetState::Exited | TargetState::Created | TargetState::Paused),
    }
}

/// `container orders on vm-7`.
pub(super) fn unit(view: &AgentView) -> String {
    let unit = match (unit_of(view), view.unit.as_deref()) {
        (Some(Target::Compose { project, service }), _) => {
            format!("the container of service {service} (compose project {project})")
        }
        (Some(Target::Container(name)), _) => format!("container {name}"),
        (Some(Target::Unit(_)) | None, Some(unit)) => format!("unit {unit}"),
        (_, None) => "its unit".to_owned(),
    };
    format!("{unit} on {}", host(view))
}

/// The name of the host, if it may be shown; it is part of commands.
pub(super) fn host(view: &AgentView) -> &str {
    let is_name = |name: &&str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_';
        name.bytes().all(plain) && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
    };
    view.host.as_deref().filter(is_name).unwrap_or("HOST")
}

/// The command that shows its log.
pub fn agent_log_command(view: &AgentView) -> String {
    format!("ssh {} vigie agent logs {}", host(view), view.unit.as_deref().unwrap_or("TARGET"))
}

/// The same in backticks.
pub(super) fn logs(view: &AgentView) -> String {
    format!("`{}`", agent_log_command(view))
}

/// The command that starts it.
pub(super) fn start(view: &AgentView) -> String {
    match (unit_of(view), view.unit.as_deref()) {
        (Some(Target::Compose { project, service }), _) => format!("`docker compose -p {project} start {service}`"),
        (Some(Target::Container(name)), _) => format!("`docker start {name}`"),
        (Some(Target::Unit(_)) | None, Some(unit)) => format!("`systemctl start {unit}`"),
        (_, None) => "`docker start NAME` or `systemctl start UNIT`".to_owned(),
    }
}

/// Whether the agent's own probe of the unit is answered.
pub(super) fn answers_locally(view: &AgentView) -> bool {
    view.probe.as_ref().is_some_and(|probe| probe.is_answered())
}

/// ` (exit 137)`, or nothing.
pub(super) fn code_in_brackets(view: &AgentView) -> String {
    code(view).map(|code| format!(" ({code})")).unwrap_or_default()
}

pub(super) fn code(view: &AgentView) -> Option<String> {
    view.exit_code.map(|code| format!("exit {code}"))
}

pub(super) fn words(view: &AgentView) -> Option<String> {
    view.words.as_deref().map(|words| words.trim()).filter(|words| !words.is_empty()).map(str::to_owned)
}

/// `: "…"`, or nothing.
pub(super) fn colon(words: Option<String>) -> String {
    words.map(|words| format!(": {words}")).unwrap_or_default()
}

/// The state as a fact.
pub(super) fn state_fact(view: &AgentView) -> String {
    format!("agent: {}", agent_in_words(view))
}

/// The state in a sentence.
pub fn agent_in_words(view: &AgentView) -> String {
    let details = [
        code(view),
        view.oom_killed.then(|| "killed for memory".to_owned()),
        view.stopped_on_purpose.then(|| "stopped on purpose".to_owned()),
        restarted(view),
        view.policy.as_deref().map(|policy| format!("restart policy {}", value(policy))),
        view.health.as_deref().map(|health| format!("its own health check says {}", value(health))),
    ];
    let details: Vec<String> = details.into_iter().flatten().collect();
    let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) };
    format!("{} is {}{}{details}", unit(view), view.state, since(began(view)))
}

/// How often its host restarted it: in all, and lately.
fn restarted(view: &AgentView) -> Option<String> {
    let restarts = view.restarts.filter(|restarts| *restarts > 0)?;
    let recent = match view.recent_restarts {
        Some(recent) => format!(", {recent} of them in the last 15 min"),
        None => String::new(),
    };
    Some(format!("restarted {restarts} times by its host{recent}"))
}

/// The agent's own probe as a fact.
pub(super) fn local_probe_fact(view: &AgentView) -> Option<String> {
    let probe = view.probe.as_ref()?;
    let how = match (probe.ok, probe.status, probe.error_class) {
        (true, ..) => "passes".to_owned(),
        (false, Some(status), _) => format!("is answered with status {status}"),
        (false, None, Some(class)) => format!("fails ({class})"),
        (false, None, None) => "fails".to_owned(),
    };
    Some(format!("agent: its own probe on {} {how}", host(view)))
}

pub(super) fn began(view: &AgentView) -> Option<jiff::Timestamp> {
    view.since.as_ref().map(|since| since.0)
}

/// ` at 2026-11-05T10:00:00Z`, or nothing.
fn at(view: &AgentView) -> String {
    began(view).map(|at| format!(" at {}", stamp(at))).unwrap_or_default()
}

/// Whether the agent contradicts itself: the unit is said to be gone, and a probe of it is answered. Then another process
/// may have its port, and nothing follows for certain.
fn weighed(view: &AgentView, finding: Finding) -> Finding {
    let answered = answers_locally(view);
    let finding = finding.fact(state_fact(view));
    match local_probe_fact(view).filter(|_| answered) {
        Some(fact) => finding.at_most(Confidence::Possible).fact(fact),
        None => finding,
    }
}

pub(super) fn finished(e: &Evidence, view: &AgentView, finding: Finding) -> Finding {
    weighed(view, finding).facts(target(e).map(probe_fact))
}

pub(super) fn is_young(e: &Evidence, view: &AgentView, most: SignedDuration) -> bool {
    began(view).is_none_or(|at| e.gathered_at.duration_since(at) < most)
}

/// Whether it was healthy since it runs: then it did listen.
pub(super) fn has_served(e: &Evidence, view: &AgentView) -> bool {
    began(view).is_some_and(|began| e.history.last_healthy.is_some_and(|healthy| healthy > began))
}

/// How it was stopped on purpose, as a part of the advice.
fn on_purpose(view: &AgentView, else_: String) -> String {
    match view.stopped_on_purpose {
        true => format!(
            "If the stop is meant, say so with spec.paused: where remediation is set, vigie starts it again once, no sooner than 600 s after the failure. {else_}"
        ),
        false => else_,
    }
}

pub(super) fn container_stopped(e: &Evidence) -> Option<Finding> {
    use TargetState::{Created, Exited, Paused};
    if let Some(finding) = saved_stop(e, Cause::ContainerStopped) {
        return Some(finding);
    }
    let view = failing_view(e).filter(|view| matches!(view.state, Exited | Created | Paused))?;
    let code = code_in_brackets(view);
    let (since, at) = (since(began(view)), at(view));
    let what = match view.state {
        Created => "was created and never started".to_owned(),
        Paused => format!("is suspended (docker pause){since}"),
        _ if view.stopped_on_purpose => format!("was stopped on purpose{code}{at}"),
        _ => format!("has ended{code}{at}{}", colon(words(view))),
    };
    let start = match (view.state, unit_of(view)) {
        (Paused, Some(Target::Container(name))) => format!("`docker unpause {name}`"),
        (Paused, Some(Target::Compose { project, service })) => {
            format!("`docker compose -p {project} unpause {service}`")
        }
        _ => start(view),
    };
    let policy = match view.policy.as_deref() {
        Some("no" | "") => ". Its restart policy starts nothing by itself: `restart: unless-stopped`",
        _ => "",
    };
    let advice = format!("Start it on {}: {start}; why it ended: {}{policy}", host(view), logs(view));
    let finding = Finding::new(Cause::ContainerStopped, format!("{} {what}", unit(view)), on_purpose(view, advice));
    Some(finished(e, view, finding.restart_once()))
}

pub(super) fn process_stopped(e: &Evidence) -> Option<Finding> {
    use TargetState::{Absent, Failed, Inactive};
    if let Some(finding) = saved_stop(e, Cause::ProcessStopped) {
        return Some(finding);
    }
    let view = failing_view(e)?;
    if view.state == Absent && !is_container(view) {
        let advice = format!("Install it on {}, or correct spec.agentRef.unit", host(view));
        let finding = Finding::new(Cause::ProcessStopped, format!("{} does not exist", unit(view)), advice);
        return Some(finished(e, view, finding));
    }
    if !matches!(view.state, Failed | Inactive) {
        return None;
    }
    let code = code_in_brackets(view);
    let since = since(began(view));
    let given_up = match view.restarts {
        Some(restarts) if view.state == Failed && restarts > 0 => {
            format!("; systemd restarted it {restarts} times and gave up")
        }
        _ => String::new(),
    };
    let what = match view.state {
        _ if view.stopped_on_purpose => format!("was stopped on purpose{code}{}", at(view)),
        Failed => format!("has failed{code}{since}{given_up}{}", colon(words(view))),
        _ => format!("is stopped{code}{since}{}", colon(words(view))),
    };
    let advice = format!("Start it on {}: {}; why it ended: {}", host(view), start(view), logs(view));
    let finding = Finding::new(Cause::ProcessStopped, format!("{} {what}", unit(view)), on_purpose(view, advice));
    Some(finished(e, view, finding.restart_once()))
}

/// Evidence that was saved by an older version says no more than that it is stopped.
fn saved_stop(e: &Evidence, cause: Cause) -> Option<Finding> {
    let agent = e.agent.as_ref().filter(|agent| agent.view.is_none() && !passes(e))?;
    let (is_stopped, what, how) = match cause {
        Cause::ContainerStopped => (agent.container_stopped, "container", "docker logs or podman logs, journalctl"),
        _ => (agent.process_stopped, "process", "journalctl -u UNIT"),
    };
    is_stopped.then(|| {
        let message = format!("the local agent says that its {what} is stopped");
        Finding::new(cause, message, format!("Start the {what} on its host, and read why it stopped ({how})"))
            .restart_once()
            .fact(format!("agent: {what} stopped"))
            .facts(target(e).map(probe_fact))
    })
}

pub(super) fn container_absent(e: &Evidence) -> Option<Finding> {
    let view = failing_view(e).filter(|view| view.state == TargetState::Absent && is_container(view))?;
    let host = host(view);
    let (create, told) = match unit_of(view) {
        Some(Target::Compose { project, service }) => {
            let create = format!("`docker compose -p {project} up -d {service}` in the directory of its compose file");
            (create, view.message.as_deref().filter(|message| message.contains("docker compose")))
        }
        _ => ("`docker run …` as it was created before".to_owned(), None),
    };
    let told = told.map(|message| format!(" ({})", value(message))).unwrap_or_default();
    let finding = Finding::new(
        Cause::ContainerAbsent,
        format!("{} does not exist: it was removed, or never created", unit(view)),
        format!("Create it on {host}: {create}{told}. A restart cannot: there is nothing to start"),
    );
    Some(finished(e, view, finding))
}

pub(super) fn still_starting(e: &Evidence) -> Option<Finding> {
    let view = failing_view(e)?;
    let starting = match view.state {
        TargetState::Activating => true,
        TargetState::Running => began(view).is_some() && is_young(e, view, startup(e)),
        _ => false,
    };
    let any_byte = target(e).is_some_and(|target| target.any_byte);
    if !starting || answers_locally(view) || any_byte || has_served(e, view) {
        return None;
    }
    let until = began(view).and_then(|at| at.checked_add(startup(e)).ok());
    let (has, wait) = match until {
        Some(until) => (format!("; it has until {}", stamp(until)), format!("Wait until {}", stamp(until))),
        None => (String::new(), "Wait".to_owned()),
    };
    let finding = Finding::new(
        Cause::StillStarting,
        format!("{} is starting{} and does not answer yet{has}", unit(view), since(began(view))),
        format!("{wait}; a restart would only begin anew. If it needs longer, raise spec.startupSeconds"),
    )
    .at_most(Confidence::Likely)
    .fact(state_fact(view))
    .facts(local_probe_fact(view));
    Some(finding.facts(target(e).map(probe_fact)))
}
