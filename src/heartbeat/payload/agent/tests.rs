use serde_json::{Value, json};

use super::super::{RestartOutcome, parse};
use super::*;

fn body(fields: &Value) -> String {
    let mut body = json!({"connector_id": "edge/berlin", "token": "t"});
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

fn read_agent(fields: &Value) -> AgentBeat {
    *parse(body(fields).as_bytes(), None).unwrap_or_else(|bad| panic!("{bad:?}")).agent.unwrap()
}

fn refused(fields: &Value) -> BadBeat {
    parse(body(fields).as_bytes(), None).map(|beat| format!("{beat:?}")).expect_err("it is wrong")
}

/// Everything that an agent can say about one backend.
fn backend() -> Value {
    json!({
        "name": "orders", "unit": "compose:orders:backend", "state": "Exited", "since_seconds": 41, "exit_code": 137,
        "oom_killed": true, "restarts": 3, "recent_restarts": 2, "stopped_on_purpose": false, "policy": "unless-stopped", "health": "unhealthy",
        "listens": ["127.0.0.1:8080"], "published": ["0.0.0.0:8081->8080/tcp"],
        "probe": {"ok": false, "error_class": "ConnectionRefused", "phase": "connect", "status": 503, "milliseconds": 2},
        "environment": {"MANAGEMENT_SERVER_PORT": "8081", "SPRING_DATASOURCE_PASSWORD": null},
        "words": "java.lang.OutOfMemoryError", "message": "docker started it 3 times",
    })
}

#[test]
fn a_plain_heartbeat_has_no_agent_block() {
    assert!(
        parse(body(&json!({"version": "1", "checks": [], "sequence": 7})).as_bytes(), None).unwrap().agent.is_none()
    );
    assert!(!parse(body(&json!({})).as_bytes(), None).unwrap().is_of_agent());
}

#[test]
fn everything_that_only_an_agent_says_is_read() {
    let said = read_agent(&json!({
        "agent": true, "config_generation": u64::MAX, "unknown": [1],
        "restarts": [
            {"target": "ztna-connector.service", "id": "a1", "result": "Succeeded"},
            {"target": "compose:orders:backend", "id": "a2", "result": "Failed", "message": "exit 1", "newer": {}},
        ],
        "paused": {"by": "ops", "reason": "kernel update", "seconds": 7200},
        "stopping": {"reason": "Shutdown"},
        "gaps": [{"kind": "Unreachable", "ended_seconds_ago": 3, "lasted_seconds": 412, "error_class": "ConnectTimeout",
                  "phase": "connect", "attempts": 20, "failing": ["Process", "NATRules"]}],
        "backends": [backend()],
    }));
    assert!(said.is_agent);
    assert_eq!(said.config_generation, Some(u64::MAX));
    let [first, second] = &said.restarts[..] else { panic!("{said:?}") };
    assert_eq!(
        (first.target.as_deref(), &*first.id, first.result),
        (Some("ztna-connector.service"), "a1", RestartOutcome::Succeeded)
    );
    assert_eq!((second.target.as_deref(), second.message.as_deref()), (Some("compose:orders:backend"), Some("exit 1")));
    let pause = AgentPause { by: Some("ops".into()), reason: Some("kernel update".into()), seconds: Some(7200) };
    assert_eq!(said.paused, Some(pause));
    assert_eq!(said.stopping, Some(StopReason::Shutdown));
    let gap = &said.gaps.as_deref().unwrap()[0];
    assert_eq!(
        (gap.kind, gap.ended_seconds_ago, gap.lasted_seconds, gap.attempts),
        (GapKind::Unreachable, 3, 412, Some(20))
    );
    assert_eq!((gap.error_class.as_deref(), gap.phase.as_deref()), (Some("ConnectTimeout"), Some("connect")));
    assert_eq!(gap.failing, ["Process", "NATRules"]);
    assert_eq!(said.backends.unwrap(), [serde_json::from_value::<BackendReport>(backend()).unwrap()]);
}

#[test]
fn the_agent_writes_what_the_operator_reads() {
    let report: BackendReport = serde_json::from_value(backend()).unwrap();
    let gap = AgentGap {
        kind: GapKind::HostDown,
        ended_seconds_ago: 0,
        lasted_seconds: 1,
        error_class: None,
        phase: None,
        attempts: None,
        failing: Vec::new(),
    };
    let pause = AgentPause { by: None, reason: None, seconds: None };
    let said = read_agent(&json!({"backends": [report], "gaps": [gap], "paused": pause}));
    assert_eq!((said.backends.unwrap(), said.gaps.unwrap(), said.paused.unwrap()), (vec![report], vec![gap], pause));
}

#[test]
fn null_and_absent_are_the_same_and_an_empty_list_is_not() {
    let nulls: serde_json::Map<_, _> = FIELDS.iter().map(|field| (field.name.to_owned(), Value::Null)).collect();
    assert_eq!(read_agent(&Value::Object(nulls)), AgentBeat::default());
    let said = read_agent(&json!({"gaps": [], "backends": []}));
    assert_eq!((said.gaps.as_deref(), said.backends.as_deref()), (Some(&[][..]), Some(&[][..])));
    let said =
        read_agent(&json!({"backends": [{"name": "a", "state": "Running", "probe": null, "environment": null}]}));
    assert_eq!(said.backends.unwrap()[0].probe, None);
}

#[test]
fn words_of_a_newer_agent_are_unknown_and_never_an_error() {
    let said = read_agent(&json!({
        "agent": true, "stopping": {"reason": "Upgrade"},
        "gaps": [{"kind": "Asleep", "ended_seconds_ago": 0, "lasted_seconds": 1}],
        "backends": [{"name": "a", "state": "Hibernating"}],
    }));
    assert_eq!(said.stopping, Some(StopReason::Unknown));
    assert_eq!(said.gaps.unwrap()[0].kind, GapKind::Unknown);
    assert_eq!(said.backends.unwrap()[0].state, TargetState::Unknown);
}

#[test]
fn texts_are_cut_and_cleaned() {
    let said = read_agent(&json!({
        "paused": {"by": "a\nb", "reason": "é".repeat(300)},
        "backends": [{"name": "a", "state": "Exited", "words": "x".repeat(600), "environment": {"A\u{202e}B": "c\td"}}],
    }));
    let pause = said.paused.unwrap();
    assert_eq!((pause.by.as_deref(), pause.reason), (Some("a b"), Some("é".repeat(256))));
    let report = &said.backends.unwrap()[0];
    assert_eq!(report.words.as_deref().map(str::len), Some(512));
    assert_eq!(report.environment.get("A B").unwrap().as_deref(), Some("c d"));
}

#[test]
fn a_wrong_field_is_named_with_what_it_must_be() {
    let backend = |member: &str, value: Value| {
        let mut backend = json!({"name": "orders", "state": "Running"});
        backend[member] = value;
        json!({"backends": [backend]})
    };
    let gap = json!({"kind": "HostDown", "ended_seconds_ago": 0, "lasted_seconds": 1});
    let many = |count: usize, item: &Value| vec![item.clone(); count];
    let variables: serde_json::Map<_, _> = (0..40).map(|i| (format!("V{i}"), Value::Null)).collect();
    for (fields, named) in [
        (json!({"agent": "yes"}), "\"agent\" must be true or false, not a string"),
        (json!({"config_generation": -1}), "\"config_generation\" must be a whole number"),
        (json!({"restarts": {}}), "\"restarts\" must be a list, not an object"),
        (json!({"restarts": [null]}), "\"restarts[0]\" must be an object"),
        (json!({"restarts": [{"id": "a", "result": "ok"}]}), "\"restarts[0].result\" must be Succeeded or Failed"),
        (
            json!({"restarts": [{"target": "-x", "id": "a", "result": "Failed"}]}),
            "\"restarts[0].target\" must be 1 to 255",
        ),
        (
            json!({"restarts": many(9, &json!({"id": "a", "result": "Failed"}))}),
            "\"restarts\" must be at most 8 items, not 9",
        ),
        (json!({"paused": true}), "\"paused\" must be an object, not a boolean"),
        (json!({"paused": {"seconds": 1.5}}), "\"paused.seconds\" must be a whole number"),
        (json!({"stopping": {}}), "\"stopping.reason\" is missing"),
        (json!({"stopping": "Stop"}), "\"stopping\" must be an object, not a string"),
        (json!({"gaps": [[1, {}]]}), "\"gaps[0]\" must be an object, not a list"),
        (json!({"gaps": many(9, &gap)}), "\"gaps\" must be at most 8 items, not 9"),
        (json!({"gaps": [{"kind": "HostDown", "lasted_seconds": 1}]}), "\"gaps[0].ended_seconds_ago\" is missing"),
        (
            json!({"gaps": [{"kind": "a b", "ended_seconds_ago": 0, "lasted_seconds": 1}]}),
            "\"gaps[0].kind\" must be a word",
        ),
        (json!({"backends": many(9, &json!({}))}), "\"backends\" must be at most 8 items, not 9"),
        (json!({"backends": [{"state": "Running"}]}), "\"backends[0].name\" is missing"),
        (json!({"backends": [{"name": "a"}]}), "\"backends[0].state\" is missing"),
        (backend("name", json!("Orders")), "\"backends[0].name\" must be 1 to 63 characters of a-z"),
        (backend("unit", json!("a b")), "\"backends[0].unit\" must be 1 to 255"),
        (backend("exit_code", json!(-1)), "\"backends[0].exit_code\" must be a whole number"),
        (backend("oom_killed", json!(0)), "\"backends[0].oom_killed\" must be true or false"),
        (backend("listens", json!("8081")), "\"backends[0].listens\" must be a list, not a string"),
        (backend("listens", json!([8081])), "\"backends[0].listens[0]\" must be a string, not a number"),
        (backend("published", json!(vec!["a"; 17])), "\"backends[0].published\" must be at most 16 items, not 17"),
        (backend("probe", json!({})), "\"backends[0].probe.ok\" is missing"),
        (backend("probe", json!([])), "\"backends[0].probe\" must be an object, not a list"),
        (backend("environment", json!([])), "\"backends[0].environment\" must be an object, not a list"),
        (backend("environment", json!({"A": 1})), "\"backends[0].environment\" must be a string, not a number"),
        (backend("environment", Value::Object(variables)), "\"backends[0].environment\" must be at most 32 variables"),
        (
            backend(
                "environment",
                json!({"A": "x".repeat(256), "B": "y".repeat(256), "C": "z".repeat(256), "D": "é".repeat(200)}),
            ),
            "\"backends[0]\" must be at most 1024 bytes of text",
        ),
    ] {
        let bad = refused(&fields);
        assert!(bad.message.contains(named), "{fields}: {bad:?}");
    }
}

#[test]
fn duplicates_are_refused_here_too() {
    let twice = json!({"backends": [{"name": "a", "state": "Running"}, {"name": "a", "state": "Exited"}]});
    assert!(refused(&twice).message.contains("backends[1].name"));
    for fields in [
        r#""agent":true,"agent":true"#,
        r#""backends":[],"backends":[]"#,
        r#""backends":[{"name":"a","name":"a","state":"Running"}]"#,
        r#""backends":[{"name":"a","state":"Running","x":1,"x":2}]"#,
        r#""backends":[{"name":"a","state":"Running","environment":{"A":null,"A":null}}]"#,
    ] {
        let body = format!(r#"{{"connector_id":"a","token":"t",{fields}}}"#);
        assert_eq!(parse(body.as_bytes(), None).expect_err(fields).code, "duplicate_field", "{fields}");
    }
}

#[test]
fn an_agent_speaks_for_the_connector_only_when_it_says_so() {
    let by = |fields: Value| parse(body(&fields).as_bytes(), None).unwrap().is_of_agent();
    assert!(by(json!({"agent": true})));
    assert!(!by(json!({"agent": false})) && !by(json!({"gaps": []})));
    let both =
        body(&json!({"restart": {"id": "a", "result": "Failed"}, "restarts": [{"id": "b", "result": "Failed"}]}));
    let both = parse(both.as_bytes(), None).unwrap();
    assert_eq!(both.restart_results().map(|result| &*result.id).collect::<Vec<_>>(), ["a", "b"]);
}

/// Agents write the second file in the tests of their heartbeats. An operator of before them skips the fields that it does not
/// know, and reads the others by the same rules.
#[test]
fn the_heartbeats_of_both_generations_are_read() {
    let founding = parse(include_bytes!("../../../api/golden/beat-founding.json"), None).unwrap();
    assert_eq!((&*founding.connector_id, founding.agent, founding.checks), ("gateways/edge-1", None, None));

    let text = include_str!("../../../api/golden/beat-agent.json");
    let beat = parse(text.as_bytes(), Some("t")).unwrap();
    let said: Value = serde_json::from_str(text).unwrap();
    let agent = beat.agent.as_deref().unwrap();
    assert!(beat.is_of_agent());
    assert_eq!(serde_json::to_value(&agent.backends).unwrap(), said["backends"]);
    assert_eq!(serde_json::to_value(&agent.gaps).unwrap(), said["gaps"]);
    assert_eq!(serde_json::to_value(&agent.paused).unwrap(), said["paused"]);
    assert!(agent.stopped_on_purpose);
    assert_eq!((agent.stopping, agent.config_generation), (Some(crate::api::StopReason::Uninstall), Some(7)));
    let ids: Vec<&str> = beat.restart_results().map(|result| &*result.id).collect();
    assert_eq!(ids, ["a1", "a2"]);

    let mut before = said.clone();
    for field in
        ["agent", "config_generation", "restarts", "paused", "stopping", "stopped_on_purpose", "gaps", "backends"]
    {
        before.as_object_mut().unwrap().remove(field).expect(field);
    }
    let before = before.to_string();
    let old = parse(before.as_bytes(), Some("t")).unwrap();
    assert!(old.agent.is_none());
    assert_eq!((&old.checks, &old.hostname, &old.boot_id), (&beat.checks, &beat.hostname, &beat.boot_id));
    assert_eq!(old.restart_results().count(), 1, "the outcome of one restart is where every operator reads it");
    assert!(text.len() <= crate::api::MAX_BEAT);
}
