//! Environments from pods' specs.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Container;
use serde_json::{Value, json};

use super::environment::{ResolvedEnvironment, needed, resolve};
use super::variables::ConfigMaps;
use crate::diagnosis::evidence::{EnvValue, Lookup};

const INCLUDE: &str = "MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_INCLUDE";
const ACCESS: &str = "MANAGEMENT_ENDPOINT_PROMETHEUS_ACCESS";
const BASE: &str = "MANAGEMENT_ENDPOINTS_WEB_BASE_PATH";

fn container(more: Value) -> Container {
    let mut json = json!({"name": "app", "image": "shop:1"});
    json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(json).unwrap()
}

fn maps(maps: Value) -> ConfigMaps {
    let maps: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_value(maps).unwrap();
    maps.into_iter().map(|(name, data)| (name, Lookup::Found(data))).collect()
}

fn seen(more: Value) -> ResolvedEnvironment {
    resolve(&container(more), &ConfigMaps::new())
}

fn plain(text: &str) -> Option<EnvValue> {
    Some(EnvValue::Plain(text.to_owned()))
}

fn value(resolved: &ResolvedEnvironment, name: &str) -> Option<EnvValue> {
    resolved.values.get(name).cloned()
}

#[test]
fn names_are_all_known_and_only_the_values_that_rules_ask_for_are_kept() {
    let found = seen(json!({"env": [
        {"name": "DATABASE_PASSWORD", "value": "hunter2"},
        {"name": INCLUDE, "value": "health"},
    ]}));
    assert_eq!(found.names.iter().map(String::as_str).collect::<Vec<_>>(), ["DATABASE_PASSWORD", INCLUDE]);
    assert_eq!(found.values, BTreeMap::from([(INCLUDE.to_owned(), EnvValue::Plain("health".to_owned()))]));
    assert_eq!(found.incomplete, None);
    assert!(!format!("{found:?}").contains("hunter2"));
}

#[test]
fn later_sources_win_and_env_wins_over_env_from() {
    let maps = maps(json!({
        "one": {INCLUDE: "health", "SERVER_PORT": "8080", "unrelated": "x"},
        "two": {INCLUDE: "info"},
    }));
    let container = container(json!({
        "envFrom": [{"configMapRef": {"name": "one"}}, {"configMapRef": {"name": "two"}}],
        "env": [{"name": "SERVER_PORT", "value": "9000"}],
    }));
    assert_eq!(needed(std::slice::from_ref(&container)), ["one".to_owned(), "two".to_owned()].into());
    let found = resolve(&container, &maps);
    assert_eq!((value(&found, INCLUDE), value(&found, "SERVER_PORT")), (plain("info"), plain("9000")));
    // The variable's own value needs no source.
    let source = (INCLUDE.to_owned(), format!("ConfigMap two, key {INCLUDE}"));
    assert_eq!(found.sources, BTreeMap::from([source]));
    assert!(found.names.contains("unrelated"));
}

#[test]
fn a_prefix_belongs_to_the_name() {
    let maps = maps(json!({"one": {"PORT": "8081"}}));
    let container = container(json!({"envFrom": [{"prefix": "MANAGEMENT_SERVER_", "configMapRef": {"name": "one"}}]}));
    assert_eq!(value(&resolve(&container, &maps), "MANAGEMENT_SERVER_PORT"), plain("8081"));
}

#[test]
fn a_key_of_a_config_map_is_looked_up_and_its_absence_is_told() {
    let reference = |key: &str, optional: bool| json!({"name": INCLUDE, "valueFrom": {"configMapKeyRef": {"name": "one", "key": key, "optional": optional}}});
    let of = |reference: Value, maps: &ConfigMaps| {
        let container = container(json!({"env": [reference]}));
        assert!(needed(std::slice::from_ref(&container)).contains("one"));
        let found = resolve(&container, maps);
        (value(&found, INCLUDE), found.names.contains(INCLUDE))
    };
    let known = maps(json!({"one": {"include": "health,prometheus"}}));
    assert_eq!(of(reference("include", false), &known), (plain("health,prometheus"), true));
    let no_key = Some(EnvValue::Unresolved("ConfigMap one has no key other".to_owned()));
    assert_eq!(of(reference("other", false), &known), (no_key, true));
    assert_eq!(of(reference("other", true), &known), (None, false));
    let forbidden = ConfigMaps::from([("one".to_owned(), Lookup::Forbidden("RBAC says no".to_owned()))]);
    let why = Some(EnvValue::Unresolved("RBAC says no".to_owned()));
    assert_eq!(of(reference("include", true), &forbidden), (why, true));
}

