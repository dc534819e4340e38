//! Restarts of real pods: a fault that a restart cures leads to one restart, other faults to none, and `kubectl get`,
//! events, metrics and `status.remediation` agree.

mod denied;
mod gateways;

use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::app::{App, CONTROL, merge, post, running};
use crate::person::{STARTED, explained};
use crate::place;
use crate::scraper::Prometheus;
use crate::support::backends::condition;
use crate::support::workloads::{last_attempt, outcome, remediating};
use crate::support::world::SOON;
use crate::support::{Operator, World, eventually, never, seconds, text, time};

/// `spec.remediation` without a waiting time, and with these additional fields.
fn at_once(more: Value) -> Value {
    let mut whole =
        json!({"mode": "Restart", "unhealthyForSeconds": 0, "backoffSeconds": 1, "verifyWithinSeconds": 120});
    merge(&mut whole, more);
    whole
}

/// `spec` of a backend that is restarted at once, on a site of its own.
fn cared_for(app: &App, target: Value, probe: Value) -> Value {
    let mut spec = app.backend(target, probe);
    spec["remediation"] = at_once(json!({}));
    spec["site"] = json!(app.name);
    spec
}

/// The objects of one vigie kind.
fn kind(world: &World, kind: &str) -> Api<DynamicObject> {
    if kind == "connector" { world.connectors() } else { world.backends() }
}

/// Waits until `wanted` is true for a vigie object.
async fn sees(world: &World, of: &str, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(STARTED, &format!("{of} {name}: {what}"), async || {
        let found = kind(world, of).get(name).await.map_err(|error| error.to_string())?;
        let found = serde_json::to_value(found).unwrap();
        if wanted(&found) { Ok(found) } else { Err(format!("{:#}", found["status"])) }
    })
    .await
}

/// The value that `kubectl get` prints below a heading.
fn printed(world: &World, of: &str, name: &str, heading: &str) -> String {
    let table = world.kubectl(&["get", of, name]).ok();
    let mut lines = table.lines();
    let (heads, row) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let at = heads.find(heading).unwrap_or_else(|| panic!("no {heading} in {table}"));
    row[at..].split_whitespace().next().unwrap_or_default().to_owned()
}

/// Waits until the only attempt has succeeded, and fails unless all interfaces report the same.
async fn is_cured(world: &World, operator: &Operator, of: &str, name: &str, well: &str) -> Value {
    let found = sees(world, of, name, "an outcome", |found| !outcome(found).is_empty()).await;
    let (past, remedies) = (last_attempt(&found), &found["status"]["remediation"]);
    assert_eq!(text(past, "/outcome"), "Succeeded", "{found:#}");
    assert_eq!((&past["restarted"], &past["cured"]), (&json!(true), &json!(true)), "{past:#}");
    assert_eq!((&remedies["restarts"], remedies.get("current")), (&json!(1), None), "{remedies:#}");
    assert_eq!(remedies["history"].as_array().map(Vec::len), Some(1), "{remedies:#}");
    assert_eq!(remediating(&found), ("False", "Idle"), "{found:#}");
    // A passing probe is a cure; the next read finds that the last old pod is gone as well.
    let found = sees(world, of, name, well, |found| text(found, "/status/state") == well).await;
    assert_eq!(printed(world, of, name, "RESTARTS"), "1");
    assert_eq!(printed(world, of, name, "STATE"), well);
    let touches: Vec<_> = world.touches().into_iter().filter(|touch| touch.is_success()).collect();
    assert_eq!(touches.len(), 1, "{touches:?}");
    for reason in ["RestartStarted", "RestartSucceeded"] {
        world.event(SOON, name, reason).await;
        assert_eq!(world.events(name, reason).await.len(), 1, "{reason}");
    }
    let scrape = operator.scrape();
    assert_eq!(scrape.sum("vigie_remedies_total", &["result=\"Succeeded\""]), 1.0);
    assert_eq!(scrape.sum("vigie_remedies_total", &[]), 1.0);
    assert_eq!(scrape.samples("vigie_remedy_in_flight"), [(String::new(), 0.0)]);
    found
}

