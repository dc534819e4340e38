//! Which waits delay a round, and how much memory a waiting round takes.

use futures::FutureExt as _;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::api::{Cause, Key, MonitoredBackend};
use crate::cluster::events::Reporter;
use crate::cluster::fake::{Fake, Mode};
use crate::health::availability::Availability;
use crate::leadership::Leadership;
use crate::metrics::{Metrics, PanickedTask};
use crate::monitor::context::{Parts, ProbeSettings, READS_AT_ONCE};
use crate::probe::{Failure, Policy, Spent};
use crate::schedule::Watchdog;
use crate::time::Clock;

fn monitor(client: kube::Client) -> Arc<Monitor> {
    monitor_that_wakes(client, Box::new(|_| {}))
}

fn monitor_that_wakes(client: kube::Client, wake: Box<dyn Fn(&Key) + Send + Sync>) -> Arc<Monitor> {
    let parts = Parts {
        reporter: Reporter { client: client.clone(), instance: "vigie-0".to_owned() },
        client,
        clock: Clock::default(),
        leadership: watch::channel(Leadership::follower()).1,
        metrics: Arc::new(Metrics::register(&mut prometheus_client::registry::Registry::default())),
        watchdog: Watchdog::new(Clock::default()),
        wake,
        agents: Box::new(|_, _| None),
    };
    let settings = ProbeSettings {
        pod: None,
        policy: Policy { allow: vec!["127.0.0.0/8".parse().expect("a network")], ..Policy::default() },
        probe_concurrency: 16,
        prometheus_url: None,
    };
    Monitor::new(parts, settings).0
}

fn backend(monitor: &Monitor, target: serde_json::Value) -> Arc<Backend> {
    backend_of(monitor, json!({ "target": target }))
}

fn backend_of(monitor: &Monitor, spec: serde_json::Value) -> Arc<Backend> {
    let object: MonitoredBackend = serde_json::from_value(json!({
        "apiVersion": "vigie.dev/v1alpha1",
        "kind": "MonitoredBackend",
        "metadata": { "name": "checkout", "namespace": "shop", "uid": "5f5d4b5e-6c7a-4a4b-9d53-1d1c9c0e7a11" },
        "spec": spec,
    }))
    .expect("a backend");
    monitor.backends.upsert(&object, monitor.parts.clock.read()).backend
}

#[tokio::test(start_paused = true)]
async fn looks_that_hang_keep_no_probe_waiting() {
    let monitor = monitor(Fake::new().client());
    let backend = backend(&monitor, json!({ "url": "http://192.0.2.7:8080/" }));
    let investigates =
        |namespace: usize| monitor.investigations.acquire(&format!("other-{namespace}").into(), false).now_or_never();
    let _hang: Vec<_> = (0..READS_AT_ONCE).map_while(investigates).collect();
    let begin = Instant::now();
    let found = resolved(&monitor, &backend).await.expect("a URL needs no lookup");
    assert_eq!(found.url, "http://192.0.2.7:8080/");
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn while_the_api_server_hangs_what_was_known_is_dialled_and_almost_on_time() {
    let server = Fake::new();
    let service = json!({ "metadata": { "name": "checkout", "namespace": "shop" },
        "spec": { "clusterIP": "192.0.2.9", "selector": { "app": "checkout" }, "ports": [{ "port": 8080 }] } });
    server.put("/api/v1/namespaces/shop/services/checkout", service);
    let monitor = monitor(server.client());
    let backend = backend(&monitor, json!({ "service": { "name": "checkout", "port": 8080 } }));
    let known = resolved(&monitor, &backend).await.expect("the Service is there");
    tokio::time::advance(STEADY_TTL).await;
    server.set_mode(Mode::Hangs);
    let begin = Instant::now();
    let found = resolved(&monitor, &backend).await.expect("it was known");
    assert!(Arc::ptr_eq(&found, &known));
    assert!(begin.elapsed() <= LOOKUP_TIMEOUT * 2, "after {:?}", begin.elapsed());
    server.set_mode(Mode::Up);
    let found = resolved(&monitor, &backend).await.expect("the Service is there");
    assert!(!Arc::ptr_eq(&found, &known), "it is looked up again once that is possible");
}

#[tokio::test]
async fn a_round_that_waits_is_small() {
    let monitor = monitor(Fake::new().client());
    let backend = backend(&monitor, json!({ "url": "http://192.0.2.7:8080/" }));
    let size = size_of_val(&run(&monitor, &backend, monitor.parts.clock.now()));
    assert!(size < 4096, "{size} bytes, and thousands may wait");
}

/// A web server at `address` that answers 200, or accepts and sends nothing while `hangs` says so.
async fn web(address: &str, port: u16, hangs: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind((address, port)).await.expect("loopback has every address");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if hangs.load(Ordering::Relaxed) {
                silent.push(stream);
                continue;
            }
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    });
    port
}

