//! `vigie agent check`: one look, and one heartbeat that is only tried.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use serde_json::{Value, json};

use super::args::CheckOutput;
use crate::agent::assess::{Assessment, Attempts, Own, Report};
use crate::agent::beats::link::{Failure, Link, Received};
use crate::agent::beats::{HostIdentity, body, token};
use crate::agent::config::Config;
use crate::agent::facts::Facts;
use crate::agent::helper::client;
use crate::agent::helper::protocol::{Ask, Reply};
use crate::agent::local_probe::LocalProbes;
use crate::agent::look::Looker;
use crate::api::{CheckOutcome, CheckType, Phase, TargetState};
use crate::cli::{Unwell, output};
use crate::time::Clock;

/// How long the helper may take for a look.
const LOOK_LIMIT: Duration = Duration::from_secs(15);

/// The result of a heartbeat that was tried.
pub(super) struct Tried {
    pub(super) result: Result<Received, Failure>,
    pub(super) phases: Vec<(Phase, Duration)>,
}

/// Looks once, tries a heartbeat, and prints both.
///
/// # Errors
/// [`Unwell`] when a check fails or the heartbeat was not received; another one when it could not look.
pub(super) async fn check(config: Config, socket: &Path, format: CheckOutput) -> anyhow::Result<()> {
    let clock = Clock::default();
    let facts = look(&config, socket).await?;
    let prober = LocalProbes::default();
    let mut probes = prober.run(&config).await;
    let tried = try_beat(&config, clock).await;
    let mut attempts = Attempts::default();
    let now = clock.read();
    attempts.record(now.moment, tried.result.as_ref().err().map(|failure| failure.attempt.clone()));
    let date = tried.result.as_ref().ok().and_then(|received| received.date);
    let clock_offset_seconds = date.map(|date| now.wall.duration_since(date).as_secs());
    let mut assessment = Assessment::default();
    let own = Own { probes: &probes, attempts: &attempts, clock_offset_seconds };
    let mut report = assessment.update(&config, &facts, &own, now);
    if probes.values().any(|probe| !probe.ok) {
        // A probe counts as failed when it has failed twice, as in the agent.
        probes = prober.run(&config).await;
        let own = Own { probes: &probes, attempts: &attempts, clock_offset_seconds };
        report = assessment.update(&config, &facts, &own, now);
    }
    match format {
        CheckOutput::Text => output::print(&text(&report, &tried))?,
        CheckOutput::Json => output::print(&format!("{:#}\n", as_json(&report, &tried)))?,
    }
    verdict(&report, &tried)
}

/// Root looks itself, so that this works while the helper does not.
async fn look(config: &Config, socket: &Path) -> anyhow::Result<Facts> {
    if rustix::process::geteuid().is_root() {
        return Ok(Looker::default().look(config).await);
    }
    match client::ask(socket, &Ask::Look { checks: Vec::new() }, LOOK_LIMIT).await {
        Ok(Reply::Looked { facts, .. }) => Ok(*facts),
        Ok(Reply::Refused(error)) => bail!("could not look: {error}; run this as root"),
        Ok(other) => bail!("could not look: the helper answers with {other:?}"),
        Err(error) => bail!("could not look: {error}; run this as root"),
    }
}

async fn try_beat(config: &Config, clock: Clock) -> Tried {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    let token = match token::read(credentials.as_deref().map(Path::new), config) {
        Ok(token) => token,
        Err(failure) => return Tried { result: Err(failure), phases: Vec::new() },
    };
    let host = HostIdentity::read();
    let mut link = Link::new(config, clock);
    let result = link.send(&token, body::trial(config, &host, clock.read().wall)).await;
    Tried { result, phases: link.spent().to_vec() }
}

fn verdict(report: &Report, tried: &Tried) -> anyhow::Result<()> {
    let has = |outcome| report.checks.iter().any(|check| check.outcome == outcome);
    let is_down = report.backends.iter().any(|backend| {
        let is_running = matches!(backend.state, TargetState::Running | TargetState::Unknown);
        !is_running || backend.probe.as_ref().is_some_and(|probe| !probe.ok)
    });
    // Nothing was sent before: that the control plane is unknown is no failure to look.
    let is_blind = report.checks.iter().any(|check| {
        let is_own = matches!(check.type_, CheckType::ControlPlane | CheckType::ClockSkew);
        check.outcome == CheckOutcome::Unknown && !is_own
    });
    if has(CheckOutcome::Fail) || is_down || tried.result.is_err() {
        return Err(Unwell.into());
    }
    match is_blind {
        true => bail!("could not look at everything: see the checks that are Unknown"),
        false => Ok(()),
    }
}

pub(super) fn text(report: &Report, tried: &Tried) -> String {
    let mut text = String::new();
    let width = report.checks.iter().map(|check| check.type_.as_str().len()).max().unwrap_or(0);
    for check in &report.checks {
        let _ = writeln!(text, "{:<width$}  {:<7}  {}", check.type_, check.outcome, check.message);
        if let Some(advice) = check.advice {
            let _ = writeln!(text, "{:width$}           → {advice}", "");
        }
    }
    for backend in &report.backends {
        let said = backend.message.as_deref().or(backend.words.as_deref()).unwrap_or_default();
        let _ = writeln!(text, "backend {}  {}  {said}", backend.name, backend.state);
    }
    for (phase, took) in &tried.phases {
        let _ = writeln!(text, "heartbeat  {:<9}  {} ms", phase.to_string(), took.as_millis());
    }
    let _ = match &tried.result {
        Ok(received) => writeln!(text, "heartbeat  accepted (tried only): the connector is {}", received.answer.state),
        Err(failure) => {
            let (class, phase) = (&failure.attempt.class, &failure.attempt.phase);
            writeln!(text, "heartbeat  failed: {class} in phase {phase}: {}", failure.message)
        }
    };
    text
}

fn as_json(report: &Report, tried: &Tried) -> Value {
    let checks = report.checks.iter().map(
        |check| json!({"type": check.type_, "status": check.outcome, "message": check.message, "advice": check.advice}),
    );
    let phases = tried.phases.iter().map(
        |(phase, took)| json!({"phase": phase, "milliseconds": u64::try_from(took.as_millis()).unwrap_or(u64::MAX)}),
    );
    let heartbeat = match &tried.result {
        Ok(received) => json!({"ok": true, "state": received.answer.state, "phases": phases.collect::<Vec<_>>()}),
        Err(failure) => json!({"ok": false, "error_class": failure.attempt.class, "phase": failure.attempt.phase,
            "message": failure.message, "phases": phases.collect::<Vec<_>>()}),
    };
    json!({"checks": checks.collect::<Vec<_>>(), "backends": report.backends, "heartbeat": heartbeat})
}
