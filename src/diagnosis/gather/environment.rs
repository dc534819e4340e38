//! The environment of a container: which variables it has, and the values of the few settings that the rules ask for.
//!
//! Order and expansion are Kubernetes' own: `envFrom` in its order, then `env`, `$(NAME)` of what came before. Secrets
//! are never read: what comes from one is said to.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1;

use super::settings;
use super::variables::{ConfigMaps, Variables};
use crate::diagnosis::evidence::EnvValue;

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

/// The names of the ConfigMaps that matter: all of `envFrom`, and those related settings that are asked for.
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
        variables.add_env_from(source, maps);
    }
    for variable in container.env.iter().flatten() {
        variables.add_variable(variable, maps);
    }
    let names = variables.known.keys().cloned().collect();
    let (values, sources) = settings::read(container, &mut variables);
    let incomplete = (!variables.missing.is_empty()).then(|| variables.missing.join("; "));
    Resolved { names, values, sources, incomplete }
}
