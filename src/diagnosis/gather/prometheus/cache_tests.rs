//! Concurrent queries share one request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Semaphore;

use super::PrometheusSource;
use super::cache::ServerCache;
use super::client::PrometheusClient;
use super::list::Fit;
use crate::probe::{Policy, Prober};

/// A Prometheus without targets that counts requests, and answers each when a permit is released.
struct Server {
    url: String,
    asked: Arc<AtomicUsize>,
    leave: Arc<Semaphore>,
    prober: Prober,
}

impl Server {
    async fn start(leave: usize) -> Self {
        let (asked, leave) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(leave)));
        let (count, gate) = (asked.clone(), leave.clone());
        let answer = async move |headers: HeaderMap| {
            count.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
            if headers.get("authorization").is_some_and(|token| token == "Bearer wrong") {
                return Err(StatusCode::FORBIDDEN);
            }
            Ok(axum::Json(json!({"status": "success", "data": {"activeTargets": []}})))
        };
        let router = axum::Router::new().route("/api/v1/targets", get(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let policy = Policy { allow: vec!["127.0.0.0/8".parse().unwrap()], ..Default::default() };
        Self { url, asked, leave, prober: Prober::new(policy) }
    }

    fn source(&self, token: Option<&str>, cache: &Arc<ServerCache>) -> PrometheusSource {
        let (url, bearer_token) = (self.url.clone(), token.map(str::to_owned));
        PrometheusSource { url, bearer_token, cache: cache.clone(), ..Default::default() }
    }

    async fn ask(&self, source: &PrometheusSource) -> Result<usize, String> {
        let now = Timestamp::UNIX_EPOCH;
        let asker = PrometheusClient { prober: &self.prober, source, now };
        source.cache.active(&asker, |_| Fit::Sure).await.map(|(targets, _)| targets.len())
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn many_who_ask_at_once_are_one_question() {
    let server = Server::start(1).await;
    let source = server.source(None, &Arc::default());
    let answers = join_all((0..100).map(|_| server.ask(&source))).await;
    assert_eq!((answers.iter().filter(|answer| **answer == Ok(0)).count(), server.asked()), (100, 1));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!((server.ask(&source).await, server.asked()), (Ok(0), 1));
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
    server.leave.add_permits(1);
    assert_eq!((server.ask(&source).await, server.asked()), (Ok(0), 2), "and after ten seconds anew");
}

#[tokio::test]
async fn an_answer_is_only_for_those_who_would_get_the_same() {
    let server = Server::start(10).await;
    let cache = Arc::default();
    let (one, wrong) = (server.source(Some("right"), &cache), server.source(Some("wrong"), &cache));
    assert_eq!(server.ask(&one).await, Ok(0));
    let refused = server.ask(&wrong).await.unwrap_err();
    assert!(refused.contains("403") && !refused.contains("wrong"), "{refused}");
    assert_eq!((server.ask(&wrong).await, server.asked()), (Err(refused), 2), "a refusal is shared, too");
    let administrators = PrometheusSource { is_administrators: true, ..one.clone() };
    assert_eq!((server.ask(&administrators).await, server.asked()), (Ok(0), 3), "who may dial elsewhere asks himself");
}

#[tokio::test]
async fn who_gives_up_leaves_the_question_to_the_next() {
    let server = Server::start(0).await;
    let source = server.source(None, &Arc::default());
    let mut impatient = Box::pin(server.ask(&source));
    while server.asked() == 0 {
        assert!(futures::poll!(&mut impatient).is_pending());
        tokio::task::yield_now().await;
    }
    drop(impatient);
    server.leave.add_permits(2);
    assert_eq!((server.ask(&source).await, server.asked()), (Ok(0), 2));
}
