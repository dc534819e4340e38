//! The token fields of a connector, read as plain JSON, so that any version of the object can be used.

use std::fmt;

use serde_json::Value;

use crate::api::TokenSpec;

/// The source of a connector's token.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) enum TokenSource {
    /// vigie makes the token and writes it to this Secret.
    Issued { secret_name: String },
    /// The user provides the token in this Secret.
    Supplied { secret_name: String, key: String },
    /// No token: the connector renews a Lease, with credentials of the cluster.
    Lease,
}

impl TokenSource {
    /// The source by the spec. The Secret is that of the status, or else the one that the spec leads to.
    pub(in crate::cli) fn of(connector: &Value, name: &str) -> Self {
        let text = |pointer: &str| connector.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        if text("/spec/heartbeat/source").as_deref() == Some("Lease") {
            return Self::Lease;
        }
        if let Some(secret_name) = text("/spec/token/existingSecretRef/name") {
            return Self::Supplied { secret_name, key: text("/spec/token/existingSecretRef/key").unwrap_or_default() };
        }
        let secret_name = text("/status/token/secretName").or_else(|| text("/spec/token/secretName"));
        Self::Issued { secret_name: secret_name.unwrap_or_else(|| format!("{name}-connector-token")) }
    }
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issued { secret_name } => write!(f, "vigie makes it, in the Secret {secret_name:?}"),
            Self::Supplied { secret_name, key } => {
                write!(f, "you bring it yourself, in the key {key:?} of the Secret {secret_name:?}; change it there")
            }
            Self::Lease => write!(f, "it renews a Lease and needs none"),
        }
    }
}

/// The generation of the rotation in the spec.
pub(super) fn rotation(connector: &Value) -> i64 {
    connector.pointer("/spec/token/rotationGeneration").and_then(Value::as_i64).unwrap_or(0)
}

/// The generation of the last rotation that the operator completed.
pub(super) fn observed_rotation(connector: &Value) -> i64 {
    connector.pointer("/status/token/observedRotationGeneration").and_then(Value::as_i64).unwrap_or(0)
}

/// The number of tokens that were delivered.
pub(super) fn delivered(connector: &Value) -> i64 {
    connector.pointer("/status/token/generation").and_then(Value::as_i64).unwrap_or(0)
}

/// Whether the newest token is in its Secret.
pub(super) fn is_in_secret(connector: &Value) -> bool {
    connector.pointer("/status/token/heldGeneration").is_none() && delivery_problem(connector).is_none()
}

/// The message of the condition `Provisioned` while it is False.
pub(super) fn delivery_problem(connector: &Value) -> Option<String> {
    let conditions = connector.pointer("/status/conditions").and_then(Value::as_array)?;
    let provisioned = conditions.iter().find(|condition| condition["type"] == "Provisioned")?;
    (provisioned["status"] == "False").then(|| provisioned["message"].as_str().unwrap_or_default().to_owned())
}

/// The seconds for which the old token is valid beside the new one.
pub(super) fn grace_seconds(connector: &Value) -> i64 {
    let given = connector.pointer("/spec/token/graceSeconds").and_then(Value::as_i64);
    given.unwrap_or_else(|| TokenSpec::default().grace_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_secret_is_the_one_of_the_status_then_of_the_spec_then_the_default() {
        let of = |json: Value| match TokenSource::of(&json, "edge-1") {
            TokenSource::Issued { secret_name } => secret_name,
            other => panic!("{other}"),
        };
        let spec = json!({"token": {"secretName": "asked"}});
        assert_eq!(of(json!({"spec": spec, "status": {"token": {"secretName": "is"}}})), "is");
        assert_eq!(of(json!({"spec": spec})), "asked");
        assert_eq!(of(json!({"spec": {}})), "edge-1-connector-token");
    }

    #[test]
    fn a_token_that_could_not_be_delivered_is_not_there_and_the_condition_says_why() {
        let of = |token: Value, status: &str| {
            let provisioned = json!({"type": "Provisioned", "status": status, "message": "exceeded quota"});
            json!({"status": {"token": token, "conditions": [provisioned]}})
        };
        assert!(is_in_secret(&of(json!({"generation": 2}), "True")));
        let failing = of(json!({"generation": 2, "heldGeneration": 1}), "False");
        assert!(!is_in_secret(&failing));
        assert_eq!(delivery_problem(&failing).as_deref(), Some("exceeded quota"));
        assert!(!is_in_secret(&of(json!({"generation": 2, "heldGeneration": 1}), "True")));
    }

    #[test]
    fn a_lease_and_a_brought_secret_are_not_vigies() {
        let lease = json!({"spec": {"heartbeat": {"source": "Lease", "leaseName": "l"}}});
        assert_eq!(TokenSource::of(&lease, "e"), TokenSource::Lease);
        let brought = json!({"spec": {"token": {"existingSecretRef": {"name": "mine", "key": "t"}}}});
        let source = TokenSource::of(&brought, "e");
        assert_eq!(source, TokenSource::Supplied { secret_name: "mine".to_owned(), key: "t".to_owned() });
        assert!(source.to_string().contains("in the key \"t\" of the Secret \"mine\""));
    }
}
