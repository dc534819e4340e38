//! One call to the API server: its time limit and its errors.

use std::future::Future;
use std::time::Duration;

use thiserror::Error;

/// The time limit of one call, except watches.
///
/// kube has no read timeout, so a call without a limit can hang for ever. 5 s is a hundred times what a healthy API
/// server needs, less than the 10 s after a SIGTERM, and less than the term of a leader.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The error of a call to the API server.
#[derive(Debug, Error)]
pub enum CallError {
    /// The object was changed since it was read (409). The caller has to read it again and decide again.
    #[error("the object was changed by another writer since it was read")]
    Conflict,
    /// There is no such object, or no such resource or namespace (404).
    #[error("no such object")]
    NotFound,
    /// An object of that name exists (409).
    #[error("an object of that name exists already")]
    AlreadyExists,
    /// RBAC or an admission policy refuses (403); with the server's message.
    #[error("not allowed: {0}")]
    Forbidden(String),
    /// The object violates the schema or a rule (422); with the server's message.
    #[error("refused as invalid: {0}")]
    Invalid(String),
    /// No response within the time limit. The request may have been applied.
    #[error("{what}: no answer within the time limit")]
    Timeout {
        /// The action and its object.
        what: String,
    },
    /// The server limits the rate of requests (429).
    #[error("the API server asks us to slow down")]
    TooManyRequests {
        /// The wait that the server asks for; `None` when it names none.
        retry_after: Option<Duration>,
    },
    /// The server cannot be reached or cannot serve (5xx); with the reason.
    #[error("the API server is unavailable: {0}")]
    Unavailable(String),
    /// Any other failure, such as a response that cannot be parsed or a failed login.
    #[error("{what}: {source}")]
    Other {
        /// The action and its object.
        what: String,
        /// kube's error.
        source: Box<kube::Error>,
    },
}

impl CallError {
    /// The value of the metric label `result` for this error; a closed set.
    pub fn result_label(&self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Forbidden(_) => "forbidden",
            Self::Invalid(_) => "invalid",
            Self::Timeout { .. } => "timeout",
            Self::TooManyRequests { .. } => "throttled",
            Self::Unavailable(_) => "unavailable",
            Self::Other { .. } => "error",
        }
    }

    /// Whether the same request may succeed a little later without any other change.
    ///
    /// Not after a conflict, which needs a new read and a new decision first. Not after a refusal either, although it ends
    /// when the RBAC is corrected; callers that must succeed in the end retry a refusal too, more slowly.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::TooManyRequests { .. } | Self::Unavailable(_) => true,
            Self::Conflict | Self::NotFound | Self::AlreadyExists => false,
            Self::Forbidden(_) | Self::Invalid(_) | Self::Other { .. } => false,
        }
    }

    /// Whether the API server refused the content of the request or the right to send it: the same request is refused
    /// again until a person changes something.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::NotFound | Self::Forbidden(_) | Self::Invalid(_) => true,
            Self::Other { source, .. } => matches!(&**source, kube::Error::Api(status) if status.code == 400),
            Self::Timeout { .. } | Self::TooManyRequests { .. } | Self::Unavailable(_) => false,
            Self::Conflict | Self::AlreadyExists => false,
        }
    }

    /// The wait that the server asked for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests { retry_after } => *retry_after,
            _ => None,
        }
    }

    /// Whether the request may have been applied: no definitive answer was received.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Unavailable(_) | Self::Other { .. } => true,
            Self::Conflict | Self::NotFound | Self::AlreadyExists | Self::TooManyRequests { .. } => false,
            Self::Forbidden(_) | Self::Invalid(_) => false,
        }
    }

    /// Classifies kube's error for the caller; `what` names the action and its object.
    pub fn classify(what: &str, error: kube::Error) -> Self {
        match error {
            // Also a 409, so it is checked before the conflict.
            kube::Error::Api(status) if status.is_already_exists() => Self::AlreadyExists,
            kube::Error::Api(status) if status.is_conflict() => Self::Conflict,
            kube::Error::Api(status) if status.is_not_found() => Self::NotFound,
            kube::Error::Api(status) if status.is_forbidden() => Self::Forbidden(status.message),
            kube::Error::Api(status) if status.is_invalid() => Self::Invalid(status.message),
            kube::Error::Api(status) if status.code == 429 => {
                let seconds = status.details.as_ref().map(|details| details.retry_after_seconds);
                let retry_after = seconds.filter(|seconds| *seconds > 0).map(|it| Duration::from_secs(it.into()));
                Self::TooManyRequests { retry_after }
            }
            kube::Error::Api(status) if status.code >= 500 => {
                Self::Unavailable(format!("{} ({})", status.message, status.code))
            }
            kube::Error::HyperError(source) => Self::Unavailable(chain(&source)),
            kube::Error::Service(source) => Self::Unavailable(chain(source.as_ref())),
            source => Self::Other { what: what.to_owned(), source: Box::new(source) },
        }
    }
}

