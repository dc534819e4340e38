//! URLs in their parts, and what a Service, a pod or a Secret makes of a target.

use serde_json::{Value, json};

use super::*;
use crate::api::Reason;
use crate::cluster::fake::Fake;

fn backend(spec: Value) -> MonitoredBackend {
    let meta = json!({ "name": "shop", "namespace": "edge", "uid": "u1", "generation": 1 });
    let object =
        json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "MonitoredBackend", "metadata": meta, "spec": spec });
    serde_json::from_value(object).unwrap()
}

/// Service `web` of this spec; of type ClusterIP with a selector, unless the spec says otherwise.
fn service(fake: &Fake, spec: Value) {
    let meta = json!({ "name": "web", "namespace": "edge", "uid": "s1" });
    fake.put("/api/v1/namespaces/edge/services/web", json!({ "metadata": meta, "spec": spec }));
}

/// A pod that Service `web` selects.
fn pod(fake: &Fake, name: &str, address: Option<&str>) {
    let meta = json!({ "name": name, "namespace": "edge", "labels": { "app": "web" } });
    let ports = json!([{ "name": "http", "containerPort": 8080 }]);
    let spec = json!({ "containers": [{ "name": "app", "ports": ports }] });
    let status = json!({ "phase": "Running", "podIP": address });
    fake.put(
        &format!("/api/v1/namespaces/edge/pods/{name}"),
        json!({ "metadata": meta, "spec": spec, "status": status }),
    );
}

