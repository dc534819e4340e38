//! ConfigMaps, Secrets and keys that a container needs and that do not exist.

use std::sync::LazyLock;

use regex::Regex;

use super::Finding;
use super::containers::{describe, first_waiting, how_many, is_being_created, whose};
use super::queries::{pods, unfinished_rollout, warnings};
use crate::api::{Cause, Confidence};
use crate::diagnosis::evidence::Evidence;

/// The missing object or key in a message of the kubelet (kubelet_pods.go, env and volume sources).
fn missing_object(said: &str) -> Option<(String, Option<String>)> {
    static OBJECT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?i)\b(configmap|secret)s? "([a-z0-9.-]{1,253})" not found"#).expect("a constant pattern")
    });
    static KEY: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"couldn't find key ([-._a-zA-Z0-9]{1,253}) in (ConfigMap|Secret) [a-z0-9-]{1,63}/([a-z0-9.-]{1,253})",
        )
        .expect("a constant pattern")
    });
    static REFERENCES: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"references non-existent (config|secret) key: ([-._a-zA-Z0-9]{1,253})").expect("a constant pattern")
    });
    let kind = |word: &str| if word.to_lowercase().starts_with('c') { "ConfigMap" } else { "Secret" };
    if let Some(key) = KEY.captures(said) {
        return Some((format!("{} {}", kind(&key[2]), &key[3]), Some(key[1].to_owned())));
    }
    if let Some(object) = OBJECT.captures(said) {
        return Some((format!("{} {}", kind(&object[1]), &object[2]), None));
    }
    let key = REFERENCES.captures(said)?;
    Some((format!("the {} that a volume names", kind(&key[1])), Some(key[2].to_owned())))
}

pub(super) fn config_missing(e: &Evidence) -> Option<Finding> {
    let mounts = || {
        pods(e).into_iter().find_map(|pod| {
            let container = pod.init.iter().chain(&pod.containers).find(|c| is_being_created(c))?;
            let said = warnings(e, pod, &["FailedMount"]).find(|warning| missing_object(&warning.note).is_some())?;
            Some((pod, container, "FailedMount", said.note.as_str(), 1))
        })
    };
    let (pod, container, reason, said, affected) = first_waiting(e, &["CreateContainerConfigError"])
        .filter(|found| !is_other_config_error(found.3))
        .or_else(mounts)?;
    let (what, object, advice) = match missing_object(said) {
        Some((object, Some(key))) => {
            let advice = format!("Add the key {key} to {object}, or correct the reference in the pod template");
            (format!("{object} has no key {key}"), object, advice)
        }
        Some((object, None)) => {
            let advice = format!(
                "Create {object} in namespace {}, or correct the reference in the pod template",
                e.subject.namespace
            );
            (format!("{object} does not exist"), object, advice)
        }
        None => {
            let advice = format!("Read which ConfigMap, Secret or key it is: {}", describe(e, pod));
            ("a ConfigMap, a Secret or a key in it is missing".to_owned(), "its configuration".to_owned(), advice)
        }
    };
    let finding = Finding::new(
        Cause::ConfigMissing,
        format!("{} cannot start: {what}{}", whose(pod, container), how_many(e, affected)),
        format!("{advice}. The kubelet tries again by itself"),
    )
    .fact(format!("{} waits for {object}: {reason}", whose(pod, container)))
    .facts(unfinished_rollout(e));
    Some(if missing_object(said).is_some() { finding } else { finding.at_most(Confidence::Likely) })
}

/// `CreateContainerConfigError` also means an unsatisfiable security context, a bad subPath, a name that no environment
/// variable may have, or a kubelet that could not read an object in time. A message that names neither a ConfigMap nor a
/// Secret nor a key is about something else.
pub(super) fn is_other_config_error(said: &str) -> bool {
    const OTHER: [&str; 5] = ["runAsNonRoot", "run as root", "non-numeric user", "subPath", "failed to sync "];
    const OBJECTS: [&str; 3] = ["configmap", "secret", "key"];
    let lower = said.to_lowercase();
    let names_none = !said.trim().is_empty() && !OBJECTS.iter().any(|word| lower.contains(word));
    names_none || OTHER.iter().any(|word| said.contains(word))
}