/// The text of kube's error: the API server's own message where there is one, else the error with its causes.
pub fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => chain(other),
    }
}

/// An error with its causes; hyper's own message is only "client error (Connect)".
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some layers repeat the message of their cause.
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// Makes one call with a time limit; `what` names the action and its object in the error.
///
/// # Errors
/// [`CallError::Timeout`] when `limit` is over, and the call is abandoned; otherwise the server's error.
pub async fn within<T>(
    what: &str,
    limit: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map_err(|error| CallError::classify(what, error)),
        Err(_elapsed) => Err(CallError::Timeout { what: what.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn api(reason: &str, code: u16) -> kube::Error {
        kube::Error::Api(Status::failure("the server's words", reason).with_code(code).boxed())
    }

    #[test]
    fn every_answer_of_the_server_has_its_name() {
        for (reason, code, label, retryable) in [
            ("AlreadyExists", 409, "already_exists", false),
            ("Conflict", 409, "conflict", false),
            ("NotFound", 404, "not_found", false),
            ("Forbidden", 403, "forbidden", false),
            ("Invalid", 422, "invalid", false),
            ("TooManyRequests", 429, "throttled", true),
            ("InternalError", 500, "unavailable", true),
            ("ServiceUnavailable", 503, "unavailable", true),
            ("Timeout", 504, "unavailable", true),
            // A proxy in between knows no reasons.
            ("", 502, "unavailable", true),
            ("Unauthorized", 401, "error", false),
            ("BadRequest", 400, "error", false),
        ] {
            let error = CallError::classify("reading x", api(reason, code));
            assert_eq!((error.result_label(), error.is_retryable()), (label, retryable), "{reason} {code}");
        }
    }

    #[test]
    fn the_sentence_keeps_the_servers_words() {
        let error = CallError::classify("writing a/b", api("Forbidden", 403));
        assert_eq!(error.to_string(), "not allowed: the server's words");
        let error = CallError::classify("writing a/b", api("Unauthorized", 401));
        assert!(error.to_string().starts_with("writing a/b: "), "{error}");
        assert!(error.to_string().contains("the server's words"), "{error}");
    }

    #[test]
    fn an_unreachable_server_is_told_with_its_cause() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let outer = std::io::Error::other(refused);
        let error = CallError::classify("reading x", kube::Error::Service(Box::new(outer)));
        assert_eq!(error.to_string(), "the API server is unavailable: connection refused");
        assert!(error.is_retryable());
    }

    #[tokio::test]
    async fn a_call_that_hangs_is_abandoned_and_named() {
        let hangs = std::future::pending::<Result<(), kube::Error>>();
        let error = within("reading lease a/b", Duration::from_millis(5), hangs).await.unwrap_err();
        assert_eq!(error.to_string(), "reading lease a/b: no answer within the time limit");
        assert_eq!(error.result_label(), "timeout");
    }

    #[test]
    fn an_error_is_told_with_the_source_that_it_hides() {
        #[derive(Debug, thiserror::Error)]
        #[error("client error (Connect)")]
        struct Hyper(#[source] std::io::Error);
        let refused = Hyper(std::io::Error::other("connection refused"));
        let error = kube::Error::Service(Box::new(refused));
        assert_eq!(describe(&error), "ServiceError: client error (Connect): connection refused");
    }
}
