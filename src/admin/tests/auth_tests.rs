//! Authentication and authorization of callers.

use super::*;

type Server = mock::Handle<Request<KubeBody>, Response<KubeBody>>;

fn guarded() -> (Router, Server) {
    guarded_for(&[])
}

fn guarded_for(audiences: &[&str]) -> (Router, Server) {
    let (service, server) = mock::pair();
    let audiences = audiences.iter().map(|&audience| audience.to_owned()).collect();
    let auth = Authenticator::new(kube::Client::new(service, "default"), audiences);
    (admin(facts(Role::Leader, true), Some(auth)), server)
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

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_tokens_neither_delays_nor_keeps_in_who_was_let_in_before() {
    let (router, mut server) = guarded();
    let cluster = tokio::spawn(async move {
        known(&mut server).await;
        reply(&mut server, ACCESS_REVIEWS, json!({"allowed": true})).await;
        server
    });
    assert_eq!(ask(&router, Method::GET, "/metrics", Some("secret")).await.0, StatusCode::OK);
    let mut server = cluster.await.unwrap();
    // The cached answer is no longer fresh, and unknown callers hold all of their slots: their reviews are not answered.
    tokio::time::advance(std::time::Duration::from_secs(61)).await;
    let strangers: Vec<_> = (0..15)
        .map(|number| {
            let router = router.clone();
            tokio::spawn(async move { ask(&router, Method::GET, "/metrics", Some(&format!("wrong-{number}"))).await.0 })
        })
        .collect();
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(server.next_request().await.expect("a stranger's question"));
    }
    let cluster = tokio::spawn(async move {
        reply(&mut server, TOKEN_REVIEWS, json!({"authenticated": false})).await;
        server
    });
    let (status, _, text) = ask(&router, Method::GET, "/metrics", Some("secret")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "the API server was asked, and says no by now: {text}");
    let _server = cluster.await.unwrap();
    for stranger in strangers {
        assert_eq!(stranger.await.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
    }
    drop(held);
}

#[tokio::test]
async fn wrong_tokens_are_not_reviewed_one_for_one_and_a_known_one_reads_all_the_same() {
    let (router, mut server) = guarded();
    let reviews = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = reviews.clone();
    tokio::spawn(async move {
        while let Some((request, send)) = server.next_request().await {
            let is_token = request.uri().path() == TOKEN_REVIEWS;
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            let is_good = review["spec"]["token"] == "secret";
            counted.fetch_add(u32::from(is_token && !is_good), std::sync::atomic::Ordering::Relaxed);
            review["status"] = json!({"authenticated": is_good, "allowed": true, "user": {"username": "prometheus"}});
            send.send_response(Response::new(KubeBody::from(serde_json::to_vec(&review).unwrap())));
        }
    });
    assert_eq!(ask(&router, Method::GET, "/metrics", Some("secret")).await.0, StatusCode::OK);
    let mut refused = 0;
    for number in 0..500 {
        let (status, headers, text) = ask(&router, Method::GET, "/metrics", Some(&format!("wrong-{number}"))).await;
        if status == StatusCode::TOO_MANY_REQUESTS {
            assert!(headers.contains_key(header::RETRY_AFTER) && text.contains("try again in"), "{text}");
            refused += 1;
        }
    }
    let reviewed = reviews.load(std::sync::atomic::Ordering::Relaxed);
    assert!(reviewed < 100 && reviewed + refused == 500, "{reviewed} reviews, {refused} refusals");
    // Also a path that this token has not asked for yet.
    for path in ["/metrics", "/api/v1/connectors", "/api/v1/backends"] {
        assert_eq!(ask(&router, Method::GET, path, Some("secret")).await.0, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn with_an_audience_only_a_token_for_it_reads() {
    for (answered, expected) in [
        (json!(["vigie"]), StatusCode::OK),
        (json!(["https://kubernetes.default.svc"]), StatusCode::UNAUTHORIZED),
        // An authenticator that does not know audiences would let every token in.
        (Value::Null, StatusCode::UNAUTHORIZED),
    ] {
        let (router, mut server) = guarded_for(&["vigie", "monitoring"]);
        let cluster = tokio::spawn(async move {
            let status = json!({"authenticated": true, "user": {"username": "prometheus"}, "audiences": answered});
            let spec = reply(&mut server, TOKEN_REVIEWS, status).await;
            if expected == StatusCode::OK {
                reply(&mut server, ACCESS_REVIEWS, json!({"allowed": true})).await;
            }
            spec["audiences"].clone()
        });
        assert_eq!(ask(&router, Method::GET, "/metrics", Some("secret")).await.0, expected);
        assert_eq!(cluster.await.unwrap(), json!(["vigie", "monitoring"]));
    }
    let (router, mut server) = guarded();
    let cluster = tokio::spawn(async move { reply(&mut server, TOKEN_REVIEWS, json!({"authenticated": false})).await });
    ask(&router, Method::GET, "/metrics", Some("secret")).await;
    assert_eq!(cluster.await.unwrap()["audiences"], Value::Null, "by default those of the API server");
}
