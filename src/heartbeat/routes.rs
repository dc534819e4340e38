//! The routes of the public port (`docs/design/api.md`, "HTTP, port 8080").
//!
//! One service matches path and method by hand: a valid heartbeat costs little more than reading the request, without
//! layers, copies or a map.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::http::request::Parts;
use axum::http::{Method, Request, header};
use axum::response::Response;
use http_body_util::BodyExt;
use ipnet::IpNet;
use parking_lot::Mutex;

use super::agent_binary::{self, AgentBinary, NotServed};
use super::client_address::{bearer, client};
use super::payload::{BadBeat, Beat};
use super::rate_limit::{LogLimiter, RateDecision, RateLimiter};
pub use super::sink::{Acceptance, HeartbeatSink, Reply};
use super::{payload, responses};
use crate::api::MAX_BEAT;
use crate::http::server::{BODY_TIMEOUT, ConnectionInfo};
use crate::time::Clock;

/// The result of a heartbeat request, for `vigie_heartbeats_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BeatResult {
    /// Answered 200.
    Accepted,
    /// Accepted, and answered 429 because the connector is far above its rate.
    TooOften,
    /// Answered 401.
    Rejected,
    /// Rejected, and answered 429 after too many failed attempts.
    RateLimited,
    /// Not JSON, a field missing or mistyped.
    Malformed,
    /// A body over 16 KiB.
    TooLarge,
    /// The body did not arrive in time.
    TooSlow,
    /// This process does not accept heartbeats.
    NotLeader,
    /// The connector's token hashes are not loaded yet.
    NotLoaded,
    /// Authenticated and answered, without counting as contact.
    DryRun,
}

impl BeatResult {
    /// Every result.
    pub const ALL: [Self; 10] = [
        Self::Accepted,
        Self::TooOften,
        Self::Rejected,
        Self::RateLimited,
        Self::Malformed,
        Self::TooLarge,
        Self::TooSlow,
        Self::NotLeader,
        Self::NotLoaded,
        Self::DryRun,
    ];

    /// The result as metrics and the log write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "heard",
            Self::TooOften => "too_often",
            Self::Rejected => "rejected",
            Self::RateLimited => "rate_limited",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::NotLeader => "not_leader",
            Self::NotLoaded => "not_loaded",
            Self::DryRun => "dry_run",
        }
    }
}

/// Counts heartbeat requests.
pub trait BeatMetrics: Send + Sync {
    /// Counts one request with this result.
    fn counted(&self, result: BeatResult);
}

/// The configuration of the port.
pub struct Options {
    /// The proxies whose `X-Forwarded-For` is trusted (`--trusted-proxy`).
    pub trusted_proxies: Vec<IpNet>,
    /// Counts the requests.
    pub counters: Arc<dyn BeatMetrics>,
    /// The clock of the limits on failed attempts and on log lines.
    pub clock: Clock,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trusted_proxies, counters: _, clock: _ } = self;
        f.debug_struct("Options").field("trusted_proxies", trusted_proxies).finish_non_exhaustive()
    }
}

/// A replica that cannot renew its Lease closes connections of this age with its answer. Another replica may lead by now
/// and not receive these heartbeats; the Service routes a new connection to it. The age plus a term is shorter than the
/// shortest `offlineAfterSeconds`; it is long enough that an outage of the API server does not cost a handshake for every
/// heartbeat.
const RECONNECT_AFTER: Duration = Duration::from_secs(15);

/// The query of [`agent_binary::PATH`].
#[derive(serde::Deserialize)]
struct ConnectorQuery {
    connector_id: String,
}

/// The routes as a service, which tests can call in-process.
///
/// A request without the [`ConnectionInfo`] extension counts as one from 0.0.0.0.
pub fn router<H: HeartbeatSink>(sink: Arc<H>, options: Options) -> Router {
    router_with_log(sink, options, write)
}

