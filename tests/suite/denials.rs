//! The objects that are not restarted, each with its reason; and the fleet's brakes.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::remedies::{gateway, healthy, tunnel};
use crate::support::beats::Connector;
use crate::support::workloads::{last_attempt, outcome, remediating};
use crate::support::world::SOON;
use crate::support::{Beater, Operator, World, eventually, never, quick, seconds, text};

/// An Online gateway on its own site, whose spec is `more` merged into the usual one.
async fn online(world: &World, operator: &Operator, name: &str, workload: &str, more: Value) -> Connector {
    let mut spec = gateway(workload, json!({}));
    spec["site"] = json!(name);
    for (key, value) in more.as_object().into_iter().flatten() {
        match (spec[key].as_object_mut(), value.as_object()) {
            (Some(into), Some(value)) => into.extend(value.clone()),
            _ => spec[key] = value.clone(),
        }
    }
    let connector = world.connector(name, spec).await;
    connector.beat_with(operator.beats(), &tunnel("Pass"));
    world.state(SOON, name, "Online").await;
    connector
}

/// Sends healthy beats until its attempt is over; returns the object as it is then.
async fn cured(world: &World, operator: &Operator, connector: &Connector) -> Value {
    let _up = Beater::start(&[operator.beats()], connector, seconds(2), tunnel("Pass"));
    world.sees(SOON, &connector.name, "an outcome", |seen| !outcome(seen).is_empty()).await
}

/// The reason is in the status, and no workload was touched.
async fn denied(world: &World, name: &str, reason: &str, says: &str) {
    let seen = world.remediating(name, reason).await;
    assert_eq!(remediating(&seen).0, "False", "{seen:#}");
    if reason != "Idle" {
        let denial = seen.pointer("/status/remediation/lastDenial").cloned().unwrap_or_default();
        assert_eq!(text(&denial, "/reason"), reason, "{name}: {seen:#}");
        assert!(text(&denial, "/message").contains(says), "{name}: {denial:#}");
    }
    assert!(seen.pointer("/status/remediation/current").is_none(), "{name}: {seen:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_must_not_be_restarted_is_left_alone_with_its_reason() {
    let world = World::new("denials").await;
    let operator = world.operator(&["--breaker-min", "1000"]).await;
    let owner = json!({"metadata": {"name": "owner"}});
    let owner: ConfigMap =
        world.api().create(&PostParams::default(), &serde_json::from_value(owner).unwrap()).await.unwrap();
    for name in ["plain", "spent", "paused", "zero", "owned", "slow"] {
        world.deployment(name, 1).await;
    }
    world.patch_deployment("paused", json!({"spec": {"paused": true}})).await;
    world.patch_deployment("zero", json!({"spec": {"replicas": 0}})).await;
    let owners = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid, "controller": true}]);
    world.patch_deployment("owned", json!({"metadata": {"ownerReferences": owners}})).await;
    world
        .patch_deployment(
            "slow",
            json!({"spec": {"minReadySeconds": 300, "progressDeadlineSeconds": 900, "template": {"metadata": {"annotations": {"a": "b"}}}}}),
        )
        .await;
    on_delete(&world, "stateful").await;
    let critical = json!([{"type": "ControlPlane", "severity": "Critical"}]);
    let stateful = json!({"kind": "StatefulSet", "name": "stateful"});
    let cases = [
        ("is-paused", "paused", json!({}), "WorkloadPaused", "is paused (spec.paused)"),
        ("is-zero", "zero", json!({}), "ScaledToZero", "scaled to 0"),
        ("is-missing", "nowhere", json!({}), "WorkloadNotFound", "Deployment nowhere"),
        ("is-owned", "owned", json!({}), "ManagedByController", "ConfigMap owner"),
        ("is-rolling", "slow", json!({}), "RolloutInProgress", "under way"),
        ("is-on-delete", "", json!({"workloadRef": stateful}), "UpdateStrategyOnDelete", "OnDelete"),
        ("person-paused", "plain", json!({"paused": {"by": "ops", "reason": "moving"}}), "Paused", "ops (moving)"),
        ("suggests", "plain", json!({"remediation": {"mode": "Suggest"}}), "SuggestOnly", "would have been restarted"),
        (
            "too-young",
            "plain",
            json!({"remediation": {"unhealthyForSeconds": 3600}}),
            "RecentlyRestartedByOthers",
            "unhealthyForSeconds",
        ),
        ("no-budget", "spent", json!({"remediation": {"maxAttempts": 0}}), "GaveUp", "maxAttempts is 0"),
        ("cannot-help", "plain", json!({"checks": critical}), "RestartCannotHelp", "ControlPlaneUnreachable"),
    ];
    let mut all = Vec::new();
    for (name, workload, more, ..) in &cases {
        all.push((online(&world, &operator, name, workload, more.clone()).await, *name));
    }
    let never_well = world.connector("never-well", gateway("plain", json!({}))).await;
    let unasked = world.connector("unasked", json!({"workloadRef": {"kind": "Deployment", "name": "plain"}})).await;
    for (connector, name) in &all {
        let type_ = if *name == "cannot-help" { "ControlPlane" } else { "WireGuardInterface" };
        connector.beat_with(operator.beats(), &json!({"checks": [{"type": type_, "status": "Fail"}]}));
    }
    for connector in [&never_well, &unasked] {
        connector.beat_with(operator.beats(), &tunnel("Fail"));
    }
    for (name, _, _, reason, says) in &cases {
        denied(&world, name, reason, says).await;
    }
    denied(&world, "never-well", "NeverHealthy", "never healthy").await;
    denied(&world, "unasked", "Idle", "").await;
    assert_eq!(world.touches().len(), 0, "{:?}", world.touches());
    let counted = operator.scrape();
    for (_, _, _, reason, _) in &cases {
        let label = format!("reason=\"{reason}\"");
        eventually(SOON, &format!("{reason} is counted"), async || {
            let count = operator.scrape().sum("vigie_remedy_denials_total", &[&label]);
            if count >= 1.0 { Ok(()) } else { Err(format!("{count}")) }
        })
        .await;
    }
    assert_eq!(counted.sum("vigie_remedies_total", &[]), 0.0);
}

