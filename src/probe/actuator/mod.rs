//! Reads the actuator of a Spring Boot application: its health page and its list of links.
//!
//! Text of the far side is reduced to words that may be shown: names and statuses of letters, digits, `_` and `-`, and
//! paths at the same origin. Everything else is dropped here.

mod health;
mod links;
#[cfg(test)]
mod tests;

pub use health::HealthPage;
pub use links::Links;

use super::{Failure, HttpOptions, Outcome, Prober, Request};
use crate::api::{ErrorClass, Phase};

/// The longest name or status, in bytes.
const MAX_WORD: usize = 64;

/// Whether a name or a status may be shown: 1 to 64 letters, digits, `_` and `-`.
fn is_word(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=MAX_WORD).contains(&text.len()) && text.bytes().all(allowed)
}

/// The answer of one page of the actuator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The outcome of the request, without the body.
    pub outcome: Outcome,
    /// The content of the page, if it could be parsed.
    pub content: Option<T>,
}

impl<T> Answer<T> {
    /// The HTTP status of the answer, if there was one.
    pub fn status(&self) -> Option<u16> {
        self.outcome.seen.http_status
    }

    /// The class of the failure, unless the failure is the HTTP status.
    pub fn error(&self) -> Option<ErrorClass> {
        let failure = self.outcome.result.as_ref().err()?;
        (failure.class != ErrorClass::HTTPStatus).then_some(failure.class)
    }

    /// The HTTP status of the answer, or why there was none.
    ///
    /// # Errors
    /// The class of the failure, unless that is the status itself.
    pub fn status_or_error(&self) -> Result<u16, ErrorClass> {
        match (self.error(), self.status()) {
            (Some(class), _) => Err(class),
            (None, Some(status)) => Ok(status),
            (None, None) => Err(ErrorClass::Internal),
        }
    }
}

/// The answers of an actuator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The URL of its base path.
    pub base: String,
    /// The list of links, at the base path.
    pub links: Answer<Links>,
    /// The health page.
    pub health: Answer<HealthPage>,
    /// The liveness group of the health page, if it was requested.
    pub liveness: Option<Answer<HealthPage>>,
}

/// Reads the actuator under `base_path` (`/actuator`) at the target of `like`, with the same host, credentials and TLS,
/// but without its other requirements: the list of links, the health page, and with `liveness` its liveness group. The
/// requests run concurrently, so that all of them take no longer than one timeout.
pub async fn read(prober: &Prober, like: &Request, base_path: &str, liveness: bool) -> Reading {
    let base_path = base_path.trim_end_matches('/');
    let root = if base_path.is_empty() { "/" } else { base_path };
    let links = request(like, root);
    let health = request(like, &format!("{base_path}/health"));
    let alive = request(like, &format!("{base_path}/health/liveness"));
    let ask_alive = async {
        match liveness {
            true => Some(answer(prober.probe(&alive).await, HealthPage::read)),
            false => None,
        }
    };
    let (listed, healthy, alive) = tokio::join!(prober.probe(&links), prober.probe(&health), ask_alive);
    Reading {
        base: url(&links),
        links: answer(listed, |body| Links::read(body, &links.target)),
        health: answer(healthy, HealthPage::read),
        liveness: alive,
    }
}

/// The request for one page: the target and the credentials of `like`.
fn request(like: &Request, path: &str) -> Request {
    let mut target = like.target.clone();
    path.clone_into(&mut target.path);
    let headers = like.http.headers.clone();
    let http = HttpOptions { headers, keep_body: true, ..HttpOptions::default() };
    Request { target, timeout: like.timeout, http, tls: like.tls.clone(), metrics: None }
}

fn url(request: &Request) -> String {
    let target = &request.target;
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
    format!("{}://{host}:{}{}", target.scheme.as_str(), target.port, target.path)
}

fn answer<T>(mut outcome: Outcome, read: impl FnOnce(&[u8]) -> Option<T>) -> Answer<T> {
    let content = outcome.seen.body.take().and_then(|body| read(&body));
    Answer { outcome, content }
}

impl Reading {
    /// Whether the health page answers 200 with the status UP.
    ///
    /// # Errors
    /// The failure of the request; `HTTPStatus` with the components that are not UP, when it answered with another status
    /// (503 for DOWN and OUT_OF_SERVICE); `Assertion` when it answered 200 and is no health page, or says anything but
    /// UP: Spring answers 200 with UNKNOWN, and with every status of an application's own.
    pub fn verdict(&self) -> Result<(), Failure> {
        let health = self.health.content.as_ref();
        let mut failure = match (&self.health.outcome.result, health) {
            (Ok(()), Some(health)) if health.status.as_deref() == Some("UP") => return Ok(()),
            (Ok(()), Some(health)) => assertion(format!("the health page says {}", health.describe())),
            (Ok(()), None) => assertion("what the health page answered says nothing of health".to_owned()),
            (Err(failure), content) => {
                let mut failure = failure.clone();
                if let (ErrorClass::HTTPStatus, Some(status), Some(health)) =
                    (failure.class, self.health.status(), content)
                {
                    failure.message = format!("the health page answers {status} and says {}", health.describe());
                } else {
                    failure.message = format!("the health page: {}", failure.message);
                }
                failure
            }
        };
        // The body of a health page may contain details of hosts and users, so it is not shown.
        failure.detail = None;
        Err(failure)
    }
}

fn assertion(message: String) -> Failure {
    Failure::new(ErrorClass::Assertion, Phase::Body, message)
}
