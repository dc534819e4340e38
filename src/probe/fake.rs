//! Far sides for tests: in this process, on loopback, each doing exactly one thing.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{
    HttpOptions, MetricsOptions, Outcome, Policy, Prober, Request, Resolve, Scheme, Target, TlsOptions, Unresolved,
};
use crate::api::{ErrorClass, Phase};

/// Text that every far side of these tests sends. No message may contain it.
pub(super) const CANARY: &str = "c4n4ry-\u{1b}[31m-s3cret";

/// A timeout, in milliseconds, for a far side that never does what is waited for.
pub(super) const SHORT: u64 = 60;
/// One that leaves a busy machine time for what is to come before it.
pub(super) const ENOUGH: u64 = 600;

/// A resolver with a fixed set of answers.
#[derive(Clone, Default)]
pub(super) struct Names(HashMap<String, Result<Vec<IpAddr>, Unresolved>>);

impl Names {
    pub(super) fn with(mut self, name: &str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.0.insert(name.to_owned(), Ok(addresses));
        self
    }

    pub(super) fn without(mut self, name: &str, why: Unresolved) -> Self {
        self.0.insert(name.to_owned(), Err(why));
        self
    }
}

impl Resolve for Names {
    fn resolve(&self, host: &str) -> BoxFuture<'static, Result<Vec<IpAddr>, Unresolved>> {
        match self.0.get(host) {
            Some(known) => std::future::ready(known.clone()).boxed(),
            None => std::future::pending().boxed(),
        }
    }
}

/// A policy that allows loopback, where these far sides are.
pub(super) fn local() -> Policy {
    Policy { allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()], ..Policy::default() }
}

pub(super) fn prober() -> Prober {
    Prober::resolving(local(), Names::default())
}

pub(super) fn request(scheme: Scheme, address: SocketAddr, path: &str) -> Request {
    let host = address.ip().to_string();
    let target = Target { scheme, host, port: address.port(), path: path.to_owned(), address: None, is_own: false };
    let (http, tls) = (HttpOptions::default(), TlsOptions::default());
    Request { target, timeout: Duration::from_secs(20), http, tls, metrics: None }
}

/// `GET /` over plain HTTP.
pub(super) fn get(address: SocketAddr) -> Request {
    request(Scheme::Http, address, "/")
}

pub(super) fn scrape(address: SocketAddr) -> Request {
    Request { metrics: Some(MetricsOptions::default()), ..get(address) }
}

pub(super) fn within(request: Request, milliseconds: u64) -> Request {
    Request { timeout: Duration::from_millis(milliseconds), ..request }
}

/// Does `each` with every connection.
pub(super) async fn serve<F, D>(each: F) -> SocketAddr
where
    F: Fn(TcpStream) -> D + Send + 'static,
    D: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(each(stream));
        }
    });
    address
}

/// Reads the head of a request; empty when the connection ends before.
pub(super) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8(head).unwrap()
}

/// Answers a request with `bytes` and waits until the other side closes the connection.
pub(super) async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) {
    head(&mut stream).await;
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// Answers every request with `bytes`.
pub(super) async fn answers(bytes: impl Into<Vec<u8>>) -> SocketAddr {
    let bytes = bytes.into();
    serve(move |stream| {
        let bytes = bytes.clone();
        async move { answer(stream, &bytes).await }
    })
    .await
}

/// Answers the request for each path with the bytes that belong to it.
pub(super) async fn pages(pages: &[(&str, String)]) -> SocketAddr {
    let pages: HashMap<String, String> = pages.iter().map(|(path, page)| ((*path).to_owned(), page.clone())).collect();
    serve(move |mut stream| {
        let pages = pages.clone();
        async move {
            let head = head(&mut stream).await;
            let path = head.split(' ').nth(1).unwrap_or_default();
            let missing = status(404, "");
            let _ = stream.write_all(pages.get(path).unwrap_or(&missing).as_bytes()).await;
        }
    })
    .await
}

/// An answer with a status and a body.
pub(super) fn status(status: u16, body: &str) -> String {
    answer_with(status, "", body)
}

/// The same with headers, each ending its line.
pub(super) fn answer_with(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} {CANARY}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
        .replace('\u{1b}', " ")
}

/// Says a few bytes of an answer at once, and nothing after them.
pub(super) async fn says_and_hangs(bytes: &'static [u8]) -> SocketAddr {
    serve(move |mut stream| async move {
        let _ = stream.write_all(bytes).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await
}

#[track_caller]
pub(super) fn passed(outcome: &Outcome) {
    assert_eq!(outcome.result, Ok(()), "{outcome:?}");
}

/// Asserts that the probe failed so, and that no message contains text of the far side.
#[track_caller]
pub(super) fn failed(outcome: &Outcome, class: ErrorClass, phase: Phase) -> super::Failure {
    let failure = outcome.result.clone().expect_err("it passed");
    assert_eq!((failure.class, failure.phase), (class, phase), "{outcome:?}");
    assert!(!failure.message.is_empty());
    for part in ["c4n4ry", "s3cret", "\u{1b}"] {
        assert!(!failure.message.contains(part), "{failure:?}");
        assert!(part != "\u{1b}" || !failure.detail.iter().any(|detail| detail.contains(part)), "{failure:?}");
    }
    assert!(failure.detail.iter().all(|detail| detail.chars().count() <= 512), "{failure:?}");
    assert!(outcome.spent.on(phase).is_some(), "{outcome:?}");
    failure
}
