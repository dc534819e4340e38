//! Connectors whose agents run in pods.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{at_once, attempt, is_cured, nothing_more, settings, was_rolled_out_once};
use crate::app::{App, CONTROL, post, running};
use crate::place;
use crate::support::operator::free_port;
use crate::support::workloads::{last_attempt, remediating};
use crate::support::{Operator, World, quick, seconds, text};

/// Longer than a connector with these limits needs to become Offline.
const SILENT: std::time::Duration = seconds(120);

/// An operator that pods can reach.
async fn reachable(world: &World) -> (Operator, String) {
    let node: std::net::IpAddr = place::cluster().variable("CLUSTER_NODE_ADDRESS").parse().expect("it has one");
    let listen = SocketAddr::from((node, free_port()));
    let operator = world.operator(&["--listen", &listen.to_string(), "--breaker-min", "1000"]).await;
    (operator, format!("http://{listen}/api/connector/heartbeat"))
}

/// Creates a Connector and the Deployment of its agent; waits until it is Online.
async fn online(world: &World, name: &str, to: &str, more: &[(&str, &str)]) {
    let mut spec = quick();
    spec["workloadRef"] = json!({"kind": "Deployment", "name": name});
    spec["remediation"] = at_once(json!({}));
    spec["site"] = json!(name);
    world.connector(name, spec).await;
    let from = |key: &str| json!({"secretKeyRef": {"name": format!("{name}-connector-token"), "key": key}});
    let agent = App::misbehave(name, &["--beat-to", to])
        .variable(json!({"name": "MISBEHAVE_BEAT_ID", "valueFrom": from("connector_id")}))
        .variable(json!({"name": "MISBEHAVE_BEAT_TOKEN", "valueFrom": from("token")}))
        .variable(json!({"name": "MISBEHAVE_BEAT_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}));
    more.iter().fold(agent, |agent, (variable, key)| agent.setting(variable, name, key)).deploy(world).await;
    world.state(SILENT, name, "Online").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_whose_agent_hangs_is_restarted_once_and_is_online_again() {
    let world = place::world("remedy-agent").await;
    let (operator, to) = reachable(&world).await;
    online(&world, "paris", &to, &[]).await;
    let before = running(&world, "paris", 1).await;
    post(&before[0], CONTROL, "/_/hang?port=main");
    let gone = world.state(SILENT, "paris", "Offline").await;
    assert_eq!(text(&gone, "/status/diagnosis/cause"), "HeartbeatExpired", "{gone:#}");
    let cured = is_cured(&world, &operator, "connector", "paris", "Online").await;
    assert_eq!(text(last_attempt(&cured), "/cause"), "HeartbeatExpired", "{cured:#}");
    was_rolled_out_once(&world, "paris", attempt(&cured)).await;
    nothing_more(&world, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_whose_pod_crashes_again_and_again_is_explained_by_it_and_not_restarted() {
    let world = place::world("remedy-crash").await;
    let (operator, to) = reachable(&world).await;
    settings(&world, "lyon", json!({"crash": "0s", "listen": "0s"})).await;
    online(&world, "lyon", &to, &[("MISBEHAVE_CRASH_AFTER", "crash"), ("MISBEHAVE_LISTEN_AFTER", "listen")]).await;
    // The agent sends nothing more before it ends.
    settings(&world, "lyon", json!({"crash": "-1s", "listen": "-1s"})).await;
    post(&running(&world, "lyon", 1).await[0], CONTROL, "/_/crash?code=3");
    let explained = |found: &Value| {
        text(found, "/status/state") == "Offline"
            && text(found, "/status/diagnosis/cause") == "CrashLoop"
            && remediating(found) == ("False", "RestartCannotHelp")
    };
    let found = world.sees(SILENT, "lyon", "it is explained by its pod", explained).await;
    assert!(text(&found, "/status/diagnosis/message").contains("pod lyon-"), "{found:#}");
    nothing_more(&world, 0).await;
    assert!(world.attempts_of("lyon").await.is_empty());
    assert_eq!(world.get("lyon").await["status"]["remediation"]["restarts"], json!(0));
    assert_eq!(operator.scrape().sum("vigie_remedies_total", &[]), 0.0);
}
