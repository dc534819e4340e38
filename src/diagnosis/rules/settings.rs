//! Spring's settings in the environment of the application, by their names as variables.

use std::net::IpAddr;

use super::Finding;
use super::agent::{unit, unit_of};
use super::queries::{pods, process_port};
use super::text::{set_env, value};
use crate::api::{AgentView, Confidence, Target};
use crate::diagnosis::evidence::{Container, EnvValue, Evidence, Pod};

/// The state of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Setting<'a> {
    /// It is not set, and all of the environment was seen.
    Absent,
    /// Its value.
    Is(&'a str),
    /// It is set, or may be, and its value was not seen; the reason.
    Unknown(String),
}

impl<'a> Setting<'a> {
    /// Its value, where it was seen.
    pub(super) fn is(&self) -> Option<&'a str> {
        match self {
            Self::Is(value) => Some(value),
            _ => None,
        }
    }

    /// Its value as a port; `-1` disables Spring's management server and is not a port.
    pub(super) fn port(&self) -> Option<u16> {
        self.is()?.trim().parse().ok().filter(|port| *port > 0)
    }

    /// It is this word, in any case.
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.is().is_some_and(|value| value.trim().eq_ignore_ascii_case(word))
    }

    /// It is an address that only the pod itself reaches.
    pub(super) fn is_loopback(&self) -> bool {
        let loopback = |value: &str| {
            value.eq_ignore_ascii_case("localhost") || value.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        };
        self.is().is_some_and(|value| loopback(value.trim().trim_matches(['[', ']'])))
    }
}

/// The container of the target's process: the one that declares its port, else the one with settings of a server, else
/// the first. Of the newest pod, because it has the newest template.
pub(super) fn application(e: &Evidence) -> Option<&Container> {
    let pods = pods(e);
    let newest =
        pods.iter().copied().reduce(|newest: &Pod, pod| if pod.created > newest.created { pod } else { newest })?;
    let port = process_port(e);
    let declares = |container: &&Container| container.ports.iter().any(|(_, number)| *number == port);
    let serves = |container: &&Container| {
        let server = |name: &String| ["SERVER_", "MANAGEMENT_", "SPRING_"].iter().any(|begin| name.starts_with(begin));
        container.environment.iter().any(server) || !container.values.is_empty()
    };
    let containers = &newest.containers;
    containers.iter().find(declares).or_else(|| containers.iter().find(serves)).or_else(|| containers.first())
}

/// A variable's name reduced to the characters that Spring's relaxed binding compares: `BASE_PATH` and `BASEPATH` are
/// one setting.
fn bare(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
}

/// Whether the variable `set` gives the setting `name` a value, as a whole or as an element of its list: `…INCLUDE_0`.
fn gives(set: &str, name: &str) -> bool {
    let is_index = |index: &str| !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit());
    let list = set.rsplit_once('_').filter(|(_, index)| is_index(index)).map(|(list, _)| list);
    bare(set) == bare(name) || list.is_some_and(|list| bare(list) == bare(name))
}

/// The spelling under which the container has this setting.
fn spelled<'a>(container: Option<&'a Container>, name: &'a str) -> &'a str {
    let names = container.into_iter().flat_map(|container| &container.environment);
    let mut alike = names.filter(|set| bare(set) == bare(name)).map(String::as_str);
    let first = alike.next().unwrap_or(name);
    if first == name || alike.any(|other| other == name) { name } else { first }
}

/// The agent's view, where no pod is known: the environment of the process is that of the unit.
fn local(e: &Evidence) -> Option<&AgentView> {
    e.agent.as_ref()?.view.as_ref().filter(|_| application(e).is_none())
}

/// The state of the setting `name` in the environment that the agent read.
fn local_setting<'a>(view: &'a AgentView, name: &str) -> Setting<'a> {
    let Some(values) = &view.environment else {
        return Setting::Unknown(format!("{name} (the environment of {})", unit(view)));
    };
    let value = |is_it: &dyn Fn(&str) -> bool| values.iter().find(|set| is_it(&set.name))?.value.as_deref();
    match value(&|set| set == name).or_else(|| value(&|set| bare(set) == bare(name))) {
        Some(value) => Setting::Is(value),
        None if values.iter().any(|set| gives(&set.name, name)) => {
            Setting::Unknown(format!("{name} (its value was not read)"))
        }
        None => Setting::Absent,
    }
}

