use std::time::Instant;

use axum::http::StatusCode;

use super::super::fake::{BEAT, Fake, STRANGE, WRONG, options, port};
use super::*;

const PATH: &str = "/api/connector/heartbeat";

struct Answered {
    status: u16,
    headers: axum::http::HeaderMap,
    body: String,
}

/// Asks in-process, as `peer` would.
async fn ask(router: &Router, peer: &str, request: axum::http::request::Builder, body: &str) -> Answered {
    ask_on(router, (peer, Instant::now()), request, body).await
}

/// The same, on a connection that has been open since then.
async fn ask_on(
    router: &Router,
    (peer, opened): (&str, Instant),
    request: axum::http::request::Builder,
    body: &str,
) -> Answered {
    let connection = ConnectionInfo { peer: peer.parse().unwrap(), opened, body_timeout: BODY_TIMEOUT };
    let request = request.extension(connection).body(Body::from(body.to_owned())).unwrap();
    let response = tower::ServiceExt::oneshot(router.clone(), request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap();
    Answered { status: head.status.as_u16(), headers: head.headers, body }
}

async fn beat(router: &Router, body: &str) -> Answered {
    ask(router, "192.0.2.1:9", Request::post(PATH), body).await
}

#[tokio::test]
async fn a_founding_beat_is_answered_word_for_word() {
    let fake = Arc::new(Fake::default());
    let answered = beat(&port(&fake), BEAT).await;
    assert_eq!(answered.status, 200);
    assert_eq!(answered.body, r#"{"status":"ok","state":"Online","next_heartbeat_seconds":30,"actions":[]}"#);
    assert_eq!(answered.headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(*fake.heard.lock(), [("known".to_owned(), "192.0.2.1".parse().unwrap())]);
    assert_eq!(*fake.counted.lock(), [BeatResult::Accepted]);
}

#[tokio::test]
async fn a_dry_run_is_answered_alike_and_counted_apart() {
    let fake = Arc::new(Fake::default());
    let answered = beat(&port(&fake), r#"{"connector_id":"known","token":"right","dry_run":true}"#).await;
    assert_eq!(answered.status, 200);
    assert!(fake.heard.lock().is_empty());
    assert_eq!(*fake.counted.lock(), [BeatResult::DryRun]);
}

#[tokio::test]
async fn a_refusal_is_the_same_for_known_and_unknown_ids() {
    let fake = Arc::new(Fake::default());
    let router = port(&fake);
    let long = format!(r#"{{"connector_id":"known","token":"{}"}}"#, "x".repeat(5_000));
    let answers = [beat(&router, WRONG).await, beat(&router, STRANGE).await, beat(&router, &long).await];
    for answered in &answers {
        assert_eq!(answered.status, 401);
        assert_eq!(answered.body, answers[0].body);
        assert_eq!(answered.headers, answers[0].headers);
    }
    assert!(answers[0].body.starts_with(r#"{"error":{"code":"unauthorized","message":""#));
    assert_eq!(*fake.counted.lock(), [BeatResult::Rejected; 3]);
}

#[tokio::test]
async fn the_twenty_first_wrong_token_waits_and_a_good_one_never_does() {
    let fake = Arc::new(Fake::default());
    let router = port(&fake);
    for _ in 0..20 {
        assert_eq!(beat(&router, WRONG).await.status, 401);
    }
    let limited = beat(&router, WRONG).await;
    assert_eq!(limited.status, 429);
    let seconds: u32 = limited.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds));
    assert_eq!(beat(&router, BEAT).await.status, 200);
    assert_eq!(beat(&router, STRANGE).await.status, 401);
    assert_eq!(fake.counted.lock()[20..], [BeatResult::RateLimited, BeatResult::Accepted, BeatResult::Rejected]);
}

#[tokio::test]
async fn only_a_trusted_proxy_is_believed_who_it_speaks_for() {
    let fake = Arc::new(Fake::default());
    let router = port(&fake);
    for peer in ["127.0.0.2:9", "192.0.2.1:9"] {
        let request = Request::post(PATH).header("x-forwarded-for", "6.6.6.6, 198.51.100.7");
        assert_eq!(ask(&router, peer, request, BEAT).await.status, 200);
    }
    let heard: Vec<_> = fake.heard.lock().iter().map(|(_, from)| from.to_string()).collect();
    assert_eq!(heard, ["198.51.100.7", "192.0.2.1"]);
}

#[tokio::test]
async fn who_is_told_to_come_later_is_told_when() {
    let fake = Arc::new(Fake::default());
    let router = port(&fake);
    let often = beat(&router, r#"{"connector_id":"often","token":"right"}"#).await;
    assert_eq!((often.status, &often.headers[header::RETRY_AFTER]), (429, &"7".parse().unwrap()));
    let loading = beat(&router, r#"{"connector_id":"loading","token":"right"}"#).await;
    assert_eq!((loading.status, &loading.headers[header::RETRY_AFTER]), (503, &"2".parse().unwrap()));
    let no = Acceptance::No { reason: "NotLeader", message: "\"b\" leads".into(), retry_after_seconds: 3 };
    *fake.acceptance.lock() = Some(no);
    let follower = beat(&router, BEAT).await;
    assert_eq!((follower.status, &follower.headers[header::RETRY_AFTER]), (503, &"3".parse().unwrap()));
    assert_eq!(follower.body, r#"{"error":{"code":"NotLeader","message":"\"b\" leads"}}"#);
    assert_eq!(*fake.counted.lock(), [BeatResult::TooOften, BeatResult::NotLoaded, BeatResult::NotLeader]);
}

#[tokio::test]
async fn the_header_may_carry_the_token_and_anything_else_there_is_passed_over() {
    let fake = Arc::new(Fake::default());
    let router = port(&fake);
    let bare = r#"{"connector_id":"known"}"#;
    for (authorization, body, status) in [
        ("bEARER right", bare, 200),
        ("Bearer right", WRONG, 200),
        ("Bearer wrong", BEAT, 401),
        ("Basic eDp5", BEAT, 200),
        ("Basic eDp5", bare, 400),
        ("Bearer", bare, 400),
    ] {
        let request = Request::post(PATH).header(header::AUTHORIZATION, authorization);
        assert_eq!(ask(&router, "192.0.2.1:9", request, body).await.status, status, "{authorization} {body}");
    }
}

#[tokio::test]
async fn a_connection_kept_to_who_may_have_been_followed_ends_with_the_answer() {
    let fake = Arc::new(Fake::default());
    let router = port(&fake);
    let long_ago = Instant::now().checked_sub(RECONNECT_AFTER).expect("the machine has run for longer");
    let ends = async |opened: Instant, body: &str| {
        let answered = ask_on(&router, ("192.0.2.1:9", opened), Request::post(PATH), body).await;
        (answered.status, answered.headers.get(header::CONNECTION).is_some_and(|value| value == "close"))
    };
    assert_eq!(ends(long_ago, BEAT).await, (200, false), "who leads is right to be asked again");
    *fake.acceptance.lock() = Some(Acceptance::Uncertain { message: "the lease is overdue" });
    assert_eq!(ends(long_ago, BEAT).await, (200, true));
    assert_eq!(ends(long_ago, WRONG).await, (401, true));
    assert_eq!(ends(long_ago, "no beat").await, (400, true));
    assert_eq!(ends(Instant::now(), BEAT).await, (200, false), "not every beat costs a handshake");
}

#[tokio::test]
async fn health_says_whether_beats_are_heard() {
    let fake = Arc::new(Fake::default());
    let router = port(&fake);
    let health = async |method: &str| {
        ask(&router, "192.0.2.1:9", Request::builder().method(method).uri("/api/health?x=1"), "").await
    };
    assert_eq!(health("GET").await.body, r#"{"status":"ok","leader":"yes"}"#);
    assert_eq!(health("HEAD").await.status, 200);
    assert_eq!(health("POST").await.headers[header::ALLOW], "GET, HEAD");
    *fake.acceptance.lock() = Some(Acceptance::Uncertain { message: "the lease is overdue" });
    let uncertain = health("GET").await;
    assert_eq!(uncertain.status, StatusCode::OK);
    assert_eq!(uncertain.body, r#"{"status":"ok","leader":"uncertain","message":"the lease is overdue"}"#);
    let no = Acceptance::No { reason: "NotLeader", message: "b leads".into(), retry_after_seconds: 3 };
    *fake.acceptance.lock() = Some(no);
    let follower = health("GET").await;
    assert_eq!((follower.status, &follower.headers[header::RETRY_AFTER]), (503, &"3".parse().unwrap()));
    assert_eq!(follower.body, r#"{"status":"unavailable","leader":"no","reason":"NotLeader","message":"b leads"}"#);
}

#[test]
fn results_are_written_in_snake_case_and_all_differ() {
    let mut words = BeatResult::ALL.map(BeatResult::as_str).to_vec();
    assert!(words.iter().all(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
    assert!(words.contains(&"rate_limited"));
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), BeatResult::ALL.len());
}

#[tokio::test]
async fn the_log_gets_one_line_for_each_connector_and_reason_and_never_a_token() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let fake = Arc::new(Fake::default());
    let lines = Arc::clone(&log);
    let router = router_with_log(Arc::clone(&fake), options(&fake), move |line| {
        lines.lock().push(format!("{line:?}"));
    });
    for other in 0..3 {
        beat(&router, WRONG).await;
        beat(&router, STRANGE).await;
        beat(&router, &STRANGE.replace("strange", "known").replace("SECRET", "another")).await;
        beat(&router, &WRONG.replace("known", &format!("also-known-{other}"))).await;
        beat(&router, r#"{"connector_id":"known","token":"SECRET-and-wrong","token":""}"#).await;
    }
    // Each line is logged by a task of its own, on this one thread: when this one has yielded, they have run.
    tokio::task::yield_now().await;
    let log = log.lock();
    let count = |what: &str| log.iter().filter(|line| line.contains(what)).count();
    assert_eq!(count(r#"id: Some("known")"#), 1, "{log:?}");
    assert_eq!(count(r#"id: Some("strange")"#), 1, "{log:?}");
    assert_eq!(count("also-known"), 3, "{log:?}");
    assert_eq!(count("Malformed"), 1, "{log:?}");
    assert_eq!(log.len(), 6, "{log:?}");
    assert_eq!(count("and-wrong"), 0, "{log:?}");
}

const AGENT: &str = "/api/agent/linux-x86_64";

fn agent_of(id: &str, token: &str) -> axum::http::request::Builder {
    let request = Request::get(format!("{AGENT}?connector_id={id}"));
    if token.is_empty() { request } else { request.header("authorization", format!("Bearer {token}")) }
}

#[tokio::test]
async fn the_binary_of_the_agent_is_this_executable_for_a_connector_with_its_token() {
    let fake = Arc::new(Fake::default());
    let request = agent_of("known", "right").body(Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(port(&fake), request).await.unwrap();
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[header::CONTENT_LENGTH], own.len().to_string());
    assert!(response.into_body().collect().await.unwrap().to_bytes() == own);
    assert!(fake.heard.lock().is_empty(), "a download is no heartbeat");
}

#[tokio::test]
async fn without_a_good_token_no_binary_is_served_and_the_limit_of_failures_counts() {
    let fake = Arc::new(Fake::default());
    let router = port(&fake);
    let get = async |id, token| ask(&router, "192.0.2.1:9", agent_of(id, token), "").await;
    let refused = get("known", "SECRET-and-wrong").await;
    let strange = get("strange", "SECRET-and-wrong").await;
    assert_eq!((refused.status, strange.status), (401, 401));
    assert_eq!(refused.body, strange.body);
    assert_eq!(get("known", "").await.status, 400);
    assert_eq!(get("", "right").await.status, 400);
    for _ in 0..20 {
        get("known", "SECRET-and-wrong").await;
    }
    assert_eq!(get("known", "SECRET-and-wrong").await.status, 429);
    assert_eq!(ask(&router, "192.0.2.1:9", Request::post(AGENT), "").await.status, 405);
    *fake.acceptance.lock() =
        Some(Acceptance::No { reason: "not_leader", message: String::new(), retry_after_seconds: 2 });
    assert_eq!(get("known", "right").await.status, 503);
}