/// Fails unless the Deployment was rolled out once, for this attempt, by its own ReplicaSets.
async fn was_rolled_out_once(world: &World, app: &str, attempt: &str) {
    let sets = world.api::<ReplicaSet>().list(&ListParams::default().labels(&format!("app={app}"))).await.unwrap();
    assert_eq!(sets.items.len(), 2, "the old template and the new one");
    assert_eq!(world.attempts_of(app).await, [attempt]);
}

/// The id of the newest finished attempt.
fn attempt(of: &Value) -> &str {
    text(last_attempt(of), "/id")
}

/// Fails if the operator changes anything else within a while.
async fn nothing_more(world: &World, so_far: usize) {
    never(seconds(8), "another change", async || {
        let touches = world.touches();
        (touches.len() != so_far).then(|| format!("{touches:?}"))
    })
    .await;
}

/// Creates or changes a ConfigMap with these settings. Null removes a key.
async fn settings(world: &World, name: &str, data: Value) {
    let maps = world.api::<ConfigMap>();
    if maps.get_opt(name).await.expect("a ConfigMap is read").is_none() {
        let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": name}, "data": data})).unwrap();
        maps.create(&PostParams::default(), &map).await.expect("a ConfigMap is made");
    } else {
        let patch = Patch::Merge(json!({"data": data}));
        maps.patch(name, &PatchParams::default(), &patch).await.expect("a ConfigMap is patched");
    }
}