/// Deployment `web` with a pod at each of these addresses of loopback, and Service `web` in front of them, whose address is
/// the first one. The pods have run for a minute only.
fn deploy(server: &Fake, port: u16, addresses: &[&str]) {
    let labels = json!({ "app": "web" });
    let spec = json!({ "replicas": addresses.len(), "selector": { "matchLabels": labels }, "template": {} });
    let count = addresses.len();
    let status =
        json!({ "observedGeneration": 1, "replicas": count, "updatedReplicas": count, "readyReplicas": count });
    server.put(
        "/apis/apps/v1/namespaces/shop/deployments/web",
        json!({ "metadata": { "name": "web", "namespace": "shop", "uid": "d1", "generation": 1 }, "spec": spec, "status": status }),
    );
    let owner = |kind: &str, name: &str, uid: &str| json!([{ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true }]);
    server.put(
        "/apis/apps/v1/namespaces/shop/replicasets/web-7",
        json!({ "metadata": { "name": "web-7", "namespace": "shop", "uid": "r1", "labels": labels, "ownerReferences": owner("Deployment", "web", "d1"),
            "annotations": { "deployment.kubernetes.io/revision": "1" } }, "spec": { "selector": { "matchLabels": labels } } }),
    );
    // Longer than a pod may take to start: a younger one that never passed may still be starting.
    let began = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(600);
    for (number, address) in addresses.iter().enumerate() {
        let name = format!("web-{number}");
        let running = json!({ "name": "app", "ready": true, "restartCount": 0, "image": "web", "imageID": "web",
            "state": { "running": { "startedAt": began.to_string() } } });
        server.put(
            &format!("/api/v1/namespaces/shop/pods/{name}"),
            json!({
                "metadata": { "name": name, "namespace": "shop", "uid": name, "labels": labels, "ownerReferences": owner("ReplicaSet", "web-7", "r1"),
                    "creationTimestamp": began.to_string() },
                "spec": { "containers": [{ "name": "app", "image": "web", "ports": [{ "name": "http", "containerPort": port }] }] },
                "status": { "phase": "Running", "podIP": address, "containerStatuses": [running],
                    "conditions": [{ "type": "Ready", "status": "True" }] },
            }),
        );
    }
    server.put(
        "/api/v1/namespaces/shop/services/web",
        json!({ "metadata": { "name": "web", "namespace": "shop", "uid": "s1" },
            "spec": { "clusterIP": addresses[0], "selector": labels, "ports": [{ "name": "http", "port": port, "targetPort": port }] } }),
    );
}

fn judged(monitor: &Monitor, backend: &Backend) -> (Availability, Option<Cause>, Vec<String>) {
    let live = monitor.snapshot(backend);
    let cause = live.findings.as_ref().and_then(|found| found.diagnosis.as_ref()).map(|found| found.cause);
    let bad = live.vantages.iter().filter(|one| one.confirmed == Some(true)).map(|one| one.name.clone()).collect();
    (live.record.availability(), cause, bad)
}

