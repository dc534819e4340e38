//! A metrics page that answers 404: the endpoint is disabled, not exposed, or lacks its registry.

use super::Finding;
use super::metrics_page::{Missing, missing_page};
use super::queries::actuator;
use super::rollout::rollout_fact;
use super::settings::{Setting, how_to_set, less_certain, setting, setting_fact};
use super::text::{list, url, value};
use super::wrong_path::implied;
use crate::api::{Cause, Confidence};
use crate::diagnosis::evidence::{Actuator, Evidence};

const INCLUDE: &str = "MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_INCLUDE";

const EXCLUDE: &str = "MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_EXCLUDE";

const ENABLED: &str = "MANAGEMENT_ENDPOINT_PROMETHEUS_ENABLED";

const ENABLED_BY_DEFAULT: &str = "MANAGEMENT_ENDPOINTS_ENABLED_BY_DEFAULT";

const ACCESS: &str = "MANAGEMENT_ENDPOINT_PROMETHEUS_ACCESS";

const ACCESS_DEFAULT: &str = "MANAGEMENT_ENDPOINTS_ACCESS_DEFAULT";

const ACCESS_MOST: &str = "MANAGEMENT_ENDPOINTS_ACCESS_MAX_PERMITTED";

const EXPORT: &str = "MANAGEMENT_PROMETHEUS_METRICS_EXPORT_ENABLED";

/// The actuator's link list, with regard to the metrics page.
enum ActuatorLinks {
    /// The list was not read.
    Unread,
    /// It lists the page, here or elsewhere.
    Names,
    /// It lists nothing but itself.
    OnlySelf,
    /// It lists health and nothing else: Spring's default exposure.
    OnlyHealth,
    /// It lists other endpoints: the exposure was configured.
    Others(Vec<String>),
}

fn links(actuator: Option<&Actuator>) -> ActuatorLinks {
    let Some(links) = actuator.and_then(|actuator| actuator.links.as_ref()) else { return ActuatorLinks::Unread };
    let mut others: Vec<&str> = links.keys().map(|rel| rel.split('-').next().unwrap_or(rel)).collect();
    others.retain(|rel| *rel != "self");
    others.dedup();
    if others.contains(&"prometheus") {
        ActuatorLinks::Names
    } else if others.is_empty() {
        ActuatorLinks::OnlySelf
    } else if others == ["health"] {
        ActuatorLinks::OnlyHealth
    } else {
        ActuatorLinks::Others(others.iter().filter_map(|rel| super::text::component(rel)).map(str::to_owned).collect())
    }
}

/// The actuator is under another path, so exposure is not the cause: its base path answers 404, or settings move it.
fn is_elsewhere(e: &Evidence, missing: &Missing) -> bool {
    let unread = actuator(e).is_none_or(|actuator| actuator.links.is_none());
    let base = actuator(e).and_then(|actuator| actuator.base_status);
    // Its link list may be disabled (…WEB_DISCOVERY_ENABLED=false) while its health page answers.
    if actuator(e).is_some_and(|actuator| actuator.health.is_some()) {
        return false;
    }
    unread && (base == Some(404) || base.is_none() && implied(e, "prometheus").is_some_and(|path| path != missing.path))
}

fn link_fact(links: &ActuatorLinks) -> Option<String> {
    Some(match links {
        ActuatorLinks::Unread => return None,
        ActuatorLinks::Names => "/actuator lists prometheus".to_owned(),
        ActuatorLinks::OnlySelf => "/actuator lists nothing but itself".to_owned(),
        ActuatorLinks::OnlyHealth => "/actuator lists only health".to_owned(),
        ActuatorLinks::Others(rels) => {
            format!("/actuator lists {} and not prometheus", list(&rels[..rels.len().min(8)]))
        }
    })
}

/// The setting that disables the page, and the advice. Never both families: Spring Boot 3.4 and later does not start
/// with `ENABLED` and `ACCESS` set for one endpoint.
fn disabling(e: &Evidence) -> Option<(&'static str, String)> {
    let none = |name| setting(e, name).is_word("none");
    let no = |name| setting(e, name).is_word("false");
    let has_access = [ACCESS, ACCESS_DEFAULT].iter().any(|name| setting(e, name) != Setting::Absent);
    let since = "(Spring Boot 3.4 and later)";
    if none(ACCESS_MOST) {
        return Some((ACCESS_MOST, format!("{} {since}", how_to_set(e, ACCESS_MOST, "read-only"))));
    }
    if none(ACCESS) {
        return Some((ACCESS, format!("{} {since}", how_to_set(e, ACCESS, "read-only"))));
    }
    if no(ENABLED) && has_access {
        return Some((ENABLED, format!("remove {ENABLED}: the access settings beside it decide {since}")));
    }
    if no(ENABLED) {
        return Some((
            ENABLED,
            format!(
                "{}, or remove it (before Spring Boot 3.4 it is the only such setting)",
                how_to_set(e, ENABLED, "true")
            ),
        ));
    }
    if none(ACCESS_DEFAULT) && setting(e, ACCESS) == Setting::Absent {
        return Some((ACCESS_DEFAULT, format!("{} {since}", how_to_set(e, ACCESS, "read-only"))));
    }
    if no(ENABLED_BY_DEFAULT) && !setting(e, ENABLED).is_word("true") && !has_access {
        return Some((ENABLED_BY_DEFAULT, format!("{} (before Spring Boot 3.4)", how_to_set(e, ENABLED, "true"))));
    }
    None
}

