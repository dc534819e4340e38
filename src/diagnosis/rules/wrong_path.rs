//! A path that answers 404 because the page is under another path.

use super::health::{is_health_page, says_unwell};
use super::metrics_page::{Missing, missing_page, page_path};
use super::queries::{actuator, own_page, path_of, probe_fact, target, vantage};
use super::rollout::rollout_fact;
use super::scrape_error::{ScrapeError, failing_with, scrape_fact};
use super::settings::{how_to_set, setting, setting_fact};
use super::text::{component, list, path};
use super::{Finding, matches_any};
use crate::api::{Cause, Confidence};
use crate::diagnosis::evidence::{Evidence, Vantage};

const CONTEXT: &[&str] = &["SERVER_SERVLET_CONTEXT_PATH", "SPRING_WEBFLUX_BASE_PATH"];
const MANAGEMENT_BASE: &str = "MANAGEMENT_SERVER_BASE_PATH";
const BASE: &str = "MANAGEMENT_ENDPOINTS_WEB_BASE_PATH";
const MAPPING: &[(&str, &str)] = &[
    ("prometheus", "MANAGEMENT_ENDPOINTS_WEB_PATH_MAPPING_PROMETHEUS"),
    ("health", "MANAGEMENT_ENDPOINTS_WEB_PATH_MAPPING_HEALTH"),
];

/// The settings that move the path of the endpoint `id`.
fn moving(e: &Evidence, id: &str) -> Vec<&'static str> {
    let mapping = MAPPING.iter().filter(|(of, _)| *of == id).map(|(_, name)| *name);
    // A separate management server ignores the main server's context path.
    let separate = setting(e, "MANAGEMENT_SERVER_PORT").port().is_some();
    let context = if separate { [MANAGEMENT_BASE].iter() } else { CONTEXT.iter() };
    let names = context.copied().chain([BASE]).chain(mapping);
    names.filter(|name| setting(e, name).is().is_some()).collect()
}

/// The path of the endpoint `id` from the settings; `None` when no setting moves it.
pub(super) fn implied(e: &Evidence, id: &str) -> Option<String> {
    let names = moving(e, id);
    let of = |wanted: &[&str]| names.iter().find(|name| wanted.contains(name)).and_then(|name| setting(e, name).is());
    names.first()?;
    let part = |text: &str| {
        let text = text.trim().trim_matches('/');
        if text.is_empty() { String::new() } else { format!("/{text}") }
    };
    let context = of(&[MANAGEMENT_BASE, CONTEXT[0], CONTEXT[1]]).map(part).unwrap_or_default();
    let base = part(of(&[BASE]).unwrap_or("/actuator"));
    let mapping: Vec<&str> = MAPPING.iter().filter(|(of, _)| *of == id).map(|(_, name)| *name).collect();
    let endpoint = part(of(&mapping).unwrap_or(id));
    path(&format!("{context}{base}{endpoint}")).map(str::to_owned)
}

/// The page that answers 404, and the id of the intended endpoint.
fn asked(e: &Evidence) -> Option<(Missing, Option<&'static str>)> {
    if let Some(missing) = missing_page(e) {
        return Some((missing, Some("prometheus")));
    }
    let target = target(e)?;
    // A health page that says how it is exists, whatever status its word is mapped to.
    if is_health_page(e, target) && says_unwell(e) {
        return None;
    }
    if !target.ok && target.http_status == Some(404) {
        let own = path(e.subject.path.split('?').next().unwrap_or_default()).unwrap_or("/");
        let is_health = own.contains("health") || ADDITIONAL.contains(&own);
        let id = is_health.then_some("health");
        return Some((Missing { path: own.to_owned(), fact: probe_fact(target) }, id));
    }
    let is_missing = |health: &&Vantage| !health.ok && health.http_status == Some(404) && !says_unwell(e);
    if let Some(health) = vantage(e, "health").filter(is_missing) {
        let base = actuator(e).and_then(|actuator| path(path_of(&actuator.base))).unwrap_or("/actuator");
        let own = format!("{}/health", base.trim_end_matches('/'));
        return Some((Missing { path: own, fact: probe_fact(health) }, Some("health")));
    }
    let (scraped, why) = failing_with(e, |why| why == ScrapeError::Status(404))?;
    let path = path(path_of(&scraped.url)).unwrap_or("its path").to_owned();
    Some((Missing { path, fact: scrape_fact(scraped, why) }, Some("prometheus")))
}

/// The right path, its evidence, and the confidence.
fn right_path(e: &Evidence, missing: &Missing, id: Option<&str>) -> Option<(String, String, Confidence)> {
    let other = |found: &str| found != missing.path && found.trim_end_matches('/') != missing.path;
    // Prometheus scrapes another path, while vigie gets the page.
    if let Some(page) = own_page(e).filter(|page| page.ok && id == Some("prometheus")) {
        let ours = page_path(e, page);
        return other(&ours).then(|| (ours.clone(), format!("{ours} answers us"), Confidence::Certain));
    }
    let actuator = actuator(e);
    let listed = actuator.and_then(|actuator| actuator.links.as_ref()).zip(id).and_then(|(links, id)| links.get(id));
    if let Some(listed) = listed.and_then(|listed| path(listed)).filter(|listed| other(listed)) {
        return Some((listed.to_owned(), format!("the actuator's list names {listed}"), Confidence::Certain));
    }
    let tried = actuator.into_iter().flat_map(|actuator| &actuator.tried);
    let found = tried.filter(|(_, status)| matches!(**status, 200..=299 | 401 | 403)).find_map(|(base, _)| path(base));
    if let Some(base) = found {
        let endpoint = id.map(|id| format!("/{id}")).unwrap_or_default();
        let right = format!("{}{endpoint}", base.trim_end_matches('/'));
        return Some((right, format!("the actuator answers under {base}"), Confidence::Certain));
    }
    let id = id?;
    let implied = implied(e, id).filter(|implied| other(implied))?;
    let names: Vec<String> = moving(e, id).iter().filter_map(|name| setting_fact(e, name)).collect();
    Some((implied, list(&names), Confidence::Likely))
}