#[tokio::test]
async fn one_replica_that_hangs_is_found_within_the_failure_threshold_whichever_way_the_pods_are_reached() {
    let addresses = ["127.77.0.1", "127.77.0.2", "127.77.0.3"];
    for way in ["pods", "service", "url"] {
        let server = Fake::new();
        let hangs: Vec<Arc<AtomicBool>> = addresses.iter().map(|_| Arc::default()).collect();
        let port = web(addresses[0], 0, hangs[0].clone()).await;
        for (address, hangs) in addresses.iter().zip(&hangs).skip(1) {
            web(address, port, hangs.clone()).await;
        }
        deploy(&server, port, &addresses);
        let monitor = monitor(server.client());
        let target = match way {
            "pods" => json!({ "pods": { "port": port } }),
            "service" => json!({ "service": { "name": "web", "port": port } }),
            _ => json!({ "url": format!("http://{}:{port}/", addresses[0]) }),
        };
        let mut spec = json!({ "target": target, "workloadRef": { "kind": "Deployment", "name": "web" },
            "probe": { "intervalSeconds": 8, "timeoutSeconds": 1, "failureThreshold": 3 } });
        if way != "pods" {
            // Behind a Service a pod was never probed itself: only its age says that it is not starting any more.
            spec["startupSeconds"] = json!(2);
        }
        let backend = backend_of(&monitor, spec);
        for _ in 0..2 {
            run(&monitor, &backend, monitor.parts.clock.now()).await;
        }
        assert_eq!(judged(&monitor, &backend), (Availability::Up, None, Vec::new()), "{way}");

        hangs[1].store(true, Ordering::Relaxed);
        // What stands before the pods leads to the one that hangs once, and then to the others again.
        hangs[0].store(way != "pods", Ordering::Relaxed);
        for round in 1..=3 {
            let now = monitor.parts.clock.now();
            let next = run(&monitor, &backend, now).await;
            hangs[0].store(false, Ordering::Relaxed);
            if round < 3 {
                assert!(next.since(now) <= Duration::from_secs(3), "{way}: it is confirmed quickly");
                assert_eq!(judged(&monitor, &backend), (Availability::Up, None, Vec::new()), "{way}: after {round}");
            }
        }
        let bad = vec!["pod/web-1".to_owned()];
        assert_eq!(judged(&monitor, &backend), (Availability::Up, Some(Cause::OneReplicaBad), bad), "{way}");
    }
}

#[tokio::test]
async fn pods_without_an_address_are_down_at_once_with_the_cause_that_keeps_them_from_having_one() {
    let server = Fake::new();
    deploy(&server, 8080, &["192.0.2.7"]);
    let path = "/api/v1/namespaces/shop/pods/web-0";
    let mut pod = server.object(path).expect("it was put");
    let waiting = json!({ "waiting": { "reason": "ImagePullBackOff", "message": "Back-off pulling image \"web\"" } });
    pod["status"] = json!({ "phase": "Pending", "containerStatuses": [{ "name": "app", "ready": false, "restartCount": 0, "image": "web",
        "imageID": "", "state": waiting }] });
    server.put(path, pod);
    let monitor = monitor(server.client());
    let spec =
        json!({ "target": { "pods": { "port": 8080 } }, "workloadRef": { "kind": "Deployment", "name": "web" } });
    let backend = backend_of(&monitor, spec);
    run(&monitor, &backend, monitor.parts.clock.now()).await;
    let (availability, cause, _) = judged(&monitor, &backend);
    assert_eq!((availability, cause), (Availability::Down, Some(Cause::ImagePullFailed)));
    let live = monitor.snapshot(&backend);
    assert_eq!(live.vantages[0].message, "the pod of Deployment web has no address yet: there is nothing to dial");
    assert!(!monitor.self_check.needs_check(), "nothing was dialled, so nothing is unreachable");
}

#[tokio::test]
async fn a_replica_that_follows_takes_over_what_the_leader_wrote_and_not_what_it_saw_itself() {
    let monitor = monitor(Fake::new().client());
    let backend = backend(&monitor, json!({ "url": "http://192.0.2.7:8080/" }));
    backend.record_probe(None, monitor.parts.clock.read());
    assert_eq!(monitor.snapshot(&backend).record.availability(), Availability::Up);
    let mut object = MonitoredBackend::clone(&backend.object());
    object.status = Some(
        serde_json::from_value(
            json!({ "state": "Down", "stateSince": "2026-01-31T12:00:00Z", "lastProbeTime": "2026-01-31T12:05:00Z" }),
        )
        .expect("a status"),
    );
    monitor.upsert(&object);
    let live = monitor.snapshot(&backend);
    assert_eq!((live.record.availability(), live.probed_at, live.passed_at), (Availability::Down, None, None));
}

