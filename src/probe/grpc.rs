//! The gRPC health protocol (grpc.health.v1), one `Check`.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::rt::Executor;
use hyper::{Uri, http};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::http::{authority, driven};
use super::stream::Watch;
use super::tls::{self, Protocol};
use super::trace::ProbeTrace;
use super::{Failure, Prober, Request};
use crate::api::{ErrorClass, Phase};

#[cfg(test)]
mod tests;

/// How much may be under way to us, in bytes: HTTP/2's own default, where hyper's is 2 MiB.
const WINDOW: u32 = 65_535;
/// The longest answer that is read: a `HealthCheckResponse` has two bytes.
const MOST_MESSAGE: usize = 4 << 10;

/// Probes `grpc` and `grpcs`.
pub(super) async fn probe(prober: &Prober, request: &Request, way: &mut ProbeTrace) -> Result<(), Failure> {
    let stream = prober.open(request, Protocol::Http2, way).await?;
    way.enter(Phase::FirstByte);
    // HTTP/2 begins with settings: what counts as the first byte of an answer is its head.
    let head = Arc::<Head>::default();
    let raw = way.answer.replace(head.came.clone()).unwrap_or_default();
    let tasks = Tasks::default();
    let _ended = Ended(tasks.clone());
    let mut builder = http2::Builder::new(tasks.clone());
    builder.max_header_list_size(u32::try_from(prober.limits.head_bytes).unwrap_or(u32::MAX));
    builder.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let shaken = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|error| transport(&error, request, &raw, way))?;
    let origin =
        format!("{}://{}", if request.target.scheme.is_tls() { "https" } else { "http" }, authority(&request.target));
    let origin: Uri = origin.parse().map_err(|_| way.fails(ErrorClass::Internal, "the host is no host of a URL"))?;
    let wire = Wire { sender, head: head.clone() };
    let mut client = HealthClient::with_origin(wire, origin).max_decoding_message_size(MOST_MESSAGE);
    let service = request.target.path.trim_start_matches('/').to_owned();
    let checked = driven(connection, client.check(HealthCheckRequest { service: service.clone() })).await;
    way.enter_body();
    let seen = head.seen.lock().take();
    way.seen.http_status = seen.as_ref().map(|(status, _)| *status);
    let broken = head.broken.lock().take();
    match (checked, broken) {
        (_, Some(error)) => Err(transport(&error, request, &raw, way)),
        (Ok(answer), None) => serving(answer.into_inner().status, &service, way),
        (Err(status), None) => Err(refused(&status, seen, &service, request, &raw, way)),
    }
}

fn serving(status: i32, service: &str, way: &mut ProbeTrace) -> Result<(), Failure> {
    let says = match ServingStatus::try_from(status) {
        Ok(ServingStatus::Serving) => return Ok(()),
        Ok(ServingStatus::ServiceUnknown) => return Err(way.fails(ErrorClass::GRPCStatus, no_such_service(service))),
        Ok(status) => status.as_str_name().to_owned(),
        Err(_) => format!("a status of number {status}"),
    };
    way.seen.not_serving = status == ServingStatus::NotServing as i32;
    Err(way.fails(ErrorClass::GRPCStatus, format!("the health service says {says}")))
}

fn no_such_service(service: &str) -> String {
    format!("the health service knows no service {service:?} (SERVICE_UNKNOWN or NOT_FOUND)")
}

/// What an answer that is no health says: the gRPC status, or that it was no gRPC at all.
fn refused(
    status: &Status,
    seen: Option<(u16, Kind)>,
    service: &str,
    request: &Request,
    raw: &Watch,
    way: &ProbeTrace,
) -> Failure {
    let body = tls::in_chain::<hyper::Error>(status);
    let (class, message) = match seen {
        None => return transport_of(body, request, raw, way),
        Some((http, kind)) if http != 200 && kind != Kind::Grpc => {
            (ErrorClass::HTTPStatus, format!("the HTTP status is {http} where gRPC answers 200"))
        }
        Some((_, Kind::Other)) => (ErrorClass::ContentType, "what answers speaks HTTP/2, and no gRPC".to_owned()),
        Some((_, Kind::Grpc)) if body.is_some() => {
            (ErrorClass::Reset, "the connection ended within the answer".to_owned())
        }
        Some((_, Kind::Grpc)) => (ErrorClass::GRPCStatus, code(status.code(), service)),
    };
    way.fails(class, message).with_detail(status.message().as_bytes())
}

