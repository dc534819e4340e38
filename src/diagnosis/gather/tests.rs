//! `gather` against an API server that answers, refuses, lacks objects or is unreachable.

use hyper::{Request, Response};
use jiff::Timestamp;
use kube::client::Body;
use serde_json::{Value, json};

use super::mapping_tests::crashing;
use super::{PrometheusSource, Question, gather, is_same_service};
use crate::api::{MonitoredBackend, MonitoredBackendSpec, WorkloadKind, WorkloadRef};
use crate::diagnosis::evidence::{Evidence, Lookup, Subject};
use crate::probe::{Policy, Prober};

/// A fake API server: its answers by path and query.
fn server(answer: impl Fn(&str, &str) -> (u16, Value) + Clone + Send + Sync + 'static) -> kube::Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let (code, body) = answer(request.uri().path(), request.uri().query().unwrap_or_default());
        let body = Body::from(serde_json::to_vec(&body).unwrap());
        async move { Ok::<_, std::convert::Infallible>(Response::builder().status(code).body(body).unwrap()) }
    });
    kube::Client::new(service, "default")
}

fn refusal(code: u16, reason: &str) -> (u16, Value) {
    (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "the server's"}))
}

fn list(items: Value) -> (u16, Value) {
    (200, json!({"metadata": {}, "items": items}))
}

/// A Deployment whose only pod crashes, behind a Service.
fn shop(path: &str, query: &str) -> (u16, Value) {
    match path.rsplit("/namespaces/shop/").next().unwrap_or_default() {
        "deployments/web" => (
            200,
            json!({
                "metadata": {"name": "web", "uid": "d1", "annotations": {"deployment.kubernetes.io/revision": "2"}},
                "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": {}},
                "status": {"replicas": 1},
            }),
        ),
        "replicasets" => list(json!([{
            "metadata": {
                "name": "web-6c9", "uid": "rs2", "creationTimestamp": "2026-11-22T09:00:00Z",
                "annotations": {"deployment.kubernetes.io/revision": "2"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d1"}],
            },
            "spec": {"selector": {}},
        }])),
        "pods" => {
            let mut stranger = crashing();
            stranger["metadata"]["name"] = "by-hand".into();
            stranger["metadata"]["ownerReferences"] = json!([]);
            list(json!([crashing(), stranger]))
        }
        "services/web" => (
            200,
            json!({
                "metadata": {"name": "web"},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
            }),
        ),
        "events" if query.contains("reason%3DKilling") => list(json!([])),
        "events" if query.contains("name%3Dweb-6c9-x") => list(json!([{
            "metadata": {"name": "e"}, "type": "Warning", "reason": "BackOff", "involvedObject": {"kind": "Pod"},
        }])),
        "events" | "endpointslices" | "networkpolicies" => list(json!([])),
        "/api/v1/nodes/node-1" => (200, json!({"metadata": {}, "status": {"conditions": []}})),
        other => panic!("{other}?{query} was not expected"),
    }
}

fn subject() -> Subject {
    Subject {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        service: Some(("web".to_owned(), "80".to_owned())),
        workload: Some(WorkloadRef { kind: WorkloadKind::Deployment, name: "web".to_owned() }),
        ..Default::default()
    }
}

async fn seen(client: kube::Client) -> Evidence {
    let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    let mut question = Question::about(&MonitoredBackend::new("web", MonitoredBackendSpec::default()), None, now);
    question.known.subject = subject();
    gather(client, &Prober::new(Policy::default()), question, now).await
}

#[tokio::test]
async fn what_is_behind_a_backend_is_found() {
    let evidence = seen(server(shop)).await;
    let pods = evidence.pods.found().unwrap();
    // The Deployment does not own the second pod, but the Service selects it.
    assert_eq!(pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["web-6c9-x"]);
    assert_eq!(evidence.service.found().unwrap().selected, Some(2));
    assert_eq!(evidence.workload.found().unwrap().revision, Some((2, false)));
    assert_eq!(evidence.nodes_not_ready.found().unwrap().get("node-1"), Some(&None));
    assert_eq!(evidence.events.found().unwrap().len(), 1);
    // The Service's port has a number, and the container's startup probe a budget.
    assert_eq!((evidence.subject.port, evidence.subject.startup_seconds), (80, 300));
    assert_eq!(evidence.missing, Vec::<String>::new());
}