#[tokio::test]
async fn a_token_for_prometheus_that_cannot_be_read_is_named_in_scraped() {
    let server = Fake::new();
    let monitor = monitor(server.client());
    let token = json!({ "name": "prometheus", "key": "token" });
    let spec = json!({ "target": { "url": "http://127.77.0.9:1/" },
        "prometheus": { "url": "http://192.0.2.8:9090", "bearerTokenSecretRef": token } });
    let backend = backend_of(&monitor, spec);
    let label = |value: &str| json!({ "name": "prometheus", "namespace": "shop", "labels": { "vigie.dev/probe-credentials": value } });
    let cases = [
        (serde_json::Value::Null, "there is no Secret prometheus in namespace shop"),
        (json!({ "metadata": label("false"), "data": { "token": "eA==" } }), "Secret prometheus is not for probes"),
        (json!({ "metadata": label("true"), "data": { "tokens": "eA==" } }), "Secret prometheus has no key token"),
    ];
    for (secret, why) in cases {
        server.put("/api/v1/namespaces/shop/secrets/prometheus", secret);
        backend.with(|live| live.investigate_from(monitor.parts.clock.now()));
        run(&monitor, &backend, monitor.parts.clock.now()).await;
        let found = monitor.snapshot(&backend).findings.expect("it was investigated");
        let scraped = found.scraped.as_ref().expect("a Prometheus is configured");
        assert_eq!(scraped.status, crate::api::Truth::Unknown, "{scraped:?}");
        assert!(scraped.message.contains("spec.prometheus.bearerTokenSecretRef: "), "{scraped:?}");
        assert!(scraped.message.contains(why), "{scraped:?}");
    }
}

#[tokio::test]
async fn a_prometheus_whose_url_takes_no_token_is_named_in_scraped_without_its_password() {
    let token = json!({ "name": "prometheus", "key": "token" });
    for (url, why) in [
        ("http://user:geheim@192.0.2.8:9090", "it must hold no user and no password"),
        ("http://192.0.2.8:port", "\"port\" is no port"),
        ("http://:9090", "it has no host"),
    ] {
        let monitor = monitor(Fake::new().client());
        let prometheus = json!({ "url": url, "bearerTokenSecretRef": token });
        let backend =
            backend_of(&monitor, json!({ "target": { "url": "http://127.77.0.9:1/" }, "prometheus": prometheus }));
        backend.with(|live| live.investigate_from(monitor.parts.clock.now()));
        run(&monitor, &backend, monitor.parts.clock.now()).await;
        let found = monitor.snapshot(&backend).findings.expect("it was investigated");
        let scraped = found.scraped.as_ref().unwrap_or_else(|| panic!("{url}: a Prometheus is configured"));
        assert_eq!(scraped.status, crate::api::Truth::Unknown, "{scraped:?}");
        assert!(scraped.message.contains("spec.prometheus.url is not asked, and its token is not sent"), "{scraped:?}");
        assert!(scraped.message.contains(why) && !scraped.message.contains("geheim"), "{scraped:?}");
    }
}

#[test]
fn a_refusal_and_a_reset_are_packets_from_the_far_side() {
    let failed = |class, phase| {
        let result = Err(Failure::new(class, phase, "it failed"));
        is_unreachable(&Outcome { result, took: Duration::ZERO, spent: Spent::default(), seen: Default::default() })
    };
    assert!(failed(ErrorClass::ConnectTimeout, Phase::Connect) && failed(ErrorClass::DNSTimeout, Phase::Resolve));
    assert!(!failed(ErrorClass::Refused, Phase::Connect) && !failed(ErrorClass::Reset, Phase::Connect));
    assert!(!failed(ErrorClass::FirstByteTimeout, Phase::FirstByte));
}

#[tokio::test]
async fn a_round_that_panics_is_counted_and_has_a_next_turn() {
    let monitor = monitor_that_wakes(Fake::new().client(), Box::new(|_| panic!("a defect")));
    let backend = backend(&monitor, json!({ "service": { "name": "missing", "port": 8080 } }));
    let now = monitor.parts.clock.now();
    let next = super::super::scheduler::guarded_round(&monitor, &backend, now).await;
    assert!(next > now);
    assert_eq!(monitor.parts.metrics.panics(PanickedTask::Probe), 1);
}
