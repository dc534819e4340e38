//! Silence counts only while the operator can be reached: through the public URL, and behind the heartbeat Service.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::beats::said;
use crate::support::history::History;
use crate::support::operator::free_port;
use crate::support::proxy::{Proxy, Way};
use crate::support::world::SOON;
use crate::support::{Beater, Operator, World, eventually, never, quick, seconds, text, time};

/// The limit of [`quick`] passes, and `name` is Unknown because the operator could not be reached; never Offline.
async fn is_unknown_and_never_offline(world: &World, operator: &Operator, names: &[&str]) {
    let offline = || {
        let views = names.iter().map(|name| operator.view(name).unwrap());
        views.into_iter().find(|view| text(view, "/state") == "Offline").map(|view| view.to_string())
    };
    for name in names {
        let unknown = world
            .sees(seconds(60), name, "Unknown, or wrongly Offline", |seen| {
                ["Unknown", "Offline"].contains(&text(seen, "/status/state"))
            })
            .await;
        assert_eq!(text(&unknown, "/status/state"), "Unknown", "{unknown:#}");
        for type_ in ["Online", "Ready"] {
            assert_eq!(said(&unknown, type_), "Unknown/ObserverUnreachable");
        }
        assert_eq!(text(&unknown, "/status/diagnosis/cause"), "ObserverUnreachable");
        assert!(!text(&unknown, "/status/diagnosis/advice").is_empty(), "{unknown:#}");
    }
    never(seconds(8), "past its limit it is called Offline, and no operator could have heard it", async || offline())
        .await;
    assert_eq!(operator.scrape().samples("vigie_listening_since_timestamp_seconds"), [], "no beat can be heard");
}

/// None of them was ever reported Offline.
async fn were_never_offline(world: &World, history: &History, names: &[&str]) {
    for name in names {
        let states = history.of_connector(name);
        assert!(!states.iter().any(|state| state == "Offline"), "{name} was seen as {states:?}");
        assert_eq!(world.events(name, "Offline").await.len(), 0, "{name}");
    }
}

async fn listens_since(operator: &Operator, at_least: Timestamp) {
    eventually(SOON, "silence counts again, from the moment the operator could be reached", async || {
        let since = operator.scrape().sum("vigie_listening_since_timestamp_seconds", &[]);
        if since >= at_least.as_microsecond() as f64 / 1e6 - 0.025 { Ok(()) } else { Err(format!("{since}")) }
    })
    .await;
}

