//! Whether a unit or container runs.

use std::collections::BTreeMap;

use super::finding::Finding;
use super::host::{Host, seen};
use super::target::{Known, LOOP, Targets};
use super::words::{clock_time, times};
use crate::agent::facts::{ContainerFacts, Exit, Facts, Look, TargetFacts, UnitFacts};
use crate::api::{CheckOutcome, LocalProbe, Target};

/// The check of a unit or container, with the probe of its endpoint.
pub(super) fn judge(host: &Host<'_>, targets: &Targets, probes: &BTreeMap<String, LocalProbe>) -> Finding {
    let Some(target) = host.check.unit.as_ref().or(host.config.unit.as_ref()) else {
        return Finding::unknown("no unit is configured");
    };
    let finding = of_target(target, host.facts, targets);
    let is_well = matches!(finding.outcome, CheckOutcome::Pass | CheckOutcome::Warn);
    let facts = host.facts.targets.get(&target.to_string()).and_then(|look| look.seen().ok());
    let runs = is_well && facts.is_some_and(is_running);
    let failed = host.check.probe.as_ref().filter(|url| runs && targets.has_failed(url));
    match failed.and_then(|url| Some((url, probes.get(url)?))) {
        Some((url, probe)) => Finding::fail(unanswered(&target.to_string(), url, probe)),
        None => finding,
    }
}

/// Whether it can answer: it is not about to start or to stop, and does not wait to be restarted.
fn is_running(facts: &TargetFacts) -> bool {
    match facts {
        TargetFacts::Unit(unit) => matches!(&*unit.active, "active" | "reloading" | "refreshing"),
        TargetFacts::Container(container) => container.status == "running",
        TargetFacts::Absent { .. } => false,
    }
}

/// It runs, and its endpoint does not answer.
pub(super) fn unanswered(name: &str, url: &str, probe: &LocalProbe) -> String {
    let class = probe.error_class.as_deref().unwrap_or("failure");
    let status = probe.status.map(|status| format!(" {status}")).unwrap_or_default();
    let address = url.split_once("://").map_or(url, |(_, rest)| rest);
    format!("{name} runs, and does not answer: {class}{status} on {address}")
}

/// The state of one target.
pub(super) fn of_target(target: &Target, facts: &Facts, targets: &Targets) -> Finding {
    let name = target.to_string();
    let known = targets.get(&name);
    match seen(facts.targets.get(&name), &name) {
        Err(unknown) => unknown,
        Ok(TargetFacts::Unit(facts)) => unit(&name, facts, &known),
        Ok(TargetFacts::Container(facts)) => container(&name, facts, &known),
        Ok(TargetFacts::Absent { .. }) => Finding::fail(absent(target, known.directory.as_deref())),
    }
}

fn unit(name: &str, facts: &UnitFacts, known: &Known) -> Finding {
    let runs = matches!(&*facts.active, "active" | "reloading" | "refreshing");
    match &*facts.load {
        "loaded" | "merged" => {}
        // Its file was removed, masked or broken while it ran.
        "masked" if runs => {
            return Finding::warn(format!(
                "{name} runs, and is masked, so it does not start again: systemctl unmask {name}"
            ));
        }
        load if runs => {
            return Finding::warn(format!(
                "{name} runs, and cannot be started again ({load}): systemctl status {name}"
            ));
        }
        "not-found" => return Finding::fail(format!("{name} does not exist on this host: systemctl status {name}")),
        "masked" => return Finding::fail(format!("{name} is masked: systemctl unmask {name}")),
        load => return Finding::fail(format!("{name} cannot be loaded ({load}): systemctl status {name}")),
    }
    let (since, cause, end) = (since(known), because(facts.words.as_deref()), unit_end(facts));
    if known.recent_restarts() >= LOOP {
        return Finding::fail(format!("{name} {}{cause}", looping(&end, known)));
    }
    match (&*facts.active, &*facts.sub) {
        ("failed", _) => Finding::fail(format!("{name} failed ({end}){since}{}{cause}", restarted(facts.restarts))),
        ("inactive", _) if never_ran(facts) => Finding::fail(format!(
            "{name} was not started since the boot: a condition of it does not hold, or a unit that it requires failed: \
             systemctl status {name}"
        )),
        ("inactive", _) if unit_was_stopped(facts) => {
            Finding::fail(format!("{name} is stopped on purpose{since}: systemctl start {name}"))
        }
        ("inactive", _) => Finding::fail(format!("{name} does not run ({end}){since}: systemctl start {name}")),
        ("activating", "auto-restart") => {
            Finding::warn(format!("{name} ended ({end}), and systemd restarts it by itself{cause}"))
        }
        ("activating", sub) => Finding::warn(format!("{name} is starting ({sub}){since}")),
        ("deactivating", sub) => Finding::warn(format!("{name} is stopping ({sub}){since}")),
        ("active" | "reloading" | "refreshing", sub) if sub != "exited" && facts.policy == "no" => Finding::warn(
            format!("{name} runs, and nothing restarts it while vigie cannot be reached: set Restart=always"),
        ),
        ("active" | "reloading" | "refreshing", sub) => Finding::pass(format!("{name} is active ({sub}){since}")),
        (active, sub) => Finding::unknown(format!("{name} is in a state that is not known: {active} ({sub})")),
    }
}

