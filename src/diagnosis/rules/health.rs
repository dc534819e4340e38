//! Rules about the actuator's health page.

use super::queries::{actuator, answers, fails, is_target, path_of, probe_fact, target, vantage};
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

/// The overall status that a health page says. It decides, whatever the HTTP status of the page is: an application maps
/// words to statuses as it likes (management.endpoint.health.status.http-mapping).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HealthWord {
    Up,
    Down,
    OutOfService,
    Unknown,
    /// A word of the application's own.
    Custom,
}

/// The word of the health page; `None` when no health page was read.
fn word(actuator: &Actuator) -> Option<HealthWord> {
    Some(match actuator.health.as_deref() {
        Some("UP") => HealthWord::Up,
        Some("DOWN") => HealthWord::Down,
        Some("OUT_OF_SERVICE") => HealthWord::OutOfService,
        Some("UNKNOWN") => HealthWord::Unknown,
        Some(_) => HealthWord::Custom,
        None if actuator.custom_health || actuator.components.is_some() => HealthWord::Custom,
        None => return None,
    })
}

/// Whether the health page was read and says anything but UP: then its word explains what it answers, not its HTTP
/// status.
pub(super) fn says_unwell(e: &Evidence) -> bool {
    actuator(e).and_then(word).is_some_and(|word| word != HealthWord::Up)
}

/// Whether its own health page says DOWN or OUT_OF_SERVICE: it runs, and a new process would meet the same fault. Only
/// a liveness state that is broken, beside no fault of a dependency, is cured by a restart.
pub(super) fn forbids_restart(e: &Evidence) -> bool {
    let Some(actuator) = actuator(e) else { return false };
    let is_reported = matches!(word(actuator), Some(HealthWord::Down | HealthWord::OutOfService));
    is_reported && (!is_liveness_down(actuator) || !foreign(actuator, &["DOWN", "OUT_OF_SERVICE", "CUSTOM"]).is_empty())
}

/// The components with one of these statuses and without a nested one with such a status; only names that may be shown.
fn components<'a>(actuator: &'a Actuator, statuses: &[&str]) -> Vec<&'a str> {
    let all = actuator.components.iter().flatten().filter(|(_, is)| statuses.contains(&is.as_str()));
    let all: Vec<&str> = all.map(|(name, _)| name.as_str()).collect();
    let is_leaf =
        |name: &&str| !all.iter().any(|other| other.strip_prefix(*name).is_some_and(|rest| rest.starts_with('/')));
    all.iter().copied().filter(is_leaf).filter_map(component).collect()
}

/// The dependencies among the components with one of these statuses.
fn foreign<'a>(actuator: &'a Actuator, statuses: &[&str]) -> Vec<&'a str> {
    let mut found = components(actuator, statuses);
    found.retain(|name| !is_own(name));
    found
}

fn is_liveness_down(actuator: &Actuator) -> bool {
    components(actuator, &["DOWN"]).into_iter().any(|name| last_part(name) == "livenessState")
}

fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn is_own(name: &str) -> bool {
    OWN.contains(&last_part(name))
}

fn fact(actuator: &Actuator) -> String {
    let status = actuator.health_status.map(|status| format!(" {status}")).unwrap_or_default();
    format!("{}/health:{status} {}", url(&actuator.base), health_word(actuator))
}

/// Only Spring's own statuses are shown.
fn health_word(actuator: &Actuator) -> &'static str {
    match word(actuator) {
        Some(HealthWord::Up) => "UP",
        Some(HealthWord::Down) => "DOWN",
        Some(HealthWord::OutOfService) => "OUT_OF_SERVICE",
        Some(HealthWord::Unknown) => "UNKNOWN",
        Some(HealthWord::Custom) => "with a status of its own",
        None => "without a status",
    }
}

