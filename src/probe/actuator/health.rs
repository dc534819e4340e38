//! The health page: a status, and those of the components that it shows.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::is_word;

/// How many components are kept; those that are not UP come first.
const MOST_COMPONENTS: usize = 64;
/// How deep components are looked for in others.
const DEEPEST: usize = 4;
/// How many components are named in a sentence.
const NAMED: usize = 4;

/// What a health page says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// UP, DOWN, OUT_OF_SERVICE, UNKNOWN, or an application's own word; `None` for a word that may not be shown.
    pub status: Option<String>,
    /// Its components and their status, those within others as `a/b`; `None` when the page shows none, which is Spring
    /// Boot's default. At most 64, four deep; a component whose name or status may not be shown is left out.
    pub components: Option<BTreeMap<String, String>>,
}

/// How a page shows its components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Spring Boot 2.2 and later: in `components`, at every depth; `details` are facts.
    Components,
    /// Spring Boot 2.0 and 2.1: in `details`, at every depth, beside facts.
    Details,
    /// Spring Boot 1: each beside the status, and its facts beside its own.
    Flat,
}

impl Health {
    /// Reads a health page. `None` when `body` is none: no JSON, or without a status.
    pub fn read(body: &[u8]) -> Option<Self> {
        let Value::Object(page) = serde_json::from_slice(body).ok()? else { return None };
        let status = status(&page)?;
        let status = known(status).map(str::to_owned);
        let shape = match (page.get("components"), page.get("details")) {
            (Some(Value::Object(_)), _) => Shape::Components,
            (_, Some(Value::Object(_))) => Shape::Details,
            _ => Shape::Flat,
        };
        let mut found = Vec::new();
        collect(&page, shape, "", 0, &mut found);
        if found.is_empty() && shape == Shape::Flat {
            return Some(Self { status, components: None });
        }
        found.sort_by_key(|(_, status)| status == "UP");
        found.truncate(MOST_COMPONENTS);
        Some(Self { status, components: Some(found.into_iter().collect()) })
    }

    /// What it says, in words: the status, and the innermost components that are not UP.
    pub fn in_words(&self) -> String {
        let status = self.status.as_deref().unwrap_or("a status of its own");
        let not_up = |(_, status): &(&String, &String)| *status != "UP";
        let bad: Vec<(&String, &String)> = self.components.iter().flatten().filter(not_up).collect();
        let is_outer = |name: &str| bad.iter().any(|(other, _)| is_within(other, name));
        let innermost: Vec<_> = bad.iter().filter(|(name, _)| !is_outer(name)).collect();
        if innermost.is_empty() {
            return status.to_owned();
        }
        let named = innermost.iter().take(NAMED).map(|(name, status)| format!("{name} is {status}"));
        let named = named.collect::<Vec<_>>().join(", ");
        match innermost.len().saturating_sub(NAMED) {
            0 => format!("{status}: {named}"),
            more => format!("{status}: {named}, and {more} more"),
        }
    }
}

/// Whether the component `inner` is one within `outer`.
fn is_within(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
}

/// The statuses of Spring Boot itself. Any other is the application's own word, and a target's words are not shown.
const KNOWN: [&str; 4] = ["UP", "DOWN", "OUT_OF_SERVICE", "UNKNOWN"];

/// What stands for any other status of a component.
const OWN: &str = "CUSTOM";

fn known(status: &str) -> Option<&'static str> {
    KNOWN.into_iter().find(|known| *known == status)
}

/// The status of a page or a component. Mappers of JSON other than Jackson write Spring's class as it is, with a code.
fn status(of: &Map<String, Value>) -> Option<&str> {
    match of.get("status")? {
        Value::String(status) => Some(status),
        Value::Object(status) => status.get("code")?.as_str(),
        _ => None,
    }
}

fn collect(of: &Map<String, Value>, shape: Shape, outer: &str, depth: usize, found: &mut Vec<(String, String)>) {
    let inside = match shape {
        Shape::Components => of.get("components").and_then(Value::as_object),
        Shape::Details => of.get("details").and_then(Value::as_object),
        Shape::Flat => Some(of),
    };
    for (name, value) in inside.into_iter().flatten().filter(|_| depth < DEEPEST) {
        let Some(component) = value.as_object() else { continue };
        let Some(status) = status(component).filter(|status| is_word(status) && is_word(name)) else { continue };
        // Of a status that is an object, as such mappers write it, only the word is one.
        if shape == Shape::Flat && name == "status" {
            continue;
        }
        let name = if outer.is_empty() { name.clone() } else { format!("{outer}/{name}") };
        collect(component, shape, &name, depth + 1, found);
        found.push((name, known(status).unwrap_or(OWN).to_owned()));
    }
}