#[tokio::test]
async fn what_may_not_be_read_is_missing_evidence_that_names_the_permission() {
    let evidence = seen(server(|path, query| {
        let forbidden = ["/replicasets", "/nodes/", "/events", "/endpointslices"];
        if forbidden.iter().any(|part| path.contains(part)) { refusal(403, "Forbidden") } else { shop(path, query) }
    }))
    .await;
    let Lookup::Forbidden(nodes) = &evidence.nodes_not_ready else { panic!("{:?}", evidence.nodes_not_ready) };
    assert_eq!(nodes, "RBAC does not allow to get nodes (check: kubectl auth can-i get nodes)");
    let expected = "RBAC does not allow to list events in namespace shop \
                    (check: kubectl auth can-i list events -n shop)";
    assert_eq!(evidence.events, Lookup::Forbidden(expected.to_owned()));
    assert_eq!(evidence.missing.len(), 2, "{:?}", evidence.missing);
    assert!(evidence.missing[0].contains("list replicasets.apps in namespace shop"), "{:?}", evidence.missing);
    assert!(evidence.missing[1].contains("list endpointslices.discovery.k8s.io"), "{:?}", evidence.missing);
    // Without its ReplicaSets the selector alone decides.
    assert_eq!(evidence.pods.found().unwrap().len(), 2);
}

#[tokio::test]
async fn what_does_not_exist_is_absent_and_a_server_in_trouble_is_told() {
    let evidence = seen(server(|path, query| match path.contains("/deployments/") {
        true => refusal(404, "NotFound"),
        false => shop(path, query),
    }))
    .await;
    assert_eq!((&evidence.workload, &evidence.pods), (&Lookup::Absent, &Lookup::NotLooked));
    let evidence = seen(server(|_, _| refusal(500, "InternalError"))).await;
    let Lookup::Failed(why) = &evidence.workload else { panic!("{:?}", evidence.workload) };
    assert!(why.starts_with("reading deployments.apps of shop/web: the API server is unavailable"), "{why}");
    assert!(matches!(evidence.service, Lookup::Failed(_)));
}

/// The same Deployment with `living` pods, and with 300 that have ended: the newest are called `ended-299`, `ended-298`, …
fn with_leftovers(living: usize) -> impl Fn(&str, &str) -> (u16, Value) + Clone + Send + Sync + 'static {
    move |path, query| {
        if !path.ends_with("/pods") {
            return shop(path, query);
        }
        let pod = |name: String, phase: &str, minute: usize| {
            let mut pod = crashing();
            pod["metadata"]["name"] = name.into();
            pod["metadata"]["creationTimestamp"] =
                format!("2026-11-22T{:02}:{:02}:00Z", minute / 60, minute % 60).into();
            pod["status"]["phase"] = phase.into();
            pod["status"]["reason"] = "Evicted".into();
            pod["status"]["message"] = "The node was low on resource: memory.".into();
            pod
        };
        let ended = |number: usize| pod(format!("ended-{number}"), "Failed", number);
        let limit = query.split('&').find_map(|part| part.strip_prefix("limit=")?.parse().ok()).unwrap_or(usize::MAX);
        let selector = query.split('&').find_map(|part| part.strip_prefix("fieldSelector=")).unwrap_or_default();
        let found: Vec<Value> = match selector {
            "status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed" => {
                (0..living).map(|number| pod(format!("living-{number}"), "Running", 0)).collect()
            }
            "status.phase%21%3DPending%2Cstatus.phase%21%3DRunning%2Cstatus.phase%21%3DUnknown" => {
                // Not in the order of their age, as names are.
                (0..300).map(|number| ended(number * 7 % 300)).collect()
            }
            one => match one.strip_prefix("metadata.name%3Dended-") {
                Some(number) => vec![ended(number.parse().unwrap())],
                None => panic!("{one} was not expected"),
            },
        };
        list(found.into_iter().take(limit).collect())
    }
}