pub(super) fn endpoint_disabled(e: &Evidence) -> Option<Finding> {
    let missing = missing_page(e)?;
    let links = links(actuator(e));
    if matches!(links, ActuatorLinks::Names) || is_elsewhere(e, &missing) {
        return None;
    }
    let listed = link_fact(&links);
    if let Some((name, advice)) = disabling(e) {
        let fact = setting_fact(e, name)?;
        let finding = Finding::new(
            Cause::EndpointDisabled,
            format!("{} answers 404 because the endpoint is disabled: {fact}", missing.path),
            format!("Enable it: {advice}"),
        )
        .fact(fact)
        .fact(missing.fact)
        .facts(listed.clone())
        .facts(rollout_fact(e));
        return Some(if listed.is_some() { finding } else { finding.lacking("the /actuator list") });
    }
    // Even an empty exposure keeps health: only a setting for all endpoints removes it. Verified with Spring Boot 3.5
    // for each of the three settings. A list without health removes it too.
    const FOR_ALL: &[&str] = &[ACCESS_MOST, ACCESS_DEFAULT, ENABLED_BY_DEFAULT];
    let lacks_health = || setting(e, INCLUDE).is().is_some_and(|list| !includes(list, "health"));
    if !matches!(links, ActuatorLinks::OnlySelf) || setting(e, EXCLUDE).is().is_some() || lacks_health() {
        return None;
    }
    let finding = Finding::new(
        Cause::EndpointDisabled,
        format!("{} answers 404 and /actuator lists nothing but itself: all endpoints are disabled, as by {ACCESS_MOST}=none, or only endpoints are exposed that do not exist", missing.path),
        format!("Look for {ACCESS_MOST} and {ACCESS_DEFAULT} in the application's own properties; then {} (Spring Boot 3.4 and later)", how_to_set(e, ACCESS, "read-only")),
    )
    .at_most(Confidence::Likely)
    .facts(listed)
    .fact(missing.fact);
    Some(less_certain(e, finding, FOR_ALL))
}

/// The exposure list: its present value, and the value to set.
struct Exposure {
    /// Whether it includes prometheus; `None` when its value was not seen.
    includes: Option<bool>,
    /// The value to set.
    wanted: String,
    /// The present value as a fact.
    now: String,
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(|item| item.trim().trim_matches(['"', '\''])).filter(|item| !item.is_empty())
}

/// Whether this exposure list includes the endpoint. An empty one has no effect.
fn includes(list: &str, id: &str) -> bool {
    items(list).next().is_none() || items(list).any(|item| item == "*" || item.eq_ignore_ascii_case(id))
}

fn exposure(e: &Evidence) -> Exposure {
    match setting(e, INCLUDE) {
        // An empty value counts as unset: Spring's default applies.
        Setting::Is(now) if items(now).next().is_some() => {
            let includes = includes(now, "prometheus");
            let mut wanted: Vec<&str> = items(now).collect();
            if !includes {
                wanted.push("prometheus");
            }
            Exposure {
                includes: Some(includes),
                wanted: value(&wanted.join(",")),
                now: format!("{INCLUDE} is {}", value(now)),
            }
        }
        now @ (Setting::Is(_) | Setting::Absent) => Exposure {
            includes: Some(false),
            // Spring exposes health by default.
            wanted: "health,prometheus".to_owned(),
            now: format!("{INCLUDE} is {}", if now == Setting::Absent { "not set" } else { "empty" }),
        },
        Setting::Unknown(_) => Exposure {
            includes: None,
            wanted: "health,prometheus".to_owned(),
            now: format!("the value of {INCLUDE} was not seen"),
        },
    }
}

/// `EXCLUDE` wins over `INCLUDE`.
fn excluded(e: &Evidence, missing: &Missing, listed: Option<String>) -> Option<Finding> {
    let now = setting(e, EXCLUDE).is()?;
    let excludes = |item: &&str| *item == "*" || item.eq_ignore_ascii_case("prometheus");
    items(now).find(excludes)?;
    let rest: Vec<&str> = items(now).filter(|item| !excludes(item)).collect();
    let fact = setting_fact(e, EXCLUDE)?;
    let advice = if rest.is_empty() {
        format!("Remove {EXCLUDE}")
    } else {
        format!("Take prometheus out of it: {}", how_to_set(e, EXCLUDE, &value(&rest.join(","))))
    };
    let message = format!("{} answers 404 because it is excluded: {fact}", missing.path);
    Some(Finding::new(Cause::EndpointNotExposed, message, advice).fact(fact).fact(missing.fact.clone()).facts(listed))
}

