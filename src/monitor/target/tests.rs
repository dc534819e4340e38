//! URLs in their parts, and what a Service, a pod or a Secret makes of a target.

use serde_json::{Value, json};

use super::*;
use crate::cluster::fake::Fake;

fn backend(spec: Value) -> MonitoredBackend {
    let meta = json!({ "name": "shop", "namespace": "edge", "uid": "u1", "generation": 1 });
    let object =
        json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "MonitoredBackend", "metadata": meta, "spec": spec });
    serde_json::from_value(object).unwrap()
}

fn service(fake: &Fake, spec: Value) {
    fake.put("/api/v1/namespaces/edge/services/web", json!({ "metadata": { "name": "web" }, "spec": spec }));
}

fn to_service(port: Value) -> MonitoredBackend {
    backend(json!({ "target": { "service": { "name": "web", "port": port, "path": "/health" } } }))
}

#[test]
fn a_url_is_understood_in_all_its_forms() {
    for (url, expected) in [
        ("http://web.example.com", "http://web.example.com:80/"),
        ("https://web.example.com?x=1", "https://web.example.com:443/?x=1"),
        ("http://192.0.2.7:8081/actuator/prometheus", "http://192.0.2.7:8081/actuator/prometheus"),
        ("http://[2001:db8::7]:8081/", "http://[2001:db8::7]:8081/"),
        ("https://[2001:db8::7]", "https://[2001:db8::7]:443/"),
        ("tcp://db.example.com:5432", "tcp://db.example.com:5432"),
        ("grpcs://api.example.com:443/shop.Cart", "grpcs://api.example.com:443/shop.Cart"),
    ] {
        let target = of_url(url).unwrap();
        assert_eq!(as_url(&target), expected);
        assert!(!target.is_own);
    }
    for (url, problem) in [
        ("web.example.com", "no scheme"),
        ("ftp://web.example.com", "ftp"),
        ("tcp://db.example.com", "needs a port"),
        ("http://:80/", "no host"),
        ("http://ops:secret@web.example.com/", "no user and no password"),
        ("http://web.example.com:99999/", "no port"),
    ] {
        let message = of_url(url).unwrap_err();
        assert!(message.contains(problem) && !message.contains("secret"), "{url}: {message}");
    }
}

#[tokio::test]
async fn a_service_is_dialled_at_its_cluster_address_under_its_name() {
    let fake = Fake::new();
    let ports = json!([{ "name": "http", "port": 80, "targetPort": 8080 }, { "name": "admin", "port": 8081 }]);
    service(&fake, json!({ "clusterIP": "10.96.3.4", "selector": { "app": "web" }, "ports": ports }));
    for port in [json!("admin"), json!(8081)] {
        let resolved = resolve(&fake.client(), &to_service(port)).await.unwrap();
        assert_eq!(resolved.url, "http://web.edge.svc:8081/health");
        let target = &resolved.targets[0].request.target;
        assert_eq!((target.address, target.is_own), (Some([10, 96, 3, 4].into()), true));
        assert_eq!(&*resolved.targets[0].host, "10.96.3.4");
    }
    let message = resolve(&fake.client(), &to_service(json!("metrics"))).await.unwrap_err();
    let ResolveError::Refused(Reason::InvalidTarget, message) = message else { panic!("{message:?}") };
    assert_eq!(message, "Service web has no port metrics; it has: http 80, admin 8081");
}

#[tokio::test]
async fn a_service_that_leads_elsewhere_is_no_more_than_a_url() {
    let fake = Fake::new();
    service(&fake, json!({ "clusterIP": "10.96.3.4", "ports": [{ "port": 80 }] }));
    let resolved = resolve(&fake.client(), &to_service(json!(80))).await.unwrap();
    assert!(!resolved.targets[0].request.target.is_own, "without a selector anybody writes its endpoints");
    let external = json!({ "type": "ExternalName", "externalName": "db.example.com", "ports": [{ "port": 80 }] });
    service(&fake, external);
    let resolved = resolve(&fake.client(), &to_service(json!(80))).await.unwrap();
    let target = &resolved.targets[0].request.target;
    assert_eq!((target.host.as_str(), target.address, target.is_own), ("db.example.com", None, false));
}

#[tokio::test]
async fn each_endpoint_of_a_headless_service_is_a_vantage_ready_or_not() {
    let fake = Fake::new();
    service(
        &fake,
        json!({ "clusterIP": "None", "selector": { "app": "web" }, "ports": [{ "name": "http", "port": 80 }] }),
    );
    let endpoint = |address: &str, pod: &str| json!({ "addresses": [address], "conditions": { "ready": false }, "targetRef": { "kind": "Pod", "name": pod } });
    let slice = json!({
        "metadata": { "name": "web-1", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4", "ports": [{ "name": "http", "port": 8080 }],
        "endpoints": [endpoint("10.88.0.7", "web-a"), endpoint("10.88.0.8", "web-b")],
    });
    fake.put("/apis/discovery.k8s.io/v1/namespaces/edge/endpointslices/web-1", slice);
    let resolved = resolve(&fake.client(), &to_service(json!("http"))).await.unwrap();
    let targets: Vec<_> = resolved.targets.iter().map(|one| (one.name.as_str(), one.request.target.port)).collect();
    assert_eq!((targets, resolved.is_fleeting), (vec![("pod/web-a", 8080), ("pod/web-b", 8080)], true));
}

#[tokio::test]
async fn credentials_come_from_labelled_secrets_alone_and_what_is_missing_is_named() {
    let fake = Fake::new();
    let spec = json!({
        "target": { "url": "https://web.example.com/" },
        "probe": { "http": { "bearerTokenSecretRef": { "name": "cred", "key": "token" } } },
    });
    let path = "/api/v1/namespaces/edge/secrets/cred";
    let refusal = async || match resolve(&fake.client(), &backend(spec.clone())).await {
        Err(ResolveError::Refused(Reason::SecretNotFound, message)) => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal().await, "there is no Secret cred in namespace edge");
    fake.put(path, json!({ "metadata": { "name": "cred" }, "data": { "token": "czNjcjN0Cg==" } }));
    assert!(refusal().await.contains("labels it vigie.dev/probe-credentials=true"));
    let labels = json!({ "vigie.dev/probe-credentials": "true" });
    fake.put(path, json!({ "metadata": { "name": "cred", "labels": labels }, "data": { "other": "eA==" } }));
    assert_eq!(refusal().await, "Secret cred has no key token");
    fake.put(path, json!({ "metadata": { "name": "cred", "labels": labels }, "data": { "token": "czNjcjN0Cg==" } }));
    let resolved = resolve(&fake.client(), &backend(spec.clone())).await.unwrap();
    let sent = &resolved.targets[0].request.http.headers;
    assert_eq!(sent, &[("Authorization".to_owned(), "Bearer s3cr3t".to_owned())]);
}
