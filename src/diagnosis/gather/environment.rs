//! The environment of a container: which variables it has, and the values of the few settings that the rules ask for.
//!
//! Order and expansion are Kubernetes' own: `envFrom` in its order, then `env`, `$(NAME)` of what came before. Secrets
//! are never read: what comes from one is said to.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1;

use super::settings;
use crate::diagnosis::evidence::{EnvValue, Lookup};

/// The data of ConfigMaps by their names, as far as they could be read.
pub(super) type ConfigMaps = BTreeMap<String, Lookup<BTreeMap<String, String>>>;

/// What is known of a container's environment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The names of its variables.
    pub(super) names: BTreeSet<String>,
    /// The wanted settings, under the names of `WANTED_ENVIRONMENT`.
    pub(super) values: BTreeMap<String, EnvValue>,
    /// Where those stand when it is not the variable's own value in the template.
    pub(super) sources: BTreeMap<String, String>,
    /// Why the absence of a variable proves nothing.
    pub(super) incomplete: Option<String>,
}

/// Variables while they are put together, and what is missing of them.
#[derive(Default)]
pub(super) struct Variables {
    pub(super) known: BTreeMap<String, EnvValue>,
    /// Where those stand that come from a ConfigMap.
    pub(super) sources: BTreeMap<String, String>,
    pub(super) missing: Vec<String>,
}

/// The names of the ConfigMaps that matter: all of `envFrom`, and those behind settings that are asked for.
pub(super) fn needed(containers: &[v1::Container]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for container in containers {
        let sources = container.env_from.iter().flatten().filter_map(|source| source.config_map_ref.as_ref());
        names.extend(sources.map(|source| source.name.clone()));
        let variables = container.env.as_deref().unwrap_or_default();
        // One step deep: SERVER_PORT=$(PORT), and PORT from a ConfigMap.
        let asked = variables.iter().filter(|variable| settings::is_wanted(&variable.name));
        let texts: String = asked.filter_map(|variable| variable.value.as_deref()).collect::<Vec<_>>().join(" ");
        for variable in variables {
            let reference = variable.value_from.as_ref().and_then(|from| from.config_map_key_ref.as_ref());
            let Some(reference) = reference else { continue };
            if settings::is_wanted(&variable.name) || texts.contains(&format!("$({})", variable.name)) {
                names.insert(reference.name.clone());
            }
        }
    }
    names
}

/// What is known of the environment of `container`.
pub(super) fn resolve(container: &v1::Container, maps: &ConfigMaps) -> Resolved {
    let mut variables = Variables::default();
    for source in container.env_from.iter().flatten() {
        variables.take_all(source, maps);
    }
    for variable in container.env.iter().flatten() {
        variables.take_one(variable, maps);
    }
    let names = variables.known.keys().cloned().collect();
    let (values, sources) = settings::read(container, &mut variables);
    let incomplete = (!variables.missing.is_empty()).then(|| variables.missing.join("; "));
    Resolved { names, values, sources, incomplete }
}

impl Variables {
    fn take_all(&mut self, source: &v1::EnvFromSource, maps: &ConfigMaps) {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(secret) = &source.secret_ref {
            self.missing.push(format!("Secret {} (envFrom) is not read", secret.name));
        }
        let Some(reference) = &source.config_map_ref else { return };
        match maps.get(&reference.name) {
            Some(Lookup::Found(data)) => {
                for (key, value) in data {
                    let variable = format!("{prefix}{key}");
                    self.sources.insert(variable.clone(), stands_in(&reference.name, key));
                    self.known.insert(variable, EnvValue::Plain(value.clone()));
                }
            }
            Some(Lookup::Absent) if reference.optional == Some(true) => {}
            other => self.missing.push(absence(&reference.name, other)),
        }
    }

    fn take_one(&mut self, variable: &v1::EnvVar, maps: &ConfigMaps) {
        let map = variable.value_from.as_ref().and_then(|from| from.config_map_key_ref.as_ref());
        let source = map.map(|reference| stands_in(&reference.name, &reference.key));
        let value = match &variable.value_from {
            None => self.expand(variable.value.as_deref().unwrap_or_default()),
            Some(from) => match (&from.secret_key_ref, &from.config_map_key_ref) {
                (Some(_), _) => EnvValue::FromSecret,
                (None, Some(reference)) => match from_map(reference, maps) {
                    Some(value) => value,
                    // Optional, and not there: the variable is not set.
                    None => return,
                },
                (None, None) => EnvValue::Unresolved("it comes from the pod's own fields".to_owned()),
            },
        };
        self.known.insert(variable.name.clone(), value);
        match source {
            Some(source) => self.sources.insert(variable.name.clone(), source),
            None => self.sources.remove(&variable.name),
        };
    }

    /// `$(NAME)` becomes the value of what came before, `$$` a dollar; an unknown name stays as it is written.
    pub(super) fn expand(&self, text: &str) -> EnvValue {
        let mut whole = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            whole.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                whole.push('$');
                rest = after;
                continue;
            }
            let name = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'));
            match name.and_then(|(name, after)| Some((self.known.get(name)?, after))) {
                Some((EnvValue::Plain(value), after)) => {
                    whole.push_str(value);
                    rest = after;
                }
                Some((other, _)) => return other.clone(),
                None => whole.push('$'),
            }
        }
        whole.push_str(rest);
        EnvValue::Plain(whole)
    }
}

fn stands_in(map: &str, key: &str) -> String {
    format!("ConfigMap {map}, key {key}")
}

fn from_map(reference: &v1::ConfigMapKeySelector, maps: &ConfigMaps) -> Option<EnvValue> {
    let optional = reference.optional == Some(true);
    let unresolved = |why: String| Some(EnvValue::Unresolved(why));
    match maps.get(&reference.name) {
        Some(Lookup::Found(data)) => match data.get(&reference.key) {
            Some(value) => Some(EnvValue::Plain(value.clone())),
            None if optional => None,
            None => unresolved(format!("ConfigMap {} has no key {}", reference.name, reference.key)),
        },
        Some(Lookup::Absent) if optional => None,
        other => unresolved(absence(&reference.name, other)),
    }
}

fn absence<T>(name: &str, lookup: Option<&Lookup<T>>) -> String {
    match lookup {
        Some(Lookup::Absent) => format!("ConfigMap {name} does not exist"),
        Some(other) => other.missing().map_or_else(|| format!("ConfigMap {name} was not read"), str::to_owned),
        None => format!("ConfigMap {name} was not read"),
    }
}
