//! Subjects, probes of pods, and certificates.

use std::time::Duration;

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::{certificate, pod_probes, subject, vantage};
use crate::api::{ErrorClass, MonitoredBackend, Phase};
use crate::diagnosis::evidence::{Container, Evidence, Lookup, Pod, Service};
use crate::probe::{Failure, HttpOptions, Outcome, Page, ProbeObservations, Request, Scheme, Spent, Target};

fn backend(spec: Value) -> MonitoredBackend {
    let json = json!({
        "apiVersion": "vigie.dev/v1alpha1", "kind": "MonitoredBackend",
        "metadata": {"name": "web", "namespace": "shop"}, "spec": spec,
    });
    serde_json::from_value(json).unwrap()
}

fn evidence(spec: Value) -> Evidence {
    super::Question::about(&backend(spec), None, "2026-11-22T12:00:00Z".parse().unwrap()).known
}

#[test]
fn a_subject_says_what_its_spec_says() {
    for (target, url, host, port, path) in [
        (
            json!({"url": "https://[2001:db8::1]/health?x=1"}),
            "https://[2001:db8::1]:443/health?x=1",
            "2001:db8::1",
            443,
            "/health?x=1",
        ),
        (json!({"url": "http://web.example.com"}), "http://web.example.com:80/", "web.example.com", 80, "/"),
        (json!({"url": "tcp://192.0.2.1:5432"}), "tcp://192.0.2.1:5432", "192.0.2.1", 5432, ""),
        (
            json!({"url": "grpc://192.0.2.1:50/orders.v1"}),
            "grpc://192.0.2.1:50/orders.v1",
            "192.0.2.1",
            50,
            "orders.v1",
        ),
        (
            json!({"service": {"name": "web", "port": "http", "path": "/x"}}),
            "http://web.shop.svc:http/x",
            "web.shop.svc",
            0,
            "/x",
        ),
        (json!({"pods": {"port": 8081, "scheme": "https"}}), "https://orders:8081/", "", 8081, "/"),
    ] {
        let workload = json!({"kind": "Deployment", "name": "orders"});
        let seen = subject(&backend(json!({"target": target, "workloadRef": workload})));
        let expected = (url, host, port, path);
        assert_eq!((seen.url.as_str(), seen.host.as_str(), seen.port, seen.path.as_str()), expected);
    }
    let seen = subject(&backend(json!({
        "target": {"service": {"name": "web", "port": 80}}, "startupSeconds": 60,
        "probe": {"metrics": {}}, "prometheus": {"sourceCIDR": "192.0.2.0/24"},
    })));
    assert_eq!(seen.service, Some(("web".to_owned(), "80".to_owned())));
    assert_eq!((seen.startup_seconds, seen.wants_metrics, seen.wants_actuator), (60, true, false));
    assert_eq!(seen.prometheus_source.as_deref(), Some("192.0.2.0/24"));
}

#[test]
fn ports_and_starting_times_are_settled_by_what_was_seen() {
    let mut by_service = evidence(json!({"target": {"service": {"name": "web", "port": "http"}}}));
    by_service.service = Lookup::Found(Service { port: Some((8080, "app".to_owned())), ..Default::default() });
    super::subject::complete(&mut by_service, false, None);
    assert_eq!((by_service.subject.port, by_service.subject.startup_seconds), (8080, 300));
    assert_eq!(by_service.subject.url, "http://web.shop.svc:8080/", "a name is no port of a URL");
    let mut by_pods = evidence(json!({"target": {"pods": {"port": "http"}}}));
    let container =
        Container { startup_budget: Some(900), ports: vec![(Some("http".to_owned()), 8085)], ..Default::default() };
    by_pods.pods = Lookup::Found(vec![Pod { containers: vec![container], ..Default::default() }]);
    super::subject::complete(&mut by_pods, false, Some("http"));
    assert_eq!((by_pods.subject.port, by_pods.subject.startup_seconds), (8085, 900));
    let mut given = evidence(json!({"target": {"url": "http://192.0.2.1"}, "startupSeconds": 0}));
    super::subject::complete(&mut given, true, None);
    assert_eq!(given.subject.startup_seconds, 0);
}

fn request(host: &str) -> Request {
    let path = "/health".to_owned();
    let target = Target { scheme: Scheme::Http, host: host.to_owned(), port: 80, path, address: None, is_own: false };
    Request {
        target,
        timeout: Duration::from_secs(5),
        http: HttpOptions::default(),
        tls: Default::default(),
        metrics: None,
    }
}

