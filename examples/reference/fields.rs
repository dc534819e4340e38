//! The fields of a kind, from its schema.

use anyhow::Context;
use serde_json::Value;
use vigie::api::crd;

use crate::cell;

/// Renders the page about one kind.
pub(crate) fn page(kind: &str) -> anyhow::Result<String> {
    // Not from the typed definitions: their limits are floats.
    let crds: Vec<Value> = serde_saphyr::from_multiple(&crd::yaml()).context("reading the definitions")?;
    let crd = crds.iter().find(|crd| crd["spec"]["names"]["kind"] == kind);
    let crd = crd.with_context(|| format!("there is no definition of {kind}"))?;
    let (version, names) = (&crd["spec"]["versions"][0], &crd["spec"]["names"]);
    let schema = &version["schema"]["openAPIV3Schema"];
    let (group, plural) = (text(&crd["spec"]["group"]), text(&names["plural"]));
    let others = if plural == "connectors" { " (other products have a `connectors`, too)" } else { "" };
    let mut page = format!(
        "# {kind}\n\n`{group}/{}`, resource `{plural}.{group}`{others}, short name `{}`, category `{}`.\n\n{}\n\nThe \
         same is in `kubectl explain {plural} --recursive`.\n",
        text(&version["name"]),
        text(&names["shortNames"][0]),
        text(&names["categories"][0]),
        text(&schema["description"]),
    );
    columns(&mut page, version);
    for part in ["spec", "status"] {
        let schema = &schema["properties"][part];
        page += &format!("\n## {part}\n\n{}\n\n", text(&schema["description"]));
        page += "| field | type | default | what it is |\n|---|---|---|---|\n";
        rows(&mut page, part, schema);
    }
    page += "\n## Rules\n\nThe API server refuses what breaks one of these, in these words.\n\n";
    rules(&mut page, schema);
    Ok(page)
}

fn columns(page: &mut String, version: &Value) {
    *page += "\n## Columns\n\n| column | shown with | what it is |\n|---|---|---|\n";
    for column in version["additionalPrinterColumns"].as_array().into_iter().flatten() {
        let shown = if column["priority"].as_i64().unwrap_or(0) > 0 { "`-o wide`" } else { "" };
        *page += &format!("| {} | {shown} | {} |\n", text(&column["name"]), cell(text(&column["description"])));
    }
}

fn rows(page: &mut String, path: &str, schema: &Value) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let is_list = property["type"] == "array";
        let path = format!("{path}.{name}{}", if is_list { "[]" } else { "" });
        let required = schema["required"].as_array().is_some_and(|names| names.iter().any(|wanted| wanted == name));
        // The default of a block only repeats the defaults of its fields.
        let default = match &property["default"] {
            Value::Null if required => "required".to_owned(),
            Value::Null | Value::Object(_) => String::new(),
            value => format!("`{value}`"),
        };
        let description = cell(text(&property["description"]));
        *page += &format!("| `{path}` | {} | {default} | {description} |\n", cell(&type_of(property)));
        rows(page, &path, if is_list { &property["items"] } else { property });
    }
}

/// The type with its limits.
fn type_of(schema: &Value) -> String {
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(|word| format!("`{}`", text(word))).collect::<Vec<_>>().join(", ");
    }
    match text(&schema["type"]) {
        "" if schema["x-kubernetes-int-or-string"] == true => match (&schema["maximum"], &schema["maxLength"]) {
            (Value::Null, _) | (_, Value::Null) => "integer or string".to_owned(),
            (most, longest) => {
                format!("integer, {} to {most}, or string of at most {longest} characters", schema["minimum"])
            }
        },
        "string" if schema["format"] == "date-time" => "time".to_owned(),
        "string" => match limits(schema, "minLength", "maxLength") {
            Some(limits) => format!("string of {limits} characters"),
            None => "string".to_owned(),
        },
        "array" => match limits(schema, "minItems", "maxItems") {
            Some(limits) => format!("list of {limits} {}s", text(&schema["items"]["type"])),
            None => format!("list of {}s", text(&schema["items"]["type"])),
        },
        "integer" => match limits(schema, "minimum", "maximum") {
            Some(limits) => format!("integer, {limits}"),
            None => "integer".to_owned(),
        },
        other => other.to_owned(),
    }
}

fn limits(schema: &Value, low: &str, high: &str) -> Option<String> {
    match (schema.get(low), schema.get(high)) {
        (Some(low), Some(high)) if low == high => Some(low.to_string()),
        (Some(low), Some(high)) => Some(format!("{low} to {high}")),
        (None, Some(high)) => Some(format!("at most {high}")),
        (Some(low), None) => Some(format!("at least {low}")),
        (None, None) => None,
    }
}

fn rules(page: &mut String, schema: &Value) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        *page += &format!("- {}\n", text(&rule["message"]));
    }
    for property in schema["properties"].as_object().into_iter().flat_map(|properties| properties.values()) {
        rules(page, property);
    }
    if let Some(items) = schema.get("items") {
        rules(page, items);
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
