//! The actuator of a Spring Boot application: what its health page and its list of links say.
//!
//! What comes from the far side is reduced to words that may be shown: names and statuses of letters, digits, `_` and
//! `-`, and paths at the same origin. Everything else is dropped here.

mod health;
mod links;
#[cfg(test)]
mod tests;

pub use health::Health;
pub use links::Links;

use super::{Failure, HttpOptions, Outcome, Prober, Request};
use crate::api::{ErrorClass, Phase};

/// How long a name or a word from the far side may be.
const LONGEST_WORD: usize = 64;

/// Whether a name or a status may be shown: 1 to 64 letters, digits, `_` and `-`.
fn is_word(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=LONGEST_WORD).contains(&text.len()) && text.bytes().all(allowed)
}

/// What one page of the actuator answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// How asking for it went; its body is not in it any more.
    pub outcome: Outcome,
    /// What it said, when it could be read.
    pub said: Option<T>,
}

impl<T> Answer<T> {
    /// The status of the answer, when there was one.
    pub fn status(&self) -> Option<u16> {
        self.outcome.seen.http_status
    }

    /// How it failed when it was not by its status.
    pub fn error(&self) -> Option<ErrorClass> {
        let failure = self.outcome.result.as_ref().err()?;
        (failure.class != ErrorClass::HTTPStatus).then_some(failure.class)
    }

    /// The status of the answer, or how there was none.
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

/// What an actuator answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The URL of its base path.
    pub base: String,
    /// The list of links, at the base path.
    pub links: Answer<Links>,
    /// The health page.
    pub health: Answer<Health>,
    /// The liveness group of the health page, when it was asked for.
    pub liveness: Option<Answer<Health>>,
}

/// Reads the actuator under `base_path` (`/actuator`) of the target that `like` asks, with the same host, credentials
/// and TLS, and none of its other demands: the list of links, the health page, and its liveness group when `liveness`
/// says so. They are asked for side by side, so all of it takes no longer than one timeout.
pub async fn read(prober: &Prober, like: &Request, base_path: &str, liveness: bool) -> Reading {
    let base_path = base_path.trim_end_matches('/');
    let root = if base_path.is_empty() { "/" } else { base_path };
    let links = request(like, root);
    let health = request(like, &format!("{base_path}/health"));
    let alive = request(like, &format!("{base_path}/health/liveness"));
    let ask_alive = async {
        match liveness {
            true => Some(answer(prober.probe(&alive).await, Health::read)),
            false => None,
        }
    };
    let (listed, healthy, alive) = tokio::join!(prober.probe(&links), prober.probe(&health), ask_alive);
    Reading {
        base: url(&links),
        links: answer(listed, |body| Links::read(body, &links.target)),
        health: answer(healthy, Health::read),
        liveness: alive,
    }
}

/// The request for one page: of what `like` asks, only who is asked and who asks.
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
    let said = outcome.seen.body.take().and_then(|body| read(&body));
    Answer { outcome, said }
}

impl Reading {
    /// Whether the health page says that all is well: 200 with the status UP.
    ///
    /// # Errors
    /// How asking for it failed; `HTTPStatus` with the components that are not UP, when it answered with another status
    /// (503 for DOWN and OUT_OF_SERVICE); `Assertion` when it answered 200 and is no health page, or says anything but
    /// UP: Spring answers 200 with UNKNOWN, and with every status of an application's own.
    pub fn verdict(&self) -> Result<(), Failure> {
        let health = self.health.said.as_ref();
        let mut failure = match (&self.health.outcome.result, health) {
            (Ok(()), Some(health)) if health.status.as_deref() == Some("UP") => return Ok(()),
            (Ok(()), Some(health)) => assertion(format!("the health page says {}", health.in_words())),
            (Ok(()), None) => assertion("what the health page answered says nothing of health".to_owned()),
            (Err(failure), said) => {
                let mut failure = failure.clone();
                if let (ErrorClass::HTTPStatus, Some(status), Some(health)) =
                    (failure.class, self.health.status(), said)
                {
                    failure.message = format!("the health page answers {status} and says {}", health.in_words());
                } else {
                    failure.message = format!("the health page: {}", failure.message);
                }
                failure
            }
        };
        // The body of a health page holds what its components say of hosts and users: it is not for showing here.
        failure.detail = None;
        Err(failure)
    }
}

fn assertion(message: String) -> Failure {
    Failure::new(ErrorClass::Assertion, Phase::Body, message)
}
