use std::path::Path;

use super::*;

fn schema() -> Value {
    tidied(&crds()[0])["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Calls `look` with the path and the schema of every property and every item below `schema`.
fn walk(path: &str, schema: &Value, look: &mut dyn FnMut(&str, &Value)) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        look(&path, property);
        walk(&path, property, look);
    }
    if let Some(items) = schema.get("items") {
        let path = format!("{path}[]");
        look(&path, items);
        walk(&path, items, look);
    }
}

/// The paths for which `fault` says what is wrong, with what is wrong.
fn faults(fault: impl Fn(&str, &Value) -> Option<&'static str>) -> Vec<String> {
    let mut found = Vec::new();
    walk("", &schema(), &mut |path, schema| {
        if let Some(what) = fault(path, schema) {
            found.push(format!("{path}: {what}"));
        }
    });
    found
}

#[test]
fn the_committed_crds_are_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds/connectors.vigie.dev.yaml");
    if std::env::var_os("VIGIE_GENERATE").is_some_and(|wanted| wanted == "1") {
        std::fs::write(&path, yaml()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(committed == yaml(), "{} is out of date: run `make generate`", path.display());
}

#[test]
fn what_is_printed_is_what_is_installed() {
    let printed: Value = serde_saphyr::from_str(&yaml()).unwrap();
    assert_eq!(printed, tidied(&crds()[0]));
}

#[test]
fn every_field_is_described() {
    assert_eq!(
        faults(|path, schema| {
            let described = schema["description"].as_str().is_some_and(|text| text.len() > 10);
            (!path.ends_with("[]") && !described).then_some("no description")
        }),
        [""; 0]
    );
}

#[test]
fn no_field_is_unbounded() {
    let bounded = |schema: &Value| match schema["type"].as_str() {
        Some("string") => {
            schema.get("maxLength").is_some() || schema.get("enum").is_some() || schema["format"] == "date-time"
        }
        Some("array") => schema.get("maxItems").is_some() && schema.get("x-kubernetes-list-type").is_some(),
        Some("integer" | "boolean") => true,
        Some("object") => schema.get("properties").is_some() && schema.get("additionalProperties").is_none(),
        _ => false,
    };
    assert_eq!(faults(|_, schema| (!bounded(schema)).then_some("unbounded")), [""; 0]);
}

#[test]
fn every_number_in_a_spec_has_its_range() {
    assert_eq!(
        faults(|path, schema| {
            let ranged = schema.get("minimum").is_some() && schema.get("maximum").is_some();
            (path.starts_with(".spec") && schema["type"] == "integer" && !ranged).then_some("no range")
        }),
        [""; 0]
    );
}

#[test]
fn no_format_is_one_that_api_servers_warn_about() {
    let known = ["int32", "int64", "date-time"];
    assert_eq!(
        faults(|_, schema| {
            let format = schema["format"].as_str();
            format.is_some_and(|format| !known.contains(&format)).then_some("unknown format")
        }),
        [""; 0]
    );
}

#[test]
fn nothing_can_be_null_and_no_limit_looks_like_a_float() {
    let text = yaml();
    assert!(!text.contains("nullable"), "nullable");
    let floats: Vec<_> = text.lines().filter(|line| line.ends_with(".0") && line.contains("imum")).collect();
    assert_eq!(floats, [""; 0]);
}

#[test]
fn absent_blocks_have_the_defaults_of_empty_ones() {
    let schema = schema();
    for block in ["heartbeat", "token"] {
        let block = &schema["properties"]["spec"]["properties"][block];
        let fields = block["properties"].as_object().unwrap();
        let of_fields: Map<_, _> =
            fields.iter().filter_map(|(name, f)| Some((name.clone(), f.get("default")?.clone()))).collect();
        assert_eq!(block["default"], Value::Object(of_fields));
    }
    assert_eq!(schema["properties"]["status"]["default"], serde_json::json!({"observedGeneration": -1}));
}

#[test]
fn every_rule_is_held_against_the_api_server() {
    let cases: Vec<Value> = serde_saphyr::from_str(include_str!("../../tests/api/cases.yaml")).unwrap();
    let refusals: Vec<&str> = cases.iter().filter_map(|case| case["refused"].as_str()).collect();
    let mut untested = Vec::new();
    let mut look = |_: &str, schema: &Value| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let message = rule["message"].as_str().unwrap_or_default();
            if !refusals.iter().any(|refusal| message.starts_with(refusal)) {
                untested.push(message.to_owned());
            }
        }
    };
    let schema = schema();
    look("", &schema);
    walk("", &schema, &mut look);
    assert_eq!(untested, [""; 0]);
}

#[test]
fn every_rule_names_its_field() {
    let mut rules = 0;
    let mut look = |path: &str, schema: &Value| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let message = rule["message"].as_str().unwrap_or_default();
            assert!(message.starts_with("spec.") || message.starts_with("metadata."), "{path}: {rule}");
            rules += 1;
        }
    };
    let schema = schema();
    look("", &schema);
    walk("", &schema, &mut look);
    assert_eq!(rules, 14);
}
