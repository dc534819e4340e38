//! The instance of a connector that a beat comes from: boot ids and sequence numbers.

use serde_json::json;

use crate::beats::said;
use crate::support::world::SOON;
use crate::support::{Beater, World, eventually, never, quick, seconds, text, time};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_with_one_token_are_told_apart_and_the_state_does_not_flap() {
    let world = World::new("instances").await;
    let history = world.history();
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", quick()).await;
    let first = Beater::start(&[operator.beats()], &edge, seconds(3), json!({"boot_id": "a", "hostname": "host-a"}));
    world.state(SOON, "edge-1", "Online").await;
    let second = Beater::start(&[operator.beats()], &edge, seconds(3), json!({"boot_id": "b", "hostname": "host-b"}));
    let event = world.event(seconds(60), "edge-1", "DuplicateInstance").await;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    let seen = world.sees(SOON, "edge-1", "a warning", |seen| said(seen, "Healthy") == "True/Warnings").await;
    assert_eq!(text(&seen, "/status/diagnosis/cause"), "DuplicateInstance");
    assert_eq!(said(&seen, "Ready"), "True/Ready");
    let written = world.requests().into_iter().filter(|r| r.resource == "connectors/status").count();
    never(seconds(10), "the state flaps", async || {
        let seen = world.get("edge-1").await;
        (text(&seen, "/status/state") != "Online").then(|| format!("{:#}", seen["status"]))
    })
    .await;
    let after = world.requests().into_iter().filter(|r| r.resource == "connectors/status").count();
    assert!(after - written <= 2, "{} writes while two hosts alternate", after - written);
    assert_eq!(history.of_connector("edge-1").last().map(String::as_str), Some("Online"));
    assert_eq!(world.events("edge-1", "DuplicateInstance").await.len(), 1);
    drop(second);
    world
        .sees(seconds(60), "edge-1", "the warning ends with its reason", |seen| {
            seen.pointer("/status/diagnosis").is_none()
        })
        .await;
    drop(first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_agent_is_no_second_host() {
    let world = World::new("reboots").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", quick()).await;
    for boot in ["a", "a", "b", "b", "c", "c"] {
        edge.beat_with(operator.beats(), &json!({"boot_id": boot}));
    }
    world.sees(SOON, "edge-1", "the last boot", |seen| text(seen, "/status/agent/bootID") == "c").await;
    assert_eq!(world.events("edge-1", "DuplicateInstance").await.len(), 0);
    assert_eq!(world.get("edge-1").await.pointer("/status/diagnosis"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beat_that_was_overtaken_is_traffic_and_changes_nothing() {
    let world = World::new("sequence").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", json!({})).await;
    let beat = |boot: &str, sequence: u64, version: &str| {
        edge.beat_with(operator.beats(), &json!({"boot_id": boot, "sequence": sequence, "version": version}))
    };
    beat("old", 7, "1.0.0");
    beat("new", 1, "2.0.0");
    world.sees(SOON, "edge-1", "2.0.0", |seen| text(seen, "/status/agent/version") == "2.0.0").await;
    let stray = beat("old", 6, "1.0.0");
    let view = operator.view("edge-1").unwrap();
    assert!(stray.is_at(time(&view, "/lastHeartbeatTime")), "it is heard: {view}");
    let stray = beat("new", 1, "1.5.0");
    let view = operator.view("edge-1").unwrap();
    assert!(stray.is_at(time(&view, "/lastHeartbeatTime")), "it is heard: {view}");
    never(seconds(3), "an overtaken beat changes what is known", async || {
        let view = operator.view("edge-1").unwrap();
        let seen = world.get("edge-1").await;
        let is = (text(&view, "/version"), text(&seen, "/status/agent/version"), text(&seen, "/status/agent/bootID"));
        (is != ("2.0.0", "2.0.0", "new")).then(|| format!("{is:?}"))
    })
    .await;
    beat("new", 2, "2.0.1");
    eventually(SOON, "the next one counts", async || {
        let seen = world.get("edge-1").await;
        let version = text(&seen, "/status/agent/version");
        if version == "2.0.1" { Ok(()) } else { Err(version.to_owned()) }
    })
    .await;
}