#[tokio::test]
async fn pods_that_have_ended_hide_no_living_one_and_are_not_asked_for_while_none_is_lacking() {
    let evidence = seen(server(with_leftovers(1))).await;
    let names = |pods: &[crate::diagnosis::evidence::Pod]| pods.iter().map(|pod| pod.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(evidence.pods.found().unwrap()), ["living-0"]);
    assert_eq!(names(&evidence.ended_pods), Vec::<String>::new());
    assert_eq!(evidence.service.found().unwrap().selected, Some(1));
}

#[tokio::test]
async fn where_no_pod_lives_the_newest_that_ended_are_read_among_hundreds() {
    let evidence = seen(server(with_leftovers(0))).await;
    assert_eq!(evidence.pods, Lookup::Found(Vec::new()));
    let ended: Vec<_> = evidence.ended_pods.iter().map(|pod| pod.name.as_str()).collect();
    assert_eq!(ended, ["ended-299", "ended-298", "ended-297"]);
    let newest = &evidence.ended_pods[0];
    assert_eq!((newest.phase.as_str(), newest.reason.as_deref()), ("Failed", Some("Evicted")));
    assert_eq!(newest.message.as_deref(), Some("The node was low on resource: memory."));
    // The Service selects them: it is not to blame.
    assert_eq!(evidence.service.found().unwrap().selected, Some(300));
    // Their node is looked at, because nothing else tells.
    assert_eq!(evidence.nodes_not_ready.found().unwrap().get("node-1"), Some(&None));
}

/// Evidence with a NetworkPolicy, and the paths that were read.
async fn seen_with_prometheus(source: PrometheusSource) -> (Evidence, Vec<String>) {
    let paths = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = paths.clone();
    let client = server(move |path, query| {
        seen.lock().push(path.to_owned());
        match path {
            _ if path.contains("/namespaces/monitoring/") => list(json!([])),
            _ if path.ends_with("/networkpolicies") => list(json!([{"metadata": {"name": "p"}, "spec": {}}])),
            _ => shop(path, query),
        }
    });
    let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    let backend = MonitoredBackend::new("web", MonitoredBackendSpec::default());
    let mut question = Question::about(&backend, Some(source), now);
    question.known.subject = subject();
    // Nothing is dialled: the evidence is about the API server.
    question.known.refused = Some((crate::api::Reason::InvalidTarget, String::new()));
    let evidence = gather(client, &Prober::new(Policy::default()), question, now).await;
    let paths = paths.lock().clone();
    (evidence, paths)
}

#[tokio::test]
async fn the_prometheus_of_an_object_is_looked_up_in_its_own_namespace_only() {
    let of = |url: &str, is_looked_up_anywhere| PrometheusSource {
        url: url.to_owned(),
        is_looked_up_anywhere,
        ..Default::default()
    };
    let elsewhere = "http://prometheus.monitoring.svc:9090";
    let (evidence, paths) = seen_with_prometheus(of(elsewhere, false)).await;
    assert!(!paths.iter().any(|path| path.contains("monitoring")), "{paths:?}");
    assert!(evidence.missing.iter().any(|why| why.contains("spec.prometheus.sourceCIDR")), "{:?}", evidence.missing);
    let (_, paths) = seen_with_prometheus(of(elsewhere, true)).await;
    assert!(paths.iter().any(|path| path.contains("/namespaces/monitoring/endpointslices")), "{paths:?}");
    let (evidence, _) = seen_with_prometheus(of("http://prometheus.shop.svc:9090", false)).await;
    assert_eq!(evidence.missing, Vec::<String>::new());
    assert!(is_same_service(elsewhere, "https://prometheus.monitoring.svc.cluster.local/p"));
    assert!(!is_same_service(elsewhere, "http://prometheus.shop.svc:9090"));
    assert!(!is_same_service("http://192.0.2.1", "http://192.0.2.1"));
}