/// The routes with a destination for their log lines.
fn router_with_log<H: HeartbeatSink>(
    sink: Arc<H>,
    options: Options,
    log: impl Fn(LogLine<'_>) + Send + Sync + 'static,
) -> Router {
    let (failures, log_limiter) = Default::default();
    let binary = AgentBinary::of_this_process();
    let port = Arc::new(HeartbeatEndpoint { sink, options, binary, failures, log_limiter, log: Box::new(log) });
    Router::new().fallback_service(tower::service_fn(move |request| {
        let port = Arc::clone(&port);
        async move { Ok::<_, Infallible>(port.answer(request).await) }
    }))
}

struct HeartbeatEndpoint<H> {
    sink: Arc<H>,
    options: Options,
    binary: Option<AgentBinary>,
    failures: Mutex<RateLimiter>,
    log_limiter: Mutex<LogLimiter>,
    log: Box<dyn Fn(LogLine<'_>) + Send + Sync>,
}

/// A log line about a heartbeat that was not accepted normally. It contains no token.
#[derive(Debug)]
struct LogLine<'a> {
    result: BeatResult,
    id: Option<&'a str>,
    from: IpAddr,
    message: &'a str,
}

fn write(LogLine { result, id, from, message }: LogLine<'_>) {
    // Quoted, because the sender chose the id.
    tracing::warn!(result = result.as_str(), connector_id = id.map(tracing::field::debug), %from, "{message}");
}

impl<H: HeartbeatSink> HeartbeatEndpoint<H> {
    async fn answer(self: Arc<Self>, request: Request<Body>) -> Response {
        match request.uri().path() {
            "/api/connector/heartbeat" if request.method() == Method::POST => self.beat(request).await,
            "/api/connector/heartbeat" => responses::not_allowed("POST"),
            "/api/health" if matches!(*request.method(), Method::GET | Method::HEAD) => {
                responses::health(&self.sink.acceptance())
            }
            "/api/health" => responses::not_allowed("GET, HEAD"),
            agent_binary::PATH if request.method() == Method::GET => self.agent(request.into_parts().0).await,
            agent_binary::PATH => responses::not_allowed("GET"),
            _ => responses::not_found(),
        }
    }

    async fn beat(self: Arc<Self>, request: Request<Body>) -> Response {
        let (head, body) = request.into_parts();
        let connection = head.extensions.get::<ConnectionInfo>();
        let from = client(connection.map(|c| c.peer), &head.headers, &self.options.trusted_proxies);
        let time_limit = connection.map_or(BODY_TIMEOUT, |c| c.body_timeout);
        let body = match read(body, time_limit).await {
            Ok(body) => body,
            Err(BodyError::TooLarge) => {
                self.note(BeatResult::TooLarge, None, from, "refused a beat whose body is over 16 KiB");
                return responses::too_large();
            }
            Err(BodyError::TooSlow) => {
                self.note(BeatResult::TooSlow, None, from, "refused a beat whose body did not arrive in time");
                return responses::too_slow();
            }
            Err(BodyError::Broken) => {
                let bad = BadBeat::not_json("the body broke off or is not encoded as HTTP says");
                self.note(BeatResult::Malformed, None, from, format!("refused a malformed beat: {}", bad.message));
                return responses::malformed(&bad);
            }
        };
        // Checked after the body was read: a connection that is closed while a body arrives may lose the answer.
        let acceptance = self.sink.acceptance();
        if let Acceptance::No { reason, message, retry_after_seconds } = acceptance {
            self.options.counters.counted(BeatResult::NotLeader);
            return responses::not_accepting(reason, &message, retry_after_seconds);
        }
        let answer = match payload::parse(&body, bearer(head.headers.get(header::AUTHORIZATION))) {
            Ok(beat) => self.judge(&beat, from).await,
            Err(bad) => {
                self.note(BeatResult::Malformed, None, from, format!("refused a malformed beat: {}", bad.message));
                responses::malformed(&bad)
            }
        };
        let is_old = || connection.is_some_and(|connection| connection.opened.elapsed() >= RECONNECT_AFTER);
        let must_reconnect = matches!(acceptance, Acceptance::Uncertain { .. }) && is_old();
        if must_reconnect { responses::closing(answer) } else { answer }
    }

    /// The reply to a heartbeat. A token that a user brings may have to be compared first, which takes long.
    async fn receive(&self, beat: &Beat<'_>, from: IpAddr) -> Reply {
        let comparison = match self.sink.receive(beat, from) {
            Reply::Uncompared(comparison) => comparison,
            reply => return reply,
        };
        let compared = comparison.run().await;
        match self.sink.receive_compared(beat, from, &compared) {
            Reply::Uncompared(_) => Reply::NotLoaded { retry_after_seconds: 1 },
            reply => reply,
        }
    }

    /// The binary of the agent, for a sender that may beat for a connector: the same checks and limits as those of a dry run.
    async fn agent(self: &Arc<Self>, head: Parts) -> Response {
        if let Acceptance::No { reason, message, retry_after_seconds } = self.sink.acceptance() {
            return responses::not_accepting(reason, &message, retry_after_seconds);
        }
        let query = Query::<ConnectorQuery>::try_from_uri(&head.uri);
        let id = query.map(|Query(query)| query.connector_id).unwrap_or_default();
        let connection = head.extensions.get::<ConnectionInfo>();
        let from = client(connection.map(|c| c.peer), &head.headers, &self.options.trusted_proxies);
        let body = serde_json::json!({"connector_id": id, "dry_run": true}).to_string();
        let allowed = match payload::parse(body.as_bytes(), bearer(head.headers.get(header::AUTHORIZATION))) {
            Ok(beat) => self.judge(&beat, from).await,
            Err(bad) => return responses::malformed(&bad),
        };
        if !allowed.status().is_success() {
            return allowed;
        }
        let Some(binary) = &self.binary else {
            return responses::no_binary("this operator is built for another platform");
        };
        match binary.download().await {
            Ok((body, length)) => responses::binary(body, length),
            Err(NotServed::Busy) => responses::downloads_busy(),
            Err(NotServed::Unreadable(error)) => {
                tracing::warn!(%error, "the binary of the agent cannot be served: this process cannot read its own executable");
                responses::no_binary("this operator cannot read its own executable")
            }
        }
    }

    async fn judge(self: &Arc<Self>, beat: &Beat<'_>, from: IpAddr) -> Response {
        match self.receive(beat, from).await {
            Reply::Accepted { state, next_heartbeat_seconds, told } => {
                let result = if beat.dry_run { BeatResult::DryRun } else { BeatResult::Accepted };
                self.options.counters.counted(result);
                responses::heard(state, next_heartbeat_seconds, &told)
            }
            Reply::TooOften { retry_after_seconds } => {
                self.note(
                    BeatResult::TooOften,
                    Some((&beat.connector_id, true)),
                    from,
                    "asked a connector that beats far above its rate to slow down",
                );
                responses::too_often(retry_after_seconds)
            }
            Reply::NotCompared { retry_after_seconds } => {
                let id = Some((&*beat.connector_id, true));
                self.note(BeatResult::RateLimited, id, from, "did not compare a token after too many wrong ones");
                responses::rate_limited(retry_after_seconds)
            }
            Reply::Rejected { known } => self.refuse(&beat.connector_id, known, from),
            Reply::Uncompared(_) => responses::not_loaded(1),
            Reply::NotLoaded { retry_after_seconds } => {
                let id = Some((&*beat.connector_id, true));
                self.note(BeatResult::NotLoaded, id, from, "put off a connector whose token hashes are not loaded yet");
                responses::not_loaded(retry_after_seconds)
            }
        }
    }

    fn refuse(self: &Arc<Self>, id: &str, known: bool, from: IpAddr) -> Response {
        let refusal = self.failures.lock().refuse(from, id, self.options.clock.now());
        match refusal {
            RateDecision::Plain => {
                self.note(
                    BeatResult::Rejected,
                    Some((id, known)),
                    from,
                    "refused a beat of an unknown connector or with a wrong token",
                );
                responses::rejected()
            }
            RateDecision::Wait { seconds } => {
                self.note(
                    BeatResult::RateLimited,
                    Some((id, known)),
                    from,
                    "refused a beat after too many failed attempts",
                );
                responses::rate_limited(seconds)
            }
        }
    }

    /// Counts a heartbeat that was not accepted normally, and logs it at most once a minute.
    ///
    /// A separate task writes the line, for known and unknown ids alike: writing takes long enough for a sender to
    /// measure, and would reveal that the id exists.
    fn note(
        self: &Arc<Self>,
        result: BeatResult,
        about: Option<(&str, bool)>,
        from: IpAddr,
        message: impl Into<Cow<'static, str>>,
    ) {
        self.options.counters.counted(result);
        let port = Arc::clone(self);
        let about = about.map(|(id, known)| (id.to_owned(), known));
        let message = message.into();
        tokio::spawn(async move { port.write_line(result, about, from, &message) });
    }

    fn write_line(&self, result: BeatResult, about: Option<(String, bool)>, from: IpAddr, message: &str) {
        let known = about.as_ref().filter(|(_, known)| *known).map(|(id, _)| id.as_str());
        if self.log_limiter.lock().due(result.as_str(), known, self.options.clock.now()) {
            (self.log)(LogLine { result, id: about.as_ref().map(|(id, _)| id.as_str()), from, message });
        }
    }
}

/// The error of a body that could not be read.
enum BodyError {
    TooLarge,
    TooSlow,
    Broken,
}

/// Reads a body of at most [`MAX_BEAT`] bytes within `time_limit`. A body that arrives in one piece is not copied.
async fn read(body: Body, time_limit: Duration) -> Result<Bytes, BodyError> {
    // Before the body is polled: a client that sends "Expect: 100-continue" then need not send it.
    if axum::body::HttpBody::size_hint(&body).lower() > MAX_BEAT as u64 {
        return Err(BodyError::TooLarge);
    }
    tokio::time::timeout(time_limit, collect(body)).await.unwrap_or(Err(BodyError::TooSlow))
}

async fn collect(mut body: Body) -> Result<Bytes, BodyError> {
    let mut whole = Bytes::new();
    let mut pieces: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        // Trailers are ignored.
        let Ok(piece) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        if whole.len() + pieces.len() + piece.len() > MAX_BEAT {
            return Err(BodyError::TooLarge);
        }
        if whole.is_empty() && pieces.is_empty() {
            whole = piece;
        } else {
            pieces.extend_from_slice(&std::mem::take(&mut whole));
            pieces.extend_from_slice(&piece);
        }
    }
    Ok(if pieces.is_empty() { whole } else { pieces.into() })
}

#[cfg(test)]
mod tests;
