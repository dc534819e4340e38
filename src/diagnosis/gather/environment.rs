//! The environment of a container: which variables it has, and the values of the few settings that the rules ask for.
//!
//! Order and expansion follow Kubernetes: `envFrom` in its order, then `env`, `$(NAME)` from earlier variables. Secrets
//! are never read: a variable from a Secret is marked as such.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1;

use super::settings;
use super::variables::{ConfigMaps, Variables};
use crate::diagnosis::evidence::EnvValue;

/// The resolved environment of a container.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ResolvedEnvironment {
    /// The names of its variables.
    pub(super) names: BTreeSet<String>,
    /// Values of the settings in `WANTED_ENVIRONMENT`, by those names.
    pub(super) values: BTreeMap<String, EnvValue>,
    /// The source of a setting that is not the variable's own value in the template.
    pub(super) sources: BTreeMap<String, String>,
    /// The reason why the environment is incomplete: then an absent variable proves nothing.
    pub(super) incomplete: Option<String>,
}

/// The names of the ConfigMaps to read: all of `envFrom`, and those that wanted settings refer to.
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

/// Resolves the environment of `container`.
pub(super) fn resolve(container: &v1::Container, maps: &ConfigMaps) -> ResolvedEnvironment {
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
    ResolvedEnvironment { names, values, sources, incomplete }
}