/// An EndpointSlice of Service `web`, as the endpointslice controller writes it, with these pods at these addresses.
fn slice(endpoints: &[(&str, &str)]) -> Value {
    let endpoint = |(pod, address): &(&str, &str)| {
        json!({ "addresses": [address], "conditions": { "ready": false },
        "targetRef": { "kind": "Pod", "name": pod, "namespace": "edge" } })
    };
    let labels = json!({ "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io" });
    let owner = json!({ "apiVersion": "v1", "kind": "Service", "name": "web", "uid": "s1", "controller": true });
    json!({
        "metadata": { "name": "web-1", "namespace": "edge", "labels": labels, "ownerReferences": [owner] },
        "addressType": "IPv4", "ports": [{ "name": "http", "port": 8080 }],
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

fn put_slice(fake: &Fake, slice: Value) {
    fake.put("/apis/discovery.k8s.io/v1/namespaces/edge/endpointslices/web-1", slice);
}

fn cluster_ip() -> Value {
    json!({ "clusterIP": "10.96.3.4", "selector": { "app": "web" }, "ports": [{ "name": "http", "port": 80 }] })
}

fn headless() -> Value {
    json!({ "clusterIP": "None", "selector": { "app": "web" }, "ports": [{ "name": "http", "port": 80 }] })
}

async fn refusal(fake: &Fake, backend: &MonitoredBackend) -> (Reason, String) {
    match resolve(&fake.client(), backend).await {
        Err(ResolveError::Refused(reason, message)) => (reason, message),
        other => panic!("{other:?}"),
    }
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
        ("http://m\u{fc}nchen.example.com/x", "http://xn--mnchen-3ya.example.com:80/x"),
        ("http://my_shop.example.com/", "http://my_shop.example.com:80/"),
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
async fn a_service_that_may_lead_anywhere_is_never_dialled_and_the_reason_is_told() {
    let fake = Fake::new();
    let external = json!({ "type": "ExternalName", "externalName": "db.example.com", "ports": [{ "port": 80 }] });
    let mut selecting = external.clone();
    selecting["selector"] = json!({ "app": "web" });
    let mut selects_nothing = cluster_ip();
    selects_nothing["selector"] = json!({});
    for (spec, why) in [
        (external, "ExternalName"),
        (selecting, "ExternalName"),
        (json!({ "clusterIP": "10.96.3.4", "ports": [{ "port": 80 }] }), "no selector"),
        (selects_nothing, "no selector"),
    ] {
        service(&fake, spec);
        let (reason, message) = refusal(&fake, &to_service(json!(80))).await;
        assert_eq!(reason, Reason::TargetDenied);
        assert!(message.contains(why) && message.contains("spec.target.url"), "{message}");
    }
}

#[tokio::test]
async fn endpoints_that_are_not_the_pods_of_the_service_are_never_dialled_whoever_wrote_them() {
    for spec in [cluster_ip(), headless()] {
        let fake = Fake::new();
        service(&fake, spec);
        pod(&fake, "web-a", Some("10.88.0.7"));
        put_slice(&fake, slice(&[("web-a", "10.88.0.7")]));
        assert!(resolve(&fake.client(), &to_service(json!(80))).await.is_ok());

        let mut by_hand = slice(&[("web-a", "10.88.0.7")]);
        by_hand["metadata"]["labels"].as_object_mut().unwrap().remove("endpointslice.kubernetes.io/managed-by");
        let mut mirrored = slice(&[("web-a", "10.88.0.7")]);
        mirrored["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = json!("staff");
        let mut unowned = slice(&[("web-a", "10.88.0.7")]);
        unowned["metadata"]["ownerReferences"][0]["uid"] = json!("another");
        let mut anonymous = slice(&[("web-a", "192.0.2.10")]);
        anonymous["endpoints"][0].as_object_mut().unwrap().remove("targetRef");
        let mut foreign = slice(&[("web-a", "10.88.0.7")]);
        foreign["endpoints"][0]["targetRef"]["namespace"] = json!("bank");
        for (forged, why) in [
            (by_hand, "has no label endpointslice.kubernetes.io/managed-by"),
            (mirrored, "managed-by is staff"),
            (unowned, "the Service does not own it"),
            (anonymous, "endpoint 192.0.2.10 in EndpointSlice web-1 is no pod of namespace edge"),
            (foreign, "is no pod of namespace edge"),
        ] {
            put_slice(&fake, forged);
            let (reason, message) = refusal(&fake, &to_service(json!(80))).await;
            assert_eq!(reason, Reason::TargetDenied, "{message}");
            assert!(message.contains(why) && message.starts_with("Service web is not dialled"), "{message}");
        }
        // These may be a pod that was just replaced: nothing is dialled, and it is not called a forgery at once.
        for endpoints in [[("web-a", "192.0.2.10")], [("web-b", "10.88.0.7")]] {
            put_slice(&fake, slice(&endpoints));
            let found = resolve(&fake.client(), &to_service(json!(80))).await;
            assert!(
                matches!(&found, Err(ResolveError::Unverified(why)) if why.contains("not the address of pod")),
                "{found:?}"
            );
        }
        let mut two = slice(&[("web-a", "10.88.0.7")]);
        two["endpoints"][0]["addresses"] = json!(["10.88.0.7", "192.0.2.10"]);
        put_slice(&fake, two);
        assert!(matches!(resolve(&fake.client(), &to_service(json!(80))).await, Err(ResolveError::Unverified(_))));
    }
}

#[tokio::test]
async fn each_endpoint_of_a_headless_service_is_a_vantage_ready_or_not() {
    let fake = Fake::new();
    service(&fake, headless());
    pod(&fake, "web-a", Some("10.88.0.7"));
    pod(&fake, "web-b", Some("10.88.0.8"));
    put_slice(&fake, slice(&[("web-a", "10.88.0.7"), ("web-b", "10.88.0.8")]));
    let resolved = resolve(&fake.client(), &to_service(json!("http"))).await.unwrap();
    let targets: Vec<_> = resolved.targets.iter().map(|one| (one.name.as_str(), one.request.target.port)).collect();
    assert_eq!((targets, resolved.is_fleeting), (vec![("pod/web-a", 8080), ("pod/web-b", 8080)], true));
    put_slice(&fake, slice(&[]));
    let resolved = resolve(&fake.client(), &to_service(json!("http"))).await.unwrap();
    assert_eq!((resolved.targets.len(), resolved.scrape), (0, None));
    assert_eq!(resolved.nothing.unwrap(), "Service web has no endpoint: no pod with an address is behind it");
}

fn to_pods(port: Value) -> MonitoredBackend {
    backend(json!({ "target": { "pods": { "port": port } }, "workloadRef": { "kind": "Deployment", "name": "web" } }))
}

#[tokio::test]
async fn a_workload_without_an_address_leaves_nothing_to_dial_and_that_is_told_with_the_number_of_pods() {
    let fake = Fake::new();
    let (refused, message) = refusal(&fake, &to_pods(json!(8080))).await;
    assert_eq!((refused, message.as_str()), (Reason::WorkloadNotFound, "there is no Deployment web in namespace edge"));
    let spec = json!({ "selector": { "matchLabels": { "app": "web" } }, "template": {} });
    fake.put("/apis/apps/v1/namespaces/edge/deployments/web", json!({ "metadata": { "name": "web" }, "spec": spec }));
    for (pods, expected) in [
        (&[][..], "Deployment web has no pod that runs or will run"),
        (&["web-a"], "the pod of Deployment web has no address yet"),
        (&["web-a", "web-b"], "none of the 2 pods of Deployment web has an address yet"),
    ] {
        pods.iter().for_each(|name| pod(&fake, name, None));
        let resolved = resolve(&fake.client(), &to_pods(json!(8080))).await.unwrap();
        let why = resolved.nothing.unwrap();
        assert!(resolved.targets.is_empty() && why.starts_with(expected), "{why}");
    }
    pod(&fake, "web-b", Some("10.88.0.8"));
    let resolved = resolve(&fake.client(), &to_pods(json!("http"))).await.unwrap();
    assert_eq!((resolved.targets.len(), resolved.nothing), (1, None), "one of them is enough");
    let (reason, message) = refusal(&fake, &to_pods(json!("metrics"))).await;
    assert_eq!(reason, Reason::InvalidTarget);
    assert_eq!(message, "no pod of Deployment web declares a port metrics, which spec.target.pods.port names");
}

#[tokio::test]
async fn of_a_node_a_pod_on_its_network_owns_the_ports_that_it_declares() {
    let fake = Fake::new();
    let spec = json!({ "selector": { "matchLabels": { "app": "web" } }, "template": {} });
    fake.put("/apis/apps/v1/namespaces/edge/deployments/web", json!({ "metadata": { "name": "web" }, "spec": spec }));
    let ports = json!([{ "name": "http", "containerPort": 8080 }]);
    let spec = json!({ "hostNetwork": true, "containers": [{ "name": "app", "ports": ports }] });
    let meta = json!({ "name": "web-a", "labels": { "app": "web" } });
    let node = json!({ "metadata": meta, "spec": spec, "status": { "phase": "Running", "podIP": "192.0.2.10" } });
    fake.put("/api/v1/namespaces/edge/pods/web-a", node);
    for (port, is_own) in [(8080, true), (10_250, false)] {
        let resolved = resolve(&fake.client(), &to_pods(json!(port))).await.unwrap();
        assert_eq!(resolved.targets[0].request.target.is_own, is_own, "{port}");
        // The actuator's port is dialled at the same address.
        let mut with_actuator = to_pods(json!(8080));
        with_actuator.spec.probe.actuator = serde_json::from_value(json!({ "port": port })).unwrap();
        let resolved = resolve(&fake.client(), &with_actuator).await.unwrap();
        assert_eq!(resolved.targets[0].request.target.is_own, is_own, "actuator at {port}");
        assert_eq!(resolved.targets[0].elsewhere.target.is_own, is_own, "actuator at {port}");
        for spec in [cluster_ip(), headless()] {
            service(&fake, spec.clone());
            let mut of_node = slice(&[("web-a", "192.0.2.10")]);
            of_node["ports"][0]["port"] = json!(port);
            put_slice(&fake, of_node);
            let resolved = resolve(&fake.client(), &to_service(json!(80))).await.unwrap();
            assert_eq!(resolved.targets[0].request.target.is_own, is_own, "{port} behind {spec}");
        }
    }
}

#[tokio::test]
async fn credentials_go_to_the_hosts_that_their_secret_names_and_by_default_to_no_other_port() {
    let fake = Fake::new();
    let path = "/api/v1/namespaces/edge/secrets/cred";
    let put = |hosts: Option<&str>| {
        let labels = json!({ "vigie.dev/probe-credentials": "true" });
        let meta = json!({ "name": "cred", "labels": labels, "annotations": hosts.map(|hosts| json!({ "vigie.dev/probe-hosts": hosts })) });
        fake.put(path, json!({ "metadata": meta, "data": { "token": "czNjcjN0Cg==" } }));
    };
    let http = json!({ "bearerTokenSecretRef": { "name": "cred", "key": "token" }, "headers": [{ "name": "X-Tenant", "value": "blue" }] });
    let to = |url: &str| {
        backend(json!({ "target": { "url": url }, "probe": { "http": http, "actuator": { "port": 8081 } } }))
    };
    let sent = async |url: &str| {
        let resolved = resolve(&fake.client(), &to(url)).await.unwrap();
        let is_sent =
            |request: &crate::probe::Request| request.http.headers.iter().any(|(name, _)| name == "Authorization");
        let target = &resolved.targets[0];
        assert_eq!(target.elsewhere.http.headers[0].0, "X-Tenant", "what is no secret is sent everywhere");
        (is_sent(&target.request), is_sent(&target.elsewhere))
    };
    for (hosts, expected) in [
        (None, (true, false)),
        (Some("web.example.com:443"), (true, false)),
        (Some("other.example.com, WEB.example.com"), (true, true)),
        (Some("web.example.com:443,web.example.com:8081"), (true, true)),
    ] {
        put(hosts);
        assert_eq!(sent("https://web.example.com/").await, expected, "{hosts:?}");
    }
    for hosts in ["other.example.com", "web.example.com:8443", "example.com", ""] {
        put(Some(hosts));
        let (reason, message) = refusal(&fake, &to("https://web.example.com/")).await;
        assert_eq!(reason, Reason::SecretNotFound);
        assert!(
            message.starts_with(
                "Secret cred may not be sent to web.example.com:443: its annotation vigie.dev/probe-hosts"
            ),
            "{message}"
        );
    }
    put(Some("[2001:db8::7]:8443, 2001:db8::8"));
    assert!(sent("https://[2001:db8::7]:8443/").await.0);
    assert_eq!(sent("https://[2001:db8::8]/").await, (true, true));
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
