//! A Prometheus, or another server at its URL, must not take the operator's memory, whatever it answers.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;

use super::cache::ServerCache;
use super::client::PrometheusClient;
use super::list::Fit;
use super::targets::TargetMatcher;
use super::{PrometheusSource, ask};
use crate::diagnosis::evidence::{Lookup, Prometheus};
use crate::probe::{Policy, Prober};

const OWN: &str = r#"{"scrapeUrl":"http://192.0.2.1:8081/metrics","health":"down","lastError":"EOF"}"#;

/// Serves this body for every request; `coding` is its `Content-Encoding`.
async fn serve(body: Vec<u8>, coding: Option<&'static str>) -> PrometheusSource {
    let body = axum::body::Bytes::from(body);
    let answer = async move |asked: HeaderMap| {
        let asked = asked.get("accept-encoding").map(|coding| coding.to_str().unwrap().to_owned());
        let mut headers = HeaderMap::new();
        headers.extend(coding.map(|coding| (axum::http::header::CONTENT_ENCODING, coding.parse().unwrap())));
        assert_eq!(asked.as_deref(), Some("identity"));
        (headers, Body::from(body))
    };
    let router = axum::Router::new().route("/api/v1/targets", get(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    PrometheusSource { url, ..Default::default() }
}

fn prober() -> Prober {
    Prober::new(Policy { allow: vec!["127.0.0.0/8".parse().unwrap()], ..Default::default() })
}

fn matcher() -> TargetMatcher {
    TargetMatcher {
        port: 8081,
        addresses: ["192.0.2.1".parse().unwrap()].into(),
        pods: BTreeMap::new(),
        is_complete: true,
        ..Default::default()
    }
}

async fn asked(source: &PrometheusSource) -> Lookup<Prometheus> {
    ask(&prober(), source, &matcher(), Timestamp::UNIX_EPOCH).await
}

fn list(entries: &str) -> Vec<u8> {
    format!(r#"{{"status":"success","data":{{"activeTargets":[{entries}]}}}}"#).into_bytes()
}

fn why(answer: Lookup<Prometheus>) -> String {
    match answer {
        Lookup::Failed(why) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_answer_that_is_compressed_unasked_is_refused_unread() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&list(OWN)).unwrap();
    let gzip = encoder.finish().unwrap();
    for coding in ["gzip", "GZIP", "x-gzip", "deflate", "br", "gzip, gzip"] {
        let why = why(asked(&serve(gzip.clone(), Some(coding)).await).await);
        assert!(why.contains("is compressed (Content-Encoding)"), "{coding}: {why}");
    }
    let plain = serve(list(OWN), Some("identity")).await;
    let Lookup::Found(seen) = asked(&plain).await else { panic!("not found") };
    assert_eq!(seen.targets.len(), 1);
}

#[tokio::test]
async fn of_a_list_that_is_too_long_to_keep_the_own_entries_are_found() {
    let strangers = r#"{"scrapeUrl":"http://192.0.2.99:8081/metrics","health":"up"},{},"#.repeat(20_000);
    let source = serve(list(&format!("{strangers}{OWN},{OWN},{{}}")), None).await;
    let source = PrometheusSource { cache: Arc::new(ServerCache::with_budgets(64 << 20, 1 << 20)), ..source };
    let Lookup::Found(seen) = asked(&source).await else { panic!("not found") };
    assert_eq!((seen.targets.len(), seen.stale.len()), (2, 0));
    let (prober, matcher) = (prober(), matcher());
    let client = PrometheusClient { prober: &prober, source: &source, now: Timestamp::UNIX_EPOCH };
    let (kept, _) = source.cache.active(&client, move |target| matcher.fit(target)).await.unwrap();
    assert_eq!((kept.len(), kept.is_whole()), (2, false), "the next question is asked anew, and keeps as little");
    let (all, _) = source.cache.active(&client, |_| Fit::Sure).await.unwrap();
    assert_eq!((all.len(), all.is_whole()), (200, false), "the answer to one question is none to another");
    let administrators = PrometheusSource { is_administrators: true, ..source.clone() };
    let client = PrometheusClient { source: &administrators, ..client };
    let (all, _) = source.cache.active(&client, |_| Fit::Sure).await.unwrap();
    assert_eq!((all.len(), all.is_whole()), (40_003, true), "no object takes of the administrator's budget");
}

#[tokio::test]
async fn too_many_entries_and_too_large_ones_are_named() {
    let many = serve(list(&format!("{}{{}}", "{},".repeat(1_000_000))), None).await;
    assert!(why(asked(&many).await).contains("its list has more than 200000 entries"));
    let long = "x".repeat(9_000);
    let large = serve(list(&format!(r#"{{"scrapeUrl":"http://192.0.2.1:8081/{long}"}}"#)), None).await;
    assert!(why(asked(&large).await).contains("1 entries of its list are too large to be read"));
    // An error text is cut, not refused.
    let talkative = OWN.replace("EOF", &"x".repeat(100_000));
    let Lookup::Found(seen) = asked(&serve(list(&talkative), None).await).await else { panic!("not found") };
    assert!(seen.targets[0].last_error.chars().count() <= 512);
}

#[tokio::test]
async fn other_answers_are_named_as_such() {
    for body in ["[]", "{}", "[{},{}]", "<html>", r#"{"status":"success","data":{"activeTargets":[{}"#] {
        let why = why(asked(&serve(body.as_bytes().to_vec(), None).await).await);
        assert!(why.contains("its answer is not what Prometheus' API answers"), "{body}: {why}");
    }
}
