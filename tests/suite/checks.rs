//! The agent's report about itself: stored, judged, and explained.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::beats::said;
use crate::support::world::SOON;
use crate::support::{World, never, seconds, text, time};

fn check(type_: &str, status: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "message": message})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_critical_check_is_degraded_with_its_cause_and_an_advice() {
    let world = World::new("degraded").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", json!({})).await;
    let report = |checks: Value| edge.beat_with(operator.beats(), &json!({"checks": checks}));
    report(json!([check("Process", "Pass", ""), check("NATRules", "Pass", "")]));
    let seen = world.state(SOON, "edge-1", "Online").await;
    assert_eq!(said(&seen, "Healthy"), "True/ChecksPassed");
    for (type_, cause) in [
        ("NATRules", "NATRulesMissing"),
        ("IPForwarding", "IPForwardingOff"),
        ("OverlayRoute", "RouteMissing"),
        ("WireGuardHandshake", "HandshakeStale"),
        ("WireGuardInterface", "WireGuardDown"),
        ("Process", "ProcessDown"),
    ] {
        report(json!([check(type_, "Fail", "as the test says")]));
        let seen = world
            .sees(SOON, "edge-1", cause, |seen| {
                text(seen, "/status/state") == "Degraded" && text(seen, "/status/diagnosis/cause") == cause
            })
            .await;
        assert_eq!(said(&seen, "Healthy"), format!("False/{cause}"));
        assert_eq!(said(&seen, "Ready"), format!("False/{cause}"));
        assert_eq!(said(&seen, "Online"), "True/HeartbeatReceived", "it is heard");
        assert!(text(&seen, "/status/diagnosis/message").contains("as the test says"), "{seen:#}");
        assert!(text(&seen, "/status/diagnosis/advice").len() > 20, "{seen:#}");
        let label = format!("check=\"{type_}\"");
        assert_eq!(operator.scrape().sum("vigie_connector_check_status", &[&label, "status=\"Fail\""]), 1.0);
    }
    let event = world.event(SOON, "edge-1", "Degraded").await;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    assert_eq!(world.events("edge-1", "Degraded").await.len(), 1, "one event for the state, not one for each cause");
    report(json!([check("Process", "Pass", "")]));
    let seen = world.state(SOON, "edge-1", "Online").await;
    assert_eq!(said(&seen, "Ready"), "True/Ready");
    assert_eq!(seen.pointer("/status/diagnosis"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_warns_stays_online_and_says_so() {
    let world = World::new("warns").await;
    let operator = world.operator(&[]).await;
    let spec = json!({"checks": [{"type": "IPForwarding", "severity": "Warning"}, {"type": "NATRules", "severity": "Ignore"}]});
    let edge = world.connector("edge-1", spec).await;
    let checks = json!([
        check("IPForwarding", "Fail", ""),
        check("NATRules", "Fail", ""),
        check("ControlPlane", "Fail", ""),
        check("FromTheFuture", "Pass", "new"),
    ]);
    edge.beat_with(operator.beats(), &json!({"checks": checks}));
    let seen = world.sees(SOON, "edge-1", "warnings", |seen| text(seen, "/status/state") == "Online").await;
    assert_eq!(said(&seen, "Healthy"), "True/Warnings");
    assert_eq!(said(&seen, "Ready"), "True/Ready");
    let kept: Vec<_> = seen["status"]["checks"].as_array().unwrap().iter().map(|check| text(check, "/type")).collect();
    assert!(kept.contains(&"FromTheFuture"), "types of a newer agent are kept: {kept:?}");
    assert_eq!(kept.len(), 4);
    let told = text(crate::beats::condition(&seen, "Healthy"), "/message");
    assert!(!told.contains("NATRules"), "an ignored check is not reported: {told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_check_of_a_newer_agents_is_critical_like_any_other() {
    let world = World::new("unknowncheck").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", json!({})).await;
    edge.beat_with(operator.beats(), &json!({"checks": [check("FromTheFuture", "Fail", "it is broken")]}));
    let seen = world.state(SOON, "edge-1", "Degraded").await;
    assert_eq!(said(&seen, "Healthy"), "False/CheckFailed");
    assert!(text(&seen, "/status/diagnosis/message").contains("FromTheFuture"), "{seen:#}");
    assert!(text(&seen, "/status/diagnosis/message").contains("it is broken"), "{seen:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_senders_clock_moves_nothing_but_a_warning() {
    let world = World::new("skew").await;
    let operator = world.operator(&[]).await;
    for (name, ahead) in [("ahead", 3600), ("behind", -3600)] {
        let edge = world.connector(name, json!({})).await;
        let its_clock = Timestamp::now() + jiff::SignedDuration::from_secs(ahead);
        let beaten = edge.beat_with(operator.beats(), &json!({"sent_at": its_clock}));
        let seen = world.state(SOON, name, "Online").await;
        let contact = time(&seen, "/status/lastHeartbeatTime");
        assert!(beaten.is_at(contact), "last contact is by our clock, never in the future: {contact}");
        assert_eq!(said(&seen, "Healthy"), "True/Warnings");
        assert_eq!(text(&seen, "/status/diagnosis/cause"), "ClockSkew");
        assert_eq!(said(&seen, "Ready"), "True/Ready");
        let skew = seen["status"]["agent"]["clockSkewSeconds"].as_i64().unwrap();
        assert!((skew - ahead).abs() <= 20, "{skew}: the hour, and the duration of a beat on a loaded machine");
        edge.beat_with(operator.beats(), &json!({"sent_at": Timestamp::now()}));
        world.sees(SOON, name, "no warning", |seen| seen.pointer("/status/diagnosis").is_none()).await;
    }
    never(seconds(1), "a clock makes an event", async || {
        let events = world.events("ahead", "Offline").await.len() + world.events("behind", "Offline").await.len();
        (events > 0).then(|| events.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remedy_that_nobody_wants_is_idle() {
    let world = World::new("remediation").await;
    let operator = world.operator(&[]).await;
    let spec = json!({"workloadRef": {"kind": "Deployment", "name": "gw"}, "remediation": {"mode": "Restart"}});
    let edge = world.connector("edge-1", spec).await;
    edge.beat(operator.beats());
    let seen = world.state(SOON, "edge-1", "Online").await;
    assert_eq!(said(&seen, "Remediating"), "False/Idle");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_connectors_with_one_id_the_oldest_has_it() {
    let world = World::new("sameid").await;
    let operator = world.operator(&[]).await;
    let first = world.connector("first", json!({"connectorID": format!("{}-shared", world.ns)})).await;
    // Creation times have whole seconds: wait one second, so that the next one is certainly younger.
    let made = Timestamp::now().as_second();
    crate::support::eventually(SOON, "the next second", async || {
        if Timestamp::now().as_second() > made + 1 { Ok(()) } else { Err("the same".to_owned()) }
    })
    .await;
    world.create("second", json!({"connectorID": first.id})).await;
    let refused = world.sees(SOON, "second", "refused", |seen| {
        seen.pointer("/status/conditions").is_some() && said(seen, "Accepted") == "False/DuplicateConnectorID"
    });
    let refused = refused.await;
    assert_eq!(said(&refused, "Stalled"), "True/DuplicateConnectorID");
    assert!(text(crate::beats::condition(&refused, "Accepted"), "/message").contains("first"), "{refused:#}");
    first.beat(operator.beats());
    world.state(SOON, "first", "Online").await;
    assert_ne!(text(&world.get("second").await, "/status/state"), "Online");
    world.connectors().delete("first", &Default::default()).await.unwrap();
    world.sees(SOON, "second", "the heir", |seen| said(seen, "Accepted") == "True/Accepted").await;
    // Before the successor has a token of its own, a wrong token and a token not yet created look the same: 503
    // (docs/design/api.md).
    let second = world.installed("second").await;
    assert_eq!(first.status(operator.beats()), 401);
    second.beat(operator.beats());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_a_beat_names_the_state_of_the_status() {
    let world = World::new("answers").await;
    let operator = world.operator(&[]).await;
    let spec = json!({"checks": [{"type": "ClockSkew", "severity": "Critical"}]});
    let edge = world.connector("edge-1", spec).await;
    let answered = |more: Value| {
        let answer = edge.beat_with(operator.beats(), &more).answer.unwrap();
        text(&serde_json::from_str(&answer.body).unwrap(), "/state").to_owned()
    };
    let hour_ago = || Timestamp::now() - jiff::SignedDuration::from_hours(1);
    for (more, state, healthy) in [
        (json!({"sent_at": hour_ago()}), "Degraded", "False/ClockSkew"),
        (
            json!({"sent_at": Timestamp::now(), "checks": [check("Process", "Fail", "")]}),
            "Degraded",
            "False/ProcessDown",
        ),
        (json!({"sent_at": Timestamp::now(), "checks": [check("Process", "Warn", "")]}), "Online", "True/Warnings"),
    ] {
        assert_eq!(answered(more), state, "{healthy}");
        world
            .sees(SOON, "edge-1", healthy, |seen| {
                seen.pointer("/status/conditions").is_some()
                    && said(seen, "Healthy") == healthy
                    && text(seen, "/status/state") == state
            })
            .await;
        // A dry run changes nothing, whatever it reports.
        assert_eq!(answered(json!({"dry_run": true, "sent_at": hour_ago()})), state, "{healthy}");
    }
}