/// The state of the setting `name` of the application.
pub(super) fn setting<'a>(e: &'a Evidence, name: &str) -> Setting<'a> {
    if let Some(view) = local(e) {
        return local_setting(view, name);
    }
    let Some(container) = application(e) else {
        let why = e.pods.missing().unwrap_or("the environment of its process");
        return Setting::Unknown(format!("{name} ({why})"));
    };
    match container.values.get(name) {
        Some(EnvValue::Plain(value)) => Setting::Is(value),
        Some(EnvValue::FromSecret) => Setting::Unknown(format!("{name} (its value is in a Secret, which is not read)")),
        Some(EnvValue::Unresolved(why)) => Setting::Unknown(format!("{name} ({why})")),
        None if container.environment.iter().any(|set| gives(set, name)) => {
            Setting::Unknown(format!("{name} (its value was not read)"))
        }
        None => match &container.environment_incomplete {
            Some(why) => Setting::Unknown(format!("{name} ({why})")),
            None => Setting::Absent,
        },
    }
}

/// `NAME=value` and its source, as a fact.
pub(super) fn setting_fact(e: &Evidence, name: &str) -> Option<String> {
    if let Some(view) = local(e) {
        return Some(format!("{name}={} in the environment of {}", value(local_setting(view, name).is()?), unit(view)));
    }
    let container = application(e)?;
    let is = setting(e, name);
    let source = container.value_sources.get(name).map(|source| format!(" (from {source})")).unwrap_or_default();
    let spelled = spelled(Some(container), name);
    Some(format!("{spelled}={}{source} in container {}", value(is.is()?), container.name))
}

/// Advice to set the variable: at its present source, or by a command.
pub(super) fn how_to_set(e: &Evidence, name: &str, new: &str) -> String {
    if let Some(view) = local(e) {
        return how_to_set_locally(view, name, new);
    }
    let container = application(e);
    let source = container.and_then(|container| container.value_sources.get(name));
    let name = spelled(container, name);
    match source {
        Some(source) => format!("set {name}={new} in {source}, then roll the workload out again"),
        None => {
            let assignment = format!("{name}={new}");
            match set_env(e, container.map(|container| container.name.as_str()), &assignment) {
                Some(command) => format!("set {assignment}: {command}"),
                None => format!("set {assignment} in its environment"),
            }
        }
    }
}

/// Advice to set the variable on the agent's host.
fn how_to_set_locally(view: &AgentView, name: &str, new: &str) -> String {
    let where_ = unit(view);
    match (unit_of(view), view.unit.as_deref()) {
        (Some(Target::Compose { service, .. }), _) => format!(
            "set {name}={new} in the environment of {where_}: in its compose file, then `docker compose up -d {service}`"
        ),
        (Some(Target::Container(_)), _) => {
            format!(
                "set {name}={new} in the environment of {where_}: create the container again with `-e {name}={new}`"
            )
        }
        (Some(Target::Unit(_)) | None, Some(unit)) => format!(
            "set {name}={new} in the environment of {where_}: `systemctl edit {unit}` ([Service] Environment={name}={new}), then restart it"
        ),
        (_, None) => format!("set {name}={new} in its environment"),
    }
}

/// Limits the finding to Likely if one of these settings was not seen.
pub(super) fn less_certain(e: &Evidence, finding: Finding, names: &[&str]) -> Finding {
    let unknown = names.iter().filter_map(|name| match setting(e, name) {
        Setting::Unknown(why) => Some(format!("not seen: {why}")),
        Setting::Is(_) | Setting::Absent => None,
    });
    let unknown: Vec<String> = unknown.collect();
    if unknown.is_empty() { finding } else { finding.at_most(Confidence::Likely).facts(unknown) }
}
