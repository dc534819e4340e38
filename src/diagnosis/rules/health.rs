//! Rules about the actuator's health page.

use super::queries::{actuator, answers, fails, probe_fact, target, vantage};
use super::rollout::rollout_fact;
use super::text::{component, list, some, url};
use super::{Finding, settings};
use crate::api::{Cause, Confidence, ErrorClass};
use crate::diagnosis::evidence::{Actuator, Evidence, Vantage};

/// Components of the process itself, not dependencies.
const OWN: &[&str] = &["diskSpace", "ping", "livenessState", "readinessState"];

/// The actuator, if its health counts: the spec asks for it, or a probe fails.
fn asked(e: &Evidence) -> Option<&Actuator> {
    let health_fails = vantage(e, "health").is_some_and(|health| !health.ok);
    actuator(e).filter(|_| fails(e) || health_fails || e.subject.wants_actuator)
}

/// The components with this status and without a nested one with it; only names that may be shown.
fn components<'a>(actuator: &'a Actuator, status: &str) -> Vec<&'a str> {
    let all = actuator.components.iter().flatten().filter(|(_, is)| *is == status).map(|(name, _)| name.as_str());
    let all: Vec<&str> = all.collect();
    let is_leaf =
        |name: &&str| !all.iter().any(|other| other.strip_prefix(*name).is_some_and(|rest| rest.starts_with('/')));
    all.iter().copied().filter(is_leaf).filter_map(component).collect()
}

fn is_own(name: &str) -> bool {
    OWN.contains(&name.rsplit('/').next().unwrap_or(name))
}

fn fact(actuator: &Actuator) -> String {
    let status = actuator.health_status.map(|status| format!(" {status}")).unwrap_or_default();
    format!("{}/health:{status} {}", url(&actuator.base), health_word(actuator))
}

/// Only Spring's own statuses are shown.
fn health_word(actuator: &Actuator) -> &'static str {
    match actuator.health.as_deref() {
        Some("UP") => "UP",
        Some("DOWN") => "DOWN",
        Some("OUT_OF_SERVICE") => "OUT_OF_SERVICE",
        Some("UNKNOWN") => "UNKNOWN",
        Some(_) => "with a status of its own",
        None => "without a status",
    }
}

/// The dependency that a component of this name usually is.
fn kind(name: &str) -> &'static str {
    match name.rsplit('/').next().unwrap_or(name) {
        name if name.starts_with("db") || name.contains("DataSource") => "its database",
        "r2dbc" => "its database",
        "redis" => "Redis",
        "rabbit" => "RabbitMQ",
        "mongo" => "MongoDB",
        "jms" => "its JMS broker",
        "mail" => "its mail server",
        "ldap" => "its LDAP server",
        "elasticsearch" => "Elasticsearch",
        _ => "what it depends on",
    }
}

/// The health page does not answer while the actuator does: one of its checks waits. Spring's pool waits 30 s for a
/// database by default, longer than any probe: with that default an unreachable database shows in this way.
fn waiting_health(e: &Evidence) -> Option<Finding> {
    let health = own_health(e).filter(|health| health.error_class == Some(ErrorClass::FirstByteTimeout))?;
    let actuator = actuator(e).filter(|_| answers(e))?;
    let wait = "SPRING_DATASOURCE_HIKARI_CONNECTIONTIMEOUT";
    let finding = Finding::new(
        Cause::DependencyDown,
        format!(
            "its health page sends nothing within {} s while its actuator answers: a check in it waits for what the backend depends on, most often its database",
            (health.milliseconds / 1000).max(1)
        ),
        format!(
            "Look at its database first, and whether the pod reaches it. To have the page say which component it is, let pool and driver give up before the probe does: {} (milliseconds; 30 s by default), and a connectTimeout in the JDBC URL (seconds for PostgreSQL; 10 by default). Restarting the backend cures nothing and spreads the outage",
            settings::how_to_set(e, wait, "1000")
        ),
    );
    let up = format!("{} answers", url(&actuator.base));
    Some(finding.at_most(Confidence::Likely).fact(probe_fact(health)).fact(up).facts(rollout_fact(e)))
}

/// The vantage of the health page: the additional one, or the target itself.
fn own_health(e: &Evidence) -> Option<&Vantage> {
    let is_health = e.subject.path.contains("/actuator") && e.subject.path.contains("health");
    vantage(e, "health").or_else(|| target(e).filter(|_| is_health)).filter(|health| !health.ok)
}

pub(super) fn dependency_down(e: &Evidence) -> Option<Finding> {
    if let Some(waiting) = waiting_health(e) {
        return Some(waiting);
    }
    let Some(actuator) = asked(e) else { return unread_health(e) };
    if actuator.health_status != Some(503) || !matches!(actuator.health.as_deref(), Some("DOWN") | None) {
        return None;
    }
    let down = components(actuator, "DOWN");
    let foreign: Vec<&str> = down.iter().copied().filter(|name| !is_own(name)).collect();
    if let Some(first) = foreign.first() {
        let names = some(&foreign, 4);
        let finding = Finding::new(
            Cause::DependencyDown,
            format!("its health is DOWN because of component {names} ({})", kind(first)),
            format!(
                "Bring {} ({names}) back, or correct how it is reached. Restarting the backend cures nothing and spreads the outage",
                kind(first)
            ),
        );
        let detail = foreign.iter().map(|name| format!("component {name}: DOWN"));
        return Some(finding.fact(fact(actuator)).facts(detail.take(6)).facts(rollout_fact(e)));
    }
    // A component of the process explains it, or one whose name may not be shown.
    if !down.is_empty() {
        return None;
    }
    Some(unnamed(e, fact(actuator)))
}

