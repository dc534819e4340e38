//! The configuration that an answer carries to an agent: the parameters of `spec.checks[]`.

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value, json};

use crate::api::CheckSpec;

/// The parameters of the checks of one connector.
#[derive(Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// Identifies the content: the same parameters always have the same number.
    pub generation: u32,
    /// The object in an answer, as JSON.
    json: Box<str>,
}

impl AgentConfig {
    /// The parameters in `checks`; `None` when there are none.
    pub(super) fn of(checks: &[CheckSpec]) -> Option<Arc<Self>> {
        let checks: Vec<Value> = checks.iter().filter_map(parameters).collect();
        (!checks.is_empty()).then(|| Arc::new(Self::with(&checks)))
    }

    /// The configuration without any parameter.
    pub(super) fn empty() -> Arc<Self> {
        static EMPTY: LazyLock<Arc<AgentConfig>> = LazyLock::new(|| Arc::new(AgentConfig::with(&[])));
        Arc::clone(&EMPTY)
    }

    fn with(checks: &[Value]) -> Self {
        let generation = fingerprint(json!(checks).to_string().as_bytes());
        let json = json!({ "generation": generation, "checks": checks }).to_string().into();
        Self { generation, json }
    }

    /// `{"generation":…,"checks":[…]}`.
    pub(super) fn json(&self) -> &str {
        &self.json
    }
}

/// The parameters of one check, by the names of the spec; `None` when it has none.
fn parameters(check: &CheckSpec) -> Option<Value> {
    let CheckSpec { type_, severity: _, unit, interface_name, overlay_cidrs, max_handshake_age_seconds } = check;
    let mut object = Map::new();
    let mut add = |name: &str, value: Option<Value>| object.extend(value.map(|value| (name.to_owned(), value)));
    add("unit", unit.as_ref().map(|unit| json!(unit)));
    add("interfaceName", interface_name.as_ref().map(|name| json!(name)));
    add("overlayCIDRs", (!overlay_cidrs.is_empty()).then(|| json!(overlay_cidrs)));
    add("maxHandshakeAgeSeconds", max_handshake_age_seconds.map(|age| json!(age)));
    if object.is_empty() {
        return None;
    }
    object.insert("type".to_owned(), json!(type_));
    Some(Value::Object(object))
}

/// FNV-1a: the same in every process and version, because an agent keeps it across restarts of the operator.
fn fingerprint(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(checks: Value) -> Option<Arc<AgentConfig>> {
        AgentConfig::of(&serde_json::from_value::<Vec<CheckSpec>>(checks).unwrap())
    }

    #[test]
    fn it_has_the_parameters_of_the_spec_and_no_severity() {
        let config = config(json!([
            {"type": "Process", "unit": "ztna-connector.service", "severity": "Warning"},
            {"type": "NATRules", "severity": "Ignore"},
            {"type": "OverlayRoute", "interfaceName": "wg1", "overlayCIDRs": ["198.51.100.0/24"]},
            {"type": "WireGuardHandshake", "maxHandshakeAgeSeconds": 300},
        ]))
        .unwrap();
        let answer: Value = serde_json::from_str(config.json()).unwrap();
        assert_eq!(
            answer["checks"],
            json!([
                {"type": "Process", "unit": "ztna-connector.service"},
                {"type": "OverlayRoute", "interfaceName": "wg1", "overlayCIDRs": ["198.51.100.0/24"]},
                {"type": "WireGuardHandshake", "maxHandshakeAgeSeconds": 300},
            ])
        );
        assert_eq!(answer["generation"], json!(config.generation));
    }

    #[test]
    fn the_generation_follows_the_content_alone() {
        let wg = |age: i64| config(json!([{"type": "WireGuardHandshake", "maxHandshakeAgeSeconds": age}])).unwrap();
        assert_eq!(wg(300).generation, wg(300).generation);
        assert_ne!(wg(300).generation, wg(301).generation);
        assert_ne!(wg(300).generation, AgentConfig::empty().generation);
        assert!(config(json!([{"type": "NATRules", "severity": "Ignore"}])).is_none());
        // An agent keeps the number over an update of the operator.
        assert_eq!(AgentConfig::empty().json(), format!(r#"{{"checks":[],"generation":{}}}"#, fingerprint(b"[]")));
        assert_eq!(fingerprint(b"[]"), 1_947_613_349);
    }
}
