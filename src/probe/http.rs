//! HTTP/1.1, one connection for each hop.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Request as HttpRequest, Uri};
use hyper_util::rt::TokioIo;

use super::tls::Protocol;
use super::trace::ProbeTrace;
use super::{Failure, HttpOptions, Method, Prober, Request, Target, page};
use crate::api::{ErrorClass, Phase};

mod answer;
mod body;
mod failure;
mod redirect;
#[cfg(test)]
mod tests;

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
    loop {
        match hop(prober, request, &path, trace).await? {
            Hop::Passed => return Ok(()),
            Hop::Redirected(_) if trace.seen.redirects >= HttpOptions::MOST_REDIRECTS => {
                let message = format!("more than {} redirects", HttpOptions::MOST_REDIRECTS);
                return Err(trace.failure(ErrorClass::RedirectLimit, message));
            }
            Hop::Redirected(to) => path = to,
        }
        trace.seen.redirects += 1;
        trace.enter_next_connection();
    }
}

async fn hop(prober: &Prober, request: &Request, path: &str, trace: &mut ProbeTrace) -> Result<Hop, Failure> {
    let stream = prober.open(request, Protocol::Http1, trace).await?;
    trace.enter(Phase::FirstByte);
    let message = message(request, path).map_err(|why| trace.failure(ErrorClass::Internal, why))?;
    let mut builder = http1::Builder::new();
    builder.max_headers(prober.limits.headers).max_buf_size(prober.limits.head_bytes.max(MIN_BUFFER));
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failure::before_the_head(&error, request, trace))?;
    drive(connection, async {
        let response = sender.send_request(message).await;
        trace.enter_body();
        let response = response.map_err(|error| failure::before_the_head(&error, request, trace))?;
        answer::judge(request, path, response, trace).await
    })
    .await
}

/// Runs `exchange` and polls its `connection` in the same task. Both end together.
pub(super) async fn drive<T>(connection: impl Future, exchange: impl Future<Output = T>) -> T {
    let (mut connection, mut exchange) = (pin!(connection), pin!(exchange));
    let mut open = true;
    poll_fn(|cx| {
        // An error of the connection is returned by the exchange.
        if open && connection.as_mut().poll(cx).is_ready() {
            open = false;
        }
        let polled = exchange.as_mut().poll(cx);
        // The connection does the exchange's new work in the same turn.
        if polled.is_pending() && open && connection.as_mut().poll(cx).is_ready() {
            open = false;
            return exchange.as_mut().poll(cx);
        }
        match polled {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => Poll::Pending,
        }
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

fn message(request: &Request, path: &str) -> Result<HttpRequest<Empty<Bytes>>, String> {
    let path: PathAndQuery = path.parse().map_err(|_| "the path cannot be sent: it is no path of a URL".to_owned())?;
    let method = if is_head(request) { hyper::Method::HEAD } else { hyper::Method::GET };
    let mut message = HttpRequest::new(Empty::new());
    *message.method_mut() = method;
    *message.uri_mut() = Uri::from(path);
    *message.headers_mut() = headers(request)?;
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
