//! One call to the API server: how long it may take, and what can come of it.

use std::future::Future;
use std::time::Duration;

use thiserror::Error;

/// How long one call may take, watches excepted.
///
/// kube has no read timeout, so a call without a limit can hang for ever. 5 s is a hundred times what a healthy API
/// server needs, less than the 10 s we have after a SIGTERM, and less than the term of a leader.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call to the API server gave no answer that we can use.
#[derive(Debug, Error)]
pub enum CallError {
    /// The object was changed since it was read (409): read it again, then decide again.
    #[error("the object was changed by somebody else since it was read")]
    Conflict,
    /// There is no such object, or no such resource or namespace (404).
    #[error("no such object")]
    NotFound,
    /// An object of that name exists (409).
    #[error("an object of that name exists already")]
    AlreadyExists,
    /// RBAC or an admission policy refuses (403); in the server's words.
    #[error("not allowed: {0}")]
    Forbidden(String),
    /// The object breaks the schema or a rule (422); in the server's words.
    #[error("refused as invalid: {0}")]
    Invalid(String),
    /// No answer came in time. The server may have acted all the same.
    #[error("{what}: no answer within the time limit")]
    Timeout {
        /// What was being done, and to what.
        what: String,
    },
    /// The server asks us to slow down (429).
    #[error("the API server asks us to slow down")]
    TooManyRequests,
    /// The server cannot be reached or cannot serve (5xx); with the reason.
    #[error("the API server is unavailable: {0}")]
    Unavailable(String),
    /// Anything else, such as an answer that cannot be read or a login that failed.
    #[error("{what}: {source}")]
    Other {
        /// What was being done, and to what.
        what: String,
        /// What went wrong.
        source: Box<kube::Error>,
    },
}

impl CallError {
    /// What a failed call is called in metrics: a closed set.
    pub fn result_label(&self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Forbidden(_) => "forbidden",
            Self::Invalid(_) => "invalid",
            Self::Timeout { .. } => "timeout",
            Self::TooManyRequests => "throttled",
            Self::Unavailable(_) => "unavailable",
            Self::Other { .. } => "error",
        }
    }

    /// Whether the same request, sent again a little later, may succeed without anybody changing anything.
    ///
    /// A conflict is not: it needs a new read and a new decision first. Neither is a refusal, although it ends when
    /// somebody mends the RBAC; who must get through in the end tries that again too, only more slowly.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::TooManyRequests | Self::Unavailable(_) => true,
            Self::Conflict | Self::NotFound | Self::AlreadyExists => false,
            Self::Forbidden(_) | Self::Invalid(_) | Self::Other { .. } => false,
        }
    }

    /// Whether the server may have done what it was asked for all the same: it did not say that it has not.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Unavailable(_) | Self::Other { .. } => true,
            Self::Conflict | Self::NotFound | Self::AlreadyExists | Self::TooManyRequests => false,
            Self::Forbidden(_) | Self::Invalid(_) => false,
        }
    }

    /// Names what kube's error means for the one who called; `what` says what was being done, and to what.
    pub fn classify(what: &str, error: kube::Error) -> Self {
        match error {
            // 409 as well, so it is asked for before the conflict.
            kube::Error::Api(status) if status.is_already_exists() => Self::AlreadyExists,
            kube::Error::Api(status) if status.is_conflict() => Self::Conflict,
            kube::Error::Api(status) if status.is_not_found() => Self::NotFound,
            kube::Error::Api(status) if status.is_forbidden() => Self::Forbidden(status.message),
            kube::Error::Api(status) if status.is_invalid() => Self::Invalid(status.message),
            kube::Error::Api(status) if status.code == 429 => Self::TooManyRequests,
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

/// An error with its causes: hyper's own sentence is only "client error (Connect)".
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some layers repeat what lies below them.
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// Makes one call with a limit; `what` says what is being done, and to what, for the error's sentence.
///
/// # Errors
/// [`CallError::Timeout`] when `limit` is over, the call being abandoned; otherwise what the server said.
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