fn uids(pods: &[Pod]) -> Vec<String> {
    pods.iter().filter_map(ResourceExt::uid).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlocked_server_is_restarted_once_and_its_cure_is_told_everywhere() {
    let world = place::world("remedy-hang").await;
    let operator = world.operator(&[]).await;
    let app = App::misbehave("shop", &[]);
    app.deploy(&world).await;
    world.backend("shop", cared_for(&app, app.at_service("/metrics"), json!({"metrics": {}}))).await;
    let before = running(&world, "shop", 1).await;
    let well = world.backend_is(SOON, "shop", "Up", "").await;
    assert_eq!(remediating(&well), ("False", "Idle"), "{well:#}");
    assert_eq!(printed(&world, "monitoredbackend", "shop", "RESTARTS"), "0");

    post(&before[0], CONTROL, "/_/hang?port=main");
    let going = |found: &Value| remediating(found) == ("True", "RestartInProgress");
    let found = world.sees_backend(SOON, "shop", "a restart", going).await;
    assert_eq!(text(&found, "/status/remediation/current/cause"), "Hung", "{found:#}");
    let cured = is_cured(&world, &operator, "monitoredbackend", "shop", "Up").await;
    assert_eq!(text(last_attempt(&cured), "/cause"), "Hung", "{cured:#}");
    was_rolled_out_once(&world, "shop", attempt(&cured)).await;
    assert_ne!(uids(&running(&world, "shop", 1).await), uids(&before));
    nothing_more(&world, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_spring_application_is_restarted_once_and_waited_for_while_it_starts() {
    // The old and the new pod run side by side.
    let _jvms = place::jvms(2).await;
    let world = place::world("remedy-spring").await;
    let operator = world.operator(&[]).await;
    let asks =
        json!({"httpGet": {"path": "/actuator/health", "port": "http"}, "periodSeconds": 2, "timeoutSeconds": 5});
    let app = App::spring("shop", &[("SPRING_DATASOURCE_URL", "jdbc:h2:mem:backend")])
        .container(json!({"readinessProbe": asks}));
    app.deploy(&world).await;
    world.backend("shop", patient(&app)).await;
    explained_up(&world, "shop").await;
    // A hung pod fails its readiness probe as well: that is no rollout, although not every replica is available.
    post(&running(&world, "shop", 1).await[0], 8080, "/hang");
    let cured = is_cured(&world, &operator, "monitoredbackend", "shop", "Up").await;
    assert_eq!(text(last_attempt(&cured), "/cause"), "Hung", "{cured:#}");
    was_rolled_out_once(&world, "shop", attempt(&cured)).await;
}

/// A backend with a JVM: on a loaded machine it is slow, which must not restart it.
fn patient(app: &App) -> Value {
    let probe = json!({"actuator": {}, "intervalSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3});
    let mut spec = cared_for(app, app.at_service("/actuator/health"), probe);
    spec["startupSeconds"] = json!(240);
    spec
}

async fn explained_up(world: &World, name: &str) {
    world.backend_is(STARTED, name, "Up", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_replicas_only_the_bad_one_is_replaced() {
    let world = place::world("remedy-one").await;
    let operator = world.operator(&[]).await;
    let app = App::misbehave("shop", &[]).spec(json!({"replicas": 3}));
    app.deploy(&world).await;
    // The probe reaches the bad one now and then; once is enough, and a few good ones after it are no recovery.
    let often = json!({"metrics": {}, "failureThreshold": 1, "successThreshold": 8});
    let mut spec = cared_for(&app, app.at_service("/metrics"), often);
    spec["startupSeconds"] = json!(2);
    world.backend("shop", spec).await;
    let before = running(&world, "shop", 3).await;
    world.backend_is(SOON, "shop", "Up", "").await;

    post(&before[1], CONTROL, "/_/hang?port=main");
    let cured = is_cured(&world, &operator, "monitoredbackend", "shop", "Up").await;
    assert_eq!(text(last_attempt(&cured), "/cause"), "OneReplicaBad", "{cured:#}");
    only_this_was_replaced(&world, &before, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_replicas_that_are_probed_one_by_one_the_bad_one_is_replaced_while_the_others_serve() {
    let world = place::world("remedy-one-of-pods").await;
    let operator = world.operator(&[]).await;
    let app = App::misbehave("shop", &[]).spec(json!({"replicas": 3}));
    app.deploy(&world).await;
    // The pods are young, and no startupSeconds says how long a start takes: they have answered, so they have started.
    let spec = cared_for(&app, app.at_pods("/metrics"), json!({"metrics": {}, "failureThreshold": 3}));
    world.backend("shop", spec).await;
    let before = running(&world, "shop", 3).await;
    world.backend_is(SOON, "shop", "Up", "").await;
    post(&before[0], CONTROL, "/_/hang?port=main");
    let bad = explained(&world, "shop", "Degraded", "OneReplicaBad", &["2 of 3 pass"]).await;
    assert_eq!(condition(&bad, "Ready"), ("False", "OneReplicaBad"), "{bad:#}");
    let cured = is_cured(&world, &operator, "monitoredbackend", "shop", "Up").await;
    assert_eq!(text(last_attempt(&cured), "/cause"), "OneReplicaBad", "{cured:#}");
    only_this_was_replaced(&world, &before, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_replica_is_left_alone_for_as_long_as_the_spec_says_and_replaced_at_once_when_a_person_asks() {
    let world = place::world("remedy-asked").await;
    let operator = world.operator(&[]).await;
    let app = App::misbehave("shop", &[]).spec(json!({"replicas": 3}));
    app.deploy(&world).await;
    let mut spec = cared_for(&app, app.at_pods("/metrics"), json!({"metrics": {}}));
    spec["remediation"]["unhealthyForSeconds"] = json!(3600);
    world.backend("shop", spec).await;
    let before = running(&world, "shop", 3).await;
    world.backend_is(SOON, "shop", "Up", "").await;
    post(&before[0], CONTROL, "/_/hang?port=main");
    // Both last an hour: it was deployed just now, and fails since just now. A person's request passes both.
    let reasons = ["RecentlyRestartedByOthers", "NotLongEnough"];
    let waits = |found: &Value| {
        let (status, reason) = remediating(found);
        status == "False" && reasons.contains(&reason) && condition(found, "Ready") == ("False", "OneReplicaBad")
    };
    world.sees_backend(2 * SOON, "shop", "it waits", waits).await;
    nothing_more(&world, 0).await;

    let asked = world.vigie(&["restart", "backend", "shop", "-n", &world.ns, "--wait"]);
    assert_eq!(asked.code, 0, "{asked:?}");
    let cured = is_cured(&world, &operator, "monitoredbackend", "shop", "Up").await;
    assert_eq!(text(last_attempt(&cured), "/cause"), "Requested", "{cured:#}");
    only_this_was_replaced(&world, &before, 0).await;
}

/// Fails unless the pod at `bad` is gone, the others are the same, no template changed, and the pod was evicted.
async fn only_this_was_replaced(world: &World, before: &[Pod], bad: usize) {
    let before = uids(before);
    let after = uids(&running(world, "shop", 3).await);
    let kept: Vec<bool> = before.iter().map(|uid| after.contains(uid)).collect();
    let wanted: Vec<bool> = (0..before.len()).map(|at| at != bad).collect();
    assert_eq!(kept, wanted, "{before:?} {after:?}");
    assert!(world.attempts_of("shop").await.is_empty());
    let touches = world.touches();
    assert!(touches.iter().all(|touch| touch.resource == "pods/eviction"), "{touches:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cure_is_only_one_when_prometheus_has_scraped_it_after_the_restart() {
    /// Long enough that a wait for it is visible.
    const INTERVAL: Duration = seconds(15);
    let world = place::world("remedy-scraped").await;
    let prometheus = Prometheus::start(&world, json!([])).await;
    let node = place::cluster().variable("CLUSTER_NODE_ADDRESS").parse().expect("the node has an address");
    let operator = world.operator_at(node, &["--prometheus-url", &prometheus.url()]).await;
    let list = json!([{"url": format!("{}/sd/prometheus", operator.url()), "refresh_interval": "2s"}]);
    let every = format!("{}s", INTERVAL.as_secs());
    prometheus.reconfigure(json!([{"job_name": "vigie-backends", "scrape_interval": every, "http_sd_configs": list}]));
    let app = App::misbehave("shop", &[]);
    app.deploy(&world).await;
    world.backend("shop", cared_for(&app, app.at_service("/metrics"), json!({"metrics": {}}))).await;
    let before = running(&world, "shop", 1).await;
    let scraped =
        |found: &Value| text(found, "/status/state") == "Up" && condition(found, "Scraped") == ("True", "TargetUp");
    world.sees_backend(3 * SOON, "shop", "Up, and scraped", scraped).await;

    post(&before[0], CONTROL, "/_/hang?port=main");
    let restarted = |found: &Value| text(found, "/status/remediation/current/phase") == "Verifying";
    let found = world.sees_backend(2 * SOON, "shop", "it is verified", restarted).await;
    let since = time(&found, "/status/remediation/current/restartedTime");
    // Each scrape is seen: Prometheus is queried far more often than it scrapes.
    let mut scrapes = std::collections::BTreeSet::new();
    let found = eventually(2 * SOON, "an outcome", async || {
        let found = world.get_backend("shop").await;
        for target in prometheus.targets()? {
            if text(&target, "/health") == "up" {
                scrapes.insert(time(&target, "/lastScrape"));
            }
        }
        if outcome(&found).is_empty() { Err(format!("{:#}", found["status"])) } else { Ok(found) }
    })
    .await;
    // The end time has whole seconds.
    let until = time(last_attempt(&found), "/endTime") + jiff::SignedDuration::from_secs(1);
    assert!(scrapes.iter().any(|at| *at >= since && *at < until), "{scrapes:?}, {since}, {found:#}");
    assert!(text(last_attempt(&found), "/message").contains("scraped by Prometheus"), "{found:#}");
    let cured = is_cured(&world, &operator, "monitoredbackend", "shop", "Up").await;
    was_rolled_out_once(&world, "shop", attempt(&cured)).await;
}