fn pod(name: &str, address: &str, ports: &[(&str, u16)]) -> Pod {
    let ports = ports.iter().map(|(name, number)| (Some((*name).to_owned()), *number)).collect();
    Pod {
        name: name.to_owned(),
        phase: "Running".to_owned(),
        addresses: address.parse().into_iter().collect(),
        containers: vec![Container { ports, ..Default::default() }],
        ..Default::default()
    }
}

fn dialled(evidence: &Evidence, pods_port: Option<&str>, like: &Request) -> Vec<(String, String)> {
    let probes = pod_probes(evidence, pods_port, like);
    assert!(probes.iter().all(|(_, request)| request.target.is_own && request.target.path == "/health"));
    let place = |request: &Request| format!("{}:{}", request.target.address.unwrap(), request.target.port);
    probes.iter().map(|(name, request)| (name.clone(), place(request))).collect()
}

#[test]
fn each_pod_is_asked_at_the_port_that_the_target_leads_to() {
    let mut seen = evidence(json!({"target": {"service": {"name": "web", "port": 80}}}));
    seen.service = Lookup::Found(Service { port: Some((80, "http".to_owned())), ..Default::default() });
    let mut going = pod("going", "192.0.2.9", &[("http", 8080)]);
    going.deleting = true;
    seen.pods = Lookup::Found(vec![
        pod("a", "192.0.2.1", &[("http", 8080)]),
        // During a rollout the name may stand for another number.
        pod("b", "192.0.2.2", &[("http", 9090)]),
        pod("lacks-it", "192.0.2.3", &[("metrics", 9090)]),
        pod("pending", "", &[("http", 8080)]),
        going,
    ]);
    let expected =
        [("pod/a", "192.0.2.1:8080"), ("pod/b", "192.0.2.2:9090")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(dialled(&seen, None, &request("web.shop.svc")), expected);
    let probes = pod_probes(&seen, None, &request("web.shop.svc"));
    assert_eq!(probes[0].1.target.host, "web.shop.svc", "the host that the backend knows itself by");
}

#[test]
fn pods_behind_a_url_are_asked_where_they_can_be_meant() {
    let mut seen = evidence(json!({"target": {"url": "http://web.example.com"}}));
    seen.pods = Lookup::Found(vec![
        pod("declares-it", "192.0.2.1", &[("http", 80)]),
        pod("declares-another", "192.0.2.2", &[("http", 8080)]),
        pod("declares-none", "192.0.2.3", &[]),
    ]);
    let names: Vec<_> = dialled(&seen, None, &request("web.example.com")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["pod/declares-it", "pod/declares-none"]);
}

#[test]
fn a_port_of_the_node_is_not_asked_as_one_of_a_pod_on_its_network() {
    let mut on_host = pod("a", "192.0.2.1", &[("http", 8080)]);
    on_host.host_network = true;
    let mut declares_none = pod("b", "192.0.2.2", &[]);
    declares_none.host_network = true;
    let mut of_pods = evidence(json!({"target": {"pods": {"port": 10_250}}}));
    of_pods.pods = Lookup::Found(vec![on_host.clone()]);
    assert_eq!(dialled(&of_pods, Some("10250"), &request("")), []);
    assert_eq!(dialled(&of_pods, Some("8080"), &request("")).len(), 1);
    let mut of_url = evidence(json!({"target": {"url": "http://web.example.com:10250"}}));
    of_url.pods = Lookup::Found(vec![declares_none.clone()]);
    assert_eq!(dialled(&of_url, None, &request("web.example.com")), []);
    let mut of_service = evidence(json!({"target": {"service": {"name": "web", "port": 80}}}));
    of_service.service = Lookup::Found(Service { port: Some((80, "10250".to_owned())), ..Default::default() });
    of_service.pods = Lookup::Found(vec![on_host, declares_none]);
    assert_eq!(dialled(&of_service, None, &request("web.shop.svc")), []);
}

#[test]
fn a_target_of_pods_has_no_host_but_theirs() {
    let mut seen = evidence(json!({"target": {"pods": {"port": "http"}}}));
    seen.pods = Lookup::Found(vec![pod("a", "2001:db8::1", &[("http", 8080)])]);
    let probes = pod_probes(&seen, Some("http"), &request(""));
    assert_eq!((probes[0].1.target.host.as_str(), probes[0].1.target.port), ("2001:db8::1", 8080));
}

#[test]
fn an_outcome_becomes_a_vantage_and_keeps_the_far_sides_words_apart() {
    let at = "2026-11-22T12:00:00Z".parse().unwrap();
    let failure = Failure {
        class: ErrorClass::Exposition,
        phase: Phase::Body,
        message: "line 7 is broken".to_owned(),
        detail: Some("its words".to_owned()),
    };
    let page = Page { samples: 6, broken_at: Some((7, 120)), missing: vec!["up".to_owned()] };
    let seen = ProbeObservations {
        address: "192.0.2.1:8080".parse().ok(),
        any_byte: true,
        http_status: Some(200),
        page: Some(page),
        ..Default::default()
    };
    let took = Duration::from_millis(12);
    let failed = Outcome { result: Err(failure), took, spent: Spent::default(), seen: seen.clone() };
    let failed = vantage("target", &request("web"), &failed, at);
    assert_eq!((failed.ok, failed.error_class, failed.phase), (false, Some(ErrorClass::Exposition), Some(Phase::Body)));
    assert_eq!((failed.message.as_str(), failed.detail.as_deref()), ("line 7 is broken", Some("its words")));
    assert_eq!((failed.broken_at, failed.samples, failed.milliseconds), (Some((7, 120)), Some(6), 12));
    assert_eq!((failed.address, failed.port), ("192.0.2.1".parse().ok(), Some(80)));
    let passed = Outcome { result: Ok(()), took, spent: Spent::default(), seen };
    let passed = vantage("target", &request("web"), &passed, at);
    assert_eq!((passed.ok, passed.error_class, passed.message.as_str()), (true, None, "answered 200 with 6 samples"));
}

#[test]
fn a_connection_that_failed_has_the_address_that_a_firewall_must_admit() {
    let at = "2026-11-22T12:00:00Z".parse().unwrap();
    let failed = |class| {
        let failure = Failure { class, phase: Phase::Connect, message: String::new(), detail: None };
        let seen = ProbeObservations { dialled: "127.0.0.1:8080".parse().ok(), ..Default::default() };
        Outcome { result: Err(failure), took: Duration::ZERO, spent: Spent::default(), seen }
    };
    for class in [ErrorClass::Refused, ErrorClass::ConnectTimeout, ErrorClass::Unreachable] {
        let vantage = vantage("target", &request("web"), &failed(class), at);
        assert_eq!((vantage.address, vantage.source), (None, "127.0.0.1".parse().ok()), "{class}");
    }
    assert_eq!(vantage("target", &request("web"), &failed(ErrorClass::Reset), at).source, None);
}

#[test]
fn the_secret_of_a_certificate_is_found_among_those_that_are_mounted() {
    let pod: v1::Pod = serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [], "volumes": [
        {"name": "a", "secret": {"secretName": "keystore"}}, {"name": "b", "configMap": {"name": "x"}},
        {"name": "c", "projected": {"sources": [{"secret": {"name": "web-tls"}}]}},
    ]}}))
    .unwrap();
    assert_eq!(certificate::mounted(&[pod]), ["keystore".to_owned(), "web-tls".to_owned()].into());
    let secret = |name: &str, annotations: Value, edited: &str| -> ObjectMeta {
        serde_json::from_value(json!({
            "name": name, "annotations": annotations, "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "x", "time": "2026-02-01T00:00:00Z"}, {"manager": "y", "time": edited}],
        }))
        .unwrap()
    };
    let plain = secret("keystore", json!({}), "2026-03-01T00:00:00Z");
    let named = secret("web-tls", json!({}), "2026-11-22T10:00:00Z");
    let kept = secret("kept", json!({"cert-manager.io/certificate-name": "web"}), "2026-04-01T00:00:00Z");
    let name = |secrets: &[ObjectMeta]| certificate::choose(secrets).map(|chosen| chosen.name);
    assert_eq!(name(&[plain.clone(), named.clone(), kept.clone()]).as_deref(), Some("kept"));
    let chosen = certificate::choose(&[plain.clone(), named.clone()]).unwrap();
    assert_eq!((chosen.name.as_str(), chosen.changed), ("web-tls", "2026-11-22T10:00:00Z".parse().ok()));
    assert_eq!(name(std::slice::from_ref(&plain)).as_deref(), Some("keystore"));
    assert_eq!(name(&[plain.clone(), plain]), None);
}
