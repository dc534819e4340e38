//! A connector and its agent beat with one token: both are heard, and each for itself.

use serde_json::{Value, json};

use crate::beats::said;
use crate::support::world::SOON;
use crate::support::{Beater, Connector, Operator, World, eventually, never, seconds, text, time};

const UNIT: &str = "ztna-connector.service";

/// The limits of these tests; an answer during an incident asks for the next beat sooner.
fn limits() -> Value {
    json!({"intervalSeconds": 10, "lateAfterSeconds": 20, "offlineAfterSeconds": 30})
}

/// What an agent says with every beat.
fn agent(more: Value) -> Value {
    let mut beat = json!({
        "agent": true, "boot_id": "agent-1", "version": "0.2.0", "hostname": "gate-1",
        "checks": [{"type": "Process", "status": "Pass", "message": "active (running)"}, {"type": "NATRules", "status": "Pass"}],
    });
    beat.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    beat
}

fn agent_beats(operator: &Operator, edge: &Connector) -> Beater {
    Beater::start(&[operator.beats()], edge, seconds(3), agent(json!({})))
}

fn own_beats(operator: &Operator, edge: &Connector) -> Beater {
    Beater::start(&[operator.beats()], edge, seconds(3), Value::Null)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founding_connector_and_an_agent_with_one_token_do_not_flap_and_cost_no_writes() {
    let world = World::new("twosenders").await;
    let operator = world.operator(&["--checkpoint-seconds", "3600"]).await;
    let edge = world.connector("edge-1", json!({"heartbeat": limits()})).await;
    let _own = own_beats(&operator, &edge);
    let _agent = agent_beats(&operator, &edge);
    let is_whole = |seen: &Value| {
        let checks = seen.pointer("/status/checks").and_then(Value::as_array).map_or(0, Vec::len);
        checks == 2 && seen.pointer("/status/agent/connectorHeard") == Some(&json!(true))
    };
    let seen = world.sees(SOON, "edge-1", "both senders are known", is_whole).await;
    assert_eq!((text(&seen, "/status/state"), said(&seen, "Healthy").as_str()), ("Online", "True/ChecksPassed"));
    let version = |seen: &Value| text(seen, "/metadata/resourceVersion").to_owned();
    // The first token is confirmed once, too.
    let settled = eventually(SOON, "nothing is left to write", async || {
        let before = version(&world.get("edge-1").await);
        tokio::time::sleep(seconds(4)).await;
        let after = version(&world.get("edge-1").await);
        if before == after { Ok(after) } else { Err(after) }
    })
    .await;
    never(seconds(15), "two senders cause a write", async || {
        let seen = world.get("edge-1").await;
        (version(&seen) != settled).then(|| format!("{:#}", seen["status"]))
    })
    .await;
    assert_eq!(world.events("edge-1", "DuplicateInstance").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_that_hangs_while_its_agent_lives_is_degraded_restarted_once_and_online_again() {
    let world = World::new("hangs").await;
    let mut operator = world.operator(&[]).await;
    let spec = json!({
        "heartbeat": limits(), "agentRef": {"unit": UNIT},
        "remediation": {"mode": "Restart", "unhealthyForSeconds": 0, "verifyWithinSeconds": 60},
    });
    let edge = world.connector("edge-1", spec).await;
    let own = own_beats(&operator, &edge);
    let mut agent_beating = agent_beats(&operator, &edge);
    world
        .sees(SOON, "edge-1", "both are heard", |seen| {
            text(seen, "/status/state") == "Online"
                && seen.pointer("/status/agent/connectorHeard") == Some(&json!(true))
        })
        .await;
    let last = own.stop().last().cloned().unwrap();

    let seen = world.state(SOON, "edge-1", "Degraded").await;
    assert_eq!(
        (said(&seen, "Online").as_str(), said(&seen, "Healthy").as_str()),
        ("True/HeartbeatReceived", "False/ConnectorSilent")
    );
    assert_eq!(text(&seen, "/status/diagnosis/cause"), "ConnectorSilent");
    let message = text(&seen, "/status/diagnosis/message");
    assert!(message.starts_with("its agent on gate-1 beats and says ztna-connector.service is active"), "{message}");
    let contact = time(&seen, "/status/lastHeartbeatTime");
    assert!(last.is_at(contact), "the connector's own last contact: {contact}");
    let late = time(&seen, "/status/stateSince").duration_since(contact);
    assert_eq!(late.as_secs_f64().round(), 30.0, "dated at the deadline");

    // A new operator knows it from the status alone.
    operator.kill();
    drop(agent_beating);
    let operator = world.operator(&[]).await;
    agent_beating = agent_beats(&operator, &edge);
    let told = eventually(SOON, "an action rides in an answer", async || {
        let answer = edge.try_beat(operator.beats(), &agent(json!({}))).json();
        if answer.pointer("/actions/0").is_some() { Ok(answer) } else { Err(answer.to_string()) }
    })
    .await;
    assert_eq!((text(&told, "/state"), text(&told, "/actions/0/target")), ("Degraded", UNIT), "{told}");
    assert_eq!(told["next_heartbeat_seconds"], 5, "an action reaches its agent soon: {told}");
    let own = edge.try_beat(operator.beats(), &json!({"dry_run": true})).json();
    assert_eq!(own["actions"], json!([]));
    drop(agent_beating);

    // The agent restarts the unit, says so, and the connector beats again.
    let id = text(&told, "/actions/0/id").to_owned();
    let result = json!({"restarts": [{"target": UNIT, "id": id, "result": "Succeeded"}]});
    let over = eventually(seconds(120), "the attempt succeeded", async || {
        edge.try_beat(operator.beats(), &agent(result.clone()));
        edge.try_beat(operator.beats(), &Value::Null);
        let seen = world.get("edge-1").await;
        match text(&seen, "/status/remediation/history/0/outcome") {
            "" => Err(format!("{:#}", seen["status"]["remediation"])),
            _ => Ok(seen),
        }
    })
    .await;
    let last = &over["status"]["remediation"]["history"][0];
    assert_eq!(
        (text(last, "/id"), text(last, "/outcome"), text(last, "/cause")),
        (&*id, "Succeeded", "ConnectorSilent")
    );
    assert_eq!(over["status"]["remediation"]["restarts"], 1);
    world.state(SOON, "edge-1", "Online").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_beats_alone_keeps_its_connector_online_and_receives_the_parameters_of_its_checks() {
    let world = World::new("agentalone").await;
    let operator = world.operator(&[]).await;
    let checks = json!([{"type": "WireGuardHandshake", "maxHandshakeAgeSeconds": 300, "interfaceName": "wg1"}]);
    let edge = world.connector("edge-1", json!({"heartbeat": limits(), "checks": checks})).await;
    let told = edge.beat_with(operator.beats(), &agent(json!({}))).answer.unwrap().json();
    let expected = json!([{"type": "WireGuardHandshake", "maxHandshakeAgeSeconds": 300, "interfaceName": "wg1"}]);
    assert_eq!(told["config"]["checks"], expected, "{told}");
    let generation = told["config"]["generation"].clone();
    let known = agent(json!({"config_generation": generation}));
    let again = edge.beat_with(operator.beats(), &known).answer.unwrap().json();
    assert_eq!(again.get("config"), None, "{again}");
    world.patch("edge-1", json!({"spec": {"checks": []}})).await;
    eventually(SOON, "the parameters are taken away", async || {
        let told = edge.try_beat(operator.beats(), &known).json();
        if told["config"]["checks"] == json!([]) { Ok(()) } else { Err(told.to_string()) }
    })
    .await;
    let _agent = agent_beats(&operator, &edge);
    world.state(SOON, "edge-1", "Online").await;
    never(seconds(45), "an agent alone is no silence", async || {
        let seen = world.get("edge-1").await;
        (text(&seen, "/status/state") != "Online").then(|| format!("{:#}", seen["status"]))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_stopped_on_purpose_is_told_from_a_connector_that_fell_silent() {
    let world = World::new("agentstops").await;
    let operator = world.operator(&[]).await;
    let alone = world.connector("alone", json!({"heartbeat": limits()})).await;
    let beside = world.connector("beside", json!({"heartbeat": limits()})).await;
    let own = own_beats(&operator, &beside);
    for edge in [&alone, &beside] {
        edge.beat_with(operator.beats(), &agent(json!({})));
        world.state(SOON, &edge.name, "Online").await;
    }
    for (edge, reason) in [(&alone, "Stop"), (&beside, "Uninstall")] {
        edge.beat_with(operator.beats(), &agent(json!({"stopping": {"reason": reason}})));
        let stops = |seen: &Value| text(seen, "/status/agent/stopping") == reason;
        world.sees(SOON, &edge.name, "its last words are shown", stops).await;
    }
    let seen = world.state(SOON, "alone", "Offline").await;
    assert_eq!(text(&seen, "/status/diagnosis/cause"), "AgentStopped", "{seen:#}");
    assert_eq!(text(&seen, "/status/diagnosis/restartHelps"), "No", "{seen:#}");
    assert!(text(&seen, "/status/diagnosis/message").contains("it is being stopped"), "{seen:#}");
    let scrape = operator.scrape();
    let silent = scrape.samples("vigie_agent_silent");
    let of = |name: &str| silent.iter().find(|(labels, _)| labels.contains(&format!("name=\"{name}\"")));
    assert_eq!(of("alone").map(|(_, value)| *value), Some(1.0), "{silent:?}");
    assert_eq!(of("beside"), None, "nothing is missing where the connector beats itself: {silent:?}");
    let seen = world.get("beside").await;
    assert_eq!(text(&seen, "/status/state"), "Online", "{seen:#}");
    drop(own);
    // It is installed again.
    alone.beat_with(operator.beats(), &agent(json!({})));
    let seen = world.state(SOON, "alone", "Online").await;
    assert_eq!(seen.pointer("/status/agent/stopping"), None, "{seen:#}");
}