/// The groups that Spring Boot defines itself (HealthEndpointGroups, AvailabilityProbesHealthEndpointGroups).
const PROBES: &[&str] = &["liveness", "readiness"];
const PROBES_ENABLED: &str = "MANAGEMENT_ENDPOINT_HEALTH_PROBES_ENABLED";
/// The paths of these groups on the main port, and the setting that adds them.
const ADDITIONAL: &[&str] = &["/livez", "/readyz"];
const ADDITIONAL_PATHS: &str = "MANAGEMENT_ENDPOINT_HEALTH_PROBES_ADDADDITIONALPATHS";

/// The health endpoint is where it is asked for, and lacks the group (or the component) behind its path.
fn absent_group(e: &Evidence, Missing { path: asked, fact }: &Missing) -> Option<Finding> {
    let actuator = actuator(e)?;
    let is_spring = actuator.links.is_some() || actuator.health.is_some();
    if ADDITIONAL.contains(&asked.as_str()) && is_spring {
        let message = format!("{asked} answers 404 while the actuator answers: its probes have no path on this port");
        let advice = format!(
            "Add the paths: {}; or ask for the group below the actuator's health endpoint",
            how_to_set(e, ADDITIONAL_PATHS, "true")
        );
        return Some(Finding::new(Cause::WrongPath, message, advice).at_most(Confidence::Likely).fact(fact));
    }
    let (endpoint, group) = asked.rsplit_once('/').filter(|(endpoint, _)| endpoint.ends_with("/health"))?;
    let listed = actuator.links.as_ref().and_then(|links| links.get("health"));
    let below_base = format!("{}/health", path_of(&actuator.base).trim_end_matches('/'));
    let is_here = listed.map_or(below_base == endpoint && actuator.health_status != Some(404), |path| path == endpoint);
    let group = component(group).filter(|_| is_here && is_spring)?;
    let message = format!("{asked} answers 404 while {endpoint} exists: its health has no group {group}");
    let finding = if PROBES.contains(&group) {
        let off = setting_fact(e, PROBES_ENABLED).filter(|_| setting(e, PROBES_ENABLED).is_word("false"));
        let why = off.as_ref().map(|fact| format!(" ({fact})")).unwrap_or_default();
        let advice = format!(
            "Have the application define it: {}; or ask for {endpoint}. Spring Boot defines it by itself where it sees that it runs in Kubernetes",
            how_to_set(e, PROBES_ENABLED, "true")
        );
        let finding = Finding::new(Cause::WrongPath, format!("{message}{why}"), advice).facts(off.clone());
        if off.is_some() { finding } else { finding.at_most(Confidence::Likely) }
    } else {
        let advice = format!(
            "Define the group (management.endpoint.health.group.{group}.include), or ask for {endpoint}. If {group} is a component, its page answers 404 also while the application does not show components"
        );
        Finding::new(Cause::WrongPath, message, advice).at_most(Confidence::Likely)
    };
    Some(finding.fact(fact).fact(format!("{endpoint} exists")).facts(rollout_fact(e)))
}

/// The field to correct for a page of this kind.
fn field(e: &Evidence, id: Option<&str>) -> &'static str {
    match id {
        Some("prometheus") if own_page(e).is_some_and(|page| page.ok) => "metrics_path of Prometheus' target",
        Some("prometheus") => "the path of spec.target, and metrics_path in Prometheus,",
        // The target passes, so the health page is the additional probe.
        Some("health") if target(e).is_some_and(|target| target.ok) => "spec.probe.actuator.basePath",
        _ => "the path of spec.target",
    }
}

pub(super) fn wrong_path(e: &Evidence) -> Option<Finding> {
    let (missing, id) = asked(e)?;
    if let Some(finding) = absent_group(e, &missing).filter(|_| id != Some("prometheus")) {
        return Some(finding);
    }
    let Missing { path, fact } = &missing;
    let field = field(e, id);
    if let Some((right, why, confidence)) = right_path(e, &missing, id) {
        let value = if field.ends_with("basePath") { right.trim_end_matches("/health") } else { &right };
        return Some(
            Finding::new(
                Cause::WrongPath,
                format!("{path} answers 404: what is asked for is under {right} ({why})"),
                format!("Correct {field} to {value}"),
            )
            .at_most(confidence)
            .fact(fact)
            .fact(&why)
            .facts(rollout_fact(e)),
        );
    }
    // Exposure explains a metrics page better than a guess about its path.
    if matches_any(e, &[Cause::EndpointDisabled, Cause::EndpointNotExposed, Cause::RegistryMissing]) {
        return None;
    }
    let base = actuator(e).and_then(|actuator| actuator.base_status);
    let also = if base == Some(404) { ", and so does /actuator" } else { "" };
    Some(
        Finding::new(
            Cause::WrongPath,
            format!("{path} answers 404{also}: a server is there, this path is not"),
            format!("Correct {}; look for a base path or a context path in the application's settings (MANAGEMENT_ENDPOINTS_WEB_BASE_PATH, SERVER_SERVLET_CONTEXT_PATH)", field.trim_end_matches(',')),
        )
        .at_most(Confidence::Possible)
        .fact(fact)
        .fact("not seen: a path that answers"),
    )
}
