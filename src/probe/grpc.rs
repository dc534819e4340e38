//! Probes with the gRPC health protocol (grpc.health.v1): one `Check`.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Uri, http};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::background::{AbortOnDrop, Tasks};
use super::http::{authority, drive};
use super::stream::Received;
use super::tls::{self, Protocol};
use super::trace::ProbeTrace;
use super::{Failure, Prober, Request};
use crate::api::{ErrorClass, Phase};

#[cfg(test)]
mod tests;

/// The flow-control window for received data, in bytes: the default of HTTP/2. hyper's default is 2 MiB.
const WINDOW: u32 = 65_535;
/// The largest answer, in bytes. A `HealthCheckResponse` has two.
const MAX_MESSAGE_BYTES: usize = 4 << 10;

/// Probes `grpc` and `grpcs`.
pub(super) async fn probe(prober: &Prober, request: &Request, trace: &mut ProbeTrace) -> Result<(), Failure> {
    let stream = prober.open(request, Protocol::Http2, trace).await?;
    trace.enter(Phase::FirstByte);
    // HTTP/2 begins with settings, so the head of the answer counts as its first byte.
    let head = Arc::<Head>::default();
    let raw = trace.answer.replace(head.received.clone()).unwrap_or_default();
    let tasks = Tasks::default();
    let _abort = AbortOnDrop(tasks.clone());
    let mut builder = http2::Builder::new(tasks.clone());
    builder.max_header_list_size(u32::try_from(prober.limits.head_bytes).unwrap_or(u32::MAX));
    builder.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| transport(&error, request, &raw, trace))?;
    let origin =
        format!("{}://{}", if request.target.scheme.is_tls() { "https" } else { "http" }, authority(&request.target));
    let origin: Uri =
        origin.parse().map_err(|_| trace.failure(ErrorClass::Internal, "the host is no host of a URL"))?;
    let connection_service = HttpConnection { sender, head: head.clone() };
    let mut client = HealthClient::with_origin(connection_service, origin)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate);
    let service = request.target.path.trim_start_matches('/').to_owned();
    let checked = drive(connection, client.check(HealthCheckRequest { service: service.clone() })).await;
    trace.enter_body();
    trace.seen.http_status = head.seen.lock().as_ref().map(|(status, _)| *status);
    let failed = head.error.lock().take();
    match (checked, failed) {
        (_, Some(error)) => Err(transport(&error, request, &raw, trace)),
        (Ok(answer), None) => serving(answer.into_inner().status, &service, trace),
        (Err(status), None) => Err(refused(&status, &head, &service, request, &raw, trace)),
    }
}

fn serving(status: i32, service: &str, trace: &mut ProbeTrace) -> Result<(), Failure> {
    let answer = match ServingStatus::try_from(status) {
        Ok(ServingStatus::Serving) => return Ok(()),
        Ok(ServingStatus::ServiceUnknown) => {
            trace.seen.grpc_status = Some(Code::NotFound as i32);
            return Err(trace.failure(ErrorClass::GRPCStatus, no_such_service(service)));
        }
        Ok(status) => status.as_str_name().to_owned(),
        Err(_) => format!("a status of number {status}"),
    };
    trace.seen.not_serving = status == ServingStatus::NotServing as i32;
    Err(trace.failure(ErrorClass::GRPCStatus, format!("the health service says {answer}")))
}

fn no_such_service(service: &str) -> String {
    format!("the health service knows no service {service:?} (SERVICE_UNKNOWN or NOT_FOUND)")
}

/// The failure of an answer that is no health status: a gRPC status, or not gRPC at all. `status` may be made by the client
/// itself: only a status that the server sent is told as its own.
fn refused(
    status: &Status,
    head: &Head,
    service: &str,
    request: &Request,
    raw: &Received,
    trace: &mut ProbeTrace,
) -> Failure {
    let body = tls::in_chain::<hyper::Error>(status);
    let sent = *head.sent_status.lock();
    let (class, message) = match head.seen.lock().take() {
        None => return transport_of(body, request, raw, trace),
        Some((http, kind)) if http != 200 && kind != ResponseKind::Grpc => {
            (ErrorClass::HTTPStatus, format!("the HTTP status is {http} where gRPC answers 200"))
        }
        Some((_, ResponseKind::Other)) => {
            (ErrorClass::ContentType, "what answers speaks HTTP/2, and no gRPC".to_owned())
        }
        Some((_, ResponseKind::Grpc)) if sent.is_some_and(|sent| sent != 0) => {
            trace.seen.grpc_status = sent;
            (ErrorClass::GRPCStatus, code(status.code(), service))
        }
        Some((_, ResponseKind::Grpc)) if body.is_some() => {
            (ErrorClass::Reset, "the connection ended within the answer".to_owned())
        }
        Some((_, ResponseKind::Grpc)) => (ErrorClass::ContentType, unreadable(status.code()).to_owned()),
    };
    trace.failure(class, message).with_detail(status.message().as_bytes())
}

/// Why the client itself cannot read an answer.
const fn unreadable(code: Code) -> &'static str {
    match code {
        Code::Unimplemented => {
            "its answer cannot be read: it is compressed in a way that was not offered (gzip, deflate and identity were)"
        }
        Code::OutOfRange | Code::ResourceExhausted => {
            "its answer cannot be read: it is larger than one of a health service"
        }
        _ => "its answer cannot be read: it is not one of a health service, or ends without a gRPC status",
    }
}

