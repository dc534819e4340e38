//! Parses the health page: its status, and those of its components.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::is_word;

/// The most components that are kept; those that are not UP come first.
const MAX_COMPONENTS: usize = 64;
/// The most levels of nested components.
const MAX_DEPTH: usize = 4;
/// The most components that are named in a sentence.
const MAX_NAMED: usize = 4;

/// The content of a health page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthPage {
    /// UP, DOWN, OUT_OF_SERVICE or UNKNOWN; `None` for any other status, which is a word of the application and not shown.
    pub status: Option<String>,
    /// Its components and their statuses, nested ones as `a/b`; `None` when the page shows none, which is Spring
    /// Boot's default. At most 64, four deep; a component whose name or status may not be shown is left out.
    pub components: Option<BTreeMap<String, String>>,
}

/// The format of the components on a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ComponentFormat {
    /// Spring Boot 2.2 and later: in `components`, at every depth; `details` are facts.
    Components,
    /// Spring Boot 2.0 and 2.1: in `details`, at every depth, beside facts.
    Details,
    /// Spring Boot 1: each beside the status, and its facts beside its own.
    Flat,
}

impl HealthPage {
    /// Parses a health page. `None` when `body` is not one: no JSON, or without a status.
    pub fn read(body: &[u8]) -> Option<Self> {
        let Value::Object(page) = serde_json::from_slice(body).ok()? else { return None };
        let status = status(&page)?;
        let status = known(status).map(str::to_owned);
        let shape = match (page.get("components"), page.get("details")) {
            (Some(Value::Object(_)), _) => ComponentFormat::Components,
            (_, Some(Value::Object(_))) => ComponentFormat::Details,
            _ => ComponentFormat::Flat,
        };
        let mut found = Vec::new();
        collect(&page, shape, "", 0, &mut found);
        if found.is_empty() && shape == ComponentFormat::Flat {
            return Some(Self { status, components: None });
        }
        found.sort_by_key(|(_, status)| status == "UP");
        found.truncate(MAX_COMPONENTS);
        Some(Self { status, components: Some(found.into_iter().collect()) })
    }

    /// A description: the status, and the innermost components that are not UP.
    pub fn describe(&self) -> String {
        let status = self.status.as_deref().unwrap_or("a status of its own");
        let not_up = |(_, status): &(&String, &String)| *status != "UP";
        let bad: Vec<(&String, &String)> = self.components.iter().flatten().filter(not_up).collect();
        let is_outer = |name: &str| bad.iter().any(|(other, _)| is_within(other, name));
        let innermost: Vec<_> = bad.iter().filter(|(name, _)| !is_outer(name)).collect();
        if innermost.is_empty() {
            return status.to_owned();
        }
        let named = innermost.iter().take(MAX_NAMED).map(|(name, status)| format!("{name} is {status}"));
        let named = named.collect::<Vec<_>>().join(", ");
        match innermost.len().saturating_sub(MAX_NAMED) {
            0 => format!("{status}: {named}"),
            more => format!("{status}: {named}, and {more} more"),
        }
    }
}

/// Whether the component `inner` is nested in `outer`.
fn is_within(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
}

/// The statuses of Spring Boot itself. Any other is a word of the application, and words of a target are not shown.
const KNOWN: [&str; 4] = ["UP", "DOWN", "OUT_OF_SERVICE", "UNKNOWN"];

/// The replacement for any other status of a component.
const CUSTOM: &str = "CUSTOM";

fn known(status: &str) -> Option<&'static str> {
    KNOWN.into_iter().find(|known| *known == status)
}

/// The status of a page or a component. JSON mappers other than Jackson write Spring's class as an object with a code.
fn status(of: &Map<String, Value>) -> Option<&str> {
    match of.get("status")? {
        Value::String(status) => Some(status),
        Value::Object(status) => status.get("code")?.as_str(),
        _ => None,
    }
}

fn collect(
    of: &Map<String, Value>,
    shape: ComponentFormat,
    outer: &str,
    depth: usize,
    found: &mut Vec<(String, String)>,
) {
    let inside = match shape {
        ComponentFormat::Components => of.get("components").and_then(Value::as_object),
        ComponentFormat::Details => of.get("details").and_then(Value::as_object),
        ComponentFormat::Flat => Some(of),
    };
    for (name, value) in inside.into_iter().flatten().filter(|_| depth < MAX_DEPTH) {
        let Some(component) = value.as_object() else { continue };
        let Some(status) = status(component).filter(|status| is_word(status) && is_word(name)) else { continue };
        // The status of such a mapper is an object too, and not a component.
        if shape == ComponentFormat::Flat && name == "status" {
            continue;
        }
        let name = if outer.is_empty() { name.clone() } else { format!("{outer}/{name}") };
        collect(component, shape, &name, depth + 1, found);
        found.push((name, known(status).unwrap_or(CUSTOM).to_owned()));
    }
}
