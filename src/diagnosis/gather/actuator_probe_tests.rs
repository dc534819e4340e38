//! Actuators under various paths, and the main port beside a management port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};

use super::{ActuatorResult, Question, needs_actuator, probe_actuator};
use crate::api::{ActuatorProbe, ErrorClass, MonitoredBackend};
use crate::diagnosis::evidence::{Actuator, Container, EnvValue, Evidence, Lookup, Pod, Service};
use crate::probe::{HttpOptions, Policy, Prober, Request, Scheme, Target};

/// A Spring Boot application whose database is down and whose context path is `/shop`.
async fn spring() -> (SocketAddr, tokio::task::JoinHandle<std::io::Result<()>>) {
    let health = async || {
        let body = json!({"status": "DOWN", "components": {"db": {"status": "DOWN"}, "ping": {"status": "UP"}}});
        (StatusCode::SERVICE_UNAVAILABLE, Json(body))
    };
    let links = async || Json(json!({"_links": {"health": {"href": "/shop/actuator/health"}}}));
    let router = axum::Router::new()
        .route("/shop/actuator", get(links))
        .route("/shop/actuator/health", get(health))
        .route("/", get(async || "a home page"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, tokio::spawn(async move { axum::serve(listener, router).await }))
}

fn evidence(path: &str, values: &[(&str, String)], ports: &[u16]) -> Evidence {
    let backend = json!({
        "apiVersion": "vigie.dev/v1alpha1", "kind": "MonitoredBackend", "metadata": {"name": "web"},
        "spec": {"target": {"url": format!("http://web.example.com:8081{path}")}},
    });
    let backend: MonitoredBackend = serde_json::from_value(backend).unwrap();
    let mut evidence = Question::about(&backend, None, now()).known;
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), EnvValue::Plain(value.clone())));
    let container = Container {
        values: values.collect(),
        ports: ports.iter().map(|port| (None, *port)).collect(),
        ..Default::default()
    };
    let pod = Pod {
        phase: "Running".to_owned(),
        addresses: vec!["127.0.0.1".parse().unwrap()],
        containers: vec![container],
        ..Default::default()
    };
    evidence.pods = Lookup::Found(vec![pod]);
    evidence
}

fn now() -> jiff::Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn request(address: SocketAddr, path: &str) -> Request {
    let target = Target {
        scheme: Scheme::Http,
        host: "web.example.com".to_owned(),
        port: address.port(),
        path: path.to_owned(),
        address: Some(address.ip()),
        is_own: false,
    };
    Request {
        target,
        timeout: Duration::from_secs(5),
        http: HttpOptions::default(),
        tls: Default::default(),
        metrics: None,
    }
}

async fn ask(spec: Option<Value>, evidence: &Evidence, like: &Request) -> ActuatorResult {
    let spec: Option<ActuatorProbe> = spec.map(|spec| serde_json::from_value(spec).unwrap());
    let loopback = Policy { allow: vec!["127.0.0.0/8".parse().unwrap()], ..Default::default() };
    probe_actuator(&Prober::new(loopback), spec.as_ref(), evidence, (like, like), now()).await
}

fn found(beside: &ActuatorResult) -> &Actuator {
    beside.actuator.found().unwrap()
}

#[tokio::test]
async fn another_base_path_is_found_by_the_settings_and_a_home_page_is_none() {
    let (address, server) = spring().await;
    let seen = evidence("/actuator/prometheus", &[("SERVER_SERVLET_CONTEXT_PATH", "/shop/".to_owned())], &[]);
    let beside = ask(None, &seen, &request(address, "/actuator/prometheus")).await;
    let seen = found(&beside);
    assert_eq!((seen.base_status, seen.links.as_ref()), (Some(404), None));
    assert_eq!(seen.tried, BTreeMap::from([("/shop".to_owned(), 404), ("/shop/actuator".to_owned(), 200)]));
    assert_eq!(beside.vantages, [], "its health was not asked for");
    server.abort();
}

#[tokio::test]
async fn the_health_that_is_asked_for_is_a_vantage_that_names_what_is_down() {
    let (address, server) = spring().await;
    let mut seen = evidence("/", &[], &[]);
    seen.subject.wants_actuator = true;
    let beside = ask(Some(json!({"basePath": "/shop/actuator"})), &seen, &request(address, "/")).await;
    let health = &beside.vantages[0];
    assert_eq!((health.name.as_str(), health.ok), ("health", false));
    assert_eq!((health.error_class, health.http_status), (Some(ErrorClass::HTTPStatus), Some(503)));
    assert!(health.message.contains("db"), "{}", health.message);
    let seen = found(&beside);
    assert_eq!((seen.base_status, seen.health.as_deref()), (Some(200), Some("DOWN")));
    assert_eq!(seen.components.as_ref().unwrap()["db"], "DOWN");
    assert!(seen.tried.is_empty());
    server.abort();
}

