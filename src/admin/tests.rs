use axum::body::Body;
use axum::http::{HeaderMap, Method};
use http_body_util::BodyExt;
use kube::client::Body as KubeBody;
use serde_json::Value;
use tower::ServiceExt;
use tower_test::mock;

use super::*;
use crate::api::{ConnectorState, Truth};
use crate::view::{BackendView, CheckView, ConnectorView, OperatorFacts, RemedyView};

mod auth_tests;

struct Fake {
    walks: std::sync::atomic::AtomicUsize,
    facts: OperatorFacts,
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

    fn role(&self) -> (Role, bool) {
        (self.facts.leader, self.facts.synced)
    }

    fn lacks_label(&self) -> bool {
        self.facts.pod_labelled == Some(false)
    }

    fn facts(&self) -> OperatorFacts {
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
        agent_heartbeat_time: None,
        is_agent_silent: None,
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

fn facts(leader: Role, synced: bool) -> OperatorFacts {
    OperatorFacts {
        leader,
        synced,
        listening_since: None,
        reachable: None,
        pod_labelled: None,
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

fn admin(facts: OperatorFacts, auth: Option<Authenticator>) -> Router {
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
    let cold = admin(facts(Role::Follower, false), None);
    assert_eq!(get_from(&cold, "/livez").await, (StatusCode::OK, "ok\n".to_owned()));
    let (status, text) = get_from(&cold, "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text, "the stores are not yet filled from the API server\n");
    for ready in [facts(Role::Follower, true), facts(Role::Leader, true), facts(Role::Uncertain, false)] {
        assert_eq!(get_from(&admin(ready, None), "/readyz").await, (StatusCode::OK, "ok\n".to_owned()));
    }
    let unlabelled = OperatorFacts { pod_labelled: Some(false), ..facts(Role::Leader, true) };
    let (status, text) = get_from(&admin(unlabelled, None), "/readyz").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.starts_with("ok, but no heartbeat arrives by the Service: this replica leads"), "{text}");
    assert!(text.contains("vigie.dev/role=leader"), "{text}");
}

#[tokio::test]
async fn nothing_but_a_scrape_walks_the_fleet_to_know_how_the_operator_is() {
    let fleet = Arc::new(Fake { walks: 0.into(), facts: facts(Role::Leader, true), names: Vec::new() });
    let router = router(Admin { fleet: fleet.clone(), registry: Arc::default(), auth: None });
    for path in ["/livez", "/readyz", "/api/v1/connectors", "/api/v1/backends", "/sd/prometheus"] {
        assert_eq!(get_from(&router, path).await.0, StatusCode::OK, "{path}");
    }
    assert_eq!(fleet.walks.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn metrics_are_served_as_openmetrics() {
    let (status, headers, text) = ask(&admin(facts(Role::Leader, true), None), Method::GET, "/metrics", None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[header::CONTENT_TYPE], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(text.contains("vigie_leader 1\n") && text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn connectors_are_sorted_and_can_be_read_back() {
    let router = admin(facts(Role::Leader, true), None);
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
    let router = admin(facts(Role::Leader, true), None);
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
    let fleet = Arc::new(Fake { walks: 0.into(), facts: facts(Role::Leader, true), names });
    let router = router(Admin { fleet, registry: Arc::default(), auth: None });
    let (_, text) = get_from(&router, "/api/v1/connectors").await;
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["items"].as_array().unwrap().len(), 250);
    assert_eq!(json["items"][249]["name"], "e249");
}

fn with_one_place() -> Arc<AdminState> {
    let fleet = Arc::new(Fake { walks: 0.into(), facts: facts(Role::Leader, true), names: Vec::new() });
    Arc::new(AdminState { fleet, registry: Arc::default(), auth: None, large_slots: Arc::new(Semaphore::new(1)) })
}

#[tokio::test]
async fn a_large_answer_keeps_its_place_until_it_is_made_though_nobody_waits_and_until_it_is_read() {
    let shared = with_one_place();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (go, may_go) = std::sync::mpsc::channel::<()>();
    let asking = shared.clone();
    let asked = tokio::spawn(async move {
        let make = move || {
            let _ = begun.send(());
            let _ = may_go.recv();
        };
        make_large(&asking, "it", make).await.map(drop)
    });
    has_begun.await.unwrap();
    asked.abort();
    assert!(asked.await.is_err_and(|error| error.is_cancelled()));
    assert_eq!(shared.large_slots.available_permits(), 0, "it is being made");
    go.send(()).unwrap();
    let free = timeout(Duration::from_secs(10), shared.large_slots.acquire()).await.expect("it is made");
    drop(free);

    for path in ["/metrics", "/api/v1/connectors", "/sd/prometheus"] {
        for is_read in [true, false] {
            let answer = large_answer(&shared, path).await;
            assert_eq!(
                (answer.status(), shared.large_slots.available_permits()),
                (StatusCode::OK, 0),
                "{path} is not sent yet"
            );
            let body = answer.into_body();
            if is_read {
                body.collect().await.unwrap();
            } else {
                drop(body);
            }
            assert_eq!(
                shared.large_slots.available_permits(),
                1,
                "{path} is read: {is_read}, or nobody reads it any more"
            );
        }
    }
}

#[tokio::test]
async fn a_large_text_is_handed_on_in_pieces_and_keeps_its_place_until_the_last() {
    let shared = with_one_place();
    let text: String = (0..40_000).map(|number| format!("{number:05}")).collect();
    let slot = shared.large_slots.clone().acquire_owned().await.unwrap();
    let mut body = LargeBody { text: text.clone().into(), _slot: slot };
    assert_eq!(body.size_hint().exact(), Some(200_000));
    let mut read = Vec::new();
    while !body.is_end_stream() {
        assert_eq!(shared.large_slots.available_permits(), 0);
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(!piece.is_empty() && piece.len() <= FRAME_SIZE, "{}", piece.len());
        read.extend_from_slice(&piece);
    }
    assert!(body.frame().await.is_none() && read == text.as_bytes());
}

async fn large_answer(shared: &Arc<AdminState>, path: &str) -> Response {
    let (shared, query) = (State(shared.clone()), axum::extract::Query::try_from_uri(&"/".parse().unwrap()));
    match path {
        "/metrics" => scrape(shared).await,
        "/sd/prometheus" => lists::discovery(shared, query).await,
        _ => lists::connectors(shared, query).await,
    }
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_place_for_a_large_answer_is_told_to_come_again() {
    let shared = with_one_place();
    let _taken = shared.large_slots.acquire().await.unwrap();
    for path in ["/metrics", "/api/v1/connectors"] {
        let answer = large_answer(&shared, path).await;
        assert_eq!(
            (answer.status(), &answer.headers()[header::RETRY_AFTER]),
            (StatusCode::SERVICE_UNAVAILABLE, &"10".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn what_is_not_there_is_404_and_nothing_can_be_changed() {
    let router = admin(facts(Role::Leader, true), None);
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