/// Whether a person stopped the target, and it does not run.
pub(super) fn was_stopped(target: &Target, facts: &Facts) -> bool {
    match facts.targets.get(&target.to_string()) {
        Some(Look::Seen(TargetFacts::Unit(unit))) => unit_was_stopped(unit),
        Some(Look::Seen(TargetFacts::Container(container))) => {
            container.stopped_on_purpose == Some(true) && matches!(&*container.status, "exited" | "stopped" | "dead")
        }
        Some(Look::Seen(TargetFacts::Absent { .. }) | Look::Blind(_)) | None => false,
    }
}

/// Whether a person stopped the unit: systemd starts one with this setting again, except for a stop.
pub(super) fn unit_was_stopped(facts: &UnitFacts) -> bool {
    let is_off = facts.load == "masked" || matches!(&*facts.file_state, "disabled" | "masked" | "masked-runtime");
    let is_kept = facts.policy == "always" && !never_ran(facts);
    facts.active == "inactive" && facts.result == "success" && (is_kept || is_off)
}

/// Whether an enabled unit was not started since the boot, because a condition or a dependency failed. systemd keeps such
/// a unit in memory, and with it the id of its last run.
fn never_ran(facts: &UnitFacts) -> bool {
    facts.active == "inactive" && facts.file_state == "enabled" && facts.invocation.is_empty()
}

fn unit_end(facts: &UnitFacts) -> String {
    match (&*facts.result, facts.exit) {
        ("oom-kill", _) => "killed by the kernel for lack of memory".to_owned(),
        ("watchdog", _) => "its watchdog was silent".to_owned(),
        ("timeout", _) => "timeout".to_owned(),
        (_, Some(Exit::Code(code))) => format!("exit {code}"),
        (_, Some(Exit::Signal(signal))) => format!("signal {signal}"),
        (result, None) => result.to_owned(),
    }
}

fn container(name: &str, facts: &ContainerFacts, known: &Known) -> Finding {
    let (since, cause, end) = (since(known), because(facts.words.as_deref()), container_end(facts));
    let docker = &facts.name;
    if known.recent_restarts() >= LOOP {
        return Finding::fail(format!("{name} {}{cause}", looping(&end, known)));
    }
    match (&*facts.status, facts.health.as_deref()) {
        ("exited" | "stopped", _) if facts.stopped_on_purpose == Some(true) => {
            Finding::fail(format!("{name} is stopped on purpose{since}: docker start {docker}"))
        }
        ("exited" | "stopped" | "dead", _) => {
            Finding::fail(format!("{name} ended ({end}){since}{}{cause}", restarted(facts.restarts)))
        }
        ("created" | "configured" | "initialized", _) => {
            let error = facts.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
            Finding::fail(format!("{name} was never started{error}: docker start {docker}"))
        }
        ("paused", _) => Finding::fail(format!("{name} is paused{since}: docker unpause {docker}")),
        ("restarting", _) => Finding::warn(format!("{name} ended ({end}), and Docker restarts it by itself{cause}")),
        ("running", Some("unhealthy")) => {
            Finding::fail(format!("{name} runs, and its own health check fails: docker inspect {docker}{cause}"))
        }
        ("running", _) if facts.policy == "no" => Finding::warn(format!(
            "{name} runs, and nothing restarts it while vigie cannot be reached: docker update --restart unless-stopped {docker}"
        )),
        ("running", Some("starting")) => Finding::pass(format!("{name} runs{since}, its health check is starting")),
        ("running", _) => Finding::pass(format!("{name} runs{since}")),
        ("removing" | "stopping", _) => Finding::warn(format!("{name} is {}", facts.status)),
        (status, _) => Finding::unknown(format!("{name} is in a state that is not known: {status}")),
    }
}

fn container_end(facts: &ContainerFacts) -> String {
    match facts.oom_killed {
        true => "killed by the kernel for lack of memory".to_owned(),
        false => format!("exit {}", facts.exit_code),
    }
}

/// There is no such container.
pub(super) fn absent(target: &Target, directory: Option<&str>) -> String {
    let command = match (target, target.creation_command(directory)) {
        (_, Some(command)) => command,
        (Target::Compose { project, service }, None) => {
            format!("docker compose -p {project} up -d {service}, in the directory of its compose file")
        }
        _ => "docker ps -a shows those that there are".to_owned(),
    };
    format!("{target} has no container: {command}")
}

fn looping(end: &str, known: &Known) -> String {
    // While it runs in between there is no end to tell.
    let end = if matches!(end, "success" | "exit 0") { String::new() } else { format!(" ({end})") };
    format!("ends again and again{end}, restarted {} in the last 5 min", times(known.recent_restarts()))
}

fn restarted(count: u64) -> String {
    if count == 0 { String::new() } else { format!(", restarted {}", times(count)) }
}

fn since(known: &Known) -> String {
    known.since.map(|since| format!(" since {}", clock_time(since, known.wall))).unwrap_or_default()
}

fn because(words: Option<&str>) -> String {
    words.map(|words| format!(": {words}")).unwrap_or_default()
}
