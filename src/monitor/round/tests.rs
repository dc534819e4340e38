//! Which waits delay a round, and how much memory a waiting round takes.

use futures::FutureExt as _;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::api::MonitoredBackend;
use crate::cluster::events::Reporter;
use crate::cluster::fake::{Fake, Mode};
use crate::leadership::Leadership;
use crate::metrics::Metrics;
use crate::monitor::context::{Parts, ProbeSettings, READS_AT_ONCE};
use crate::probe::Policy;
use crate::time::Clock;

fn monitor(client: kube::Client) -> Arc<Monitor> {
    let parts = Parts {
        reporter: Reporter { client: client.clone(), instance: "vigie-0".to_owned() },
        client,
        clock: Clock::default(),
        leadership: watch::channel(Leadership::follower()).1,
        metrics: Arc::new(Metrics::register(&mut prometheus_client::registry::Registry::default())),
        wake: Box::new(|_| {}),
    };
    let settings = ProbeSettings { pod: None, policy: Policy::default(), probe_concurrency: 16, prometheus_url: None };
    Monitor::new(parts, settings).0
}

fn backend(monitor: &Monitor, target: serde_json::Value) -> Arc<Backend> {
    let object: MonitoredBackend = serde_json::from_value(json!({
        "apiVersion": "vigie.dev/v1alpha1",
        "kind": "MonitoredBackend",
        "metadata": { "name": "checkout", "namespace": "shop", "uid": "5f5d4b5e-6c7a-4a4b-9d53-1d1c9c0e7a11" },
        "spec": { "target": target },
    }))
    .expect("a backend");
    monitor.backends.upsert(&object, monitor.parts.clock.read()).backend
}

#[tokio::test(start_paused = true)]
async fn looks_that_hang_keep_no_probe_waiting() {
    let monitor = monitor(Fake::new().client());
    let backend = backend(&monitor, json!({ "url": "http://192.0.2.7:8080/" }));
    let investigates = |namespace: usize| monitor.investigations.acquire(&format!("other-{namespace}").into(), false).now_or_never();
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