/// A health page that answers 503 and whose body was not read.
fn unread_health(e: &Evidence) -> Option<Finding> {
    let health = own_health(e).filter(|health| health.http_status == Some(503))?;
    Some(unnamed(e, probe_fact(health)).needs(&e.actuator))
}

fn unnamed(e: &Evidence, fact: String) -> Finding {
    const SHOW: &str = "MANAGEMENT_ENDPOINT_HEALTH_SHOW_COMPONENTS";
    Finding::new(
        Cause::DependencyDown,
        "its health page answers 503 without saying which component is down",
        format!(
            "Let it name the component: {}. Restarting the backend cures nothing and spreads the outage",
            settings::how_to_set(e, SHOW, "always")
        ),
    )
    .at_most(Confidence::Possible)
    .fact(fact)
    .fact("not seen: the components of its health page")
    .facts(rollout_fact(e))
}

pub(super) fn disk_full(e: &Evidence) -> Option<Finding> {
    let actuator = asked(e)?;
    let disk = components(actuator, "DOWN").into_iter().find(|name| name.rsplit('/').next() == Some("diskSpace"))?;
    Some(
        Finding::new(
            Cause::DiskFull,
            format!("its health is DOWN because of {disk}: less space is free than its threshold"),
            "Free space on its volume, or enlarge it (`df -h` in the container shows which); a restart frees nothing",
        )
        .fact(fact(actuator))
        .fact(format!("component {disk}: DOWN")),
    )
}

pub(super) fn liveness_broken(e: &Evidence) -> Option<Finding> {
    let actuator = asked(e)?;
    let state = components(actuator, "DOWN").into_iter().find(|name| name.rsplit('/').next() == Some("livenessState"));
    let page = matches!(actuator.liveness, Some(Ok(503)));
    if state.is_none() && !page {
        return None;
    }
    let what = if state.is_some() { "component livenessState: DOWN" } else { "its liveness page answers 503" };
    Some(
        Finding::new(
            Cause::LivenessBroken,
            "it says itself that it cannot recover: its liveness state is BROKEN",
            "Restart it once. With a livenessProbe on /actuator/health/liveness the kubelet would have done so",
        )
        .restart_once()
        .fact(what)
        .fact(fact(actuator))
        .facts(rollout_fact(e)),
    )
}

pub(super) fn out_of_service(e: &Evidence) -> Option<Finding> {
    const ADVICE: &str =
        "It is being drained, shuts down, or was told to refuse: wait, or ask who did. A restart ignores their reason";
    if let Some(refusing) = e.vantages.iter().find(|vantage| vantage.not_serving) {
        let message = "its gRPC health service says NOT_SERVING: it runs, and refuses requests";
        return Some(
            Finding::new(Cause::OutOfService, message, ADVICE).at_most(Confidence::Likely).fact(probe_fact(refusing)),
        );
    }
    let actuator = asked(e)?;
    let out = components(actuator, "OUT_OF_SERVICE");
    let overall = actuator.health.as_deref() == Some("OUT_OF_SERVICE");
    if !overall && out.is_empty() {
        return None;
    }
    let because = if out.is_empty() { String::new() } else { format!(" ({})", list(&out[..out.len().min(4)])) };
    Some(
        Finding::new(Cause::OutOfService, format!("it refuses traffic on purpose: OUT_OF_SERVICE{because}"), ADVICE)
            .fact(fact(actuator))
            .facts(out.iter().take(4).map(|name| format!("component {name}: OUT_OF_SERVICE"))),
    )
}

pub(super) fn health_unknown(e: &Evidence) -> Option<Finding> {
    let actuator = asked(e)?;
    let answers = actuator.health_status == Some(200) && actuator.health.as_deref() == Some("UNKNOWN");
    answers.then(|| {
        let unknown = components(actuator, "UNKNOWN");
        let because = if unknown.is_empty() { String::new() } else { format!(" ({})", list(&unknown[..unknown.len().min(4)])) };
        Finding::new(
            Cause::HealthUnknown,
            format!("its health page answers 200 with the status UNKNOWN{because}: a check that looks at the status code alone misses that"),
            "Find the component that does not know how it is; Spring sorts UNKNOWN below UP, so no other one is worse",
        )
        .fact(fact(actuator))
    })
}

/// Whether the health is bad, as supporting evidence for a server error; `None` if unknown.
pub(super) fn is_health_bad(e: &Evidence) -> Option<bool> {
    if let Some(actuator) = actuator(e) {
        let silent = actuator.health_error.is_some() || actuator.base_error.is_some();
        let status = actuator.health_status.map(|status| status >= 500);
        return status.or(silent.then_some(true));
    }
    let bad = |health: &Vantage| !health.ok && health.error_class != Some(ErrorClass::Denied);
    let is_health = e.subject.path.contains("health");
    vantage(e, "health").or_else(|| target(e).filter(|_| is_health)).map(bad)
}
