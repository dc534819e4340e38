use std::path::Path;

use super::*;

/// The schema of each kind, by its name.
fn schemas() -> Vec<(String, Value)> {
    let schema = |crd: &CustomResourceDefinition| {
        let crd = tidied(crd);
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        (kind, crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
    };
    crds().iter().map(schema).collect()
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
    for (kind, schema) in schemas() {
        walk("", &schema, &mut |path, schema| {
            if let Some(what) = fault(path, schema) {
                found.push(format!("{kind}{path}: {what}"));
            }
        });
    }
    found
}

/// The rules of a schema and of everything below it, with the path of what each is about.
fn rules(schema: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let mut look = |path: &str, schema: &Value| {
        let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
        found.extend(rules.map(|rule| (path.to_owned(), rule.clone())));
    };
    look("", schema);
    walk("", schema, &mut look);
    found
}

#[test]
fn the_committed_crds_are_current() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let files = files();
    if std::env::var_os("VIGIE_GENERATE").is_some_and(|wanted| wanted == "1") {
        for (name, text) in &files {
            std::fs::write(directory.join(name), text).unwrap();
        }
    }
    let mut committed: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    committed.sort();
    assert!(committed == files, "{} is out of date: run `make generate`", directory.display());
}

#[test]
fn what_is_printed_is_what_is_installed() {
    let printed: Vec<Value> = serde_saphyr::from_multiple(&yaml()).unwrap();
    assert_eq!(printed, crds().iter().map(tidied).collect::<Vec<_>>());
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
        None if schema["x-kubernetes-int-or-string"] == true => {
            schema.get("maximum").is_some() && schema.get("maxLength").is_some()
        }
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
    let schemas = schemas();
    for (kind, path) in [
        (0, &["spec", "heartbeat"][..]),
        (0, &["spec", "token"]),
        (1, &["spec", "probe"]),
        (1, &["spec", "probe", "http"]),
    ] {
        let block = path.iter().fold(&schemas[kind].1, |schema, name| &schema["properties"][name]);
        let fields = block["properties"].as_object().unwrap();
        let of_fields: Map<_, _> =
            fields.iter().filter_map(|(name, f)| Some((name.clone(), f.get("default")?.clone()))).collect();
        assert_eq!(block["default"], Value::Object(of_fields), "{path:?}");
    }
    for (kind, schema) in schemas {
        assert_eq!(schema["properties"]["status"]["default"], serde_json::json!({"observedGeneration": -1}), "{kind}");
    }
}

#[test]
fn every_rule_is_held_against_the_api_server() {
    let cases = [include_str!("../../tests/api/cases.yaml"), include_str!("../../tests/api/backend-cases.yaml")];
    for ((kind, schema), cases) in schemas().iter().zip(cases) {
        let cases: Vec<Value> = serde_saphyr::from_str(cases).unwrap();
        let refusals: Vec<&str> = cases.iter().filter_map(|case| case["refused"].as_str()).collect();
        let message = |rule: &Value| rule["message"].as_str().unwrap().to_owned();
        let untested: Vec<_> = rules(schema)
            .iter()
            .map(|(_, rule)| message(rule))
            .filter(|message| !refusals.iter().any(|refusal| message.starts_with(refusal)))
            .collect();
        assert_eq!(untested, [""; 0], "{kind}");
    }
}

#[test]
fn every_rule_names_its_field() {
    let mut counted = Vec::new();
    for (_, schema) in schemas() {
        let rules = rules(&schema);
        for (path, rule) in &rules {
            let message = rule["message"].as_str().unwrap_or_default();
            assert!(message.starts_with("spec.") || message.starts_with("metadata."), "{path}: {rule}");
        }
        counted.push(rules.len());
    }
    assert_eq!(counted, [15, 24]);
}
