//! MonitoredBackends: probed, judged, explained and listed.

use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::support::backends::{condition, probed};
use crate::support::http::get;
use crate::support::operator::free_port;
use crate::support::world::SOON;
use crate::support::{Misbehave, World, eventually, seconds, text};

/// Flags of an operator whose backends are processes of this machine.
const LOCAL: [&str; 2] = ["--allow-network", "127.0.0.0/8"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hang_is_told_once_with_its_cause_and_the_recovery_says_how_long_it_lasted() {
    let world = World::new("backend-hang").await;
    let target = Misbehave::start();
    let _operator = world.operator(&LOCAL).await;
    let patient = json!({"metrics": {}, "timeoutSeconds": 2, "failureThreshold": 4});
    world.backend("shop", probed(&target.url("/metrics"), patient)).await;
    // With the default timeout, which is as long as this short interval: a hanging probe takes all of the interval.
    let brisk = json!({"target": {"url": target.url("/metrics")}, "probe": {"intervalSeconds": 1}});
    world.backend("brisk", brisk).await;
    world.backend_is(SOON, "brisk", "Up", "").await;
    let up = world.backend_is(SOON, "shop", "Up", "").await;
    assert_eq!(condition(&up, "Ready"), ("True", "Ready"), "{up:#}");
    assert_eq!(condition(&up, "MetricsExposed"), ("True", "Exposed"), "{up:#}");
    let table = world.kubectl(&["get", "monitoredbackends"]).ok();
    let lines: Vec<&str> = table.lines().collect();
    for column in ["NAME", "STATE", "READY", "CAUSE", "LATENCY", "LAST PROBE", "RESTARTS", "AGE"] {
        assert!(lines[0].contains(column), "{table}");
    }
    assert!(lines[2].starts_with("shop ") && lines[2].contains(" Up ") && lines[2].contains(" True "), "{table}");

    target.set("hang");
    let down = world.backend_is(SOON, "shop", "Down", "Hung").await;
    assert_eq!(condition(&down, "Available"), ("False", "FirstByteTimeout"), "{down:#}");
    assert_eq!(text(&down, "/status/vantages/0/errorClass"), "FirstByteTimeout", "{down:#}");
    world.backend_is(SOON, "brisk", "Down", "Hung").await;
    let told = world.event(SOON, "shop", "Down").await;
    assert_eq!(told.type_.as_deref(), Some("Warning"));

    target.set("ok");
    let back = world.backend_is(SOON, "shop", "Up", "").await;
    assert_eq!(text(&back, "/status/transitions/0/from"), "Down", "{back:#}");
    let again = |note: Option<String>| note.is_some_and(|note| note.contains("Up again after"));
    eventually(SOON, "the event of the recovery", async || {
        let up = world.events("shop", "Up").await;
        if up.into_iter().any(|event| again(event.note)) { Ok(()) } else { Err("none".to_owned()) }
    })
    .await;
    assert_eq!(world.events("shop", "Down").await.len(), 1, "one outage, one event");
}

/// One fault and the status that it must lead to.
struct Fault {
    name: &'static str,
    url: String,
    probe: Value,
    state: &'static str,
    cause: &'static str,
    class: &'static str,
}

fn faults(target: &Misbehave) -> Vec<Fault> {
    let page = json!({"metrics": {}});
    let health = |mode: &str| json!({"actuator": {"basePath": format!("/spring/{mode}/actuator")}});
    let down = |name, path: &str, cause, class| Fault {
        name,
        url: target.url(path),
        probe: page.clone(),
        state: "Down",
        cause,
        class,
    };
    vec![
        Fault { url: format!("http://127.0.0.1:{}/", free_port()), ..down("refused", "", "NothingListens", "Refused") },
        down("unavailable", "/status/503/metrics", "ServerError", "HTTPStatus"),
        down("unauthorized", "/auth/bearer/metrics", "AuthenticationRequired", "HTTPStatus"),
        down("limited", "/status/429/metrics", "RateLimited", "HTTPStatus"),
        down("elsewhere", "/redirect/other-host/metrics", "UnexpectedAnswer", "HTTPStatus"),
        down("login", "/redirect/login/metrics", "AuthenticationRequired", "ContentType"),
        down("html", "/html/metrics", "NotMetrics", "ContentType"),
        down("broken", "/exposition/broken;kind=bad-value;line=4/metrics", "MalformedMetrics", "Exposition"),
        // Ten MiB are decompressed before the body is too large; on a loaded machine that takes long.
        Fault {
            probe: json!({"metrics": {}, "intervalSeconds": 60, "timeoutSeconds": 30, "failureThreshold": 1}),
            ..down("bomb", "/gzip/bomb/metrics", "TooLarge", "BodyTooLarge")
        },
        // The actuator on the same port answers.
        down("slow", "/slow/metrics/metrics", "SlowMetrics", "FirstByteTimeout"),
        Fault { probe: health("db-down"), ..down("database", "/healthz", "DependencyDown", "HTTPStatus") },
        Fault {
            state: "Degraded",
            probe: health("unknown"),
            ..down("unsure", "/healthz", "HealthUnknown", "Assertion")
        },
        down("closed", "/close/metrics", "Unexplained", "Reset"),
        down("gibberish", "/not-http/metrics", "UnexpectedAnswer", "NotHTTP"),
        Fault { url: format!("https://{}/metrics", target.main), ..down("tls", "", "SchemeMismatch", "NotTLS") },
        Fault {
            probe: json!({"metrics": {"required": ["misbehave_requests_total"]}}),
            ..down("missing", "/exposition/missing/metrics", "MetricMissing", "MissingMetric")
        },
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_gets_its_cause_and_its_error_class() {
    let world = World::new("backend-faults").await;
    let target = Misbehave::start();
    let operator = world.operator(&LOCAL).await;
    let faults = faults(&target);
    for fault in &faults {
        world.backend(fault.name, probed(&fault.url, fault.probe.clone())).await;
    }
    // All faults at once, so that a failure lists every one that differs.
    eventually(seconds(60), "every fault is explained", async || {
        let mut wrong = Vec::new();
        for Fault { name, state, cause, class: wanted, .. } in &faults {
            let found = world.get_backend(name).await;
            let says = |pointer| text(&found, pointer);
            let vantages = found["status"]["vantages"].as_array();
            let failing = vantages.into_iter().flatten().find(|vantage| vantage["ok"] == json!(false));
            let class = failing.map_or("", |failing| text(failing, "/errorClass"));
            let seen = (says("/status/state"), says("/status/diagnosis/cause"), class);
            if seen != (*state, *cause, *wanted) {
                let message = says("/status/diagnosis/message");
                wrong.push(format!("{name}: {seen:?}, not {:?}: {message}", (state, cause, wanted)));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(format!("\n{}", wrong.join("\n"))) }
    })
    .await;
    let broken = world.get_backend("broken").await;
    assert!(text(&broken, "/status/diagnosis/message").contains("line 4"), "{broken:#}");
    assert!(!broken["status"].to_string().contains("notanumber"), "the content of the line: {broken:#}");
    let missing = world.get_backend("missing").await;
    assert!(text(&missing, "/status/diagnosis/message").contains("misbehave_requests_total"), "{missing:#}");
    let scrape = operator.scrape();
    let failures = |labels: &[&str]| scrape.sum("vigie_probe_failures_total", labels);
    assert!(failures(&["error_class=\"Refused\"", "phase=\"Connect\""]) >= 2.0, "{}", scrape.0);
    assert!(failures(&["error_class=\"Exposition\"", "phase=\"Body\""]) >= 2.0, "{}", scrape.0);
    let cause = ["name=\"html\"", "kind=\"MonitoredBackend\"", "cause=\"NotMetrics\""];
    assert_eq!(scrape.sum("vigie_diagnosis_info", &cause), 1.0, "{}", scrape.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_not_there_is_refused_with_its_name() {
    let world = World::new("backend-invalid").await;
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "orders"},
        "spec": {"selector": {"app": "orders"}, "ports": [{"name": "web", "port": 8080}]},
    }))
    .unwrap();
    world.api::<Service>().create(&PostParams::default(), &service).await.unwrap();
    let _operator = world.operator(&[]).await;
    let pods = json!({"target": {"pods": {"port": 80}}, "workloadRef": {"kind": "Deployment", "name": "no-such"}});
    let costly = json!({
        "target": {"url": "http://192.0.2.1/"},
        "probe": {"http": {"bodyMatches": "[ab]*a[ab]{10000}c"}},
    });
    let cases = [
        ("service", json!({"target": {"service": {"name": "no-such", "port": 80}}}), "InvalidTarget", "no-such"),
        ("number", json!({"target": {"service": {"name": "orders", "port": 81}}}), "InvalidTarget", "web 8080"),
        ("port", json!({"target": {"service": {"name": "orders", "port": "admin"}}}), "InvalidTarget", "admin"),
        ("workload", pods, "WorkloadNotFound", "no-such"),
        ("expression", costly, "InvalidTarget", "spec.probe.http.bodyMatches is too large"),
    ];
    for (name, spec, _, _) in &cases {
        world.backend(name, spec.clone()).await;
    }
    for (name, _, cause, named) in cases {
        let said = world.sees_backend(SOON, name, cause, |found| text(found, "/status/diagnosis/cause") == cause).await;
        assert_eq!(condition(&said, "Accepted"), ("False", cause), "{said:#}");
        assert_eq!(condition(&said, "Ready"), ("False", cause), "{said:#}");
        assert_eq!(condition(&said, "Stalled"), ("True", cause), "{said:#}");
        assert_eq!(text(&said, "/status/state"), "Pending", "it was never probed: {said:#}");
        assert!(said["status"]["conditions"].to_string().contains(named), "{named}: {said:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_backends_are_listed_for_prometheus_for_people_and_in_metrics_and_none_after_deletion() {
    let world = World::new("backend-lists").await;
    let target = Misbehave::start();
    let operator = world.operator(&LOCAL).await;
    let mut shop = probed(&target.url("/metrics"), json!({"metrics": {}, "timeoutSeconds": 2, "failureThreshold": 4}));
    shop["site"] = json!("lyon");
    world.backend("shop", shop).await;
    world.backend("sick", probed(&target.url("/status/500/metrics"), json!({"metrics": {}}))).await;
    world.backend("lost", json!({"target": {"service": {"name": "no-such", "port": 80}}})).await;
    world.backend_is(SOON, "shop", "Up", "").await;
    world.backend_is(SOON, "sick", "Down", "ServerError").await;
    world.backend_is(SOON, "lost", "Pending", "InvalidTarget").await;

    let found = get(operator.admin(), &format!("/sd/prometheus?namespace={}", world.ns)).unwrap();
    assert_eq!((found.status, found.header("content-type")), (200, Some("application/json")), "{found:?}");
    let group = |name: &str, site: &str, path: &str| {
        json!({"targets": [target.main.to_string()], "labels": {
            "namespace": world.ns, "name": name, "site": site, "__scheme__": "http", "__metrics_path__": path,
        }})
    };
    let expected = [group("shop", "lyon", "/metrics"), group("sick", "", "/status/500/metrics")];
    assert_eq!(found.json(), json!(expected));

    let views = get(operator.admin(), "/api/v1/backends").unwrap().json();
    let view = |at: usize| ["name", "state", "cause"].map(|key| text(&views["items"][at], &format!("/{key}")));
    assert_eq!(view(0), ["lost", "Pending", "InvalidTarget"], "{views:#}");
    assert_eq!(view(1), ["shop", "Up", ""], "{views:#}");
    assert_eq!(view(2), ["sick", "Down", "ServerError"], "{views:#}");
    let table = world.vigie(&["get", "backends", "-n", &world.ns, "--operator", &operator.url()]).ok();
    let row = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(row("shop").contains("Up") && row("sick").contains("ServerError"), "{table}");

    let scrape = operator.scrape();
    let of = |metric: &str, labels: &[&str]| scrape.sum(metric, labels);
    assert_eq!(of("vigie_probe_success", &["name=\"shop\""]), 1.0, "{}", scrape.0);
    assert_eq!(of("vigie_probe_success", &["name=\"sick\""]), 0.0, "{}", scrape.0);
    assert_eq!(of("vigie_backend_state", &["name=\"shop\"", "state=\"Up\""]), 1.0, "{}", scrape.0);
    assert_eq!(of("vigie_backend_state", &["name=\"sick\"", "state=\"Down\""]), 1.0, "{}", scrape.0);
    assert_eq!(of("vigie_backend_state", &["name=\"sick\""]), 1.0, "one state is 1: {}", scrape.0);
    assert_eq!(of("vigie_backends", &[]), 3.0, "{}", scrape.0);
    assert!(of("vigie_probe_failures_total", &["error_class=\"HTTPStatus\"", "phase=\"Body\""]) >= 2.0);
    assert!(scrape.0.contains("vigie_probe_duration_seconds{"), "{}", scrape.0);

    for name in ["shop", "sick", "lost"] {
        world.backends().delete(name, &DeleteParams::default()).await.unwrap();
    }
    eventually(SOON, "no series is left", async || {
        let scrape = operator.scrape().0;
        let left =
            scrape.lines().find(|line| ["shop", "sick", "lost"].iter().any(|n| line.contains(&format!("\"{n}\""))));
        left.map_or(Ok(()), |line| Err(line.to_owned()))
    })
    .await;
    assert_eq!(get(operator.admin(), "/sd/prometheus").unwrap().json(), json!([]));
}