fn code(code: Code, service: &str) -> String {
    match code {
        Code::Unimplemented => "it has no health service (grpc.health.v1.Health is UNIMPLEMENTED)".to_owned(),
        Code::NotFound => no_such_service(service),
        Code::Unauthenticated => "the health service wants credentials (UNAUTHENTICATED)".to_owned(),
        Code::PermissionDenied => "the health service refuses us (PERMISSION_DENIED)".to_owned(),
        code => format!("the health service answers with gRPC status {}: {}", i32::from(code), code.description()),
    }
}

/// The failure of a connection before an answer.
fn transport(error: &hyper::Error, request: &Request, raw: &Watch, way: &ProbeTrace) -> Failure {
    transport_of(Some(error), request, raw, way)
}

fn transport_of(error: Option<&hyper::Error>, request: &Request, raw: &Watch, way: &ProbeTrace) -> Failure {
    let first = raw.first();
    let told = error.is_some_and(|error| tls::in_chain::<rustls::Error>(error).is_some());
    let ended = way.seen.client_certificate_wanted && first.is_empty();
    if let Some(error) = error.filter(|_| request.target.scheme.is_tls() && (told || ended)) {
        return tls::failure(error, way, &request.target.host);
    }
    let fails = |class, message: &str| Failure::new(class, Phase::FirstByte, message);
    match first.as_slice() {
        [] => fails(ErrorClass::Reset, "the connection ended before any byte of an answer came"),
        [0x15, 3, ..] => fails(ErrorClass::NotHTTP, "the port speaks TLS, and was asked in clear").with_detail(&first),
        // A frame's length, then its type: a server of HTTP/2 begins with its settings.
        [_, _, _, 4, ..] => fails(ErrorClass::Reset, "the connection ended before the health service answered"),
        [b'H', b'T', b'T', b'P', b'/', ..] => {
            fails(ErrorClass::NotHTTP, "what answers speaks HTTP/1, and no HTTP/2").with_detail(&first)
        }
        _ => fails(ErrorClass::NotHTTP, "what answers does not speak HTTP/2").with_detail(&first),
    }
}

/// What the head of an answer says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Grpc,
    Other,
}

/// What is noted beside the client, which knows of statuses only.
#[derive(Default)]
struct Head {
    came: Arc<Watch>,
    seen: Mutex<Option<(u16, Kind)>>,
    broken: Mutex<Option<hyper::Error>>,
}

/// One connection, as the generated client wants it.
struct Wire {
    sender: http2::SendRequest<tonic::body::Body>,
    head: Arc<Head>,
}

impl tower::Service<http::Request<tonic::body::Body>> for Wire {
    type Response = http::Response<Incoming>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let head = &self.head;
        self.sender.poll_ready(cx).map_err(|error| head.breaks(error))
    }

    fn call(&mut self, mut request: http::Request<tonic::body::Body>) -> Self::Future {
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(super::http::USER_AGENT));
        let sent = self.sender.send_request(request);
        let head = self.head.clone();
        async move {
            let response = sent.await.map_err(|error| head.breaks(error))?;
            head.note(&response);
            Ok(response)
        }
        .boxed()
    }
}

impl Head {
    fn note(&self, response: &http::Response<Incoming>) {
        self.came.note(b"head");
        let content_type = response.headers().get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        let is_grpc = content_type.starts_with(b"application/grpc") || response.headers().contains_key("grpc-status");
        let kind = if is_grpc { Kind::Grpc } else { Kind::Other };
        *self.seen.lock() = Some((response.status().as_u16(), kind));
    }

    fn breaks(&self, error: hyper::Error) -> Status {
        *self.broken.lock() = Some(error);
        Status::unknown("the connection broke")
    }
}

/// The tasks that HTTP/2 wants run.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.0.lock().spawn(task);
    }
}

/// Ends the tasks when it is dropped.
struct Ended(Tasks);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.0.lock().abort_all();
    }
}
