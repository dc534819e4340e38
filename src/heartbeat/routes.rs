//! The public port: what connectors may ask, and what they are answered (api.md, "HTTP, port 8080").
//!
//! One service matches path and method by hand. The way of a good beat through it costs little more than reading the
//! request: no layers, no copies, no map of its own.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Method, Request, header};
use axum::response::Response;
use http_body_util::BodyExt;
use ipnet::IpNet;
use parking_lot::Mutex;

use super::actions::Action;
use super::client_address::{bearer, client};
use super::payload::{BadBeat, Beat};
use super::rate_limit::{LogLimiter, RateDecision, RateLimiter};
use super::{payload, responses};
use crate::api::ConnectorState;
use crate::time::Clock;

/// Longest body of a request, in bytes (api.md).
pub const MAX_BODY: usize = 16 * 1024;
/// How long a body may take to arrive (api.md).
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the registry says to a beat.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Heard (or, for a dry run: would have been).
    Heard {
        /// The connector's state now.
        state: ConnectorState,
        /// When to beat next, in seconds from now.
        next_heartbeat_seconds: u32,
        /// What the agent is asked to do.
        action: Option<Arc<Action>>,
    },
    /// Heard, from a valid connector that beats far above its rate.
    TooOften {
        /// How long to be quiet, in seconds.
        retry_after_seconds: u32,
    },
    /// Unknown connector, or a wrong, revoked or expired token.
    Rejected {
        /// Whether a connector has this id. For the log only: the sender learns it neither by the answer nor by its
        /// time.
        known: bool,
    },
    /// A known connector whose token hashes are not loaded yet.
    NotLoaded {
        /// When they should be, in seconds from now.
        retry_after_seconds: u32,
    },
}

/// Whether this process hears beats at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// It leads.
    Yes,
    /// It led, cannot renew its lease, and nobody else was seen to lead: beats are heard.
    Uncertain {
        /// What the matter is, for `/api/health`.
        message: &'static str,
    },
    /// Somebody else does, or it is not synced yet.
    No {
        /// The reason, in one word (`NotLeader`).
        reason: &'static str,
        /// The reason in a sentence.
        message: String,
        /// When to try again, in seconds.
        retry_after_seconds: u32,
    },
}

/// Who hears the beats: the registry.
pub trait HeartbeatSink: Send + Sync + 'static {
    /// Whether beats are heard now. Asked at every request.
    fn hearing(&self) -> Hearing;
    /// Judges a beat that came from `from`, in memory only.
    fn hear(&self, beat: &Beat<'_>, from: IpAddr) -> Reply;
}

/// How a request to beat came out, for `vigie_heartbeats_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BeatResult {
    /// Answered 200.
    Heard,
    /// Heard, and told to be quieter.
    TooOften,
    /// Answered 401.
    Rejected,
    /// Refused like a rejected one, and told to wait.
    RateLimited,
    /// Not JSON, a field missing or mistyped.
    Malformed,
    /// A body over 16 KiB.
    TooLarge,
    /// The body did not arrive in time.
    TooSlow,
    /// This process does not hear.
    NotLeader,
    /// The connector's hashes are not loaded yet.
    NotLoaded,
    /// Authenticated and answered, and no contact.
    DryRun,
}

impl BeatResult {
    /// Every result.
    pub const ALL: [Self; 10] = [
        Self::Heard,
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
            Self::Heard => "heard",
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

/// Counts the requests to beat.
pub trait BeatMetrics: Send + Sync {
    /// One came out so.
    fn counted(&self, result: BeatResult);
}

/// How the port is set up.
pub struct Options {
    /// Whose `X-Forwarded-For` is believed (`--trusted-proxy`).
    pub trusted_proxies: Vec<IpNet>,
    /// Where requests are counted.
    pub counters: Arc<dyn BeatMetrics>,
    /// For the limit on failed attempts.
    pub clock: Clock,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trusted_proxies, counters: _, clock: _ } = self;
        f.debug_struct("Options").field("trusted_proxies", trusted_proxies).finish_non_exhaustive()
    }
}

