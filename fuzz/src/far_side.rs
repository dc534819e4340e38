//! Answers of a far side, sent over loopback to the real prober: HTTP, gRPC, and the API of Prometheus.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Response, StatusCode};
use jiff::Timestamp;
use kube::client::Body;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use vigie::api::MonitoredBackend;
use vigie::diagnosis::evidence::Lookup;
use vigie::diagnosis::gather::{PrometheusSource, Question, gather};
use vigie::diagnosis::rules;
use vigie::probe::{HttpOptions, MetricsOptions, Outcome, Policy, Prober, Request, Scheme, Target, TlsOptions};

use super::is_plain;

/// Longer than any answer over loopback takes: nothing waits this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// The prober and the port that it dials. One thread has both, so that an input always takes the same way.
struct FarSide {
    runtime: Runtime,
    listener: TcpListener,
    prober: Prober,
}

thread_local! {
    static FAR_SIDE: OnceCell<FarSide> = const { OnceCell::new() };
}

impl FarSide {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime is built");
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).expect("a port is free");
        let policy = Policy { allow: vec!["127.0.0.0/8".parse().expect("a network")], ..Policy::default() };
        Self { runtime, listener, prober: Prober::new(policy) }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().expect("it listens").port()
    }

    /// Runs `dialling` while each connection is answered with `answer`; `asks` when the far side first reads the head of
    /// an HTTP request.
    fn run<T>(&self, answer: &[u8], asks: bool, dialling: impl Future<Output = T>) -> T {
        let answer: Arc<[u8]> = answer.into();
        let serve = async {
            loop {
                let (stream, _) = self.listener.accept().await.expect("a connection is accepted");
                tokio::spawn(talk(stream, answer.clone(), asks));
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                done = dialling => done,
                () = serve => unreachable!("it serves for ever"),
            }
        })
    }
}

/// Sends the answer, and ends its half of the connection; then reads until the other side ends its half.
async fn talk(mut stream: TcpStream, answer: Arc<[u8]>, asks: bool) {
    let mut asked = Vec::new();
    while asks && !asked.ends_with(b"\r\n\r\n") && stream.read_buf(&mut asked).await.is_ok_and(|n| n > 0) {}
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
    let mut rest = [0; 4096];
    while timeout(PATIENCE, stream.read(&mut rest)).await.is_ok_and(|read| read.is_ok_and(|n| n > 0)) {}
}

fn with_far_side(run: impl FnOnce(&FarSide)) {
    FAR_SIDE.with(|far_side| run(far_side.get_or_init(FarSide::new)));
}

fn request(port: u16, scheme: Scheme, http: HttpOptions, metrics: Option<MetricsOptions>) -> Request {
    let path = if scheme == Scheme::Grpc { "shop" } else { "/page" }.to_owned();
    let target = Target { scheme, host: "127.0.0.1".to_owned(), port, path, address: None, is_own: false };
    Request { target, timeout: PATIENCE, http, tls: TlsOptions::default(), metrics }
}

/// Nothing that the far side sent is in the sentence for the status.
fn check(outcome: &Outcome, kept: usize) {
    assert!(outcome.seen.body.as_ref().is_none_or(|body| body.len() <= kept));
    if let Err(failure) = &outcome.result {
        assert!(is_plain(&failure.message) && failure.message.len() < 1024, "{failure:?}");
        assert!(failure.detail.as_ref().is_none_or(|detail| is_plain(detail)), "{failure:?}");
        assert!(outcome.took < PATIENCE, "{failure:?}");
    }
}

/// Head and body of an answer to HTTP.
pub fn http_answer(data: &[u8]) {
    let [choice, answer @ ..] = data else { return };
    let wants_page = choice & 1 != 0;
    let http = HttpOptions {
        follow_redirects: choice & 2 != 0,
        keep_body: choice & 4 != 0,
        most_kept: 256,
        most_body: 64 << 10,
        ..HttpOptions::default()
    };
    let options = MetricsOptions { most_bytes: 64 << 10, most_samples: 64, ..MetricsOptions::default() };
    with_far_side(|far_side| {
        let request = request(far_side.port(), Scheme::Http, http, wants_page.then_some(options));
        check(&far_side.run(answer, true, far_side.prober.probe(&request)), 256);
    });
}

/// The bytes of an HTTP/2 connection that answers a health check.
pub fn grpc_answer(data: &[u8]) {
    with_far_side(|far_side| {
        let request = request(far_side.port(), Scheme::Grpc, HttpOptions::default(), None);
        check(&far_side.run(data, false, far_side.prober.probe(&request)), 0);
    });
}

/// What Prometheus answers to each query about a backend, and the diagnosis from it.
pub fn prometheus_answer(data: &[u8]) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", data.len());
    let answer = [head.as_bytes(), data].concat();
    let backend: MonitoredBackend = serde_json::from_value(json!({
        "apiVersion": "vigie.dev/v1alpha1", "kind": "MonitoredBackend", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"target": {"url": "http://192.0.2.10:8080/metrics"}, "probe": {"metrics": {}}},
    }))
    .expect("this is a MonitoredBackend");
    let now: Timestamp = "2026-01-31T12:00:00Z".parse().expect("a time");
    with_far_side(|far_side| {
        let source = PrometheusSource {
            url: format!("http://127.0.0.1:{}", far_side.port()),
            is_administrators: true,
            ..PrometheusSource::default()
        };
        let evidence = far_side.run(&answer, true, async {
            gather(nothing_there(), &far_side.prober, Question::about(&backend, Some(source), now), now).await
        });
        if let Lookup::Found(seen) = &evidence.prometheus {
            assert!(seen.targets.len() <= 50 && seen.stale.len() <= 50);
            for target in seen.targets.iter().chain(&seen.stale) {
                assert!(target.last_error.chars().count() <= 512, "{target:?}");
            }
        }
        // It is saved, and read again.
        let saved = serde_json::to_string(&evidence).expect("evidence is JSON");
        assert_eq!(serde_json::from_str::<vigie::diagnosis::evidence::Evidence>(&saved).expect("it is read"), evidence);
        for finding in rules::findings(&evidence) {
            assert!(!finding.message.is_empty() && !finding.advice.is_empty(), "{finding:?}");
        }
    });
}

/// An API server that has nothing.
fn nothing_there() -> kube::Client {
    let service = tower::service_fn(async |_: hyper::Request<Body>| {
        let status =
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
        let answer =
            Response::builder().status(StatusCode::NOT_FOUND).body(Body::from(status.to_string().into_bytes()));
        answer.map_err(|error| error.to_string())
    });
    kube::Client::new(service, "shop")
}
