//! The addresses that probes may dial, the data they may send and show, and the case that no probe gets an answer.

use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::backends::{condition, probed};
use crate::support::history::History;
use crate::support::http::get;
use crate::support::operator::free_port;
use crate::support::world::SOON;
use crate::support::{Misbehave, World, eventually, seconds, text};

/// Flags of an operator whose backends are processes of this machine.
const LOCAL: [&str; 2] = ["--allow-network", "127.0.0.0/8"];

/// The text that misbehave puts wherever a target can put text: `CANARY-<place>-8f1c`.
const CANARY: &str = "CANARY-";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_target_says_is_told_on() {
    const MODES: [&str; 14] = [
        "ok",
        "error",
        "html",
        "type",
        "encoding",
        "metrics",
        "redirect",
        "unauthorized",
        "not-http",
        "bad-header",
        "bad-length",
        "bad-status",
        "version",
        "chunk",
    ];
    let world = World::new("backend-canary").await;
    let target = Misbehave::start();
    let operator = world.operator(&LOCAL).await;
    for mode in MODES {
        world.backend(mode, probed(&target.url(&format!("/canary/{mode}/metrics")), json!({"metrics": {}}))).await;
    }
    let actuator = json!({"actuator": {"basePath": "/canary/actuator/actuator"}});
    world.backend("actuator", probed(&target.url("/status/500/healthz"), actuator)).await;
    for name in MODES.into_iter().chain(["actuator"]) {
        let down = world.sees_backend(seconds(60), name, "Down", |found| text(found, "/status/state") == "Down").await;
        assert_ne!(text(&down, "/status/diagnosis/cause"), "", "{down:#}");
        world.event(SOON, name, "Down").await;
    }
    assert!(target.requests().len() >= MODES.len(), "it was asked, and answered with canaries");
    let places = [
        ("the objects", world.kubectl(&["get", "monitoredbackends", "-o", "json"]).ok()),
        ("the events", world.kubectl(&["get", "events.events.k8s.io", "-o", "json"]).ok()),
        ("the metrics", operator.scrape().0),
        ("the API", get(operator.admin(), "/api/v1/backends").unwrap().body),
        ("the log", operator.log()),
    ];
    for (place, told) in places {
        assert!(!told.is_empty(), "{place}");
        let found = told.find(CANARY).map(|at| &told[at..told.len().min(at + 60)]);
        assert_eq!(found, None, "a target's text is in {place}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_denied_is_never_dialled_in_whatever_notation() {
    let world = World::new("backend-denied").await;
    let target = Misbehave::start();
    let operator = world.operator(&[]).await;
    let port = target.main.port();
    let cases = [
        ("metadata", "http://169.254.169.254/latest/meta-data/".to_owned()),
        ("mapped", "http://[::ffff:169.254.169.254]/".to_owned()),
        ("loopback", format!("http://127.0.0.1:{port}/")),
        ("decimal", format!("http://2130706433:{port}/")),
        ("octal", format!("http://0177.0.0.1:{port}/")),
        ("hexadecimal", format!("http://0x7f000001:{port}/")),
        ("short", format!("http://127.1:{port}/")),
        ("mapped-loopback", format!("http://[::ffff:127.0.0.1]:{port}/")),
        ("name", format!("tcp://localhost:{port}")),
        ("unspecified", format!("http://0.0.0.0:{port}/")),
    ];
    for (name, url) in &cases {
        world.backend(name, probed(url, json!({}))).await;
    }
    for (name, url) in &cases {
        let down = world.backend_is(SOON, name, "Down", "TargetDenied").await;
        assert_eq!(condition(&down, "Accepted"), ("False", "TargetDenied"), "{url}: {down:#}");
        assert_eq!(condition(&down, "Available"), ("False", "Denied"), "{url}: {down:#}");
    }
    assert_eq!(target.connections(), 0, "it was not dialled");
    assert_eq!(
        get(operator.admin(), "/sd/prometheus").unwrap().json(),
        json!([]),
        "it is not in the list for Prometheus"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_service_leads_a_probe_anywhere_but_to_its_own_pods() {
    let world = World::new("backend-service").await;
    let target = Misbehave::start();
    let operator = world.operator(&LOCAL).await;
    let port = target.main.port();
    let ports = json!([{"name": "http", "port": port}]);
    let external = |more: Value| {
        let mut spec = json!({"type": "ExternalName", "externalName": "localhost", "ports": ports});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let headless = json!({"clusterIP": "None", "selector": {"app": "none"}, "ports": ports});
    for (name, spec) in [
        ("external", external(json!({}))),
        ("external-selecting", external(json!({"selector": {"app": "none"}}))),
        ("by-hand", json!({"ports": ports})),
        ("forged", headless.clone()),
        ("forged-well", headless),
    ] {
        let service = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        let made: Service = world.api::<Service>().create(&PostParams::default(), &service).await.unwrap();
        // The second one claims the writer and the owner, too.
        let mut labels = json!({"kubernetes.io/service-name": name});
        let mut metadata = json!({"name": format!("{name}-1")});
        if name == "forged-well" {
            labels["endpointslice.kubernetes.io/managed-by"] = json!("endpointslice-controller.k8s.io");
            metadata["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Service", "name": name, "uid": made.metadata.uid, "controller": true}]);
        }
        metadata["labels"] = labels;
        // The API server itself refuses loopback and link-local addresses here.
        let slice = serde_json::from_value(json!({
            "metadata": metadata, "addressType": "IPv4", "ports": [{"name": "http", "port": port}],
            "endpoints": [{"addresses": ["192.0.2.10"], "conditions": {"ready": true}}],
        }));
        world.api::<EndpointSlice>().create(&PostParams::default(), &slice.unwrap()).await.unwrap();
        let spec = json!({"target": {"service": {"name": name, "port": "http"}}, "probe": {"intervalSeconds": 2, "timeoutSeconds": 1}});
        world.backend(name, spec).await;
    }
    for (name, why) in [
        ("external", "ExternalName"),
        ("external-selecting", "ExternalName"),
        ("by-hand", "no selector"),
        ("forged", "was not written by Kubernetes' endpointslice controller"),
        ("forged-well", "is no pod of namespace"),
    ] {
        let down = world.backend_is(SOON, name, "Down", "TargetDenied").await;
        assert_eq!(condition(&down, "Accepted"), ("False", "TargetDenied"), "{down:#}");
        assert!(text(&down, "/status/diagnosis/message").contains(why), "{down:#}");
    }
    assert_eq!(target.connections(), 0, "none of them was dialled");
    assert_eq!(get(operator.admin(), "/sd/prometheus").unwrap().json(), json!([]), "nor told to Prometheus");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_flag_opens_the_metadata_service_and_no_redirect_leads_there() {
    let world = World::new("backend-metadata").await;
    let target = Misbehave::start();
    let _operator = world.operator(&["--allow-network", "127.0.0.0/8,169.254.0.0/16"]).await;
    world.backend("metadata", probed("http://169.254.169.254/latest/meta-data/", json!({}))).await;
    world.backend("redirect", probed(&target.url("/redirect/metadata"), json!({}))).await;
    world.backend_is(SOON, "metadata", "Down", "TargetDenied").await;
    let down = world.sees_backend(SOON, "redirect", "Down", |found| text(found, "/status/state") == "Down").await;
    assert_eq!(condition(&down, "Available"), ("False", "HTTPStatus"), "{down:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_come_from_labelled_secrets_only_and_go_to_the_target_only() {
    let world = World::new("backend-secret").await;
    let (target, other) = (Misbehave::start(), Misbehave::with(&["--listen", "127.0.0.2:0"]));
    let operator = world.operator(&LOCAL).await;
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {"name": "shop-probe"}, "stringData": {"token": "right", "key": "k-3f9a-in-a-header"},
    }))
    .unwrap();
    world.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    let http = json!({"http": {
        "bearerTokenSecretRef": {"name": "shop-probe", "key": "token"},
        "headers": [{"name": "X-Shop-Key", "valueFrom": {"secretRef": {"name": "shop-probe", "key": "key"}}}],
    }});
    world.backend("shop", probed(&target.url("/auth/bearer/metrics"), http.clone())).await;
    let refused = world.backend_is(SOON, "shop", "Pending", "SecretNotFound").await;
    assert_eq!(condition(&refused, "Accepted"), ("False", "SecretNotFound"), "{refused:#}");
    let named = "vigie.dev/probe-credentials=true";
    assert!(refused["status"]["conditions"].to_string().contains(named), "it names the label: {refused:#}");
    assert_eq!(target.requests(), Vec::<Value>::new(), "and sent nothing");

    let label = json!({"metadata": {"labels": {"vigie.dev/probe-credentials": "true"}}});
    let secrets = world.api::<Secret>();
    secrets.patch("shop-probe", &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
    world.backend_is(SOON, "shop", "Up", "").await;
    let sent = target.requests();
    let header = |request: &Value| request["headers"].as_array().is_some_and(|all| all.contains(&json!("X-Shop-Key")));
    assert!(sent.iter().all(|request| request["right"] == json!(true) && header(request)), "{sent:#?}");

    let away = format!("/redirect/other-host;host=http:%2F%2F{}/metrics", other.main);
    world.backend("away", probed(&target.url(&away), http)).await;
    let down = world.sees_backend(SOON, "away", "Down", |found| text(found, "/status/state") == "Down").await;
    assert_eq!(condition(&down, "Available"), ("False", "HTTPStatus"), "{down:#}");
    assert_eq!(other.connections(), 0, "another host gets neither credentials nor a connection");
    for secret in ["k-3f9a-in-a-header", "Bearer right"] {
        assert!(!operator.log().contains(secret), "{secret} is in the log");
    }
    world.secrets_were_asked_for_by_name();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_go_dark_at_once_it_is_us_and_one_alone_is_an_outage() {
    let world = World::new("backend-blind").await;
    let hosts = |first: u8| {
        // Ports that no outgoing connection takes while they are closed.
        let listen = [first, first + 1].map(|host| format!("127.0.0.{host}:{}", free_port()));
        Misbehave::with(&["--listen", &listen[0], "--management", &listen[1]])
    };
    let targets = [hosts(2), hosts(4), hosts(6)];
    let _operator = world.operator(&LOCAL).await;
    // A high failure threshold: a loaded machine must still have seen all of them fail by then.
    let probe = json!({"intervalSeconds": 2, "failureThreshold": 30});
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    for (number, address) in targets.iter().flat_map(|target| [Some(target.main), target.management]).enumerate() {
        let name = format!("shop-{number}");
        let address = address.expect("it has a management port");
        addresses.push(address.to_string());
        world.backend(&name, probed(&format!("http://{address}/healthz"), probe.clone())).await;
        names.push(name);
    }
    for name in &names {
        world.backend_is(SOON, name, "Up", "").await;
    }
    let history = History::of(world.backends());

    for target in &targets {
        target.command("refuse");
    }
    // A refusal is a packet from there, and proves that the operator can see. Where packets vanish, it may be the operator.
    let holes: Vec<Misbehave> =
        addresses.iter().map(|address| Misbehave::with(&["--listen", "127.0.0.1:0", "--blackhole", address])).collect();
    for name in &names {
        let blind = world.backend_is(SOON, name, "Unknown", "ProbeBlind").await;
        assert_eq!(condition(&blind, "Available"), ("Unknown", "ProbeBlind"), "{blind:#}");
        assert_eq!(condition(&blind, "Ready"), ("Unknown", "ProbeBlind"), "{blind:#}");
    }
    let told = world.event(SOON, &world.ns, "ProbeBlind").await;
    assert_eq!(told.regarding.and_then(|about| about.kind).as_deref(), Some("Namespace"));
    drop(holes);
    for target in &targets {
        target.command("open");
    }
    for name in &names {
        world.backend_is(SOON, name, "Up", "").await;
        let states = history.of_connector(name);
        assert!(!states.contains(&"Down".to_owned()), "{name} was never Down: {states:?}");
    }

    // A database that all of them need is down: they answer, so the network works.
    for target in &targets {
        target.set("status/503");
    }
    for name in &names {
        let down = world.sees_backend(seconds(60), name, "Down", |found| text(found, "/status/state") == "Down").await;
        assert_eq!(condition(&down, "Available"), ("False", "HTTPStatus"), "{down:#}");
    }
    for name in &names[1..] {
        world.backends().delete(name, &DeleteParams::default()).await.unwrap();
    }
    targets[0].set("ok");
    world.backend_is(SOON, &names[0], "Up", "").await;
    targets[0].command("refuse");
    let down = world.sees_backend(seconds(60), &names[0], "Down", |found| text(found, "/status/state") == "Down").await;
    assert_eq!(condition(&down, "Available"), ("False", "Refused"), "one of one: {down:#}");
    assert_eq!(world.events(&world.ns, "ProbeBlind").await.len(), 1, "it was published once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_operator_says_nothing_new_when_it_is_back_and_only_the_leader_probes() {
    let world = World::new("backend-restart").await;
    let target = Misbehave::start();
    let mut operator = world.operator(&LOCAL).await;
    let patient = json!({"metrics": {}, "timeoutSeconds": 2, "failureThreshold": 4});
    world.backend("shop", probed(&target.url("/metrics"), patient)).await;
    world.backend("sick", probed(&target.url("/status/500/metrics"), json!({"metrics": {}}))).await;
    world.backend_is(SOON, "shop", "Up", "").await;
    world.backend_is(SOON, "sick", "Down", "ServerError").await;
    for (name, reason) in [("shop", "Up"), ("sick", "Down")] {
        world.event(SOON, name, reason).await;
    }
    let started = |scrape: &crate::support::metrics::Scrape| scrape.sum("vigie_probe_start_lag_seconds_count", &[]);
    let follower = world.replica(&LOCAL).await;
    let history = History::of(world.backends());
    let before = started(&operator.scrape());
    eventually(SOON, "the leader goes on probing", async || {
        let now = started(&operator.scrape());
        if now > before + 3.0 { Ok(()) } else { Err(format!("{now} after {before}")) }
    })
    .await;
    assert_eq!(started(&follower.scrape()), 0.0, "a follower does not probe");
    drop(follower);

    operator.kill();
    operator.restart().await;
    operator.hearing().await;
    eventually(seconds(60), "it has probed both again", async || {
        let scrape = operator.scrape();
        let seen = scrape.samples("vigie_probe_success").len();
        if seen == 2 && started(&scrape) >= 6.0 { Ok(()) } else { Err(scrape.0) }
    })
    .await;
    assert_eq!(history.of_connector("shop"), ["Up"]);
    assert_eq!(history.of_connector("sick"), ["Down"]);
    for (name, reason) in [("shop", "Up"), ("sick", "Down")] {
        assert_eq!(world.events(name, reason).await.len(), 1, "{reason} of {name} was published once");
        assert!(world.events(name, "Unknown").await.is_empty(), "{name}");
    }
}
