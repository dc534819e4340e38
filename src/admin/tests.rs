use axum::body::Body;
use axum::http::{HeaderMap, Method};
use http_body_util::BodyExt;
use kube::client::Body as KubeBody;
use serde_json::Value;
use tower::ServiceExt;
use tower_test::mock;

use super::*;
use crate::api::{ConnectorState, Truth};

struct Fake {
    walks: std::sync::atomic::AtomicUsize,
    facts: Facts,
    names: Vec<(String, String)>,
}

impl Fleet for Fake {
    fn connectors(&self, namespace: Option<&str>, each: &mut dyn FnMut(ConnectorView)) {
        let wanted = |(there, _): &&(String, String)| namespace.is_none_or(|namespace| namespace == there);
        for (namespace, name) in self.names.iter().filter(wanted) {
            each(view(namespace, name));
        }
    }

    fn backends(&self, _: Option<&str>, _: &mut dyn FnMut(BackendView)) {}

    fn standing(&self) -> (Standing, bool) {
        (self.facts.leader, self.facts.synced)
    }

    fn facts(&self) -> Facts {
        self.walks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.facts.clone()
    }
}

fn view(namespace: &str, name: &str) -> ConnectorView {
    ConnectorView {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        connector_id: format!("{namespace}/{name}"),
        site: String::new(),
        state: ConnectorState::Online,
        ready: Truth::True,
        cause: None,
        message: None,
        advice: None,
        last_heartbeat_time: Some("2026-11-22T12:00:00.123456Z".parse().unwrap()),
        state_since: None,
        health: None,
        version: None,
        hostname: None,
        address: None,
        token_issued_time: None,
        rotation_pending_since: None,
        token_grace_until: None,
        restarts: 0,
        remedy: RemedyView::default(),
        created_time: None,
        checks: vec![CheckView { type_: "Process".to_owned(), status: crate::api::CheckOutcome::Pass }],
        paused: false,
        written: true,
    }
}

fn facts(leader: Standing, synced: bool) -> Facts {
    Facts {
        leader,
        synced,
        listening_since: None,
        reachable: None,
        status_write_pending: 0,
        checkpoint_staleness: 0.0,
        connectors: 3,
        backends: 0,
        remedies_in_flight: 0,
        breaker_open: false,
        brakes: Vec::new(),
        mass_silences: Vec::new(),
        probe_blind: false,
    }
}

fn admin(facts: Facts, auth: Option<Authenticator>) -> Router {
    let names = [("b", "two"), ("a", "one"), ("b", "one")].map(|(ns, name)| (ns.to_owned(), name.to_owned()));
    let fleet = Arc::new(Fake { walks: 0.into(), facts, names: names.to_vec() });
    let mut registry = Registry::default();
    metrics::register_fleet(&mut registry, fleet.clone(), metrics::ObjectMetrics::Auto);
    router(Admin { fleet, registry: Arc::new(registry), auth })
}

