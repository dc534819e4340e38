//! A fake registry for tests of the public port, and a minimal client that can violate HTTP.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::entry::Told;
use super::payload::Beat;
use super::routes::{Acceptance, BeatMetrics, BeatResult, HeartbeatSink, Options, Reply, router};
use super::slow_hash::Compared;
use crate::api::ConnectorState;
use crate::http::server::{Limits, serve};
use crate::http::tls::TlsFiles;
use crate::time::Clock;

pub(crate) const BEAT: &str = r#"{"connector_id":"known","token":"right"}"#;
pub(crate) const WRONG: &str = r#"{"connector_id":"known","token":"SECRET-and-wrong"}"#;
pub(crate) const STRANGE: &str = r#"{"connector_id":"strange","token":"SECRET-and-wrong"}"#;

/// Knows the connector `known` with the token `right`, and connectors named after the reply that they get.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) acceptance: Mutex<Option<Acceptance>>,
    pub(crate) heard: Mutex<Vec<(String, IpAddr)>>,
    pub(crate) counted: Mutex<Vec<BeatResult>>,
}

impl HeartbeatSink for Fake {
    fn acceptance(&self) -> Acceptance {
        self.acceptance.lock().clone().unwrap_or(Acceptance::Yes)
    }

    fn receive(&self, beat: &Beat<'_>, from: IpAddr) -> Reply {
        match (&*beat.connector_id, &*beat.token) {
            (_, "right") if !beat.dry_run => self.heard.lock().push((beat.connector_id.to_string(), from)),
            _ => {}
        }
        match (&*beat.connector_id, &*beat.token) {
            ("known", "right") => {
                Reply::Accepted { state: ConnectorState::Online, next_heartbeat_seconds: 30, told: Told::default() }
            }
            ("often", "right") => Reply::TooOften { retry_after_seconds: 7 },
            ("loading", _) => Reply::NotLoaded { retry_after_seconds: 2 },
            (id, _) => Reply::Rejected { known: id != "strange" },
        }
    }

    fn receive_compared(&self, beat: &Beat<'_>, from: IpAddr, _: &Compared) -> Reply {
        self.receive(beat, from)
    }
}

impl BeatMetrics for Fake {
    fn counted(&self, result: BeatResult) {
        self.counted.lock().push(result);
    }
}

pub(crate) fn options(fake: &Arc<Fake>) -> Options {
    let trusted_proxies = vec!["127.0.0.2/32".parse().unwrap()];
    Options { trusted_proxies, counters: Arc::<Fake>::clone(fake), clock: Clock::default() }
}

pub(crate) fn port(fake: &Arc<Fake>) -> Router {
    router(Arc::clone(fake), options(fake))
}

/// A real server on a real port.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) fake: Arc<Fake>,
    pub(crate) stop: CancellationToken,
    pub(crate) server: JoinHandle<()>,
}

pub(crate) async fn start(limits: Limits, tls: Option<Arc<TlsFiles>>) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (fake, stop) = (Arc::new(Fake::default()), CancellationToken::new());
    let server = tokio::spawn(serve(listener, port(&fake), tls, limits, stop.clone()));
    Served { address, fake, stop, server }
}

impl Served {
    /// Sends `request` and reads until the server closes. The sender closes its half when it is done.
    pub(crate) async fn ask(&self, request: &[u8]) -> String {
        let (mut reader, mut writer) = TcpStream::connect(self.address).await.unwrap().into_split();
        let request = request.to_vec();
        let sender = tokio::spawn(async move {
            // The server may close before it has read everything; tests check its answer only.
            let _ = writer.write_all(&request).await;
            writer
        });
        let answer = read_all(&mut reader).await;
        sender.abort();
        answer
    }
}

/// A complete heartbeat request, after which the server closes.
pub(crate) fn post(body: &str) -> Vec<u8> {
    let length = body.len();
    let path = "/api/connector/heartbeat";
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").into()
}

/// A complete heartbeat request, after which the server waits for the next one.
pub(crate) fn post_and_stay(body: &str) -> Vec<u8> {
    String::from_utf8(post(body)).unwrap().replace("Connection: close\r\n", "").into()
}

/// Everything until the other end closes, within ten seconds.
pub(crate) async fn read_all(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let ended = tokio::time::timeout(Duration::from_secs(10), read).await.expect("the server should have closed");
    if let Err(error) = ended {
        answer.extend_from_slice(format!(" [{error}]").as_bytes());
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// One answer with a JSON body, on a connection that stays.
pub(crate) async fn read_one(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_buf(&mut answer)).await;
        assert_ne!(read.expect("the server should have answered").unwrap(), 0, "closed after {answer:?}");
    }
    String::from_utf8(answer).unwrap()
}

pub(crate) fn status(answer: &str) -> &str {
    answer.strip_prefix("HTTP/1.1 ").or_else(|| answer.strip_prefix("HTTP/1.0 ")).and_then(|a| a.get(..3)).unwrap_or("")
}

pub(crate) fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}
