//! A real Prometheus and our own probe disagree about a backend: blocked, rejected, stale, unknown, down.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::app::{App, address, running};
use crate::person::{advice, blames_nobody_between, diagnose, message, next, says};
use crate::place;
use crate::scraper::{Prometheus, scraping};
use crate::support::backends::condition;
use crate::support::http::exchange;
use crate::support::process::run;
use crate::support::world::SOON;
use crate::support::{World, eventually, text};

/// The status of a healthy backend in Prometheus is read again once a minute.
const NEXT_LOOK: Duration = Duration::from_secs(130);

/// A misbehaving backend with its control pages, whose readiness does not depend on its main port.
async fn shop(world: &World) -> (App, SocketAddr) {
    let ready = json!({"readinessProbe": {"periodSeconds": 1, "httpGet": {"path": "/_/ready", "port": 8099}}});
    let app = App::misbehave("shop", &[]).container(ready);
    app.deploy(world).await;
    let at = dialled(world).await;
    (app, at)
}

/// The address of the only pod.
async fn dialled(world: &World) -> SocketAddr {
    let pods = running(world, "shop", 1).await;
    (address(&pods[0]).expect("it runs"), 8080).into()
}

/// A backend at the Service, with these settings for Prometheus.
async fn watched(world: &World, name: &str, app: &App, prometheus: Value) {
    let mut spec = app.backend(app.at_service("/metrics"), json!({"metrics": {}}));
    spec["prometheus"] = prometheus;
    world.backend(name, spec).await;
}

/// Degraded for this cause, which the conditions `Scraped` and `Ready` report as well, while our probe passes.
async fn is_told(world: &World, within: Duration, name: &str, cause: &str) -> Value {
    let found = world.backend_is(within, name, "Degraded", cause).await;
    for type_ in ["Scraped", "Ready"] {
        assert_eq!(condition(&found, type_), ("False", cause), "{type_}: {found:#}");
    }
    assert_eq!(condition(&found, "Available"), ("True", "ProbePassed"), "{found:#}");
    assert_eq!(text(&found, "/status/diagnosis/restartHelps"), "No", "{found:#}");
    found
}