#[tokio::test]
async fn a_port_of_its_own_is_asked_in_a_pod() {
    let (address, server) = spring().await;
    let settings = [("MANAGEMENT_SERVER_PORT", address.port().to_string())];
    let seen = evidence("/health", &settings, &[8081]);
    // Nothing listens at the address of the target itself.
    let mut like = request("127.0.0.2:1".parse().unwrap(), "/health");
    like.timeout = Duration::from_secs(2);
    let beside = ask(Some(json!({"basePath": "/shop/actuator"})), &seen, &like).await;
    assert_eq!(found(&beside).base_status, Some(200));
    assert!(found(&beside).base.contains(&address.port().to_string()));
    server.abort();
}

#[tokio::test]
async fn a_port_of_the_node_is_not_asked_as_that_of_an_actuator() {
    let (address, server) = spring().await;
    let port = address.port();
    let like = Request { timeout: Duration::from_secs(2), ..request("127.0.0.2:1".parse().unwrap(), "/health") };
    let spec = json!({"port": port, "basePath": "/shop/actuator"});
    for (declared, expected) in [(port, Some(200)), (1, None)] {
        let mut seen = evidence("/health", &[], &[declared]);
        seen.pods = seen.pods.map(|pods| pods.into_iter().map(|pod| Pod { host_network: true, ..pod }).collect());
        let beside = ask(Some(spec.clone()), &seen, &like).await;
        assert_eq!(found(&beside).base_status, expected, "it declares {declared}");
    }
    // Nor at the address of the target itself, which is the node's.
    let mut seen = evidence("/health", &[], &[8080]);
    seen.subject.wants_actuator = true;
    seen.pods = seen.pods.map(|pods| pods.into_iter().map(|pod| Pod { host_network: true, ..pod }).collect());
    let mut of_node = request("192.0.2.1:8080".parse().unwrap(), "/health");
    of_node.target.is_own = true;
    let cluster = Policy { cluster: vec!["192.0.2.0/24".parse().unwrap()], ..Default::default() };
    let actuator = serde_json::from_value(json!({"port": 10_250})).unwrap();
    let beside = probe_actuator(&Prober::new(cluster), Some(&actuator), &seen, (&of_node, &of_node), now()).await;
    assert_eq!(beside.vantages[0].error_class, Some(ErrorClass::Denied));
    server.abort();
}

#[tokio::test]
async fn the_main_port_is_dialled_beside_a_management_port_that_is_the_target() {
    let (address, server) = spring().await;
    // The target is the management port 8081; the main one is declared, and open.
    let main = address.port();
    let settings = [("MANAGEMENT_SERVER_PORT", "8081".to_owned()), ("SERVER_PORT", main.to_string())];
    let seen = evidence("/actuator/health", &settings, &[8081, main]);
    let mut like = request("127.0.0.1:8081".parse().unwrap(), "/actuator/health");
    like.timeout = Duration::from_secs(2);
    let beside = ask(None, &seen, &like).await;
    assert_eq!((beside.vantages[0].name.as_str(), beside.vantages[0].ok), ("main", true));
    assert_eq!(beside.vantages[0].port, Some(main));
    // A port that the pods do not declare is not probed.
    let beside = ask(None, &evidence("/actuator/health", &settings, &[8081]), &like).await;
    assert_eq!(beside.vantages, []);
    server.abort();
}

#[tokio::test]
async fn what_does_not_speak_http_has_no_actuator_unless_one_is_named() {
    let (address, server) = spring().await;
    let mut tcp = request(address, "");
    tcp.target.scheme = Scheme::Tcp;
    let seen = evidence("/", &[], &[]);
    assert_eq!(ask(None, &seen, &tcp).await, ActuatorResult::default());
    let named = ask(Some(json!({"port": address.port(), "basePath": "/shop/actuator"})), &seen, &tcp).await;
    assert_eq!(found(&named).base_status, Some(200));
    assert!(!needs_actuator(&seen));
    server.abort();
}

#[tokio::test]
async fn a_service_without_a_ready_pod_has_its_pod_asked_itself() {
    let (address, _task) = spring().await;
    let mut evidence = evidence("/", &[], &[address.port()]);
    evidence.subject.service = Some(("web".to_owned(), "http".to_owned()));
    let port = Some((80, address.port().to_string()));
    evidence.service = Lookup::Found(Service { port, ..Service::default() });
    // The Service's address does not answer.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let spec = json!({"basePath": "/shop/actuator"});
    let like = request(closed, "/");
    let asked = async |evidence: &Evidence| {
        let seen = ask(Some(spec.clone()), evidence, &like).await;
        seen.actuator.found().and_then(|actuator| actuator.base_status)
    };
    assert_eq!(asked(&evidence).await, Some(200));
    if let Lookup::Found(pods) = &mut evidence.pods {
        pods[0].ready = true;
    }
    assert_eq!(asked(&evidence).await, None, "a pod that is ready is asked through its Service");
}