#[test]
fn secrets_are_never_read_and_make_absence_prove_nothing() {
    let found = seen(json!({
        "envFrom": [{"secretRef": {"name": "all"}}],
        "env": [{"name": ACCESS, "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
    }));
    assert_eq!(value(&found, ACCESS), Some(EnvValue::FromSecret));
    assert_eq!(found.incomplete.as_deref(), Some("Secret all (envFrom) is not read"));
    let optional = seen(json!({"envFrom": [{"configMapRef": {"name": "one"}}]}));
    assert_eq!(optional.incomplete.as_deref(), Some("ConfigMap one was not read"));
    let absent = ConfigMaps::from([("one".to_owned(), Lookup::Absent)]);
    let container = container(json!({"envFrom": [{"configMapRef": {"name": "one", "optional": true}}]}));
    assert_eq!(resolve(&container, &absent).incomplete, None);
}

#[test]
fn references_are_expanded_as_the_kubelet_does() {
    let found = seen(json!({"env": [
        {"name": "PORT", "value": "8081"},
        {"name": "MANAGEMENT_SERVER_PORT", "value": "$(PORT)"},
        {"name": BASE, "value": "/$$(PORT)/$(UNKNOWN)"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "SERVER_ADDRESS", "value": "x$(TOKEN)"},
        {"name": "MANAGEMENT_SERVER_ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]}));
    assert_eq!(value(&found, "MANAGEMENT_SERVER_PORT"), plain("8081"));
    assert_eq!(value(&found, BASE), plain("/$(PORT)/$(UNKNOWN)"));
    assert_eq!(value(&found, "SERVER_ADDRESS"), Some(EnvValue::FromSecret));
    let own = "it comes from the pod's own fields".to_owned();
    assert_eq!(value(&found, "MANAGEMENT_SERVER_ADDRESS"), Some(EnvValue::Unresolved(own)));
}

#[test]
fn a_config_map_behind_a_reference_is_needed_too() {
    let container = container(json!({"env": [
        {"name": "PORT", "valueFrom": {"configMapKeyRef": {"name": "ports", "key": "p"}}},
        {"name": "OTHER", "valueFrom": {"configMapKeyRef": {"name": "unrelated", "key": "p"}}},
        {"name": "SERVER_PORT", "value": "$(PORT)"},
    ]}));
    assert_eq!(needed(std::slice::from_ref(&container)), ["ports".to_owned()].into());
    let maps = maps(json!({"ports": {"p": "8085"}}));
    assert_eq!(value(&resolve(&container, &maps), "SERVER_PORT"), plain("8085"));
}

#[test]
fn names_bind_as_spring_binds_them() {
    for name in [
        "MANAGEMENT_ENDPOINTS_WEB_BASE_PATH",
        "MANAGEMENT_ENDPOINTS_WEB_BASEPATH",
        "management.endpoints.web.base-path",
    ] {
        assert_eq!(value(&seen(json!({"env": [{"name": name, "value": "/m"}]})), BASE), plain("/m"), "{name}");
    }
    let list = json!({"env": [
        {"name": format!("{INCLUDE}_1"), "value": "prometheus"}, {"name": format!("{INCLUDE}_0"), "value": "health"},
    ]});
    assert_eq!(value(&seen(list), INCLUDE), plain("health,prometheus"));
}

#[test]
fn springs_json_is_flattened_and_wins_over_the_environment() {
    let document = json!({
        "management": {
            "endpoints": {"web": {"exposure": {"include": ["health", "info"]}, "base-path": "/internal"}},
            "endpoint.prometheus.access": "none",
        },
        "server": {"port": 9090}, "spring": {"datasource": {"password": "hunter2"}},
    });
    let found = seen(json!({"env": [
        {"name": "SPRING_APPLICATION_JSON", "value": document.to_string()}, {"name": BASE, "value": "/env"},
    ]}));
    assert_eq!(value(&found, INCLUDE), plain("health,info"));
    assert_eq!((value(&found, BASE), value(&found, ACCESS)), (plain("/internal"), plain("none")));
    assert_eq!(value(&found, "SERVER_PORT"), plain("9090"));
    assert!(!format!("{found:?}").contains("hunter2"));
    let broken = seen(json!({"env": [{"name": "SPRING_APPLICATION_JSON", "value": "{"}]}));
    assert_eq!(broken.incomplete.as_deref(), Some("SPRING_APPLICATION_JSON is not JSON"));
    let secret = json!({"env": [
        {"name": "SPRING_APPLICATION_JSON", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]});
    assert_eq!(seen(secret).incomplete.as_deref(), Some("SPRING_APPLICATION_JSON could not be resolved"));
}

#[test]
fn arguments_and_system_properties_count_in_springs_order() {
    let found = seen(json!({
        "command": ["sh", "-c", "exec java $JAVA_OPTS -Dserver.port=1 -jar app.jar '--management.server.port=8085'"],
        "env": [
            {"name": "JAVA_OPTS", "value": "-Xmx1g -Dmanagement.server.port=8084 -Dserver.address=127.0.0.1"},
            {"name": "SERVER_PORT", "value": "2"},
        ],
    }));
    assert_eq!(value(&found, "SERVER_PORT"), plain("1"));
    assert_eq!(value(&found, "SERVER_ADDRESS"), plain("127.0.0.1"));
    assert_eq!(value(&found, "MANAGEMENT_SERVER_PORT"), plain("8085"));
    let sources: Vec<&str> = found.sources.values().map(String::as_str).collect();
    let arguments = "the container's command and arguments";
    assert_eq!(sources, [arguments, "JAVA_OPTS", arguments]);
    let unused = seen(json!({"env": [{"name": "JAVA_OPTS", "value": "-Dserver.port=1"}]}));
    assert_eq!(value(&unused, "SERVER_PORT"), None);
    let tool = seen(json!({"env": [{"name": "JAVA_TOOL_OPTIONS", "value": "-Dserver.port=\"3\""}]}));
    assert_eq!(value(&tool, "SERVER_PORT"), plain("3"));
}

#[test]
fn what_stands_elsewhere_is_said_to() {
    let found = seen(json!({"env": [
        {"name": "SPRING_CONFIG_IMPORT", "value": "configserver:"}, {"name": "SERVER_PORT", "value": "${OTHER:8080}"},
    ]}));
    assert_eq!(found.incomplete.as_deref(), Some("settings are read from elsewhere too (SPRING_CONFIG_IMPORT)"));
    let refers = EnvValue::Unresolved("it refers to another setting".to_owned());
    assert_eq!(value(&found, "SERVER_PORT"), Some(refers));
}