async fn on_delete(world: &World, name: &str) {
    let labels = json!({"app": name});
    let set: StatefulSet = serde_json::from_value(json!({"metadata": {"name": name}, "spec": {
        "serviceName": name, "selector": {"matchLabels": labels}, "updateStrategy": {"type": "OnDelete"},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "example.com/app:1"}]}},
    }}))
    .unwrap();
    world.api().create(&PostParams::default(), &set).await.expect("a StatefulSet is made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_pauses_and_an_operator_that_is_off_restart_nothing() {
    let world = World::new("denials-off").await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let annotate = |value: Value| Patch::Merge(json!({"metadata": {"annotations": {"vigie.dev/paused-until": value}}}));
    namespaces.patch(&world.ns, &PatchParams::default(), &annotate(json!(until.to_string()))).await.unwrap();
    let mut operator = world.operator(&[]).await;
    let connector = healthy(&world, &operator, "paris", json!({})).await;
    connector.beat_with(operator.beats(), &tunnel("Fail"));
    denied(&world, "paris", "Paused", "Namespace").await;
    operator.add_flags(&["--remediation", "off"]);
    operator.restart().await;
    operator.hearing().await;
    connector.beat_with(operator.beats(), &tunnel("Fail"));
    namespaces.patch(&world.ns, &PatchParams::default(), &annotate(Value::Null)).await.unwrap();
    denied(&world, "paris", "RemediationOff", "--remediation off").await;
    assert_eq!(world.touches().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_restart_it_observes_decides_and_says_what_was_refused() {
    let world = World::new("denials-rights").await;
    world.revoke("vigie-restart").await;
    let operator = world.operator(&[]).await;
    let connector = healthy(&world, &operator, "paris", json!({"maxAttempts": 1})).await;
    connector.beat_with(operator.beats(), &tunnel("Fail"));
    let seen = world.sees(SOON, "paris", "an outcome", |seen| !outcome(seen).is_empty()).await;
    assert_eq!(outcome(&seen), "Refused", "{seen:#}");
    let why = text(last_attempt(&seen), "/message");
    assert!(why.contains("forbidden") && why.contains("cannot patch"), "{why}");
    assert_eq!((last_attempt(&seen)["restarted"].clone(), text(&seen, "/status/state")), (json!(false), "Degraded"));
    assert!(world.attempts_of("paris").await.is_empty());
    world.event(SOON, "paris", "RestartFailed").await;
    world.remediating("paris", "GaveUp").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_pods_only_the_one_that_the_beats_name_is_evicted() {
    let world = World::new("denials-pod").await;
    let operator = world.operator(&[]).await;
    world.deployment("gw", 3).await;
    let connector = online(&world, &operator, "paris", "gw", json!({})).await;
    connector.beat_with(operator.beats(), &tunnel("Fail"));
    denied(&world, "paris", "PodUnknown", "pod_uid").await;
    let pods = || async {
        let found = world.api::<Pod>().list(&ListParams::default().labels("app=gw")).await.unwrap().items;
        found.into_iter().filter_map(|pod| pod.metadata.uid).collect::<Vec<_>>()
    };
    let before = pods().await;
    let mut beat = tunnel("Fail");
    beat["pod_uid"] = json!(before[1]);
    connector.beat_with(operator.beats(), &beat);
    world
        .sees(SOON, "paris", "it is verified", |seen| text(seen, "/status/remediation/current/phase") == "Verifying")
        .await;
    let over = cured(&world, &operator, &connector).await;
    assert_eq!(outcome(&over), "Succeeded", "{:#}", last_attempt(&over));
    let after = pods().await;
    assert!(
        !after.contains(&before[1]) && after.contains(&before[0]) && after.contains(&before[2]),
        "{before:?} {after:?}"
    );
    let touches = world.touches();
    assert_eq!(touches.iter().map(|touch| &*touch.resource).collect::<Vec<_>>(), ["pods/eviction"], "{touches:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_objects_on_one_workload_restart_it_once() {
    let world = World::new("denials-shared").await;
    let operator = world.operator(&["--max-in-flight-per-site", "10"]).await;
    world.deployment("gw", 1).await;
    let mut both = Vec::new();
    for name in ["paris", "lyon"] {
        both.push(online(&world, &operator, name, "gw", json!({})).await);
    }
    for connector in &both {
        connector.beat_with(operator.beats(), &tunnel("Fail"));
    }
    eventually(SOON, "a restart", async || match world.attempts_of("gw").await.len() {
        0 => Err("none".to_owned()),
        _ => Ok(()),
    })
    .await;
    let _up: Vec<_> =
        both.iter().map(|each| Beater::start(&[operator.beats()], each, seconds(2), tunnel("Pass"))).collect();
    for name in ["paris", "lyon"] {
        world
            .sees(SOON, name, "no attempt under way", |seen| {
                seen.pointer("/status/remediation/current").is_none() && text(seen, "/status/state") == "Online"
            })
            .await;
    }
    assert_eq!(world.attempts_of("gw").await.len(), 1);
    assert_eq!(world.touches().iter().filter(|touch| touch.is_success()).count(), 1, "{:?}", world.touches());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_by_somebody_else_is_not_fought_and_a_stripped_annotation_is_no_loop() {
    let world = World::new("denials-others").await;
    let operator = world.operator(&["--max-in-flight-per-site", "10"]).await;
    // Both roll out slowly, so that the test can act during the rollout.
    for name in ["rolled", "stripped"] {
        world.deployment(name, 1).await;
        world.patch_deployment(name, json!({"spec": {"minReadySeconds": 12}})).await;
        world.rolled_out(name).await;
    }
    let rolled = online(&world, &operator, "rolled", "rolled", json!({})).await;
    let stripped = online(&world, &operator, "stripped", "stripped", json!({})).await;
    rolled.beat_with(operator.beats(), &tunnel("Fail"));
    let restarting = |seen: &Value| text(seen, "/status/remediation/current/phase") == "Restarting";
    world.sees(SOON, "rolled", "a restart", restarting).await;
    let theirs = json!({"spec": {"template": {"metadata": {"annotations": {
        "vigie.dev/attempt": null, "kubectl.kubernetes.io/restartedAt": "2026-11-01T00:00:00Z", "theirs": "yes"}}}}});
    world.patch_deployment("rolled", theirs).await;
    let over = world.sees(SOON, "rolled", "an outcome", |seen| !outcome(seen).is_empty()).await;
    assert_eq!(outcome(&over), "Superseded", "{:#}", last_attempt(&over));
    rolled.beat_with(operator.beats(), &tunnel("Pass"));

    stripped.beat_with(operator.beats(), &tunnel("Fail"));
    world.sees(SOON, "stripped", "a restart", restarting).await;
    let strip = json!({"spec": {"template": {"metadata": {"annotations": {
        "vigie.dev/attempt": null, "kubectl.kubernetes.io/restartedAt": null}}}}});
    world.patch_deployment("stripped", strip).await;
    world
        .sees(SOON, "stripped", "it is verified", |seen| text(seen, "/status/remediation/current/phase") == "Verifying")
        .await;
    let over = cured(&world, &operator, &stripped).await;
    assert_eq!(outcome(&over), "Succeeded", "{:#}", last_attempt(&over));
    let restarts = || world.touches().into_iter().filter(|touch| touch.is_success()).count();
    assert_eq!(restarts(), 2);
    never(seconds(5), "another restart", async || (restarts() != 2).then(|| format!("{:?}", world.touches()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_that_is_created_again_under_its_name_is_another_one() {
    let world = World::new("denials-again").await;
    let operator = world.operator(&[]).await;
    world.deployment("gw", 1).await;
    world.patch_deployment("gw", json!({"spec": {"minReadySeconds": 12}})).await;
    world.rolled_out("gw").await;
    let connector = online(&world, &operator, "paris", "gw", json!({})).await;
    connector.beat_with(operator.beats(), &tunnel("Fail"));
    let restarting = |seen: &Value| text(seen, "/status/remediation/current/phase") == "Restarting";
    world.sees(SOON, "paris", "a restart", restarting).await;
    world.api::<Deployment>().delete("gw", &Default::default()).await.unwrap();
    eventually(SOON, "it is gone", async || match world.api::<Deployment>().get_opt("gw").await {
        Ok(None) => Ok(()),
        other => Err(format!("{:?}", other.map(|found| found.is_some()))),
    })
    .await;
    world.deployment("gw", 1).await;
    let over = world.sees(SOON, "paris", "an outcome", |seen| !outcome(seen).is_empty()).await;
    assert_eq!(outcome(&over), "Superseded", "{:#}", last_attempt(&over));
    assert_eq!(last_attempt(&over)["restarted"], true);
}

/// Gateways that fail until their Deployment is restarted, and recover after it: waits until each of them is cured.
/// Never two at once.
async fn restarted_one_by_one(world: &World, operator: &Operator, gateways: &[Connector]) {
    eventually(seconds(120), "each is restarted and cured", async || {
        let mut under_way = 0;
        let mut cured = 0;
        // In one read: between two reads one attempt may end and the next begin.
        let all = world.with_attempts(world.connectors()).await;
        for gateway in gateways {
            let (seen, attempt) = &all[&gateway.name];
            gateway.try_beat(operator.beats(), &tunnel(if attempt.is_some() { "Pass" } else { "Fail" }));
            under_way += usize::from(seen.pointer("/status/remediation/current").is_some());
            cured += usize::from(outcome(seen) == "Succeeded");
        }
        assert!(under_way <= 1, "{under_way} at once on one site");
        if cured == gateways.len() { Ok(()) } else { Err(format!("{cured} are cured")) }
    })
    .await;
}

/// A fleet of gateways, each with a Deployment of its own, on one site; all are Online.
async fn fleet(world: &World, operator: &Operator, site: &str, count: usize) -> Vec<Connector> {
    let mut all = Vec::new();
    for number in 0..count {
        let name = format!("{site}-{number}");
        world.deployment(&name, 1).await;
        // No gateway is judged before all are known to be bad: they become bad within two seconds.
        let mut spec = gateway(&name, json!({"unhealthyForSeconds": 5}));
        spec["site"] = json!(site);
        let connector = world.connector(&name, spec).await;
        connector.beat_with(operator.beats(), &tunnel("Pass"));
        all.push(connector);
    }
    for connector in &all {
        world.state(SOON, &connector.name, "Online").await;
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_brake_holds_a_sick_site_and_releases_by_itself_and_a_person_passes_it() {
    let world = World::new("brake").await;
    let operator = world.operator(&["--breaker-min", "1000"]).await;
    let sick = fleet(&world, &operator, "sick", 3).await;
    let well = fleet(&world, &operator, "well", 5).await;
    let beat = |all: &[Connector], status: &str| -> Vec<Beater> {
        all.iter().map(|each| Beater::start(&[operator.beats()], each, seconds(2), tunnel(status))).collect()
    };
    let _well = beat(&well[2..], "Pass");
    // All at once: each of them is judged when the others are known to be bad, or is the only one judged before that.
    let down = beat(&sick, "Fail");
    // 2 of 5 are restarted, one after the other: the second when the first is over.
    restarted_one_by_one(&world, &operator, &well[..2]).await;
    // 3 of 3 are held.
    let mut held = Vec::new();
    for connector in &sick {
        let seen = world
            .sees(SOON, &connector.name, "it is held, or slipped through", |seen| {
                remediating(seen).1 == "SiteBrake" || !outcome(seen).is_empty()
            })
            .await;
        if remediating(&seen).1 == "SiteBrake" {
            held.push(connector);
            assert!(
                seen.pointer("/status/remediation/ledger").is_none(),
                "an object that the brake holds back uses no budget: {seen:#}"
            );
        }
    }
    assert!(held.len() >= 2, "one may be restarted before the third is known to be bad");
    let label = [format!("namespace=\"{}\"", world.ns), "site=\"sick\"".to_owned()];
    assert_eq!(operator.scrape().sum("vigie_brake_engaged", &[&label[0], &label[1]]), 1.0);
    world.event(SOON, &world.ns, "BrakeEngaged").await;
    // A request by a person bypasses the brake.
    let asked = held[0];
    let ran = world.vigie(&["restart", "connector", &asked.name, "-n", &world.ns]);
    assert_eq!(ran.code, 0, "{ran:?}");
    world
        .sees(SOON, &asked.name, "it is verified", |seen| {
            text(seen, "/status/remediation/current/phase") == "Verifying"
        })
        .await;
    // All recover without a restart: the brake releases without a reset.
    drop(down);
    let _up = beat(&sick, "Pass");
    eventually(SOON, "the brake is released", async || {
        let engaged = operator.scrape().sum("vigie_brake_engaged", &[&label[0], &label[1]]);
        if engaged == 0.0 { Ok(()) } else { Err(format!("{engaged}")) }
    })
    .await;
    let over = world.sees(SOON, &asked.name, "an outcome", |seen| !outcome(seen).is_empty()).await;
    assert_eq!(text(last_attempt(&over), "/cause"), "Requested", "{over:#}");
    assert!(over.pointer("/status/remediation/ledger").is_none(), "a request costs no budget");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_breaker_latches_when_the_fleet_turns_sick_and_only_a_person_resets_it() {
    let world = World::new("breaker").await;
    let mut operator = world.operator(&["--brake-min", "1000", "--max-in-flight", "1"]).await;
    let all = fleet(&world, &operator, "all", 6).await;
    let address = operator.beats();
    let _down: Vec<_> = all.iter().map(|each| Beater::start(&[address], each, seconds(2), tunnel("Fail"))).collect();
    let shown = |code: i32| {
        let ran = world.vigie(&["breaker", "show", "--operator-namespace", &world.ns]);
        if ran.code == code { Ok(ran.stdout) } else { Err(format!("{ran:?}")) }
    };
    let says = eventually(SOON, "the breaker is open", async || shown(3)).await;
    assert!(says.contains("vigie breaker reset"), "{says}");
    let open = || operator.scrape().samples("vigie_breaker_open");
    eventually(SOON, "the metric says it, too", async || match open() {
        open if open == [(String::new(), 1.0)] => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let is_held = |seen: &Value| remediating(seen).1 == "BreakerOpen";
    eventually(seconds(90), "some are held", async || {
        for each in &all {
            if is_held(&world.get(&each.name).await) {
                return Ok(());
            }
        }
        Err("none".to_owned())
    })
    .await;
    world.event(SOON, "vigie-breaker", "BreakerOpened").await;
    // The breaker's state survives a restart of the operator.
    operator.restart().await;
    operator.hearing().await;
    assert!(shown(3).is_ok());
    let before = world.touches().len();
    never(seconds(5), "something is restarted", async || {
        let touches = world.touches();
        (touches.len() > before).then(|| format!("{touches:?}"))
    })
    .await;
    let ran = world.vigie(&["breaker", "reset", "--operator-namespace", &world.ns]);
    assert_eq!(ran.code, 0, "{ran:?}");
    world.event(SOON, "vigie-breaker", "BreakerReset").await;
    assert!(shown(0).is_ok());
    // Objects that became bad before the reset do not open the breaker again.
    eventually(seconds(90), "restarts go on", async || {
        let touches = world.touches().len();
        if touches > before { Ok(()) } else { Err(format!("{touches}")) }
    })
    .await;
    assert!(shown(0).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_restarts_its_unit_when_its_beat_is_answered_with_an_action() {
    let world = World::new("agent").await;
    let operator = world.operator(&[]).await;
    let remediation = gateway("unused", json!({}))["remediation"].clone();
    let spec = json!({"agentRef": {"unit": "wg-gateway.service"}, "remediation": remediation, "heartbeat": quick()["heartbeat"]});
    let connector = world.connector("paris", spec).await;
    connector.beat_with(operator.beats(), &tunnel("Pass"));
    world.state(SOON, "paris", "Online").await;
    connector.beat_with(operator.beats(), &tunnel("Fail"));
    world.sees(SOON, "paris", "a reservation", |seen| seen.pointer("/status/remediation/current").is_some()).await;
    let action = eventually(SOON, "an action rides in an answer", async || {
        // Above its rate limit the beat is answered 429, and still counts.
        let answer = connector.try_beat(operator.beats(), &tunnel("Fail")).json();
        answer.pointer("/actions/0").cloned().ok_or_else(|| answer.to_string())
    })
    .await;
    assert_eq!((text(&action, "/type"), text(&action, "/target")), ("Restart", "wg-gateway.service"), "{action}");
    let id = text(&action, "/id").to_owned();
    // The action is repeated with the same id until it is acknowledged; it is not in the answer to the beat that ends
    // the incident.
    let again = connector.beat_with(operator.beats(), &tunnel("Fail")).answer.unwrap().json();
    assert_eq!(text(&again, "/actions/0/id"), id);
    let mut done = tunnel("Pass");
    done["restart"] = json!({"id": id, "result": "Succeeded"});
    let last = connector.beat_with(operator.beats(), &done).answer.unwrap().json();
    assert_eq!(last.pointer("/actions"), Some(&json!([])), "{last}");
    let over = eventually(SOON, "an outcome", async || {
        connector.try_beat(operator.beats(), &tunnel("Pass"));
        let seen = world.get("paris").await;
        if outcome(&seen).is_empty() { Err(format!("{:#}", seen["status"]["remediation"])) } else { Ok(seen) }
    })
    .await;
    assert_eq!((outcome(&over), text(last_attempt(&over), "/id")), ("Succeeded", &*id), "{over:#}");
    // While the connector is silent, no attempt is reserved.
    let gone = world.sees(seconds(90), "paris", "it is Offline", |seen| text(seen, "/status/state") == "Offline").await;
    assert!(gone.pointer("/status/remediation/current").is_none());
    world.remediating("paris", "AgentUnreachable").await;
}