/// The dependency that a component of this name usually is.
fn kind(name: &str) -> &'static str {
    match last_part(name) {
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

/// The failing vantage of the health page: the additional one, or the target itself.
fn own_health(e: &Evidence) -> Option<&Vantage> {
    let is_target = |target: &&Vantage| is_health_page(e, target);
    vantage(e, "health").or_else(|| target(e).filter(is_target)).filter(|health| !health.ok)
}

/// Whether this vantage asks the health page of the actuator, or one of its groups.
pub(super) fn is_health_page(e: &Evidence, vantage: &Vantage) -> bool {
    let path = e.subject.path.split('?').next().unwrap_or_default();
    let base = actuator(e).map(|actuator| path_of(&actuator.base)).filter(|base| base.len() > 1);
    let is_below = path.contains("/actuator") || base.is_some_and(|base| path.starts_with(base));
    vantage.name == "health" || (is_target(vantage) && is_below && path.contains("health"))
}

pub(super) fn dependency_down(e: &Evidence) -> Option<Finding> {
    if let Some(waiting) = waiting_health(e) {
        return Some(waiting);
    }
    let Some(actuator) = asked(e) else { return unread_health(e) };
    let is_error = actuator.health_status.is_none_or(|status| !(200..=299).contains(&status));
    let is_down = match word(actuator) {
        Some(HealthWord::Down | HealthWord::OutOfService) => true,
        // With an error the application says that its own word is no good one.
        Some(HealthWord::Custom) => is_error,
        Some(HealthWord::Up | HealthWord::Unknown) => false,
        None => actuator.health_status == Some(503),
    };
    if !is_down {
        return None;
    }
    let down = foreign(actuator, &["DOWN"]);
    if !down.is_empty() {
        return Some(named(e, actuator, &down));
    }
    let custom = foreign(actuator, &["CUSTOM"]);
    if !custom.is_empty() && word(actuator) != Some(HealthWord::OutOfService) {
        // The word of that component is not known to mean a fault.
        return Some(named(e, actuator, &custom).at_most(Confidence::Likely));
    }
    // A component of the process explains it, or one whose name may not be shown; or it refuses on purpose.
    let mut statuses = actuator.components.iter().flat_map(|all| all.values());
    let has_bad = statuses.any(|status| matches!(status.as_str(), "DOWN" | "OUT_OF_SERVICE"));
    if has_bad || word(actuator) == Some(HealthWord::OutOfService) {
        return None;
    }
    Some(unnamed(e, actuator.health_status, fact(actuator)))
}

/// These components of the health page are down, or have a status of their own.
fn named(e: &Evidence, actuator: &Actuator, names: &[&str]) -> Finding {
    let first = kind(names.first().copied().unwrap_or_default());
    let listed = some(names, 4);
    let status = |name: &str| actuator.components.as_ref().and_then(|all| all.get(name)).map(String::as_str);
    let is_custom =
        word(actuator) != Some(HealthWord::Custom) && names.iter().all(|name| status(name) == Some("CUSTOM"));
    let because = match word(actuator) {
        Some(HealthWord::Custom) => format!("its health has a status of its own because of component {listed}"),
        Some(HealthWord::OutOfService) => format!("its health is OUT_OF_SERVICE because of component {listed}"),
        _ => format!("its health is DOWN because of component {listed}"),
    };
    let told = if is_custom { ", which has a status of its own" } else { "" };
    let detail = names.iter().map(|name| match status(name) {
        Some("CUSTOM") => format!("component {name}: a status of its own"),
        _ => format!("component {name}: DOWN"),
    });
    Finding::new(
        Cause::DependencyDown,
        format!("{because} ({first}){told}"),
        format!(
            "Bring {first} ({listed}) back, or correct how it is reached. Restarting the backend cures nothing and spreads the outage"
        ),
    )
    .fact(fact(actuator))
    .facts(detail.take(6))
    .facts(rollout_fact(e))
}

/// A health page that answers 503 and whose body was not read.
fn unread_health(e: &Evidence) -> Option<Finding> {
    let health = own_health(e).filter(|health| health.http_status == Some(503))?;
    Some(unnamed(e, health.http_status, probe_fact(health)).needs(&e.actuator))
}

fn unnamed(e: &Evidence, status: Option<u16>, fact: String) -> Finding {
    const SHOW: &str = "MANAGEMENT_ENDPOINT_HEALTH_SHOW_COMPONENTS";
    Finding::new(
        Cause::DependencyDown,
        format!("its health page answers {} without saying which component is down", status.unwrap_or(503)),
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
    let disk = components(actuator, &["DOWN"]).into_iter().find(|name| last_part(name) == "diskSpace")?;
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
    let is_state = is_liveness_down(actuator);
    if !is_state && !matches!(actuator.liveness, Some(Ok(503))) {
        return None;
    }
    let what = if is_state { "component livenessState: DOWN" } else { "its liveness page answers 503" };
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
    let out = components(actuator, &["OUT_OF_SERVICE"]);
    let overall = word(actuator) == Some(HealthWord::OutOfService);
    if !overall && out.is_empty() {
        return None;
    }
    let (message, advice) = if !out.is_empty() && out.iter().all(|name| last_part(name) == "ssl") {
        certificate_of_its_own(e)
    } else {
        let because = if out.is_empty() { String::new() } else { format!(" ({})", list(&out[..out.len().min(4)])) };
        (format!("it refuses traffic on purpose: OUT_OF_SERVICE{because}"), ADVICE.to_owned())
    };
    Some(
        Finding::new(Cause::OutOfService, message, advice)
            .fact(fact(actuator))
            .facts(out.iter().take(4).map(|name| format!("component {name}: OUT_OF_SERVICE"))),
    )
}

/// Spring Boot's component `ssl` is OUT_OF_SERVICE while a certificate of an SSL bundle is not valid
/// (org.springframework.boot.actuate.ssl.SslHealthIndicator). That is no purpose.
fn certificate_of_its_own(e: &Evidence) -> (String, String) {
    const DETAILS: &str = "MANAGEMENT_ENDPOINT_HEALTH_SHOW_DETAILS";
    (
        "its component ssl is OUT_OF_SERVICE: a certificate in one of its SSL bundles has expired, or is not valid yet"
            .to_owned(),
        format!(
            "Renew that certificate. The details of the component name it: {}",
            settings::how_to_set(e, DETAILS, "always")
        ),
    )
}

pub(super) fn health_unknown(e: &Evidence) -> Option<Finding> {
    let actuator = asked(e)?;
    let status = actuator.health_status?;
    let names = |status| {
        let names = components(actuator, &[status]);
        if names.is_empty() { String::new() } else { format!(" ({})", list(&names[..names.len().min(4)])) }
    };
    match word(actuator)? {
        HealthWord::Unknown => {
            let because = names("UNKNOWN");
            Some(Finding::new(
                Cause::HealthUnknown,
                format!("its health page answers {status} with the status UNKNOWN{because}: a check that looks at the status code alone misses that"),
                "Find the component that does not know how it is; Spring sorts UNKNOWN below UP, so no other one is worse",
            ))
        }
        HealthWord::Custom if (200..=299).contains(&status) => {
            let because = names("CUSTOM");
            Some(
                Finding::new(
                    Cause::HealthUnknown,
                    format!("its health page answers {status} with a status of the application's own{because}: neither UP nor DOWN"),
                    "Look at that component, and map its status to one of Spring's or to an HTTP status (management.endpoint.health.status.http-mapping), so that a probe can tell how bad it is",
                )
                .at_most(Confidence::Likely),
            )
        }
        HealthWord::Custom | HealthWord::Up | HealthWord::Down | HealthWord::OutOfService => None,
    }
    .map(|finding| finding.fact(fact(actuator)))
}

/// Whether the health is bad too, as supporting evidence for a server error; `None` if unknown. A health page that names
/// its fault is no such evidence, and neither is one whose body was not read: it may say DOWN.
pub(super) fn is_health_bad(e: &Evidence) -> Option<bool> {
    if let Some(actuator) = actuator(e) {
        if word(actuator).is_some() {
            return Some(false);
        }
        let silent = actuator.health_error.is_some() || actuator.base_error.is_some();
        let status = actuator.health_status.map(|status| status >= 500);
        return status.or(silent.then_some(true));
    }
    let health = vantage(e, "health").or_else(|| target(e).filter(|target| is_health_page(e, target)))?;
    let is_silent = !health.ok && health.http_status.is_none() && health.error_class != Some(ErrorClass::Denied);
    (health.ok || is_silent).then_some(is_silent)
}