async fn is_scraped(world: &World, within: Duration, name: &str) {
    let well =
        |found: &Value| text(found, "/status/state") == "Up" && condition(found, "Scraped") == ("True", "TargetUp");
    let found = world.sees_backend(within, name, "Up, and scraped", well).await;
    assert_eq!(condition(&found, "Ready"), ("True", "Ready"), "{found:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_that_are_dropped_for_prometheus_alone_are_told_with_the_rule_that_lets_them_in() {
    let world = place::world("real-dropped").await;
    let (app, at) = shop(&world).await;
    let prometheus = Prometheus::start(&world, scraping(&[at], json!({}))).await;
    let _operator = world.operator(&[]).await;
    prometheus.says("up", "").await;
    let url = prometheus.url();
    // Before the first query: answers of Prometheus are cached for a moment.
    prometheus.host.drop_packets(at);
    prometheus.says("down", "").await;
    let source = format!("{}/32", prometheus.host.address);
    watched(&world, "known", &app, json!({"url": url, "sourceCIDR": source})).await;
    watched(&world, "by-url", &app, json!({"url": url})).await;
    watched(&world, "by-labels", &app, json!({"url": url, "job": "apps", "instance": at.to_string()})).await;
    let found = is_told(&world, SOON, "known", "BlockedForPrometheus").await;
    says(
        message(&found),
        &[&format!("no answer from http://{at}/metrics"), "while it answers us", "dropped on the way"],
    );
    says(
        advice(&found),
        &[&format!("allow TCP 8080 from {source}"), "the way back", "egress TCP 8080", "return ports"],
    );
    is_told(&world, SOON, "by-url", "BlockedForPrometheus").await;
    let found = is_told(&world, SOON, "by-labels", "BlockedForPrometheus").await;
    let there = format!("`vigie probe http://{at}/metrics` on the Prometheus host");
    says(advice(&found), &[&there, "allow TCP 8080 from Prometheus' address"]);

    let ran = diagnose(&world, "by-url");
    assert_eq!(ran.code, 3, "{ran:?}");
    says(&ran.stdout, &["is Degraded: BlockedForPrometheus (certain)", "operator   passes", "is down: Get"]);
    let commands = next(&ran.stdout);
    says(&commands[0], &[&format!("vigie probe http://{at}/metrics   # on the host of Prometheus")]);
    let there =
        run(&mut prometheus.host.command(&[env!("CARGO_BIN_EXE_vigie"), "probe", &format!("http://{at}/metrics")]));
    assert_eq!(there.code, 3, "{there:?}");
    says(&there.stdout, &["ConnectTimeout"]);
    let asked = run(std::process::Command::new("sh").args(["-c", &commands[1]])).ok();
    says(&asked, &["activeTargets", &at.to_string()]);

    // A policy that admits no client is the better explanation, provided it is known to block Prometheus.
    let policy: NetworkPolicy = serde_json::from_value(json!({
        "metadata": {"name": "default-deny"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }))
    .unwrap();
    world.api::<NetworkPolicy>().create(&PostParams::default(), &policy).await.expect("a NetworkPolicy is made");
    watched(&world, "barred", &app, json!({"url": url, "sourceCIDR": source})).await;
    let found = is_told(&world, SOON, "barred", "BlockedByNetworkPolicy").await;
    says(message(&found), &["NetworkPolicy default-deny selects the pods and does not admit Prometheus to port 8080"]);
    says(advice(&found), &[&format!("NetworkPolicy default-deny: allow TCP 8080 from {source}")]);

    prometheus.host.allow();
    prometheus.says("up", "").await;
    for name in ["known", "by-url", "by-labels"] {
        is_scraped(&world, NEXT_LOOK, name).await;
    }
    eventually(SOON, "a person sees it, too", async || match diagnose(&world, "by-url") {
        ran if ran.code == 0 => Ok(()),
        ran => Err(format!("{ran:?}")),
    })
    .await;
    // The next read finds a fault that comes later.
    prometheus.host.drop_packets(at);
    is_told(&world, NEXT_LOOK, "by-labels", "BlockedForPrometheus").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_refused_to_prometheus_alone_are_a_rejection() {
    let world = place::world("real-rejected").await;
    let (app, at) = shop(&world).await;
    let prometheus = Prometheus::start(&world, scraping(&[at], json!({}))).await;
    let _operator = world.operator(&[]).await;
    let url = prometheus.url();
    prometheus.host.reject(at, "rst");
    prometheus.says("down", "connection refused").await;
    watched(&world, "reset", &app, json!({"url": url})).await;
    let found = is_told(&world, SOON, "reset", "RejectedForPrometheus").await;
    says(message(&found), &[&format!("turned away from http://{at}/metrics (connection refused) while it answers us")]);
    says(advice(&found), &["Check first that", "is this backend", "a device that rejects", "allow TCP 8080 from"]);
    prometheus.host.allow();
    prometheus.host.reject(at, "icmp");
    prometheus.says("down", "no route to host").await;
    watched(&world, "no-route", &app, json!({"url": url})).await;
    let said = |found: &Value| message(found).contains("(no route to host) while it answers us");
    world.sees_backend(SOON, "no-route", "no route", said).await;
    let found = is_told(&world, SOON, "no-route", "RejectedForPrometheus").await;
    says(advice(&found), &["a route from Prometheus to"]);
    prometheus.host.allow();
    prometheus.says("up", "").await;
    is_scraped(&world, NEXT_LOOK, "no-route").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_interval_is_prometheus_own_and_a_scrape_is_old_by_it_alone() {
    let world = place::world("real-interval").await;
    let (app, at) = shop(&world).await;
    let prometheus = Prometheus::start(&world, scraping(&[at], json!({"scrape_interval": "20s"}))).await;
    let _operator = world.operator(&[]).await;
    prometheus.says("up", "").await;
    watched(&world, "shop", &app, json!({"url": prometheus.url()})).await;
    is_scraped(&world, SOON, "shop").await;
    // Older than two usual intervals of this Prometheus, 3 s.
    eventually(SOON, "the last scrape is 8 s old", async || {
        let target = prometheus.targets()?.into_iter().next().ok_or("no target")?;
        let last: Timestamp = text(&target, "/lastScrape").parse().map_err(|error| format!("{error}: {target}"))?;
        let age = Timestamp::now().duration_since(last);
        if age > SignedDuration::from_secs(8) { Ok(()) } else { Err(format!("{age:#}")) }
    })
    .await;
    let ran = world.vigie(&["diagnose", "backend", "shop", "-n", &world.ns, "--evidence", "-"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let evidence: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let targets = evidence.pointer("/prometheus/found/targets").unwrap_or(&Value::Null);
    assert_eq!(targets.pointer("/0/intervalMilliseconds"), Some(&json!(20_000)), "{evidence:#}");
    is_scraped(&world, SOON, "shop").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_a_pod_had_before_it_was_replaced_is_stale() {
    let world = place::world("real-stale").await;
    let (app, old) = shop(&world).await;
    let prometheus = Prometheus::start(&world, scraping(&[old], json!({}))).await;
    let _operator = world.operator(&[]).await;
    prometheus.says("up", "").await;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = world.api();
    let pod = running(&world, "shop", 1).await.remove(0);
    pods.delete(&pod.name_any(), &DeleteParams::default()).await.expect("a pod is deleted");
    let new = eventually(SOON, "the pod is replaced", async || {
        let new = dialled(&world).await;
        if new != old { Ok(new) } else { Err(format!("it is at {new} still")) }
    })
    .await;
    prometheus.says("down", "").await;
    let url = prometheus.url();
    watched(&world, "labelled", &app, json!({"url": url, "job": "apps"})).await;
    let found = is_told(&world, SOON, "labelled", "StaleTarget").await;
    says(
        message(&found),
        &[&format!("scrapes http://{old}/metrics, which is no longer"), &format!("its pods are at {}", new.ip())],
    );
    says(advice(&found), &["http_sd_configs with vigie's /sd/prometheus"]);
    assert!(!found.to_string().contains("firewall"), "{found:#}");
    prometheus.reconfigure(scraping(&[new], json!({})));
    prometheus.says("up", "").await;
    is_scraped(&world, NEXT_LOOK, "labelled").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_prometheus_does_not_scrape_is_told_as_soon_as_it_had_the_time_to_find_it() {
    let world = place::world("real-unscraped").await;
    let (app, at) = shop(&world).await;
    let other: SocketAddr = "192.0.2.9:8080".parse().unwrap();
    let mut prometheus = Prometheus::start(&world, scraping(&[other], json!({}))).await;
    let _operator = world.operator(&[]).await;
    let url = prometheus.url();
    watched(&world, "unknown", &app, json!({"url": url})).await;
    let waits = |found: &Value| condition(found, "Scraped") == ("Unknown", "NotYetScraped");
    let found = world.sees_backend(SOON, "unknown", "not yet", waits).await;
    assert_eq!(text(&found, "/status/state"), "Up", "{found:#}");
    let found = is_told(&world, 2 * NEXT_LOOK, "unknown", "NotScraped").await;
    let target = format!("http://shop.{}.svc:80/metrics", world.ns);
    says(message(&found), &[&format!("Prometheus at {url} does not know {target}")]);
    says(advice(&found), &["http_sd_configs with vigie's /sd/prometheus"]);
    // A target that relabelling drops is found at once, without a wait.
    let drop = json!({"relabel_configs": [{"source_labels": ["__address__"], "regex": ".*", "action": "drop"}]});
    prometheus.reconfigure(scraping(&[at], drop));
    watched(&world, "dropped", &app, json!({"url": url})).await;
    let found = is_told(&world, SOON, "dropped", "NotScraped").await;
    says(message(&found), &[&format!("Prometheus at {url} drops {target} by relabelling")]);
    says(advice(&found), &["relabel_configs"]);

    prometheus.kill();
    watched(&world, "down", &app, json!({"url": url})).await;
    let silent = |found: &Value| condition(found, "Scraped") == ("Unknown", "PrometheusUnreachable");
    let found = world.sees_backend(SOON, "down", "Prometheus cannot be asked", silent).await;
    // This is no fault of the backend.
    assert_eq!(text(&found, "/status/state"), "Up", "{found:#}");
    let ran = diagnose(&world, "down");
    assert_eq!(ran.code, 3, "{ran:?}");
    says(&ran.stdout, &["PrometheusDown", &format!("Prometheus at {url} cannot be asked"), "connection refused"]);
}

/// A POST to a control page of the pod.
fn control(pod: SocketAddr, page: &str) -> std::io::Result<()> {
    let to = SocketAddr::new(pod.ip(), 8099);
    let request = format!("POST {page} HTTP/1.1\r\nHost: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    exchange(to, request.as_bytes()).map(drop)
}

/// Prometheus reports the founding text, `connect: connection refused`: no party between is blamed for it, neither as
/// an alternative nor while the diagnosis is in progress.
async fn is_never_blamed(world: &World, cause: &str) -> Value {
    eventually(2 * SOON, &format!("Down {cause}"), async || {
        let found = world.get_backend("shop").await;
        blames_nobody_between(&found["status"].to_string());
        let is_so = text(&found, "/status/state") == "Down" && text(&found, "/status/diagnosis/cause") == cause;
        if is_so { Ok(found) } else { Err(format!("{:#}", found["status"])) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connection_is_told_by_the_process_and_never_blamed_on_what_lies_between() {
    let world = place::world("real-founding").await;
    let (app, at) = shop(&world).await;
    // If it were enforced, it would block all clients: a refused connection is still not the effect of a policy.
    let policy = json!({"metadata": {"name": "default-deny"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
    let policy: NetworkPolicy = serde_json::from_value(policy).unwrap();
    world.api::<NetworkPolicy>().create(&PostParams::default(), &policy).await.expect("a NetworkPolicy is made");
    let prometheus = Prometheus::start(&world, scraping(&[at], json!({}))).await;
    let _operator = world.operator(&[]).await;
    prometheus.says("up", "").await;
    let source = format!("{}/32", prometheus.host.address);
    watched(&world, "shop", &app, json!({"url": prometheus.url(), "sourceCIDR": source})).await;
    is_scraped(&world, SOON, "shop").await;

    control(at, "/_/refuse?port=main").expect("the pod answers");
    let target = prometheus.says("down", "connect: connection refused").await;
    assert_eq!(
        text(&target, "/lastError"),
        format!("Get \"http://{at}/metrics\": dial tcp {at}: connect: connection refused")
    );
    let found = is_never_blamed(&world, "MainPortDead").await;
    says(message(&found), &["nothing listens on port 8080 any more: container app of pod shop-", "answered last at"]);
    says(advice(&found), &["logs shop-", "restart it once"]);
    // One verdict: a single failure was not reported before it was confirmed.
    assert_eq!(text(&found, "/status/transitions/0/from"), "Up", "{found:#}");
    let ran = diagnose(&world, "shop");
    assert_eq!(ran.code, 3, "{ran:?}");
    says(&ran.stdout, &["Prometheus: http://", "/metrics is down: connection refused"]);
    blames_nobody_between(ran.stdout.split("IN THE CLUSTER").next().unwrap_or_default());
    control(at, "/_/open?port=main").expect("the pod answers");
    is_scraped(&world, NEXT_LOOK, "shop").await;

    // Then the whole process, as often as needed until the kubelet delays the restart for a while.
    let found = eventually(2 * SOON, "it ended, and is found out", async || {
        let _ = control(at, "/_/exit?code=0");
        let found = world.get_backend("shop").await;
        blames_nobody_between(&found["status"].to_string());
        let cause = text(&found, "/status/diagnosis/cause");
        if cause == "ExitedCleanly" { Ok(found) } else { Err(format!("{:#}", found["status"])) }
    })
    .await;
    says(message(&found), &["container app of pod shop-", "ended by itself without an error"]);
    prometheus.says("down", "connect: connection refused").await;
}
