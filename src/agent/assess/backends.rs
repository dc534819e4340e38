//! What is told about a backend: facts, for the rules of the operator's diagnosis.

use super::Own;
use super::finding::Finding;
use super::process::{of_target, unanswered, unit_was_stopped};
use super::target::Targets;
use crate::agent::config::BackendConfig;
use crate::agent::facts::{ContainerFacts, Exit, Facts, Look, TargetFacts, UnitFacts};
use crate::api::{BackendReport, CheckOutcome, MAX_BACKEND_TEXT, TargetState, one_line};

/// Longest word of systemd or Docker, in characters.
const MAX_WORD: usize = 32;

/// The report about one backend.
pub(super) fn report(backend: &BackendConfig, targets: &Targets, facts: &Facts, own: &Own<'_>) -> BackendReport {
    let name = backend.unit.to_string();
    let mut report = BackendReport { name: backend.name.clone(), unit: Some(name.clone()), ..BackendReport::default() };
    match facts.targets.get(&name) {
        Some(Look::Seen(TargetFacts::Unit(unit))) => of_unit(&mut report, unit),
        Some(Look::Seen(TargetFacts::Container(container))) => of_container(&mut report, container),
        Some(Look::Seen(TargetFacts::Absent { .. })) => report.state = TargetState::Absent,
        Some(Look::Blind(_)) | None => {}
    }
    report.recent_restarts = report.restarts.map(|_| targets.get(&name).lately_restarted());
    let Finding { outcome, message } = of_target(&backend.unit, facts, targets);
    report.message = (outcome != CheckOutcome::Pass).then_some(message);
    let probe = backend.probe.as_ref().and_then(|url| Some((url, own.probes.get(url)?)));
    report.probe = probe.map(|(_, probe)| probe.clone());
    let runs = report.state == TargetState::Running;
    if let Some((url, probe)) = probe.filter(|(_, probe)| runs && !probe.ok) {
        report.message = Some(unanswered(&name, url, probe));
    }
    bounded(report)
}

fn of_unit(report: &mut BackendReport, unit: &UnitFacts) {
    report.state = match (&*unit.load, &*unit.active, &*unit.sub) {
        ("not-found", "inactive" | "failed", _) => TargetState::Absent,
        (_, "failed", _) => TargetState::Failed,
        (_, "inactive" | "deactivating", _) => TargetState::Inactive,
        (_, "activating", "auto-restart") => TargetState::Restarting,
        (_, "activating", _) => TargetState::Activating,
        (_, "active" | "reloading" | "refreshing", _) => TargetState::Running,
        _ => TargetState::Unknown,
    };
    let has_ended = matches!(report.state, TargetState::Failed | TargetState::Inactive | TargetState::Restarting);
    report.exit_code = match unit.exit {
        Some(Exit::Code(code)) => Some(code.into()),
        // As a shell and Docker count it.
        Some(Exit::Signal(signal)) => Some(128 + u64::from(signal)),
        None => None,
    };
    report.since_seconds = unit.since_seconds;
    report.oom_killed = has_ended.then_some(unit.result == "oom-kill");
    report.restarts = Some(unit.restarts);
    report.stopped_on_purpose = (report.state == TargetState::Inactive).then(|| unit_was_stopped(unit));
    report.policy = text(&unit.policy);
    report.listens.clone_from(&unit.listens);
    report.environment.clone_from(&unit.environment);
    report.words.clone_from(&unit.words);
}

fn of_container(report: &mut BackendReport, container: &ContainerFacts) {
    report.state = match &*container.status {
        "running" | "stopping" => TargetState::Running,
        "exited" | "dead" | "stopped" => TargetState::Exited,
        "restarting" => TargetState::Restarting,
        "created" | "configured" | "initialized" => TargetState::Created,
        "paused" => TargetState::Paused,
        "removing" => TargetState::Absent,
        _ => TargetState::Unknown,
    };
    let has_ended = matches!(report.state, TargetState::Exited | TargetState::Restarting);
    report.exit_code = u64::try_from(container.exit_code).ok().filter(|_| has_ended);
    report.since_seconds = container.since_seconds;
    report.oom_killed = has_ended.then_some(container.oom_killed);
    report.restarts = Some(container.restarts);
    report.stopped_on_purpose = container.stopped_on_purpose;
    report.policy = text(&container.policy);
    report.health = container.health.as_deref().and_then(text);
    report.listens.clone_from(&container.listens);
    report.published.clone_from(&container.published);
    report.environment.clone_from(&container.environment);
    report.words.clone_from(&container.words);
}

/// A word of systemd or Docker.
fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| one_line(text, MAX_WORD))
}

/// Leaves out what is least needed until the texts are short enough: names without a value, then addresses, then lines.
fn bounded(mut report: BackendReport) -> BackendReport {
    while report.text_len() > MAX_BACKEND_TEXT {
        let plain = report.environment.iter().rev().find(|(_, value)| value.is_none());
        if let Some(name) = plain.map(|(name, _)| name.clone()) {
            report.environment.remove(&name);
        } else if report.environment.pop_last().is_none()
            && report.listens.pop().is_none()
            && report.published.pop().is_none()
            && report.message.take().is_none()
        {
            report.words = None;
            break;
        }
    }
    report
}
