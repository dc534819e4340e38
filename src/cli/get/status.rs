//! What was last written: the status of the objects. Read as plain JSON, so that an object that a newer or older
//! operator wrote is shown as far as it can be understood.

use anyhow::Context;
use jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use serde_json::Value;

use crate::admin::{CheckView, ConnectorView};
use crate::api::Truth;
use crate::api::{CheckOutcome, ConnectorState};
use crate::cli::connect::ask;

/// Objects per request: what kubectl asks for.
const PAGE: u32 = 500;
/// Stops remedies until the time that it holds (api.md, Annotations).
const PAUSED_UNTIL: &str = "vigie.dev/paused-until";

/// The resource as JSON, without its types.
pub(in crate::cli) fn resource() -> ApiResource {
    let gvk = kube::api::GroupVersionKind::gvk("vigie.dev", "v1alpha1", "Connector");
    ApiResource::from_gvk_with_plural(&gvk, "connectors")
}

/// The connectors of a namespace or of all, sorted, or the one of that name.
///
/// # Errors
/// When the API server cannot be asked, or does not know the kind.
pub(super) async fn read(
    client: &Client,
    namespace: Option<&str>,
    name: Option<&str>,
) -> anyhow::Result<Vec<ConnectorView>> {
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource()),
        None => Api::all_with(client.clone(), &resource()),
    };
    let mut params = ListParams::default().limit(PAGE);
    if let Some(name) = name {
        params = params.fields(&format!("metadata.name={name}"));
    }
    let now = Timestamp::now();
    let mut views = Vec::new();
    loop {
        let list = async {
            match api.list(&params).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                other => other.map(Some),
            }
        };
        let page = ask("listing connectors.vigie.dev", list).await?;
        let page = page.context("the cluster knows no connectors.vigie.dev: are vigie's CRDs installed?")?;
        views.extend(page.items.iter().map(|object| view(object, now)));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    views.sort_unstable_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(views)
}

/// What the status of `object` says; what it does not say is what an object has that was never reconciled.
fn view(object: &DynamicObject, now: Timestamp) -> ConnectorView {
    let json = &object.data;
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let default_id = || format!("{namespace}/{name}");
    let id = text(json, "/status/connectorID").or_else(|| text(json, "/spec/connectorID"));
    ConnectorView {
        connector_id: id.unwrap_or_else(default_id),
        site: text(json, "/spec/site").unwrap_or_default(),
        state: word(json.pointer("/status/state")).unwrap_or(ConnectorState::Pending),
        ready: word(condition(json, "Ready", "status")).unwrap_or(Truth::Unknown),
        cause: word(json.pointer("/status/diagnosis/cause")),
        message: text(json, "/status/diagnosis/message"),
        advice: text(json, "/status/diagnosis/advice"),
        last_heartbeat_time: word(json.pointer("/status/lastHeartbeatTime")),
        state_since: word(json.pointer("/status/stateSince")),
        health: word(condition(json, "Healthy", "reason")),
        version: text(json, "/status/agent/version"),
        hostname: text(json, "/status/agent/hostname"),
        address: text(json, "/status/agent/address"),
        token_issued_time: word(json.pointer("/status/token/issuedTime")),
        restarts: json.pointer("/status/remediation/restarts").and_then(Value::as_i64).unwrap_or(0),
        created_time: object.creation_timestamp().map(|time| time.0),
        checks: checks(json),
        paused: paused(object, now),
        written: true,
        namespace,
        name,
    }
}

fn text(json: &Value, pointer: &str) -> Option<String> {
    word(json.pointer(pointer))
}

/// A value that has a type of its own; one that this version does not know counts as not said.
fn word<T: std::str::FromStr>(value: Option<&Value>) -> Option<T> {
    value?.as_str()?.parse().ok()
}

fn condition<'a>(json: &'a Value, type_: &str, field: &str) -> Option<&'a Value> {
    let conditions = json.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == type_)?.get(field)
}

