//! Restarts of workloads: the trigger, the action, the limits, and the reports.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use crate::support::beats::Connector;
use crate::support::operator::Operator;
use crate::support::workloads::{last_attempt, outcome, remediating};
use crate::support::world::SOON;
use crate::support::{Beater, World, eventually, seconds, text};

/// A gateway in a Deployment of its own, which is restarted at once when a critical check fails.
pub(crate) fn gateway(workload: &str, remediation: Value) -> Value {
    let mut spec = json!({
        "workloadRef": {"kind": "Deployment", "name": workload},
        "remediation": {"mode": "Restart", "unhealthyForSeconds": 0, "backoffSeconds": 1, "verifyWithinSeconds": 60},
    });
    if let (Some(into), Some(more)) = (spec["remediation"].as_object_mut(), remediation.as_object()) {
        into.extend(more.clone());
    }
    spec
}

/// A beat that reports the tunnel as down or up.
pub(crate) fn tunnel(status: &str) -> Value {
    json!({"checks": [{"type": "WireGuardInterface", "status": status}]})
}

/// A gateway that is Online, and its Deployment.
pub(crate) async fn healthy(world: &World, operator: &Operator, name: &str, remediation: Value) -> Connector {
    world.deployment(name, 1).await;
    let connector = world.connector(name, gateway(name, remediation)).await;
    connector.beat_with(operator.beats(), &tunnel("Pass"));
    world.state(SOON, name, "Online").await;
    connector
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_that_is_down_is_restarted_once_and_its_cure_is_recorded() {
    let world = World::new("remedy-once").await;
    let operator = world.operator(&[]).await;
    let connector = healthy(&world, &operator, "paris", json!({})).await;
    assert_eq!(remediating(&world.get("paris").await), ("False", "Idle"));
    connector.beat_with(operator.beats(), &tunnel("Fail"));
    let going = world.remediating("paris", "RestartInProgress").await;
    assert_eq!(text(&going, "/status/remediation/current/cause"), "WireGuardDown", "{going:#}");
    world
        .sees(SOON, "paris", "it is verified", |seen| text(seen, "/status/remediation/current/phase") == "Verifying")
        .await;
    let _up = Beater::start(&[operator.beats()], &connector, seconds(2), tunnel("Pass"));
    let cured = world.sees(SOON, "paris", "an outcome", |seen| !outcome(seen).is_empty()).await;
    let past = last_attempt(&cured);
    assert_eq!((text(past, "/outcome"), &past["restarted"], &past["cured"]), ("Succeeded", &json!(true), &json!(true)));
    assert_eq!(cured.pointer("/status/remediation/restarts"), Some(&json!(1)));
    assert_eq!(world.attempts_of("paris").await, [text(past, "/id")], "once, by the Deployment's own ReplicaSets");
    assert_eq!(world.touches().len(), 1);
    for reason in ["RestartStarted", "RestartSucceeded"] {
        world.event(SOON, "paris", reason).await;
        assert_eq!(world.events("paris", reason).await.len(), 1, "{reason}");
    }
    let scrape = operator.scrape();
    assert_eq!(scrape.sum("vigie_remedies_total", &["result=\"Succeeded\""]), 1.0);
    assert_eq!(scrape.samples("vigie_remedy_in_flight"), [(String::new(), 0.0)]);
}

/// Reports it down until it is restarted once more, and up after that; waits for the outcome.
async fn fails_and_is_cured(world: &World, operator: &Operator, connector: &Connector) -> Value {
    let before = world.attempts_of(&connector.name).await.len();
    eventually(SOON, "it is restarted and cured", async || {
        let is_restarted = world.attempts_of(&connector.name).await.len() > before;
        let _ = connector.try_beat(operator.beats(), &tunnel(if is_restarted { "Pass" } else { "Fail" }));
        let seen = world.get(&connector.name).await;
        let is_over = is_restarted && seen.pointer("/status/remediation/current").is_none();
        if is_over { Ok(seen) } else { Err(format!("{:#}", seen["status"]["remediation"])) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_used_up_loudly_flapping_buys_no_new_one_and_enough_health_does() {
    let world = World::new("remedy-budget").await;
    let operator = world.operator(&[]).await;
    let connector = healthy(&world, &operator, "paris", json!({"maxAttempts": 2})).await;
    for attempts in [1, 2] {
        // It flaps: each time it is healthy again, and has failed anew.
        let over = fails_and_is_cured(&world, &operator, &connector).await;
        assert_eq!(outcome(&over), "Succeeded", "{over:#}");
        assert_eq!(over.pointer("/status/remediation/ledger/attempts"), Some(&json!(attempts)), "{over:#}");
        world.state(SOON, "paris", "Online").await;
    }
    // The failures are frequent by now, and each of them counts.
    connector.try_beat(operator.beats(), &tunnel("Fail"));
    world.remediating("paris", "GaveUp").await;
    connector.try_beat(operator.beats(), &tunnel("Pass"));
    world.remediating("paris", "Idle").await;
    world.event(SOON, "paris", "GaveUp").await;
    assert_eq!(world.events("paris", "GaveUp").await.len(), 1, "one event for one ledger");
    assert_eq!(world.attempts_of("paris").await.len(), 2);
    // Healthy for long enough: the budget is reset.
    world.patch("paris", json!({"spec": {"remediation": {"resetAfterSeconds": 2}}})).await;
    world.sees(SOON, "paris", "its ledger is empty", |seen| seen.pointer("/status/remediation/ledger").is_none()).await;
    fails_and_is_cured(&world, &operator, &connector).await;
    assert_eq!(world.attempts_of("paris").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_another_time_and_what_is_no_time_ask_for_nothing() {
    let world = World::new("remedy-backup").await;
    let operator = world.operator(&[]).await;
    let connector = healthy(&world, &operator, "paris", json!({"mode": "Suggest"})).await;
    connector.beat_with(operator.beats(), &tunnel("Fail"));
    world.remediating("paris", "SuggestOnly").await;
    let at = |minutes: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes)).to_string();
    // The first is the annotation of a restored backup; the others are mistakes.
    for asked in
        [at(-11), at(11), "2025-01-01T00:00:00Z".to_owned(), "yes".to_owned(), String::new(), "9".repeat(4_000)]
    {
        world.patch("paris", json!({"metadata": {"annotations": {"vigie.dev/restart-requested": asked}}})).await;
        crate::support::never(seconds(1), "it is honoured", async || {
            let seen = world.get("paris").await;
            let status = &seen["status"]["remediation"];
            let is_asked = !status["current"].is_null() || !status["history"].as_array().is_none_or(Vec::is_empty);
            (is_asked || !world.touches().is_empty()).then(|| format!("{asked}: {status:#}"))
        })
        .await;
    }
    // The operator is alive, and still suggests.
    assert_eq!(remediating(&world.get("paris").await).1, "SuggestOnly");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_asks_for_a_restart_and_waits_for_its_outcome() {
    let world = World::new("remedy-asked").await;
    let operator = world.operator(&[]).await;
    let connector = healthy(&world, &operator, "paris", json!({})).await;
    let _up = Beater::start(&[operator.beats()], &connector, seconds(2), tunnel("Pass"));
    let restart = |more: &[&str]| world.vigie(&[&["restart", "connector", "paris", "-n", &world.ns], more].concat());
    let spared = restart(&["--if-unhealthy"]);
    assert_eq!(spared.code, 0, "{spared:?}");
    assert!(spared.stdout.contains("healthy, nothing was asked for"), "{spared:?}");
    let ran = restart(&["--wait", "--timeout", "180"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("Succeeded"), "{ran:?}");
    let seen = world.get("paris").await;
    assert_eq!(text(last_attempt(&seen), "/cause"), "Requested");
    assert!(seen.pointer("/status/remediation/ledger").is_none(), "it costs no budget: {seen:#}");
    assert_eq!(world.attempts_of("paris").await.len(), 1);
    let nobody = world.vigie(&["restart", "connector", "nobody", "-n", &world.ns]);
    assert_eq!(nobody.code, 1, "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_restarts_what_was_deployed_a_moment_ago() {
    let world = World::new("remedy-deployed").await;
    let operator = world.operator(&[]).await;
    let connector = healthy(&world, &operator, "paris", json!({"unhealthyForSeconds": 3600})).await;
    let _up = Beater::start(&[operator.beats()], &connector, seconds(2), tunnel("Pass"));
    world.patch_deployment("paris", json!({"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}})).await;
    world.rolled_out("paris").await;
    let ran = world.vigie(&["restart", "connector", "paris", "-n", &world.ns, "--wait", "--timeout", "180"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(world.attempts_of("paris").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_that_does_not_exist_is_told_at_once_and_not_when_it_is_wanted() {
    let world = World::new("remedy-typo").await;
    let operator = world.operator(&[]).await;
    let connector = world.connector("paris", gateway("pariss", json!({}))).await;
    let accepted = |seen: &Value| crate::beats::said(seen, "Accepted");
    let told =
        |seen: &Value| seen.pointer("/status/conditions").is_some() && accepted(seen) == "False/WorkloadNotFound";
    let seen = world.sees(SOON, "paris", "WorkloadNotFound", told).await;
    assert_eq!(text(&seen, "/status/diagnosis/cause"), "WorkloadNotFound");
    let message = text(crate::beats::condition(&seen, "Accepted"), "/message");
    assert!(message.contains("Deployment pariss") && message.contains(&world.ns), "{message}");
    // It is judged all the same, and what it reports comes first.
    connector.beat_with(operator.beats(), &tunnel("Fail"));
    let seen = world.state(SOON, "paris", "Degraded").await;
    assert_eq!(text(&seen, "/status/diagnosis/cause"), "WireGuardDown");
    assert_eq!(accepted(&seen), "False/WorkloadNotFound");
    world.deployment("pariss", 1).await;
    world.sees(seconds(120), "paris", "it is accepted", |seen| accepted(seen) == "True/Accepted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exhausted_disruption_budget_is_honoured_and_named() {
    let world = World::new("remedy-pdb").await;
    let operator = world.operator(&[]).await;
    let connector = healthy(&world, &operator, "paris", json!({})).await;
    world.patch_deployment("paris", json!({"spec": {"replicas": 3}})).await;
    world.rolled_out("paris").await;
    let budget: PodDisruptionBudget = serde_json::from_value(json!({
        "metadata": {"name": "all-of-them"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "paris"}}},
    }))
    .unwrap();
    let budgets = world.api::<PodDisruptionBudget>();
    budgets.create(&PostParams::default(), &budget).await.expect("a budget is made");
    eventually(SOON, "the budget is worked out", async || {
        let status = budgets.get("all-of-them").await.map_err(|error| error.to_string())?.status;
        let is_seen = status.as_ref().is_some_and(|status| status.expected_pods == 3);
        is_seen.then_some(()).ok_or_else(|| format!("{status:?}"))
    })
    .await;
    let pods = world.api::<Pod>().list(&ListParams::default().labels("app=paris")).await.unwrap().items;
    let mut beat = tunnel("Fail");
    beat["pod_uid"] = json!(pods[0].metadata.uid);
    connector.beat_with(operator.beats(), &beat);
    let seen = world.remediating("paris", "DisruptionBudgetExhausted").await;
    assert!(text(&seen, "/status/remediation/lastDenial/message").contains("all-of-them"), "{seen:#}");
    assert!(world.touches().is_empty(), "{:?}", world.touches());
    budgets.delete("all-of-them", &Default::default()).await.unwrap();
    world.nudge("paris").await;
    world
        .sees(SOON, "paris", "it is evicted", |seen| text(seen, "/status/remediation/current/phase") == "Verifying")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_one_restarts() {
    let world = World::new("remedy-two").await;
    let first = world.operator(&[]).await;
    let _second = world.replica(&[]).await;
    let connector = healthy(&world, &first, "paris", json!({})).await;
    let over = fails_and_is_cured(&world, &first, &connector).await;
    assert_eq!(outcome(&over), "Succeeded", "{over:#}");
    assert_eq!(world.attempts_of("paris").await.len(), 1);
    assert_eq!(world.touches().len(), 1, "{:?}", world.touches());
}