async fn ask(router: &Router, method: Method, path: &str, token: Option<&str>) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (head.status, head.headers, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn get_from(router: &Router, path: &str) -> (StatusCode, String) {
    let (status, _, text) = ask(router, Method::GET, path, None).await;
    (status, text)
}

#[tokio::test]
async fn alive_is_not_ready_and_says_why() {
    let cold = admin(facts(Standing::Follower, false), None);
    assert_eq!(get_from(&cold, "/livez").await, (StatusCode::OK, "ok\n".to_owned()));
    let (status, text) = get_from(&cold, "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text, "the stores are not yet filled from the API server\n");
    for ready in [facts(Standing::Follower, true), facts(Standing::Leader, true), facts(Standing::Uncertain, false)] {
        assert_eq!(get_from(&admin(ready, None), "/readyz").await, (StatusCode::OK, "ok\n".to_owned()));
    }
}

#[tokio::test]
async fn nothing_but_a_scrape_walks_the_fleet_to_know_how_the_operator_is() {
    let fleet = Arc::new(Fake { walks: 0.into(), facts: facts(Standing::Leader, true), names: Vec::new() });
    let router = router(Admin { fleet: fleet.clone(), registry: Arc::default(), auth: None });
    for path in ["/livez", "/readyz", "/api/v1/connectors", "/api/v1/backends", "/sd/prometheus"] {
        assert_eq!(get_from(&router, path).await.0, StatusCode::OK, "{path}");
    }
    assert_eq!(fleet.walks.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn metrics_are_served_as_openmetrics() {
    let (status, headers, text) = ask(&admin(facts(Standing::Leader, true), None), Method::GET, "/metrics", None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[header::CONTENT_TYPE], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(text.contains("vigie_leader 1\n") && text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn connectors_are_sorted_and_can_be_read_back() {
    let router = admin(facts(Standing::Leader, true), None);
    let (status, headers, text) = ask(&router, Method::GET, "/api/v1/connectors", None).await;
    assert_eq!((status, headers[header::CONTENT_TYPE].to_str().unwrap()), (StatusCode::OK, "application/json"));
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((json["leader"].as_str(), json["source"].as_str()), (Some("Leader"), Some("operator")));
    let items: Vec<ConnectorView> = serde_json::from_value(json["items"].clone()).unwrap();
    assert_eq!(items, [view("a", "one"), view("b", "one"), view("b", "two")]);
    assert_eq!(json["items"][0]["connectorID"], "a/one");
    assert_eq!(json["items"][0]["checks"][0]["type"], "Process");
    assert_eq!(json["items"][0]["lastHeartbeatTime"], "2026-11-22T12:00:00.123456Z");
}

#[tokio::test]
async fn a_namespace_narrows_and_a_wrong_question_is_answered_by_a_sentence() {
    let router = admin(facts(Standing::Leader, true), None);
    let count = async |query: &str| {
        let (status, text) = get_from(&router, &format!("/api/v1/connectors{query}")).await;
        assert_eq!(status, StatusCode::OK, "{query}");
        serde_json::from_str::<Value>(&text).unwrap()["items"].as_array().unwrap().len()
    };
    assert_eq!(count("?namespace=b").await, 2);
    assert_eq!(count("?namespace=nobody").await, 0);
    assert_eq!(count("?namespace=").await, 3);
    for (query, word) in [
        ("?namespace=A_b", "A_b"),
        ("?name=one", "the query cannot be read: name: unknown field"),
        ("?namespace=a&namespace=b", "namespace"),
    ] {
        let (status, text) = get_from(&router, &format!("/api/v1/connectors{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        let json: Value = serde_json::from_str(&text).unwrap();
        assert!(json["error"]["message"].as_str().unwrap().contains(word), "{text}");
    }
}

#[tokio::test]
async fn a_large_fleet_is_written_in_pieces_that_fit_together() {
    let names: Vec<_> = (0..250).map(|i| ("ns".to_owned(), format!("e{i:03}"))).collect();
    let fleet = Arc::new(Fake { walks: 0.into(), facts: facts(Standing::Leader, true), names });
    let router = router(Admin { fleet, registry: Arc::default(), auth: None });
    let (_, text) = get_from(&router, "/api/v1/connectors").await;
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["items"].as_array().unwrap().len(), 250);
    assert_eq!(json["items"][249]["name"], "e249");
}

#[tokio::test]
async fn what_is_not_there_is_404_and_nothing_can_be_changed() {
    let router = admin(facts(Standing::Leader, true), None);
    let (status, text) = get_from(&router, "/api/v1/secrets").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["error"]["code"], "NotFound");
    for path in ["/livez", "/readyz", "/metrics", "/api/v1/connectors"] {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let (status, _, text) = ask(&router, method, path, None).await;
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["error"]["code"], "MethodNotAllowed");
        }
    }
}

type Server = mock::Handle<Request<KubeBody>, Response<KubeBody>>;

fn guarded() -> (Router, Server) {
    let (service, server) = mock::pair();
    let auth = Authenticator::new(kube::Client::new(service, "default"));
    (admin(facts(Standing::Leader, true), Some(auth)), server)
}

/// Takes one question, checks its path, answers with this status, and returns its spec.
async fn reply(server: &mut Server, path: &str, status: Value) -> Value {
    let (request, send) = server.next_request().await.expect("a question");
    assert_eq!((request.method(), request.uri().path()), (&Method::POST, path));
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut review: Value = serde_json::from_slice(&body).unwrap();
    let spec = review["spec"].clone();
    review["status"] = status;
    send.send_response(Response::new(KubeBody::from(serde_json::to_vec(&review).unwrap())));
    spec
}

const TOKEN_REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

async fn known(server: &mut Server) {
    let user = json!({"username": "prometheus", "groups": ["scrapers"], "extra": {"k": ["v"]}});
    let spec = reply(server, TOKEN_REVIEWS, json!({"authenticated": true, "user": user})).await;
    assert_eq!(spec["token"], "secret");
}

#[tokio::test]
async fn an_allowed_token_reads_and_is_asked_about_once() {
    let (router, mut server) = guarded();
    let cluster = tokio::spawn(async move {
        known(&mut server).await;
        let spec = reply(&mut server, ACCESS_REVIEWS, json!({"allowed": true})).await;
        assert_eq!(spec["nonResourceAttributes"], json!({"path": "/metrics", "verb": "get"}));
        assert_eq!((&spec["user"], &spec["groups"]), (&json!("prometheus"), &json!(["scrapers"])));
        assert_eq!(spec["extra"], json!({"k": ["v"]}));
        server
    });
    for _ in 0..3 {
        assert_eq!(ask(&router, Method::GET, "/metrics", Some("secret")).await.0, StatusCode::OK);
    }
    let mut server = cluster.await.unwrap();
    drop(router);
    assert!(server.next_request().await.is_none(), "the answer is remembered");
}

#[tokio::test]
async fn a_token_that_may_not_get_the_path_is_forbidden() {
    let (router, mut server) = guarded();
    let cluster = tokio::spawn(async move {
        known(&mut server).await;
        reply(&mut server, ACCESS_REVIEWS, json!({"allowed": false})).await["nonResourceAttributes"]["path"].clone()
    });
    let (status, _, text) = ask(&router, Method::GET, "/api/v1/connectors?namespace=a", Some("secret")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("grant the verb get on the nonResourceURL"), "{text}");
    assert_eq!(cluster.await.unwrap(), "/vigie/api/v1/connectors", "without the query");
}

#[tokio::test]
async fn without_a_good_token_nothing_is_told() {
    let (router, mut server) = guarded();
    let (status, headers, _) = ask(&router, Method::GET, "/metrics", None).await;
    assert_eq!((status, &headers[header::WWW_AUTHENTICATE]), (StatusCode::UNAUTHORIZED, &"Bearer".parse().unwrap()));
    let cluster = tokio::spawn(async move {
        reply(&mut server, TOKEN_REVIEWS, json!({"authenticated": false, "error": "invalid bearer token"})).await;
        server
    });
    let (status, _, text) = ask(&router, Method::GET, "/metrics", Some("wrong")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(!text.contains("wrong") && !text.contains("vigie_"), "{text}");
    cluster.await.unwrap();
}

#[tokio::test]
async fn the_kubelet_needs_no_token() {
    let (router, _server) = guarded();
    assert_eq!(get_from(&router, "/livez").await.0, StatusCode::OK);
    assert_eq!(get_from(&router, "/readyz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_api_server_that_refuses_us_is_503_with_its_words() {
    let (router, mut server) = guarded();
    let cluster = tokio::spawn(async move {
        let (_, send) = server.next_request().await.expect("a question");
        let body = json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403,
            "message": "tokenreviews is forbidden"});
        let body = KubeBody::from(serde_json::to_vec(&body).unwrap());
        send.send_response(Response::builder().status(403).body(body).unwrap());
    });
    let (status, _, text) = ask(&router, Method::GET, "/metrics", Some("secret")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("could not be asked who may read this: tokenreviews is forbidden"), "{text}");
    cluster.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_is_503_in_time() {
    let (router, server) = guarded();
    let began = tokio::time::Instant::now();
    let (status, _, text) = ask(&router, Method::GET, "/metrics", Some("secret")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("no answer within 5 s"), "{text}");
    assert!(began.elapsed() < std::time::Duration::from_secs(6));
    drop(server);
}

#[test]
fn an_error_is_told_with_the_source_that_it_hides() {
    #[derive(Debug, thiserror::Error)]
    #[error("client error (Connect)")]
    struct Hyper(#[source] std::io::Error);
    let refused = Hyper(std::io::Error::other("connection refused"));
    let error = kube::Error::Service(Box::new(refused));
    assert_eq!(words(&error), "ServiceError: client error (Connect): connection refused");
}
