//! HTTP/1.1, and HTTP/2 where a server speaks nothing else: one connection for each hop.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Request as HttpRequest, Response, Uri};
use hyper_util::rt::TokioIo;

use super::background::{AbortOnDrop, Tasks};
use super::stream::Stream;
use super::tls::Protocol;
use super::trace::ProbeTrace;
use super::{Failure, HttpOptions, Limits, Method, Prober, Request, Target, page};
use crate::api::{ErrorClass, Phase};

mod answer;
mod body;
mod cookies;
mod failure;
#[cfg(test)]
mod forms_tests;
mod redirect;
#[cfg(test)]
mod tests;

use cookies::Cookies;

/// The `User-Agent` of every probe.
pub(super) const USER_AGENT: &str = concat!("vigie/", env!("CARGO_PKG_VERSION"));

/// The smallest buffer that hyper accepts, in bytes.
const MIN_BUFFER: usize = 8 << 10;

/// Headers of the connection or of the request's destination, which a spec cannot set.
const RESERVED: [HeaderName; 10] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
];

/// The result of one hop.
enum Hop {
    Passed,
    /// Redirected to this path and query on the same host and port.
    Redirected(String),
}

/// Probes `http` and `https`.
pub(super) async fn probe(prober: &Prober, request: &Request, trace: &mut ProbeTrace) -> Result<(), Failure> {
    let mut path = request.target.path.clone();
    let mut cookies = Cookies::default();
    loop {
        match hop(prober, request, (&path, &mut cookies), trace).await? {
            Hop::Passed => return Ok(()),
            Hop::Redirected(_) if trace.seen.redirects >= HttpOptions::MOST_REDIRECTS => {
                let cookie = match request.metrics {
                    Some(_) if !cookies.is_empty() => {
                        ": it sets a cookie and redirects until the cookie comes back, and Prometheus returns none"
                    }
                    _ => "",
                };
                let message = format!("more than {} redirects{cookie}", HttpOptions::MOST_REDIRECTS);
                return Err(trace.failure(ErrorClass::RedirectLimit, message));
            }
            Hop::Redirected(to) => path = to,
        }
        trace.seen.redirects += 1;
        trace.enter_next_connection();
    }
}

async fn hop(
    prober: &Prober,
    request: &Request,
    (path, cookies): (&str, &mut Cookies),
    trace: &mut ProbeTrace,
) -> Result<Hop, Failure> {
    let (stream, protocol) = open(prober, request, trace).await?;
    trace.enter(Phase::FirstByte);
    // Prometheus returns no cookies.
    let returned = if request.metrics.is_some() { &Cookies::default() } else { &*cookies };
    let message = message(request, path, protocol, returned);
    let message = message.map_err(|why| trace.failure(ErrorClass::Internal, why))?;
    let limits = prober.limits;
    let failed = |error: &hyper::Error, trace: &mut ProbeTrace| failure::before_the_head(error, request, limits, trace);
    match protocol {
        Protocol::Http1 => {
            let mut builder = http1::Builder::new();
            // Headers that are folded, and blanks before a colon: Go's and curl's clients accept both.
            builder
                .allow_obsolete_multiline_headers_in_responses(true)
                .allow_spaces_after_header_name_in_responses(true)
                .max_headers(limits.headers)
                .max_buf_size(limits.head_bytes.max(MIN_BUFFER));
            let opened = builder.handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = opened.map_err(|error| failed(&error, trace))?;
            let exchange = Exchange { request, path, cookies, limits };
            drive(connection, exchange.run(async move { sender.send_request(message).await }, trace)).await
        }
        Protocol::Http2 => {
            let tasks = Tasks::default();
            let _abort = AbortOnDrop(tasks.clone());
            let mut builder = http2::Builder::new(tasks);
            builder.max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX));
            let opened = builder.handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = opened.map_err(|error| failed(&error, trace))?;
            let exchange = Exchange { request, path, cookies, limits };
            drive(connection, exchange.run(async move { sender.send_request(message).await }, trace)).await
        }
    }
}

/// Opens a connection for HTTP/1.1. A server that refuses it within TLS (ALPN) and speaks HTTP/2 is asked again with that.
async fn open(
    prober: &Prober,
    request: &Request,
    trace: &mut ProbeTrace,
) -> Result<(Box<dyn Stream>, Protocol), Failure> {
    match prober.open(request, Protocol::Http1, trace).await {
        Err(_) if trace.protocol_refused => {
            trace.protocol_refused = false;
            trace.enter_next_connection();
            Ok((prober.open(request, Protocol::Http2, trace).await?, Protocol::Http2))
        }
        opened => Ok((opened?, Protocol::Http1)),
    }
}

