//! The settings of a Spring Boot application that the rules use, from all places in a pod's spec.
//!
//! Spring's precedence, the weakest first: the environment, system properties (`-D`), `SPRING_APPLICATION_JSON`,
//! arguments (`--name=value`); see "Externalized Configuration" in its reference. Names are compared by letters and
//! digits only: for the names in [`WANTED_ENVIRONMENT`] this equals relaxed binding.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use serde_json::Value;

use super::variables::Variables;
use crate::diagnosis::evidence::{EnvValue, WANTED_ENVIRONMENT};

/// Settings as one JSON document.
const JSON: &str = "SPRING_APPLICATION_JSON";

/// Variables that the JVM or its launcher reads by itself.
const JVM: [&str; 3] = ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"];

/// Passed to the JVM by scripts in images: used only if the command mentions it.
const BY_SCRIPT: &str = "JAVA_OPTS";

/// Variables that make Spring read settings from files or servers, which are not read here.
const OTHER_SOURCES: [&str; 3] =
    ["SPRING_CONFIG_LOCATION", "SPRING_CONFIG_ADDITIONAL_LOCATION", "SPRING_CONFIG_IMPORT"];

/// Source of `-D` and `--` settings in a pod's template.
const ARGUMENTS: &str = "the container's command and arguments";

/// Maximum length of a value, in characters: a list of endpoints is far shorter.
const MAX_VALUE: usize = 256;

/// Whether the variable is a wanted setting, or holds wanted settings.
pub(super) fn is_wanted(name: &str) -> bool {
    name == JSON || name == BY_SCRIPT || JVM.contains(&name) || wanted(name).is_some() || element(name).is_some()
}

/// The wanted settings of `container`, by the names of [`WANTED_ENVIRONMENT`], and the source of each that is not the
/// variable's own value. Unreadable sources are added to `variables.missing`.
pub(super) fn read(
    container: &v1::Container,
    variables: &mut Variables,
) -> (BTreeMap<String, EnvValue>, BTreeMap<String, String>) {
    let mut settings = Settings::default();
    for (name, value) in &variables.known {
        settings.put(name, value.clone(), variables.sources.get(name).map(String::as_str));
    }
    let command: Vec<String> = container.command.iter().chain(&container.args).flatten().cloned().collect();
    let by_script = command.iter().any(|word| word.contains(BY_SCRIPT));
    let mut missing = Vec::new();
    for name in JVM.into_iter().chain(by_script.then_some(BY_SCRIPT)) {
        match variables.known.get(name) {
            Some(EnvValue::Plain(text)) => settings.take_words(text, "-D", name),
            Some(_) => missing.push(format!("{name} could not be resolved")),
            None => {}
        }
    }
    let expanded = |word: &String| match variables.expand(word) {
        EnvValue::Plain(word) => Some(word),
        // An argument that holds a secret is ignored.
        _ => None,
    };
    let command: Vec<String> = command.iter().filter_map(expanded).collect();
    command.iter().for_each(|word| settings.take_words(word, "-D", ARGUMENTS));
    match variables.known.get(JSON) {
        Some(EnvValue::Plain(text)) => match serde_json::from_str(text) {
            Ok(document) => settings.flatten("", &document),
            Err(_) => missing.push(format!("{JSON} is not JSON")),
        },
        Some(_) => missing.push(format!("{JSON} could not be resolved")),
        None => {}
    }
    command.iter().for_each(|word| settings.take_words(word, "--", ARGUMENTS));
    let elsewhere = OTHER_SOURCES.iter().filter(|name| variables.known.contains_key(**name));
    missing.extend(elsewhere.map(|name| format!("settings are read from elsewhere too ({name})")));
    variables.missing.extend(missing);
    settings.finish()
}

#[derive(Default)]
struct Settings {
    found: BTreeMap<&'static str, EnvValue>,
    sources: BTreeMap<&'static str, String>,
    /// Elements of lists, by name and index. Together they replace a list from a weaker source.
    lists: BTreeMap<&'static str, BTreeMap<usize, EnvValue>>,
}

impl Settings {
    fn put(&mut self, name: &str, value: EnvValue, source: Option<&str>) {
        let bound = if let Some(wanted) = wanted(name) {
            self.found.insert(wanted, bounded(value));
            self.lists.remove(wanted);
            wanted
        } else if let Some((wanted, index)) = element(name) {
            self.lists.entry(wanted).or_default().insert(index, bounded(value));
            wanted
        } else {
            return;
        };
        match source {
            Some(source) => self.sources.insert(bound, source.to_owned()),
            None => self.sources.remove(bound),
        };
    }

    /// Words such as `-Dname=value` in one line of arguments.
    fn take_words(&mut self, line: &str, prefix: &str, source: &str) {
        for word in line.split_whitespace() {
            let word = word.trim_matches(['"', '\'']);
            let setting = word.strip_prefix(prefix).and_then(|setting| setting.split_once('='));
            // A property's name has dots: `--SERVER_PORT=1` is not a property.
            if let Some((name, value)) = setting.filter(|(name, _)| name.contains('.')) {
                self.put(name, EnvValue::Plain(value.trim_matches(['"', '\'']).to_owned()), Some(source));
            }
        }
    }

    fn flatten(&mut self, path: &str, value: &Value) {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| self.flatten(&below(name), value)),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(at, item)| self.flatten(&format!("{path}[{at}]"), item));
            }
            Value::String(text) => self.put(path, EnvValue::Plain(text.clone()), Some(JSON)),
            Value::Null => self.put(path, EnvValue::Plain(String::new()), Some(JSON)),
            other => self.put(path, EnvValue::Plain(other.to_string()), Some(JSON)),
        }
    }

    fn finish(self) -> (BTreeMap<String, EnvValue>, BTreeMap<String, String>) {
        let mut all = self.found;
        for (name, items) in self.lists {
            let plain = items.values().map(|item| match item {
                EnvValue::Plain(text) => Ok(text.as_str()),
                other => Err(other.clone()),
            });
            let joined = plain.collect::<Result<Vec<_>, _>>().map(|items| items.join(","));
            all.insert(name, joined.map_or_else(|other| other, EnvValue::Plain));
        }
        let values = all.into_iter().map(|(name, value)| (name.to_owned(), value));
        let sources = self.sources.into_iter().map(|(name, source)| (name.to_owned(), source));
        (values.collect(), sources.collect())
    }
}

/// The value, truncated; a value with a Spring placeholder is unresolved.
fn bounded(value: EnvValue) -> EnvValue {
    match value {
        EnvValue::Plain(text) if text.contains("${") => EnvValue::Unresolved("it refers to another setting".to_owned()),
        EnvValue::Plain(text) => EnvValue::Plain(crate::api::clip(text, MAX_VALUE)),
        other => other,
    }
}

/// The wanted name that `name` binds to.
fn wanted(name: &str) -> Option<&'static str> {
    let name = normalized(name);
    WANTED_ENVIRONMENT.iter().find(|wanted| normalized(wanted) == name).copied()
}

/// The wanted name that `name` is an element of: `…INCLUDE_0` or `….include[0]`.
fn element(name: &str) -> Option<(&'static str, usize)> {
    let (list, index) = match name.strip_suffix(']') {
        Some(name) => name.rsplit_once('[')?,
        None => name.rsplit_once('_')?,
    };
    Some((wanted(list)?, index.parse().ok()?))
}

fn normalized(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_uppercase()).collect()
}
