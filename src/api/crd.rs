//! The CustomResourceDefinitions, as they are installed and committed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Number, Value};

use super::{Connector, MonitoredBackend};

/// The first line of each generated file.
const HEADER: &str = "# Generated from src/api by `make generate`. Do not edit.\n";

/// The largest whole number that a JSON number holds exactly.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The definitions of every kind, in the order of their names.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![Connector::crd(), MonitoredBackend::crd()].into_iter().map(|crd| from_value(tidied(&crd))).collect()
}

/// The definitions as YAML files: the file name `PLURAL.GROUP.yaml` and the text. Equal input gives equal bytes, so that
/// committed files can be compared.
pub fn files() -> Vec<(String, String)> {
    let file = |crd: &CustomResourceDefinition| {
        let name = crd.metadata.name.as_deref().expect("the derive names every definition");
        (format!("{name}.yaml"), format!("{HEADER}{}", document(&tidied(crd))))
    };
    crds().iter().map(file).collect()
}

/// All definitions as one stream of YAML documents.
pub fn yaml() -> String {
    let documents: Vec<String> = files().into_iter().map(|(_, document)| document).collect();
    documents.join("---\n")
}

fn document(crd: &Value) -> String {
    serde_saphyr::to_string(crd).expect("a JSON value has string keys only, which YAML can write")
}

fn from_value(crd: Value) -> CustomResourceDefinition {
    serde_json::from_value(crd).expect("a definition that only lost keywords is still one")
}

fn tidied(crd: &CustomResourceDefinition) -> Value {
    let mut value = serde_json::to_value(crd).expect("a definition has string keys only, which JSON can write");
    tidy(&mut value);
    value
}

/// Changes the derived schema to the form of Kubernetes APIs, everywhere below `value`:
///
/// * `nullable` is removed. With it the API server stores a null, and rules that compare the field fail with an error of
///   their own; without it the API server prunes the null, and the default applies.
/// * Limits such as `300.0` become whole numbers.
/// * Descriptions lose the line breaks of the source; paragraphs stay.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(keywords) => {
            tidy_keywords(keywords);
            keywords.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Number(number) => *number = whole(number),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn tidy_keywords(keywords: &mut Map<String, Value>) {
    // A property with the name `nullable` would be an object.
    if keywords.get("nullable").is_some_and(Value::is_boolean) {
        keywords.remove("nullable");
    }
    if let Some(Value::String(description)) = keywords.get_mut("description") {
        let paragraphs: Vec<String> =
            description.split("\n\n").map(|p| p.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        *description = paragraphs.join("\n\n");
    }
}

fn whole(number: &Number) -> Number {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= MAX_EXACT => {
            Number::from(float as i64)
        }
        _ => number.clone(),
    }
}

#[cfg(test)]
#[path = "crd_tests.rs"]
mod tests;