/// One request and its answer.
struct Exchange<'a> {
    request: &'a Request,
    path: &'a str,
    cookies: &'a mut Cookies,
    limits: Limits,
}

impl Exchange<'_> {
    async fn run(
        self,
        sent: impl Future<Output = hyper::Result<Response<Incoming>>>,
        trace: &mut ProbeTrace,
    ) -> Result<Hop, Failure> {
        let Self { request, path, cookies, limits } = self;
        let response = sent.await;
        trace.enter_body();
        let response = response.map_err(|error| failure::before_the_head(&error, request, limits, trace))?;
        cookies.keep(response.headers(), &request.target, path);
        answer::judge(request, path, response, trace).await
    }
}

/// Runs `exchange` and polls its `connection` in the same task. Both end together.
pub(super) async fn drive<T>(connection: impl Future, exchange: impl Future<Output = T>) -> T {
    let (mut connection, mut exchange) = (pin!(connection), pin!(exchange));
    let mut open = true;
    poll_fn(|cx| {
        // First the exchange: the connection must know the request before it reads an answer, which may be there already.
        if let Poll::Ready(done) = exchange.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        // An error of the connection is returned by the exchange.
        if open && connection.as_mut().poll(cx).is_ready() {
            open = false;
        }
        // The exchange takes what the connection has read in the same turn.
        exchange.as_mut().poll(cx)
    })
    .await
}

/// The value of `Host` and `:authority`.
pub(super) fn authority(target: &Target) -> String {
    let host = &target.host;
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.clone() };
    if target.scheme.default_port() == Some(target.port) { host } else { format!("{host}:{}", target.port) }
}

/// Whether the method is HEAD. A metrics page is always requested with GET.
fn is_head(request: &Request) -> bool {
    request.http.method == Method::Head && request.metrics.is_none()
}

fn message(
    request: &Request,
    path: &str,
    protocol: Protocol,
    cookies: &Cookies,
) -> Result<HttpRequest<Empty<Bytes>>, String> {
    let path_query: PathAndQuery =
        path.parse().map_err(|_| "the path cannot be sent: it is no path of a URL".to_owned())?;
    let method = if is_head(request) { hyper::Method::HEAD } else { hyper::Method::GET };
    let mut message = HttpRequest::new(Empty::new());
    *message.method_mut() = method;
    let mut headers = headers(request)?;
    if let Some(value) = cookies.header(path, headers.get(header::COOKIE)) {
        headers.insert(header::COOKIE, value);
    }
    *message.uri_mut() = match protocol {
        Protocol::Http1 => Uri::from(path_query),
        Protocol::Http2 => {
            // HTTP/2 has the host in `:authority`, and no headers about the connection.
            headers.remove(header::HOST);
            headers.remove(header::CONNECTION);
            let uri = Uri::builder().scheme("https").authority(authority(&request.target)).path_and_query(path_query);
            uri.build().map_err(|_| "the host is no host of a URL".to_owned())?
        }
    };
    *message.headers_mut() = headers;
    Ok(message)
}

fn headers(request: &Request) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    let mut seen: Vec<HeaderName> = Vec::new();
    for (name, value) in &request.http.headers {
        let (name, value) = header(name, value)?;
        if RESERVED.contains(&name) {
            return Err(format!("the header {name} is not to be set"));
        }
        // The first header of a name replaces the default; a second one is added.
        if seen.contains(&name) {
            headers.append(name, value);
        } else {
            seen.push(name.clone());
            headers.insert(name, value);
        }
    }
    if request.metrics.is_some() {
        for (name, value) in page::accept_headers(request.timeout) {
            let (name, value) = header(name, &value)?;
            headers.insert(name, value);
        }
        // As Prometheus does. A probe without a metrics page requests an uncompressed body.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if request.http.reader.is_some() {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    let host = HeaderValue::from_str(&authority(&request.target)).map_err(|_| "the host cannot be sent".to_owned())?;
    headers.insert(header::HOST, host);
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(headers)
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let bad = |what: &str| format!("the header {name:?} cannot be sent: its {what} is not allowed in HTTP");
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("name"))?;
    let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad("value"))?;
    value.set_sensitive(true);
    Ok((parsed, value))
}