pub(super) fn endpoint_not_exposed(e: &Evidence) -> Option<Finding> {
    let missing = missing_page(e)?;
    let links = links(actuator(e));
    let listed = link_fact(&links);
    let exposure = exposure(e);
    if matches!(links, ActuatorLinks::Names) || is_elsewhere(e, &missing) {
        return None;
    }
    if let Some(finding) = excluded(e, &missing, listed.clone()) {
        return Some(finding);
    }
    if exposure.includes == Some(true) {
        return None;
    }
    let missing_path = missing.path.clone();
    let says = listed.clone().unwrap_or_else(|| "the /actuator list was not read".to_owned());
    let merge = if exposure.includes.is_none() { ", merged with its present value" } else { "" };
    let finding = Finding::new(
        Cause::EndpointNotExposed,
        format!(
            "{} answers 404 because it is not exposed ({says}): {}, and should be {}",
            missing.path, exposure.now, exposure.wanted
        ),
        format!("Expose it: {}{merge}", how_to_set(e, INCLUDE, &exposure.wanted)),
    )
    .fact(missing.fact)
    .facts(listed)
    .fact(exposure.now)
    .facts(rollout_fact(e));
    exposure_confidence(e, &links, &missing_path, finding).map(|finding| finding.needs(&e.pods))
}

/// Not exposed, disabled and without a registry look the same in the list; settings known to be absent decide. `None`
/// where nothing shows that this is Spring.
fn exposure_confidence(e: &Evidence, links: &ActuatorLinks, path: &str, finding: Finding) -> Option<Finding> {
    const OTHERS: &[&str] = &[ENABLED, ENABLED_BY_DEFAULT, ACCESS, ACCESS_DEFAULT];
    let include = setting(e, INCLUDE);
    let base = actuator(e).and_then(|actuator| actuator.base_status);
    Some(match links {
        // The application's own properties may expose it, and are not seen: then its registry is missing.
        ActuatorLinks::OnlyHealth if include.is().is_none_or(|now| items(now).next().is_none()) => {
            less_certain(e, less_certain(e, finding.at_most(Confidence::Likely), &[INCLUDE]), OTHERS)
        }
        ActuatorLinks::OnlyHealth => less_certain(e, finding, OTHERS),
        ActuatorLinks::Others(_) | ActuatorLinks::OnlySelf => finding.at_most(Confidence::Likely),
        // Any 404 looks like this.
        ActuatorLinks::Unread | ActuatorLinks::Names
            if base.is_none() && include == Setting::Absent && !path.contains("/actuator") =>
        {
            return None;
        }
        ActuatorLinks::Unread | ActuatorLinks::Names => {
            finding.at_most(Confidence::Likely).lacking("the /actuator list")
        }
    })
}

pub(super) fn registry_missing(e: &Evidence) -> Option<Finding> {
    let missing = missing_page(e)?;
    let links = links(actuator(e));
    if matches!(links, ActuatorLinks::Names) || is_elsewhere(e, &missing) || disabling(e).is_some() {
        return None;
    }
    let includes = exposure(e).includes;
    let customised = matches!(links, ActuatorLinks::Others(_));
    // A variable decides before the application's own properties; without one they may expose the page, unseen.
    let is_decided = setting(e, INCLUDE).is().is_some_and(|now| items(now).next().is_some());
    let may_be_exposed = !is_decided && matches!(links, ActuatorLinks::OnlyHealth | ActuatorLinks::OnlySelf);
    if includes != Some(true) && !customised && !may_be_exposed {
        return None;
    }
    let listed = link_fact(&links);
    if setting(e, EXPORT).is_word("false") {
        let fact = setting_fact(e, EXPORT)?;
        let message =
            format!("{} answers 404 although it is exposed: {fact} leaves it without its registry", missing.path);
        let advice = format!("Switch the export on: {}", how_to_set(e, EXPORT, "true"));
        return Some(Finding::new(Cause::RegistryMissing, message, advice).fact(fact).fact(missing.fact).facts(listed));
    }
    let why = if may_be_exposed {
        "and its own properties may expose it: then its registry is not on the class path"
    } else {
        "although nothing says that it is not exposed: its registry is not on the class path"
    };
    let finding = Finding::new(
        Cause::RegistryMissing,
        format!("{} answers 404 {why}", missing.path),
        "Add the dependency io.micrometer:micrometer-registry-prometheus (runtime scope) and build the image again. If it is there, look for management.endpoint.prometheus.access (before Spring Boot 3.4: enabled) in the application's own properties",
    )
    .at_most(if includes == Some(true) { Confidence::Likely } else { Confidence::Possible })
    .fact(missing.fact)
    .facts(setting_fact(e, INCLUDE));
    let seen = listed.is_some();
    let finding = finding.facts(listed).facts(rollout_fact(e));
    let finding = less_certain(e, finding, &[ENABLED, ACCESS]);
    Some(if seen {
        finding
    } else {
        finding.lacking(format!("the list of {}", actuator(e).map_or("/actuator".to_owned(), |a| url(&a.base))))
    })
}
