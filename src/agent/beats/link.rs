//! The connection to the operator: kept, replaced after any error and every 15 minutes, so that DNS is asked again.

mod connect;
#[cfg(test)]
mod tests;

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Request, Response, StatusCode, Uri};
use jiff::Timestamp;

use super::answer::{self, Answer};
use super::schedule::Setback;
use crate::agent::assess::Attempt;
use crate::agent::config::Config;
use crate::api::{ErrorClass, Phase, clip, printable};
use crate::time::{Clock, Moment};

/// How long a connection is kept.
const KEPT_FOR: Duration = Duration::from_secs(15 * 60);
/// How long the operator may take to begin its answer, and to end it.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Most bytes of an answer that are read.
const MAX_ANSWER: usize = 256 << 10;
/// The path of heartbeats, below the URL of the operator.
const PATH: &str = "/api/connector/heartbeat";

/// A heartbeat was not received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class and the phase, as of a probe.
    pub attempt: Attempt,
    /// The failure in a sentence.
    pub message: String,
    /// What follows for the next heartbeat.
    pub setback: Setback,
}

impl Failure {
    /// A failure in `phase`.
    pub fn new(class: ErrorClass, phase: Phase, message: impl Into<String>) -> Self {
        let attempt = Attempt { class: class.to_string(), phase: phase.to_string() };
        Self { attempt, message: message.into(), setback: Setback::Other }
    }
}

/// A heartbeat was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The answer.
    pub answer: Answer,
    /// The operator's clock when it answered.
    pub date: Option<Timestamp>,
    /// The time from the question to the end of the answer.
    pub waited: Duration,
}

/// The connection to the operator.
pub struct Link {
    url: Uri,
    dialling: connect::Dialling,
    clock: Clock,
    open: Option<(SendRequest<Full<Bytes>>, Moment)>,
    /// How long each phase of the last new connection and its first answer took.
    spent: Vec<(Phase, Duration)>,
}

impl Link {
    /// A link that is not connected yet.
    pub fn new(config: &Config, clock: Clock) -> Self {
        Self { url: config.url.clone(), dialling: connect::Dialling::new(config), clock, open: None, spent: Vec::new() }
    }

    /// How long each phase of the last new connection and its first answer took.
    pub fn spent(&self) -> &[(Phase, Duration)] {
        &self.spent
    }

    /// Sends a heartbeat and reads the answer.
    ///
    /// # Errors
    /// It was not received, or it is not known whether it was.
    pub async fn send(&mut self, token: &str, body: Vec<u8>) -> Result<Received, Failure> {
        let result = self.exchange(token, body.into()).await;
        if result.is_err() {
            self.open = None;
        }
        result
    }

    async fn exchange(&mut self, token: &str, body: Bytes) -> Result<Received, Failure> {
        let now = self.clock.now();
        if let Some((mut sender, since)) = self.open.take()
            && now.since(since) < KEPT_FOR
            && sender.ready().await.is_ok()
        {
            let asked_at = self.clock.now();
            match self.ask(&mut sender, token, body.clone()).await {
                // The operator has closed a connection that idled: a new one says whether it can be reached.
                Err(failure) if failure.attempt.class == ErrorClass::Reset.as_str() => {}
                Err(failure) => return Err(failure),
                Ok(response) => {
                    self.open = Some((sender, since));
                    return self.read(response, asked_at).await;
                }
            }
        }
        self.spent.clear();
        let stream = self.dialling.dial(&self.url, self.clock, &mut self.spent).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .map_err(|error| Failure::new(ErrorClass::Internal, Phase::Connect, error.to_string()))?;
        // It ends with the sender; the request returns its error.
        tokio::spawn(connection);
        let asked_at = self.clock.now();
        let response = self.ask(&mut sender, token, body).await?;
        self.spent.push((Phase::FirstByte, self.clock.now().since(asked_at)));
        self.open = Some((sender, now));
        self.read(response, asked_at).await
    }

    async fn read(&self, response: Response<Incoming>, asked_at: Moment) -> Result<Received, Failure> {
        let (answer, date) = read(response).await?;
        Ok(Received { answer, date, waited: self.clock.now().since(asked_at) })
    }

    async fn ask(
        &self,
        sender: &mut SendRequest<Full<Bytes>>,
        token: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let request = self.request(token, body)?;
        let late = || format!("connected, and no answer within {} s", ANSWER_LIMIT.as_secs());
        match tokio::time::timeout(ANSWER_LIMIT, sender.send_request(request)).await {
            Err(_) => Err(Failure::new(ErrorClass::FirstByteTimeout, Phase::FirstByte, late())),
            Ok(Err(error)) if error.is_parse() => {
                Err(Failure::new(ErrorClass::NotHTTP, Phase::FirstByte, format!("the answer is no HTTP: {error}")))
            }
            Ok(Err(error)) => {
                Err(Failure::new(ErrorClass::Reset, Phase::FirstByte, format!("the connection ended: {error}")))
            }
            Ok(Ok(response)) => Ok(response),
        }
    }

    fn request(&self, token: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
        let internal = |error: String| Failure::new(ErrorClass::Internal, Phase::FirstByte, error);
        // The value of a header that cannot be one is not in the message.
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| internal("the token has a character that no token has".to_owned()))?;
        bearer.set_sensitive(true);
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        Request::post(format!("{}{PATH}", self.url.path().trim_end_matches('/')))
            .header(header::HOST, authority)
            .header(header::USER_AGENT, concat!("vigie-agent/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, bearer)
            .body(Full::new(body))
            .map_err(|error| internal(error.to_string()))
    }
}

async fn read(response: Response<Incoming>) -> Result<(Answer, Option<Timestamp>), Failure> {
    let (head, body) = response.into_parts();
    let whole = tokio::time::timeout(ANSWER_LIMIT, Limited::new(body, MAX_ANSWER).collect()).await;
    let late = |_| Failure::new(ErrorClass::BodyTimeout, Phase::Body, "the answer began, and did not end in time");
    let broken = |error| Failure::new(ErrorClass::Reset, Phase::Body, format!("the answer broke off: {error}"));
    let body = whole.map_err(late)?.map_err(broken)?.to_bytes();
    if head.status != StatusCode::OK {
        return Err(refusal(head.status, &head.headers, &body));
    }
    let answer = answer::parse(&body).map_err(|error| Failure::new(ErrorClass::Assertion, Phase::Body, error))?;
    Ok((answer, date(&head.headers)))
}

/// The failure behind an answer that is not 200.
fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let said = body.pointer("/error/message").and_then(|message| message.as_str()).unwrap_or_default();
    let said = clip(printable(said), 256);
    let hint = match status {
        StatusCode::UNAUTHORIZED => "; give it the right token: vigie agent token",
        StatusCode::NOT_FOUND => "; see url: in /etc/vigie/agent.yaml",
        _ => "",
    };
    let colon = if said.is_empty() { "" } else { ": " };
    let message = format!("the operator answers {}{colon}{said}{hint}", status.as_u16());
    let retry_after = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let setback = match (status, retry_after) {
        (_, Some(seconds)) => Setback::RetryAfter(Duration::from_secs(seconds)),
        (StatusCode::UNAUTHORIZED, None) => Setback::Unauthorized,
        _ => Setback::Other,
    };
    Failure { setback, ..Failure::new(ErrorClass::HTTPStatus, Phase::FirstByte, message) }
}

fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(header::DATE)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp())
}