/// The sentence for a gRPC status that the server sent.
fn code(code: Code, service: &str) -> String {
    let (name, what) = match code {
        Code::NotFound => return no_such_service(service),
        Code::Unimplemented => return "it has no health service (grpc.health.v1.Health is UNIMPLEMENTED)".to_owned(),
        Code::Unauthenticated => ("UNAUTHENTICATED", "it wants credentials, and a gRPC probe has none"),
        Code::PermissionDenied => ("PERMISSION_DENIED", "it refuses this caller"),
        Code::Unavailable => ("UNAVAILABLE", "it, or a proxy before it, has no instance that takes the request"),
        Code::ResourceExhausted => ("RESOURCE_EXHAUSTED", "a limit of requests, connections or memory is reached"),
        Code::DeadlineExceeded => ("DEADLINE_EXCEEDED", "a time limit of its own, or of a proxy before it, has passed"),
        Code::Internal => ("INTERNAL", "an error of its own"),
        Code::Unknown => ("UNKNOWN", "an error of its own, without a kind"),
        Code::Cancelled => ("CANCELLED", "it, or a proxy before it, cancelled the request"),
        Code::Aborted => ("ABORTED", "it gave up the request"),
        Code::FailedPrecondition => ("FAILED_PRECONDITION", "it is not in a state in which it can answer"),
        Code::InvalidArgument => {
            ("INVALID_ARGUMENT", "it does not accept the request, perhaps the name of the service")
        }
        Code::OutOfRange | Code::AlreadyExists | Code::DataLoss | Code::Ok => {
            return format!("the health service answers with gRPC status {}: {}", i32::from(code), code.description());
        }
    };
    format!("the health service answers {name}: {what}")
}

/// The failure of a connection that ended before an answer.
fn transport(error: &hyper::Error, request: &Request, raw: &Received, trace: &ProbeTrace) -> Failure {
    transport_of(Some(error), request, raw, trace)
}

fn transport_of(error: Option<&hyper::Error>, request: &Request, raw: &Received, trace: &ProbeTrace) -> Failure {
    let first = raw.first();
    let has_tls_error = error.is_some_and(|error| tls::in_chain::<rustls::Error>(error).is_some());
    let ended = trace.seen.client_certificate_wanted && first.is_empty();
    if let Some(error) = error.filter(|_| request.target.scheme.is_tls() && (has_tls_error || ended)) {
        return tls::failure(error, trace, &request.target.host);
    }
    let fails = |class, message: &str| Failure::new(class, Phase::FirstByte, message);
    match first.as_slice() {
        [] => fails(ErrorClass::Reset, "the connection ended before any byte of an answer came"),
        [0x15, 3, ..] => fails(ErrorClass::NotHTTP, "the port speaks TLS, and was asked in clear").with_detail(&first),
        // The length of a frame, then its type: a server of HTTP/2 begins with a settings frame.
        [_, _, _, 4, ..] => fails(ErrorClass::Reset, "the connection ended before the health service answered"),
        [b'H', b'T', b'T', b'P', b'/', ..] => {
            fails(ErrorClass::NotHTTP, "what answers speaks HTTP/1, and no HTTP/2").with_detail(&first)
        }
        _ => fails(ErrorClass::NotHTTP, "what answers does not speak HTTP/2").with_detail(&first),
    }
}

/// The content of an answer, by its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseKind {
    Grpc,
    Other,
}

/// The head of the answer and the error of the connection, which the generated client does not return.
#[derive(Default)]
struct Head {
    received: Arc<Received>,
    seen: Mutex<Option<(u16, ResponseKind)>>,
    /// The gRPC status that the server sent, in its headers or trailers.
    sent_status: Mutex<Option<i32>>,
    error: Mutex<Option<hyper::Error>>,
}

/// One connection, as the service that the generated client calls.
struct HttpConnection {
    sender: http2::SendRequest<tonic::body::Body>,
    head: Arc<Head>,
}

impl tower::Service<http::Request<tonic::body::Body>> for HttpConnection {
    type Response = http::Response<UnsyncBoxBody<Bytes, hyper::Error>>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let head = &self.head;
        self.sender.poll_ready(cx).map_err(|error| head.connection_failed(error))
    }

    fn call(&mut self, mut request: http::Request<tonic::body::Body>) -> Self::Future {
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(super::http::USER_AGENT));
        let sent = self.sender.send_request(request);
        let head = self.head.clone();
        async move {
            let response = sent.await.map_err(|error| head.connection_failed(error))?;
            head.record(&response);
            Ok(response.map(|body| {
                let body = body.map_frame(move |frame| {
                    if let Some(trailers) = frame.trailers_ref() {
                        head.record_status(trailers);
                    }
                    frame
                });
                body.boxed_unsync()
            }))
        }
        .boxed()
    }
}

impl Head {
    fn record(&self, response: &http::Response<Incoming>) {
        self.received.record(b"head");
        let content_type = response.headers().get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        let is_grpc = content_type.starts_with(b"application/grpc") || response.headers().contains_key("grpc-status");
        let kind = if is_grpc { ResponseKind::Grpc } else { ResponseKind::Other };
        self.record_status(response.headers());
        *self.seen.lock() = Some((response.status().as_u16(), kind));
    }

    fn record_status(&self, headers: &HeaderMap) {
        let sent = headers.get("grpc-status").and_then(|status| status.to_str().ok()?.trim().parse().ok());
        let mut known = self.sent_status.lock();
        *known = sent.or(*known);
    }

    fn connection_failed(&self, error: hyper::Error) -> Status {
        *self.error.lock() = Some(error);
        Status::unknown("the connection broke")
    }
}