async fn is_reachable(operator: &Operator, reachable: f64) {
    eventually(seconds(60), &format!("vigie_reachable is {reachable}"), async || {
        let samples = operator.scrape().samples("vigie_reachable");
        if samples.iter().any(|(_, value)| *value == reachable) { Ok(()) } else { Err(format!("{samples:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_public_url_that_leads_nowhere_accuses_nobody() {
    let world = World::new("canary").await;
    let history = world.history();
    let public = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let operator = world.operator(&["--public-url", &format!("http://{public}")]).await;
    let road = Proxy::from(public, operator.beats()).await;
    let alive = world.connector("alive", quick()).await;
    let silent = world.connector("silent", quick()).await;
    silent.beat(public);
    let beater = Beater::start(&[public], &alive, seconds(1), Value::Null);
    world.state(SOON, "alive", "Online").await;
    world.state(SOON, "silent", "Online").await;
    is_reachable(&operator, 1.0).await;

    silent.beat(public);
    road.set(Way::Cut);
    is_reachable(&operator, 0.0).await;
    is_unknown_and_never_offline(&world, &operator, &["alive", "silent"]).await;
    assert!(beater.beats().last().unwrap().answer.is_err(), "the connection is really cut");

    road.set(Way::Open);
    let mended = Timestamp::now();
    world.state(SOON, "alive", "Online").await;
    is_reachable(&operator, 1.0).await;
    listens_since(&operator, mended).await;
    were_never_offline(&world, &history, &["alive", "silent"]).await;
    assert!(operator.log().contains("our own beat does not reach us"), "it says so in its log");
}

/// A Ready pod of the operator. Only the test writes its status.
async fn pod(world: &World, name: &str, labels: Value) {
    let mut all = json!({"app.kubernetes.io/name": "vigie", "app.kubernetes.io/instance": world.ns});
    all.as_object_mut().unwrap().extend(labels.as_object().unwrap().clone());
    let pod = json!({
        "metadata": {"name": name, "labels": all, "annotations": {"cluster.vigie.dev/play": "true"}},
        "spec": {
            "serviceAccountName": "vigie",
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "vigie", "image": "vigie.example.com/vigie:test"}],
        },
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    world.api::<Pod>().create(&PostParams::default(), &pod).await.expect("a pod is made");
    ready(world, name, true).await;
}

/// The heartbeat Service, as in the chart.
async fn service(world: &World) {
    let service = json!({
        "metadata": {"name": "vigie"},
        "spec": {
            "selector": {"app.kubernetes.io/instance": world.ns, "vigie.dev/role": "leader"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        },
    });
    let service: Service = serde_json::from_value(service).unwrap();
    world.api::<Service>().create(&PostParams::default(), &service).await.expect("a Service is made");
}

/// Waits until exactly these pods have the leader's label.
async fn lead(world: &World, wanted: &[&str]) {
    eventually(seconds(60), &format!("the leader's label is on {wanted:?}"), async || {
        let leaders = ListParams::default().labels("vigie.dev/role=leader");
        let found = world.api::<Pod>().list(&leaders).await.map_err(|error| error.to_string())?;
        let found: Vec<_> = found.iter().map(kube::ResourceExt::name_any).collect();
        if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

/// Sets the pod's Ready condition.
async fn ready(world: &World, pod: &str, ready: bool) {
    let ready = if ready { "True" } else { "False" };
    // No host answers there: 198.18.0.0/15 is reserved for benchmarks.
    let address = "198.18.0.1";
    let patch = Patch::Strategic(json!({"status": {
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": ready}],
    }}));
    world.api::<Pod>().patch_status(pod, &PatchParams::default(), &patch).await.expect("a pod's status is written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_no_service_leads_to_accuses_nobody() {
    let world = World::new("behind").await;
    let history = world.history();
    service(&world).await;
    pod(&world, "vigie-a", json!({})).await;
    let operator = world.replica_in("vigie-a", &["--heartbeat-service", "vigie"]).await;
    operator.hearing().await;
    lead(&world, &["vigie-a"]).await;
    listens_since(&operator, Timestamp::UNIX_EPOCH + seconds(1)).await;
    let edge = world.connector("edge-1", quick()).await;
    edge.beat(operator.beats());
    world.state(SOON, "edge-1", "Online").await;

    ready(&world, "vigie-a", false).await;
    eventually(SOON, "it learns that the Service does not lead to it", async || {
        let since = operator.scrape().samples("vigie_listening_since_timestamp_seconds");
        if since.is_empty() { Ok(()) } else { Err(format!("{since:?}")) }
    })
    .await;
    is_unknown_and_never_offline(&world, &operator, &["edge-1"]).await;

    let mended = Timestamp::now();
    ready(&world, "vigie-a", true).await;
    listens_since(&operator, mended).await;
    edge.beat(operator.beats());
    let online = world.state(SOON, "edge-1", "Online").await;
    assert!(time(&online, "/status/lastHeartbeatTime") >= mended, "{online:#}");
    were_never_offline(&world, &history, &["edge-1"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leaders_label_is_on_the_leaders_pod_and_on_no_other() {
    let world = World::new("rolelabel").await;
    service(&world).await;
    pod(&world, "vigie-a", json!({})).await;
    // A killed container leaves this label on its pod.
    pod(&world, "vigie-b", json!({"vigie.dev/role": "leader"})).await;
    // A pod of another installation must be left alone.
    pod(&world, "other", json!({"vigie.dev/role": "leader", "app.kubernetes.io/instance": "other"})).await;
    let flags = ["--heartbeat-service", "vigie"];
    let mut first = world.replica_in("vigie-a", &flags).await;
    first.hearing().await;
    lead(&world, &["other", "vigie-a"]).await;
    listens_since(&first, Timestamp::UNIX_EPOCH + seconds(1)).await;
    let mut second = world.replica_in("vigie-b", &flags).await;

    first.kill();
    second.hearing().await;
    lead(&world, &["other", "vigie-b"]).await;
    listens_since(&second, Timestamp::UNIX_EPOCH + seconds(1)).await;
    let edge = world.connector("edge-1", quick()).await;
    edge.beat(second.beats());
    world.state(SOON, "edge-1", "Online").await;

    second.signal("TERM");
    let (code, _) = second.ended(SOON).await;
    assert_eq!(code, Some(0), "{}", second.log());
    lead(&world, &["other"]).await;
    let kept = world.api::<Pod>().get("vigie-b").await.unwrap();
    assert_eq!(
        kept.labels().get("app.kubernetes.io/name").map(String::as_str),
        Some("vigie"),
        "no other pod is changed"
    );
}
