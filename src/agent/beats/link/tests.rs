use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::post;
use tokio::net::TcpListener;

use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const ANSWER: &str = r#"{"status":"ok","state":"Online","next_heartbeat_seconds":30,"actions":[]}"#;

fn link(url: &str) -> Link {
    let text = format!("url: {url}\nallowInsecure: true\nconnector: a/b\n");
    Link::new(&Config::parse(&text, "agent.yaml").unwrap(), Clock::default())
}

/// A far side that answers each heartbeat by `answer`. Returns its URL and the count of its connections.
async fn far_side(router: Router) -> (String, &'static AtomicUsize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections: &'static AtomicUsize = Box::leak(Box::default());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.fetch_add(1, Ordering::Relaxed);
            let service = hyper_util::service::TowerToHyperService::new(router.clone());
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    (url, connections)
}

#[tokio::test]
async fn a_connection_is_kept_and_the_token_is_in_the_header_alone() {
    let answer = async |headers: HeaderMap, body: String| {
        assert_eq!(headers[header::AUTHORIZATION], format!("Bearer {TOKEN}"));
        assert!(!body.contains(TOKEN));
        ANSWER
    };
    let (url, connections) = far_side(Router::new().route("/base/api/connector/heartbeat", post(answer))).await;
    let mut link = link(&format!("{url}/base"));
    for _ in 0..3 {
        let received = link.send(TOKEN, b"{}".to_vec()).await.unwrap();
        assert_eq!(received.answer.state, "Online");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    let phases: Vec<Phase> = link.spent().iter().map(|(phase, _)| *phase).collect();
    assert_eq!(phases, [Phase::Resolve, Phase::Connect, Phase::FirstByte]);
}

#[tokio::test]
async fn a_connection_that_the_far_side_has_closed_is_replaced_and_that_is_no_failure() {
    let answer = async || ([(header::CONNECTION, "close")], ANSWER);
    let (url, connections) = far_side(Router::new().route(PATH, post(answer))).await;
    let mut link = link(&url);
    for _ in 0..3 {
        link.send(TOKEN, b"{}".to_vec()).await.unwrap();
    }
    assert_eq!(connections.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn only_an_answer_of_vigie_counts_and_a_failure_ends_the_connection() {
    let (url, connections) = far_side(Router::new().route(PATH, post(async || "<html>sign in</html>"))).await;
    let mut link = link(&url);
    for _ in 0..2 {
        let failure = link.send(TOKEN, b"{}".to_vec()).await.unwrap_err();
        assert_eq!((&*failure.attempt.class, &*failure.attempt.phase), ("Assertion", "Body"));
        assert!(failure.message.contains("no answer of vigie"), "{}", failure.message);
    }
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_failure_names_its_class_and_its_phase() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    let closing = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let failure = link(&format!("http://{url}")).send(TOKEN, Vec::new()).await.unwrap_err();
    assert_eq!((&*failure.attempt.class, &*failure.attempt.phase), ("Reset", "FirstByte"));
    let failure = link(&format!("https://{url}")).send(TOKEN, Vec::new()).await.unwrap_err();
    assert_eq!((&*failure.attempt.class, &*failure.attempt.phase), ("TLSHandshake", "TLS"));
    closing.abort();
    assert!(closing.await.unwrap_err().is_cancelled());
    let failure = link(&format!("http://{url}")).send(TOKEN, Vec::new()).await.unwrap_err();
    assert_eq!((&*failure.attempt.class, &*failure.attempt.phase), ("Refused", "Connect"));
    let failure = link("https://name.invalid").send(TOKEN, Vec::new()).await.unwrap_err();
    assert_eq!(failure.attempt.phase, "Resolve");
    let failure = link(&format!("http://{url}")).send("a\nb", Vec::new()).await.unwrap_err();
    assert!(!failure.message.contains("a\nb"));
}

#[test]
fn a_refusal_says_what_to_do_and_when() {
    let mut headers = HeaderMap::new();
    let body = br#"{"error":{"code":"unauthorized","message":"unknown connector"}}"#;
    let failure = refusal(StatusCode::UNAUTHORIZED, &headers, body);
    assert_eq!(failure.setback, Setback::Unauthorized);
    assert!(failure.message.contains("401: unknown connector; give it the right token"), "{}", failure.message);
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
    let failure = refusal(StatusCode::SERVICE_UNAVAILABLE, &headers, b"<html>");
    assert_eq!(failure.setback, Setback::RetryAfter(Duration::from_secs(7)));
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("soon"));
    assert_eq!(refusal(StatusCode::BAD_GATEWAY, &headers, b"").setback, Setback::Other);
}

#[test]
fn the_date_of_an_answer_is_the_clock_of_the_operator() {
    let mut headers = HeaderMap::new();
    assert_eq!(date(&headers), None);
    headers.insert(header::DATE, HeaderValue::from_static("Sat, 31 Jan 2026 12:00:00 GMT"));
    assert_eq!(date(&headers), Some("2026-01-31T12:00:00Z".parse().unwrap()));
    headers.insert(header::DATE, HeaderValue::from_static("yesterday"));
    assert_eq!(date(&headers), None);
}