/// How old a connection is that a replica which cannot renew its Lease ends with its answer. Another may lead by now
/// and hear nothing of it: who comes anew is led there by the Service. Younger than the shortest `offlineAfterSeconds`
/// with a term before it; old enough that an outage of the API server costs no handshake for every beat.
const LED_ANEW_AFTER: Duration = Duration::from_secs(15);

/// What a request's connection adds to it; [`crate::http::server::serve`] does.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// The other end.
    pub peer: SocketAddr,
    /// When it was accepted.
    pub opened: Instant,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
}

/// The routes, as a service that tests can call in-process.
///
/// A request without the [`Connection`] extension counts as one from 0.0.0.0.
pub fn router<H: HeartbeatSink>(hear: Arc<H>, options: Options) -> Router {
    router_that_tells(hear, options, write)
}

/// The routes, and where their log lines go.
fn router_that_tells<H: HeartbeatSink>(
    hear: Arc<H>,
    options: Options,
    log: impl Fn(Line<'_>) + Send + Sync + 'static,
) -> Router {
    let (refusals, lines) = Default::default();
    let port = Arc::new(Port { hear, options, refusals, lines, log: Box::new(log) });
    Router::new().fallback_service(tower::service_fn(move |request| {
        let port = Arc::clone(&port);
        async move { Ok::<_, Infallible>(port.answer(request).await) }
    }))
}

struct Port<H> {
    hear: Arc<H>,
    options: Options,
    refusals: Mutex<RateLimiter>,
    lines: Mutex<LogLimiter>,
    log: Box<dyn Fn(Line<'_>) + Send + Sync>,
}

/// What the log is told about a beat that was not heard as it should be. There is no token in it.
#[derive(Debug)]
struct Line<'a> {
    result: BeatResult,
    id: Option<&'a str>,
    from: IpAddr,
    message: &'a str,
}

fn write(Line { result, id, from, message }: Line<'_>) {
    // Quoted: whoever sent the id chose it.
    tracing::warn!(result = result.as_str(), connector_id = id.map(tracing::field::debug), %from, "{message}");
}

impl<H: HeartbeatSink> Port<H> {
    async fn answer(self: Arc<Self>, request: Request<Body>) -> Response {
        match request.uri().path() {
            "/api/connector/heartbeat" if request.method() == Method::POST => self.beat(request).await,
            "/api/connector/heartbeat" => responses::not_allowed("POST"),
            "/api/health" if matches!(*request.method(), Method::GET | Method::HEAD) => {
                responses::health(&self.hear.hearing())
            }
            "/api/health" => responses::not_allowed("GET, HEAD"),
            _ => responses::not_found(),
        }
    }

    async fn beat(self: Arc<Self>, request: Request<Body>) -> Response {
        let (head, body) = request.into_parts();
        let connection = head.extensions.get::<Connection>();
        let from = client(connection.map(|c| c.peer), &head.headers, &self.options.trusted_proxies);
        let patience = connection.map_or(BODY_TIMEOUT, |c| c.body_timeout);
        let body = match read(body, patience).await {
            Ok(body) => body,
            Err(Unread::TooLarge) => {
                self.note(BeatResult::TooLarge, None, from, "refused a beat whose body is over 16 KiB");
                return responses::too_large();
            }
            Err(Unread::TooSlow) => {
                self.note(BeatResult::TooSlow, None, from, "refused a beat whose body did not arrive in time");
                return responses::too_slow();
            }
            Err(Unread::Broken) => {
                let bad = BadBeat::not_json("the body broke off or is not encoded as HTTP says");
                self.note(BeatResult::Malformed, None, from, format!("refused a malformed beat: {}", bad.message));
                return responses::malformed(&bad);
            }
        };
        // Asked after the body was read: a connection that ends amid a body may take the answer with it.
        let hearing = self.hear.hearing();
        if let Hearing::No { reason, message, retry_after_seconds } = hearing {
            self.options.counters.counted(BeatResult::NotLeader);
            return responses::not_hearing(reason, &message, retry_after_seconds);
        }
        let answer = match payload::parse(&body, bearer(head.headers.get(header::AUTHORIZATION))) {
            Ok(beat) => self.judge(&beat, from),
            Err(bad) => {
                self.note(BeatResult::Malformed, None, from, format!("refused a malformed beat: {}", bad.message));
                responses::malformed(&bad)
            }
        };
        let is_old = || connection.is_some_and(|connection| connection.opened.elapsed() >= LED_ANEW_AFTER);
        let is_led_anew = matches!(hearing, Hearing::Uncertain { .. }) && is_old();
        if is_led_anew { responses::closing(answer) } else { answer }
    }

    fn judge(self: &Arc<Self>, beat: &Beat<'_>, from: IpAddr) -> Response {
        match self.hear.hear(beat, from) {
            Reply::Heard { state, next_heartbeat_seconds, action } => {
                let result = if beat.dry_run { BeatResult::DryRun } else { BeatResult::Heard };
                self.options.counters.counted(result);
                responses::heard(state, next_heartbeat_seconds, action.as_deref())
            }
            Reply::TooOften { retry_after_seconds } => {
                self.note(
                    BeatResult::TooOften,
                    Some((&beat.connector_id, true)),
                    from,
                    "told a connector that beats far above its rate to slow down",
                );
                responses::too_often(retry_after_seconds)
            }
            Reply::Rejected { known } => self.refuse(&beat.connector_id, known, from),
            Reply::NotLoaded { retry_after_seconds } => {
                let id = Some((&*beat.connector_id, true));
                self.note(BeatResult::NotLoaded, id, from, "put off a connector whose token hashes are not loaded yet");
                responses::not_loaded(retry_after_seconds)
            }
        }
    }

    fn refuse(self: &Arc<Self>, id: &str, known: bool, from: IpAddr) -> Response {
        let refusal = self.refusals.lock().refuse(from, id, self.options.clock.now());
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

    /// Counts a beat that was not heard as it should be, and tells the log once a minute.
    ///
    /// The log is told by a task of its own, for known and unknown ids alike: a written line takes long enough for a
    /// sender to measure, and would tell that the id exists.
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
        tokio::spawn(async move { port.tell(result, about, from, &message) });
    }

    fn tell(&self, result: BeatResult, about: Option<(String, bool)>, from: IpAddr, message: &str) {
        let known = about.as_ref().filter(|(_, known)| *known).map(|(id, _)| id.as_str());
        if self.lines.lock().due(result.as_str(), known, self.options.clock.now()) {
            (self.log)(Line { result, id: about.as_ref().map(|(id, _)| id.as_str()), from, message });
        }
    }
}

/// Why there is no body.
enum Unread {
    TooLarge,
    TooSlow,
    Broken,
}

/// Reads a body of at most [`MAX_BODY`] bytes within `patience`. One that came in one piece is not copied.
async fn read(body: Body, patience: Duration) -> Result<Bytes, Unread> {
    // Before the first look at the body: a sender who asks "Expect: 100-continue" is then spared from sending it.
    if axum::body::HttpBody::size_hint(&body).lower() > MAX_BODY as u64 {
        return Err(Unread::TooLarge);
    }
    tokio::time::timeout(patience, collect(body)).await.unwrap_or(Err(Unread::TooSlow))
}

async fn collect(mut body: Body) -> Result<Bytes, Unread> {
    let mut whole = Bytes::new();
    let mut pieces: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        // Trailers are none of our business.
        let Ok(piece) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
        if whole.len() + pieces.len() + piece.len() > MAX_BODY {
            return Err(Unread::TooLarge);
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
