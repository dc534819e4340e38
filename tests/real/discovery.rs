//! `/sd/prometheus`: a real Prometheus discovers the backends by it and scrapes them, and the operator reads the
//! results.

use serde_json::{Value, json};

use crate::app::{App, running};
use crate::place;
use crate::scraper::Prometheus;
use crate::support::backends::condition;
use crate::support::world::SOON;
use crate::support::{eventually, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_finds_every_backend_that_speaks_http_and_each_knows_its_own_targets() {
    let world = place::world("real-discovery").await;
    let prometheus = Prometheus::start(&world, json!([])).await;
    let node = place::cluster().variable("CLUSTER_NODE_ADDRESS").parse().expect("the node has an address");
    let url = prometheus.url();
    let operator = world.operator_at(node, &["--prometheus-url", &url]).await;
    // As docs/backends.md shows it, except for the list's interval, which is a minute there.
    let discover = json!([{"job_name": "vigie-backends", "http_sd_configs": [
        {"url": format!("{}/sd/prometheus", operator.url()), "refresh_interval": "2s"},
    ]}]);
    prometheus.reconfigure(discover);

    let (shop, web) = (App::misbehave("shop", &[]), App::misbehave("web", &[]).spec(json!({"replicas": 2})));
    shop.deploy(&world).await;
    web.deploy(&world).await;
    running(&world, "shop", 1).await;
    running(&world, "web", 2).await;
    let labelled = |mut spec: Value| {
        spec["prometheus"] = json!({"url": url, "job": "vigie-backends"});
        spec
    };
    let mut service = shop.backend(shop.at_service("/metrics"), json!({"metrics": {}}));
    service["site"] = json!("paris");
    world.backend("service", service).await;
    let pods = json!({"pods": {"port": "http", "path": "/metrics"}});
    world.backend("pods", labelled(web.backend(pods, json!({})))).await;
    let absent = json!({"service": {"name": "nobody", "port": "http"}});
    world.backend("absent", labelled(web.backend(absent, json!({})))).await;
    let address = running(&world, "shop", 1).await[0].status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap();
    world.backend("tcp", shop.backend(json!({"url": format!("tcp://{address}:8080")}), json!({}))).await;

    eventually(2 * SOON, "all are scraped", async || {
        let mut up = prometheus.query("up")?;
        up.sort();
        let wanted = [("pods", "1"), ("pods", "1"), ("service", "1")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        if up == wanted { Ok(()) } else { Err(format!("{up:?}")) }
    })
    .await;
    for target in prometheus.targets().unwrap() {
        assert_eq!(text(&target, "/labels/namespace"), world.ns, "{target:#}");
        assert_eq!(text(&target, "/labels/job"), "vigie-backends", "{target:#}");
        let site = if text(&target, "/labels/name") == "service" { "paris" } else { "" };
        assert_eq!(text(&target, "/labels/site"), site, "{target:#}");
    }
    for name in ["service", "pods"] {
        let scraped =
            |found: &Value| text(found, "/status/state") == "Up" && condition(found, "Scraped") == ("True", "TargetUp");
        world.sees_backend(2 * SOON, name, "Up, and scraped", scraped).await;
    }
    // No state was reported too early: none of them was ever worse than Up.
    for name in ["service", "pods"] {
        let found = world.get_backend(name).await;
        let states = found.pointer("/status/transitions").cloned().unwrap_or_default().to_string();
        assert!(!states.contains("NotScraped") && !states.contains("StaleTarget"), "{states}");
    }
    // A target that does not exist, and one that Prometheus cannot scrape, are not in the list.
    let refused = |found: &Value| condition(found, "Accepted") == ("False", "InvalidTarget");
    let absent = world.sees_backend(SOON, "absent", "refused", refused).await;
    let tcp = world.backend_is(SOON, "tcp", "Up", "").await;
    for found in [absent, tcp] {
        assert_eq!(condition(&found, "Scraped"), ("", ""), "{found:#}");
    }
}