fn checks(json: &Value) -> Vec<CheckView> {
    let checks = json.pointer("/status/checks").and_then(Value::as_array);
    let view = |check: &Value| {
        let status = word(check.get("status")).unwrap_or(CheckOutcome::Unknown);
        Some(CheckView { type_: text(check, "/type")?, status })
    };
    checks.into_iter().flatten().filter_map(view).collect()
}

/// Paused by the spec, or by the annotation on the object; the one on the Namespace is not looked at from here.
fn paused(object: &DynamicObject, now: Timestamp) -> bool {
    let spec = object.data.pointer("/spec/paused").filter(|paused| !paused.is_null());
    let by_spec = spec.is_some_and(|paused| word(paused.get("until")).is_none_or(|until: Timestamp| now < until));
    let until = object.annotations().get(PAUSED_UNTIL).and_then(|until| until.parse::<Timestamp>().ok());
    by_spec || until.is_some_and(|until| now < until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Cause;
    use serde_json::json;

    fn object(json: Value) -> DynamicObject {
        serde_json::from_value(json).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_status_is_shown_as_it_was_written() {
        let object = object(json!({
            "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector",
            "metadata": {"namespace": "gw", "name": "edge-1", "creationTimestamp": "2026-11-01T00:00:00Z"},
            "spec": {"site": "lyon"},
            "status": {
                "state": "Offline", "connectorID": "legacy-7", "lastHeartbeatTime": "2026-11-22T10:00:00.123456Z",
                "diagnosis": {"cause": "HeartbeatExpired", "message": "silent", "advice": "look"},
                "agent": {"version": "1.4.2", "address": "192.0.2.7"},
                "token": {"issuedTime": "2026-11-02T00:00:00Z"},
                "remediation": {"restarts": 3},
                "checks": [{"type": "NATRules", "status": "Fail"}, {"type": "New", "status": "Odd"}],
                "conditions": [
                    {"type": "Ready", "status": "False", "reason": "HeartbeatExpired"},
                    {"type": "Healthy", "status": "Unknown", "reason": "Stale"},
                ],
            },
        }));
        let view = view(&object, at("2026-11-22T12:00:00Z"));
        assert_eq!((view.connector_id.as_str(), view.site.as_str()), ("legacy-7", "lyon"));
        assert_eq!((view.state, view.ready), (ConnectorState::Offline, Truth::False));
        assert_eq!(view.cause, Some(Cause::HeartbeatExpired));
        assert_eq!(view.last_heartbeat_time, Some(at("2026-11-22T10:00:00.123456Z")));
        assert_eq!((view.health.as_deref(), view.restarts), (Some("Stale"), 3));
        assert_eq!(view.checks[0].status, CheckOutcome::Fail);
        assert_eq!(view.checks[1].status, CheckOutcome::Unknown);
        assert!(view.written && !view.paused);
    }

    #[test]
    fn an_object_that_was_never_reconciled_is_pending() {
        let object = object(json!({
            "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector",
            "metadata": {"namespace": "gw", "name": "edge-1"}, "spec": {},
        }));
        let view = view(&object, at("2026-11-22T12:00:00Z"));
        assert_eq!((view.state, view.ready), (ConnectorState::Pending, Truth::Unknown));
        assert_eq!((view.connector_id.as_str(), view.last_heartbeat_time), ("gw/edge-1", None));
    }

    #[test]
    fn a_pause_ends_at_its_time() {
        let with = |spec: Value, annotation: &str| {
            object(json!({
                "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector",
                "metadata": {"name": "e", "annotations": {PAUSED_UNTIL: annotation}}, "spec": spec,
            }))
        };
        let now = at("2026-11-22T12:00:00Z");
        assert!(paused(&with(json!({"paused": {"by": "me", "reason": "work"}}), ""), now));
        assert!(!paused(&with(json!({"paused": {"until": "2026-11-22T12:00:00Z"}}), ""), now));
        assert!(paused(&with(json!({}), "2026-11-22T12:00:01Z"), now));
        assert!(!paused(&with(json!({}), "2026-11-22T11:00:00Z"), now));
    }
}
