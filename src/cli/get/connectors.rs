//! Connectors, as they are listed.

use std::borrow::Cow;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use super::kind::ListedKind;
use super::status::{condition, paused, restarts, text, word};
use super::table::{NOTHING, exact, rough, said};
use crate::api::{CheckOutcome, ConnectorState, Truth};
use crate::view::{CheckView, ConnectorView, RemedyView};

impl ListedKind for ConnectorView {
    const ONE: &'static str = "connector";
    const MANY: &'static str = "connectors";
    const KIND: &'static str = "Connector";
    const PLURAL: &'static str = "connectors";
    const SERVED_AT: Option<&'static str> = Some("/api/v1/connectors");
    const COLUMNS: &'static [&'static str] = &["STATE", "READY", "CAUSE", "LAST CONTACT", "VERSION", "RESTARTS", "AGE"];
    const WIDE: &'static [&'static str] = &["HEALTH", "SITE", "ADDRESS", "TOKEN AGE"];

    fn of(object: &DynamicObject, now: Timestamp) -> Self {
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
            agent_heartbeat_time: word(json.pointer("/status/agent/lastSeenTime")),
            is_agent_silent: None,
            state_since: word(json.pointer("/status/stateSince")),
            health: word(condition(json, "Healthy", "reason")),
            version: text(json, "/status/agent/version"),
            hostname: text(json, "/status/agent/hostname"),
            address: text(json, "/status/agent/address"),
            token_issued_time: word(json.pointer("/status/token/issuedTime")),
            rotation_pending_since: None,
            token_grace_until: None,
            restarts: restarts(json),
            remedy: RemedyView::default(),
            created_time: object.creation_timestamp().map(|time| time.0),
            checks: checks(json),
            paused: paused(object, now),
            written: true,
            namespace,
            name,
        }
    }

    fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    fn is_written(&self) -> bool {
        self.written
    }

    fn without_contact(&self) -> Self {
        Self { last_heartbeat_time: None, written: true, ..self.clone() }
    }

    fn cells(&self, now: Timestamp) -> Vec<Cow<'_, str>> {
        vec![
            self.state.as_str().into(),
            self.ready.as_str().into(),
            self.cause.map_or(NOTHING, |cause| cause.as_str()).into(),
            exact(self.last_heartbeat_time, now),
            said(self.version.as_deref()),
            self.restarts.to_string().into(),
            rough(self.created_time, now),
        ]
    }

    fn wide_cells(&self, now: Timestamp) -> Vec<Cow<'_, str>> {
        vec![
            said(self.health.as_deref()),
            said(Some(&self.site)),
            said(self.address.as_deref()),
            rough(self.token_issued_time, now),
        ]
    }
}

fn checks(json: &Value) -> Vec<CheckView> {
    let checks = json.pointer("/status/checks").and_then(Value::as_array);
    let view = |check: &Value| {
        let status = word(check.get("status")).unwrap_or(CheckOutcome::Unknown);
        Some(CheckView { type_: text(check, "/type")?, status })
    };
    checks.into_iter().flatten().filter_map(view).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::super::table::render;
    use super::*;
    use crate::api::Cause;

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
        let view = ConnectorView::of(&object, at("2026-11-22T12:00:00Z"));
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
        let view = ConnectorView::of(&object, at("2026-11-22T12:00:00Z"));
        assert_eq!((view.state, view.ready), (ConnectorState::Pending, Truth::Unknown));
        assert_eq!((view.connector_id.as_str(), view.last_heartbeat_time), ("gw/edge-1", None));
    }

    pub(crate) fn edge_1() -> ConnectorView {
        let time = |text: &str| Some(text.parse().unwrap());
        ConnectorView {
            namespace: "gateways".to_owned(),
            name: "edge-1".to_owned(),
            connector_id: "gateways/edge-1".to_owned(),
            site: String::new(),
            state: ConnectorState::Online,
            ready: Truth::True,
            cause: None,
            message: None,
            advice: None,
            last_heartbeat_time: time("2026-11-22T11:59:57Z"),
            agent_heartbeat_time: None,
            is_agent_silent: None,
            state_since: time("2026-11-22T10:00:00Z"),
            health: Some("ChecksPassed".to_owned()),
            version: Some("1.4.2".to_owned()),
            hostname: Some("gw-1".to_owned()),
            address: Some("192.0.2.7".to_owned()),
            token_issued_time: time("2026-11-20T12:00:00Z"),
            rotation_pending_since: None,
            token_grace_until: None,
            restarts: 0,
            remedy: RemedyView::default(),
            created_time: time("2026-11-12T12:00:00Z"),
            checks: Vec::new(),
            paused: false,
            written: true,
        }
    }

    fn silent() -> ConnectorView {
        ConnectorView {
            name: "edge-longer-name".to_owned(),
            site: "lyon".to_owned(),
            state: ConnectorState::Offline,
            ready: Truth::False,
            cause: Some(Cause::HeartbeatExpired),
            last_heartbeat_time: Some("2026-11-22T09:59:50Z".parse().unwrap()),
            health: Some("Stale".to_owned()),
            version: None,
            address: None,
            token_issued_time: None,
            rotation_pending_since: None,
            token_grace_until: None,
            restarts: 2,
            remedy: RemedyView::default(),
            ..edge_1()
        }
    }

    fn noon() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_table_reads_like_kubectls() {
        let expected = "\
NAME               STATE     READY   CAUSE              LAST CONTACT   VERSION   RESTARTS   AGE
edge-1             Online    True    <none>             3s             1.4.2     0          10d
edge-longer-name   Offline   False   HeartbeatExpired   2h             <none>    2          10d
";
        assert_eq!(render(&[edge_1(), silent()], false, false, noon()), expected);
    }

    #[test]
    fn wide_and_all_namespaces_add_columns_at_the_ends() {
        let mut never = edge_1();
        never.last_heartbeat_time = None;
        let expected = "\
NAMESPACE   NAME               STATE     READY   CAUSE              LAST CONTACT   VERSION   RESTARTS   AGE   HEALTH         SITE     ADDRESS     TOKEN AGE
gateways    edge-1             Online    True    <none>             <never>        1.4.2     0          10d   ChecksPassed   <none>   192.0.2.7   2d
gateways    edge-longer-name   Offline   False   HeartbeatExpired   2h             <none>    2          10d   Stale          lyon     <none>      <unknown>
";
        assert_eq!(render(&[never, silent()], true, true, noon()), expected);
    }

    #[test]
    fn what_an_agent_says_cannot_move_the_cursor() {
        let mut view = edge_1();
        view.version = Some("1\x1b[2J\n\u{202e}2".to_owned());
        let text = render(&[view], false, false, noon());
        assert!(text.contains("1_[2J__2"), "{text}");
        assert_eq!(text.lines().count(), 2);
    }
}
