//! The environment variables of a container, resolved as the kubelet does.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;

use crate::diagnosis::evidence::{EnvValue, Lookup};

/// The data of ConfigMaps by name, or the reason why it is missing.
pub(super) type ConfigMaps = BTreeMap<String, Lookup<BTreeMap<String, String>>>;

/// Variables during resolution, and reasons for missing ones.
#[derive(Default)]
pub(super) struct Variables {
    pub(super) known: BTreeMap<String, EnvValue>,
    /// Sources of the variables that come from a ConfigMap.
    pub(super) sources: BTreeMap<String, String>,
    pub(super) missing: Vec<String>,
}

impl Variables {
    pub(super) fn add_env_from(&mut self, source: &v1::EnvFromSource, maps: &ConfigMaps) {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(secret) = &source.secret_ref {
            self.missing.push(format!("Secret {} (envFrom) is not read", secret.name));
        }
        let Some(reference) = &source.config_map_ref else { return };
        match maps.get(&reference.name) {
            Some(Lookup::Found(data)) => {
                for (key, value) in data {
                    let variable = format!("{prefix}{key}");
                    self.sources.insert(variable.clone(), config_map_key(&reference.name, key));
                    self.known.insert(variable, EnvValue::Plain(value.clone()));
                }
            }
            Some(Lookup::Absent) if reference.optional == Some(true) => {}
            other => self.missing.push(absence(&reference.name, other)),
        }
    }

    pub(super) fn add_variable(&mut self, variable: &v1::EnvVar, maps: &ConfigMaps) {
        let map = variable.value_from.as_ref().and_then(|from| from.config_map_key_ref.as_ref());
        let source = map.map(|reference| config_map_key(&reference.name, &reference.key));
        let value = match &variable.value_from {
            None => self.expand(variable.value.as_deref().unwrap_or_default()),
            Some(from) => match (&from.secret_key_ref, &from.config_map_key_ref) {
                (Some(_), _) => EnvValue::FromSecret,
                (None, Some(reference)) => match from_map(reference, maps) {
                    Some(value) => value,
                    // The reference is optional and the key is absent: the variable is not set.
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

    /// Expands `$(NAME)` from earlier variables and `$$` to a dollar; an unknown name stays unchanged.
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

fn config_map_key(map: &str, key: &str) -> String {
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
