use proptest::prelude::*;
use serde_json::json;

use super::*;

/// The schema and its CEL rules in Rust; `tests/api/cases.yaml` tests the same against the API server.
fn admits(h: &HeartbeatSpec) -> bool {
    let (interval, late, offline) = (h.interval_seconds, h.late_after_seconds, h.offline_after_seconds);
    (5..=300).contains(&interval)
        && late.is_none_or(|late| (6..=86399).contains(&late) && interval < late)
        && offline.is_none_or(|offline| (30..=86400).contains(&offline) && offline >= 3 * interval)
        && late.is_none_or(|late| offline.map_or(late <= 43200, |offline| late < offline))
}

fn heartbeat(interval: i32, late: Option<i32>, offline: Option<i32>) -> HeartbeatSpec {
    HeartbeatSpec {
        interval_seconds: interval,
        late_after_seconds: late,
        offline_after_seconds: offline,
        ..HeartbeatSpec::default()
    }
}

fn limits(spec: &HeartbeatSpec) -> (i32, i32, i32) {
    let EffectiveHeartbeat { interval_seconds, late_after_seconds, offline_after_seconds } = spec.effective();
    (interval_seconds, late_after_seconds, offline_after_seconds)
}

fn connector(name: &str, spec: serde_json::Value) -> Connector {
    let mut connector = Connector::new(name, serde_json::from_value(spec).unwrap());
    connector.metadata.namespace = Some("edge".to_owned());
    connector
}

prop_compose! {
    /// Values on, beside and between every limit.
    fn seconds()(value in prop_oneof![0..700, 0..90_000, prop::sample::select(vec![5, 6, 300, 43200, 43201, 86400])])
        -> i32 { value }
}

proptest! {
    #[test]
    fn whatever_is_admitted_gives_ordered_limits(
        interval in 5..=300, late in prop::option::of(seconds()), offline in prop::option::of(seconds()),
    ) {
        let spec = heartbeat(interval, late, offline);
        prop_assume!(admits(&spec));
        let (interval, late, offline) = limits(&spec);
        prop_assert!(interval < late && late < offline && offline <= 86400, "{interval} {late} {offline}");
        prop_assert!(offline >= 3 * interval || spec.late_after_seconds.is_some());
    }

    #[test]
    fn limits_of_any_stored_spec_can_be_computed(interval: i32, late: Option<i32>, offline: Option<i32>) {
        heartbeat(interval, late, offline).effective();
    }
}

#[test]
fn the_limits_are_those_of_the_table() {
    for (interval, late, offline, expected) in [
        (30, None, None, (30, 90, 300)),
        (5, None, None, (5, 15, 300)),
        (300, None, None, (300, 900, 3000)),
        (30, None, Some(90), (30, 45, 90)),
        (5, None, Some(30), (5, 15, 30)),
        (30, Some(400), None, (30, 400, 800)),
        (30, Some(60), None, (30, 60, 300)),
        (30, Some(43200), None, (30, 43200, 86400)),
        (30, Some(31), Some(90), (30, 31, 90)),
    ] {
        let spec = heartbeat(interval, late, offline);
        assert!(admits(&spec), "{spec:?}");
        assert_eq!(limits(&spec), expected, "{spec:?}");
    }
}

#[test]
fn an_absent_block_means_what_an_empty_one_means() {
    let empty: ConnectorSpec = serde_json::from_value(json!({})).unwrap();
    let blocks: ConnectorSpec = serde_json::from_value(json!({"heartbeat": {}, "token": {}})).unwrap();
    assert_eq!(empty, ConnectorSpec::default());
    assert_eq!(blocks, ConnectorSpec::default());
    assert_eq!(empty.token().grace_seconds, 14_400);
}

#[test]
fn a_connector_is_known_by_its_namespace_and_name_unless_it_says_otherwise() {
    assert_eq!(connector("berlin", json!({})).effective_id(), "edge/berlin");
    assert_eq!(connector("berlin", json!({"connectorID": "gw:7"})).effective_id(), "gw:7");
}

#[test]
fn a_site_is_never_another_tenants() {
    assert_eq!(connector("berlin", json!({})).domain(), "edge/");
    assert_eq!(connector("berlin", json!({"site": "west"})).domain(), "edge/west");
}

#[test]
fn the_token_secret_is_named_after_the_connector_unless_it_says_otherwise() {
    assert_eq!(connector("berlin", json!({})).token_secret_name(), "berlin-connector-token");
    assert_eq!(connector("berlin", json!({"token": {"secretName": "mine"}})).token_secret_name(), "mine");
}

#[test]
fn only_a_lease_source_is_a_lease() {
    assert!(!connector("berlin", json!({})).is_lease());
    assert!(connector("berlin", json!({"heartbeat": {"source": "Lease", "leaseName": "l"}})).is_lease());
}

#[test]
fn a_reported_check_weighs_what_the_spec_says_else_what_its_type_says() {
    let spec: ConnectorSpec =
        serde_json::from_value(json!({"checks": [{"type": "NATRules", "severity": "Ignore"}]})).unwrap();
    assert_eq!(spec.severity_of("NATRules"), Severity::Ignore);
    assert_eq!(spec.severity_of("ClockSkew"), Severity::Warning);
    assert_eq!(spec.severity_of("Process"), Severity::Critical);
    assert_eq!(spec.severity_of("FromTheFuture"), Severity::Critical);
}

#[test]
fn a_spec_is_written_as_it_was_read() {
    let full = json!({
        "displayName": "Berlin", "connectorID": "gw:7", "site": "west",
        "heartbeat": {"intervalSeconds": 10, "lateAfterSeconds": 20, "offlineAfterSeconds": 40, "source": "HTTP"},
        "token": {"secretName": "mine", "rotationGeneration": 3, "graceSeconds": 60},
        "checks": [{"type": "OverlayRoute", "severity": "Warning", "interfaceName": "wg1",
                    "overlayCIDRs": ["100.64.0.0/10"]},
                   {"type": "WireGuardHandshake", "maxHandshakeAgeSeconds": 300}, {"type": "Process", "unit": "u"}],
        "workloadRef": {"kind": "DaemonSet", "name": "gateway"},
        "remediation": {"mode": "Restart", "unhealthyForSeconds": 1, "maxAttempts": 2, "backoffSeconds": 3,
                        "resetAfterSeconds": 4, "verifyWithinSeconds": 10, "strategy": "Pod"},
        "paused": {"by": "ops", "reason": "maintenance", "until": "2030-01-01T00:00:00Z"},
    });
    let spec: ConnectorSpec = serde_json::from_value(full.clone()).unwrap();
    assert_eq!(serde_json::to_value(spec).unwrap(), full);
}
