//! The state in an answer is the state that the status has.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::tests::{DAY, connector, coordinator, tokens};
use super::*;

const SKEW_IS_CRITICAL: &str = r#"{ "checks": [{ "type": "ClockSkew", "severity": "Critical" }] }"#;

fn failing() -> Value {
    json!([{ "type": "Process", "status": "Fail" }])
}

fn passing() -> Value {
    json!([{ "type": "Process", "status": "Pass" }])
}

/// A registry that knows `edge/paris`, and its answers to heartbeats.
fn answers(spec: &str, status: Value) -> impl Fn(Value) -> ConnectorState {
    let coordinator = coordinator(Role::Leader);
    coordinator.upsert(&connector("paris", DAY, 1, serde_json::from_str(spec).unwrap(), status));
    move |more| {
        let mut heartbeat = json!({ "connector_id": "edge/paris", "token": "right" });
        heartbeat.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        match coordinator.say(heartbeat) {
            Reply::Accepted { state, .. } => state,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_skewed_clock_counts_in_the_answer_as_much_as_the_spec_says() {
    let hour_ago = json!({ "sent_at": Timestamp::now() - SignedDuration::from_hours(1) });
    let answer = answers(SKEW_IS_CRITICAL, tokens(&[("right", 1, None)]));
    assert_eq!(answer(hour_ago.clone()), ConnectorState::Degraded);
    assert_eq!(answer(json!({})), ConnectorState::Degraded, "the skew that was measured last stands");
    assert_eq!(answer(json!({ "sent_at": Timestamp::now() })), ConnectorState::Online);
    let answer = answers("{}", tokens(&[("right", 1, None)]));
    assert_eq!(answer(hour_ago), ConnectorState::Online, "by default it is a warning");
}

#[test]
fn a_heartbeat_that_was_overtaken_is_answered_by_what_the_later_one_reported() {
    let answer = answers("{}", tokens(&[("right", 1, None)]));
    let beat = |sequence, checks| answer(json!({ "boot_id": "b", "sequence": sequence, "checks": checks }));
    assert_eq!(beat(2, failing()), ConnectorState::Degraded);
    assert_eq!(beat(1, passing()), ConnectorState::Degraded);
    assert_eq!(beat(3, passing()), ConnectorState::Online);
    assert_eq!(beat(2, failing()), ConnectorState::Online);
}

#[test]
fn a_second_host_with_the_same_token_is_answered_by_what_the_first_reported() {
    let answer = answers("{}", tokens(&[("right", 1, None)]));
    let beat = |boot, checks| answer(json!({ "boot_id": boot, "checks": checks }));
    for boot in ["a", "b", "a"] {
        assert_eq!(beat(boot, passing()), ConnectorState::Online);
    }
    assert_eq!(beat("b", failing()), ConnectorState::Online, "they beat in turn: its report is not taken");
}

#[test]
fn a_dry_run_is_answered_by_the_state_that_it_leaves_as_it_is() {
    let answer = answers("{}", tokens(&[("right", 1, None)]));
    let dry_run = || answer(json!({ "dry_run": true, "checks": failing() }));
    assert_eq!(dry_run(), ConnectorState::Pending);
    assert_eq!(answer(json!({ "checks": passing() })), ConnectorState::Online);
    assert_eq!(dry_run(), ConnectorState::Online);
    assert_eq!(answer(json!({ "checks": failing() })), ConnectorState::Degraded);
    assert_eq!(answer(json!({ "dry_run": true })), ConnectorState::Degraded);
}

#[test]
fn a_counter_of_deliveries_that_begins_anew_says_nothing_by_the_numbers_of_before() {
    let coordinator = coordinator(Role::Leader);
    let used = |version, token: Value| {
        let status = json!({ "token": token });
        coordinator.upsert(&connector("paris", DAY, version, json!({}), status));
        let (registry, entry) = (&coordinator.registry, coordinator.entry("paris"));
        let now = registry.clock().now();
        entry.snapshot(registry.listening.listening_to(&entry, now), now).used_generation
    };
    let hash = |generation: i64, end: Value| json!({ "generation": generation, "sha256": Digest::of(&generation.to_string()).to_hex(), "notAfter": end });
    assert_eq!(used(1, json!({ "generation": 5, "hashes": [hash(5, Value::Null)] })), 5);
    assert_eq!(used(2, json!({ "generation": 1, "hashes": [hash(1, Value::Null)] })), 1, "the status was lost");
    // Pending: number 2 is not delivered. Then it is, and number 1 has its grace.
    let pending = json!({ "generation": 2, "rotation": "Pending", "heldGeneration": 1, "hashes": [hash(2, Value::Null), hash(1, Value::Null)] });
    assert_eq!(used(3, pending), 1);
    let graced = json!({ "generation": 2, "rotation": "Pending", "graceUntil": DAY, "hashes": [hash(2, Value::Null), hash(1, json!(DAY))] });
    assert_eq!(used(4, graced), 1);
    // Number 2 was never used, and number 3 is not delivered.
    let both = json!({ "generation": 3, "rotation": "Pending", "heldGeneration": 2, "graceUntil": DAY, "hashes": [hash(3, Value::Null), hash(2, Value::Null), hash(1, json!(DAY))] });
    assert_eq!(used(5, both), 1);
}

#[test]
fn before_the_first_heartbeat_the_checks_that_a_predecessor_wrote_count() {
    let mut status = tokens(&[("right", 1, None)]);
    let stored = json!({ "state": "Degraded", "lastHeartbeatTime": Timestamp::now(),
        "checks": [{ "type": "Process", "status": "Fail", "time": DAY }] });
    status.as_object_mut().unwrap().extend(stored.as_object().unwrap().clone());
    let answer = answers("{}", status.clone());
    assert_eq!(answer(json!({ "dry_run": true })), ConnectorState::Degraded);
    assert_eq!(answer(json!({})), ConnectorState::Degraded, "it says nothing about checks: what was stored stands");
    assert_eq!(answer(json!({ "checks": [] })), ConnectorState::Online, "it has no checks");
    status["checks"] = json!([]);
    status["agent"] = json!({ "clockSkewSeconds": 3600 });
    assert_eq!(answers(SKEW_IS_CRITICAL, status)(json!({ "dry_run": true })), ConnectorState::Degraded);
}

#[test]
fn a_report_that_changes_too_often_wakes_nothing_before_its_time_and_is_not_lost() {
    let mut coordinator = coordinator(Role::Leader);
    coordinator.upsert(&connector("paris", DAY, 1, json!({}), tokens(&[("right", 1, None)])));
    let beat = |coordinator: &super::tests::Town, host: u32| {
        let reply = coordinator
            .say(json!({ "connector_id": "edge/paris", "token": "right", "hostname": format!("host-{host}") }));
        assert!(matches!(reply, Reply::Accepted { .. }), "{reply:?}");
    };
    (0..8).for_each(|host| beat(&coordinator, host));
    let facts = coordinator.noticed().iter().filter(|change| **change == Change::Facts).count();
    assert_eq!(facts, 8);
    (8..18).for_each(|host| beat(&coordinator, host));
    assert_eq!(coordinator.noticed(), [Change::Deferred; 10]);
    let (entry, now) = (coordinator.entry("paris"), coordinator.registry.clock().now());
    let at = now + Duration::from_secs(40);
    let listening = coordinator.registry.listening.listening_to(&entry, at);
    let mut noticed = Vec::new();
    entry.evaluate(listening, at, |change| noticed.push(change));
    assert!(noticed.contains(&Change::Facts), "{noticed:?}");
    assert_eq!(entry.snapshot(listening, at).agent.unwrap().hostname.as_deref(), Some("host-17"));
}
