//! Classifies Prometheus' scrape errors. Their quotes from the backend are never shown.

use jiff::SignedDuration;

use super::text::url;
use crate::diagnosis::evidence::{Evidence, ScrapeTarget};

/// Why a scrape failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScrapeError {
    /// No answer in time; `true` if the connection itself timed out.
    Timeout(bool),
    /// The answer began and did not end in time: packets do flow.
    SlowBody,
    /// Connection refused: nothing listens there.
    Refused,
    /// No route to it.
    NoRoute,
    /// The connection was reset.
    Reset,
    /// Its name does not exist.
    NoSuchHost,
    /// Its name cannot be resolved.
    Resolver,
    /// The certificate has expired.
    Expired,
    /// The certificate's authority is not known.
    UnknownAuthority,
    /// The certificate is for another name.
    WrongName,
    /// It wants a client certificate.
    ClientCertificate,
    /// One side speaks TLS, the other does not.
    Scheme,
    /// The status of the answer.
    Status(u16),
    /// The content type is not one of a metrics page.
    ContentType,
    /// A limit of the page's size, its samples or its labels.
    TooLarge,
    /// The page cannot be parsed.
    Malformed,
    /// Something else.
    Other,
}

/// Errors of Prometheus' parsers (model/textparse), and of its reader for a truncated page.
const BROKEN: [&str; 9] = [
    "expected ",
    "is not a valid start token",
    "invalid UTF-8",
    "strconv.",
    "# EOF",
    "unsupported character",
    "parse",
    "gzip: ",
    "EOF",
];

impl ScrapeError {
    /// Text for messages.
    pub(super) fn text(self) -> String {
        let said = match self {
            Self::Timeout(true) => "i/o timeout while it connects",
            Self::Timeout(false) => "context deadline exceeded",
            Self::SlowBody => "the page does not end in time",
            Self::Refused => "connection refused",
            Self::NoRoute => "no route to host",
            Self::Reset => "the connection was reset",
            Self::NoSuchHost => "no such host",
            Self::Resolver => "its resolver fails",
            Self::Expired => "the certificate has expired",
            Self::UnknownAuthority => "the certificate's authority is not known to it",
            Self::WrongName => "the certificate is for another name",
            Self::ClientCertificate => "a client certificate is wanted",
            Self::Scheme => "one side speaks TLS, the other does not, or it is no HTTP",
            Self::Status(status) => return format!("HTTP status {status}"),
            Self::ContentType => "unsupported content type",
            Self::TooLarge => "a limit is exceeded",
            Self::Malformed => "the page cannot be parsed",
            Self::Other => "an error that is not known here",
        };
        said.to_owned()
    }

    /// Classifies `lastError` (Prometheus 2.42 to 3: scrape/scrape.go, Go's net and crypto/x509).
    ///
    /// Go's own error text is at the end; text before it may come from the backend. So such patterns are matched at the
    /// end only.
    pub(super) fn of(error: &str) -> Self {
        let error = error.trim();
        let has = |words: &[&str]| words.iter().any(|word| error.contains(word));
        let ends = |words: &[&str]| words.iter().any(|word| error.ends_with(word));
        if let Some(status) = status(error) {
            return Self::Status(status);
        }
        // An error without the request in front is about the body: the answer had begun.
        if !error.starts_with("Get ") {
            return Self::of_body(error);
        }
        // A resolver that does not answer is also an i/o timeout.
        if ends(&["no such host"]) {
            return Self::NoSuchHost;
        }
        if has(&["dial tcp: lookup "]) || ends(&["server misbehaving"]) {
            return Self::Resolver;
        }
        if let Some(tls) = Self::tls(&has) {
            return tls;
        }
        if ends(&["connection refused"]) {
            Self::Refused
        } else if ends(&["no route to host", "network is unreachable", "host is unreachable"]) {
            Self::NoRoute
        } else if has(&["dial tcp"]) && ends(&["i/o timeout", "connection timed out"]) {
            Self::Timeout(true)
        } else if has(&["context deadline exceeded", "awaiting response headers", "Client.Timeout"])
            || ends(&["i/o timeout"])
        {
            Self::Timeout(false)
        } else if ends(&["connection reset by peer", "EOF", "broken pipe"]) {
            Self::Reset
        } else {
            Self::Other
        }
    }

    fn of_body(error: &str) -> Self {
        let has = |words: &[&str]| words.iter().any(|word| error.contains(word));
        if has(&["Content-Type"]) {
            Self::ContentType
        } else if has(&["limit exceeded", "label_limit", "label_name_length_limit", "label_value_length_limit"]) {
            Self::TooLarge
        } else if has(&["context deadline exceeded", "i/o timeout", "Client.Timeout"]) {
            Self::SlowBody
        } else if has(&BROKEN) {
            Self::Malformed
        } else {
            Self::Other
        }
    }

    fn tls(has: &dyn Fn(&[&str]) -> bool) -> Option<Self> {
        Some(if has(&["gave HTTP response to HTTPS client", "malformed HTTP", "does not look like a TLS handshake"]) {
            Self::Scheme
        } else if has(&["certificate required", "tls: bad certificate"]) {
            Self::ClientCertificate
        } else if has(&["certificate has expired"]) {
            Self::Expired
        } else if has(&["unknown authority", "certificate is not trusted"]) {
            Self::UnknownAuthority
        } else if has(&["certificate is valid for", "doesn't contain any IP SANs", "not valid for any names"]) {
            Self::WrongName
        } else {
            return None;
        })
    }
}

fn status(error: &str) -> Option<u16> {
    let rest = error.strip_prefix("server returned HTTP status ")?;
    rest.get(..3)?.parse().ok()
}

/// Whether the last scrape of this target is older than two of its intervals.
pub(super) fn is_stale(e: &Evidence, target: &ScrapeTarget) -> bool {
    let asked = e.prometheus.found().and_then(|prometheus| prometheus.asked_at).unwrap_or(e.gathered_at);
    let interval = i64::try_from(target.interval_milliseconds).unwrap_or(i64::MAX);
    let limit = SignedDuration::from_millis(interval.saturating_mul(2));
    interval > 0 && target.last_scrape.is_some_and(|last| asked.duration_since(last) > limit)
}

/// The targets that fail now, with the error. Stale targets are left out.
pub(super) fn failing(e: &Evidence) -> Vec<(&ScrapeTarget, ScrapeError)> {
    let targets = e.prometheus.found().into_iter().flat_map(|prometheus| &prometheus.targets);
    targets
        .filter(|target| target.health == "down" && !is_stale(e, target))
        .map(|target| (target, ScrapeError::of(&target.last_error)))
        .collect()
}

/// The first failing target with a matching error.
pub(super) fn failing_with(e: &Evidence, holds: impl Fn(ScrapeError) -> bool) -> Option<(&ScrapeTarget, ScrapeError)> {
    failing(e).into_iter().find(|(_, why)| holds(*why))
}

/// Prometheus' view of a target, as a fact.
pub(super) fn scrape_fact(target: &ScrapeTarget, why: ScrapeError) -> String {
    format!("Prometheus: {} is {}: {}", url(&target.url), super::text::value(&target.health), why.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_prometheus_become_facts() {
        let get = "Get \"http://10.0.0.1:8081/actuator/prometheus\": ";
        let cases = [
            ("context deadline exceeded", ScrapeError::Timeout(false)),
            ("dial tcp 10.0.0.1:8081: i/o timeout", ScrapeError::Timeout(true)),
            ("dial tcp 10.0.0.1:8081: connect: connection refused", ScrapeError::Refused),
            ("dial tcp 10.0.0.1:8081: connect: no route to host", ScrapeError::NoRoute),
            ("read tcp 10.0.0.2:1->10.0.0.1:8081: read: connection reset by peer", ScrapeError::Reset),
            ("EOF", ScrapeError::Reset),
            ("dial tcp: lookup web on 10.96.0.10:53: no such host", ScrapeError::NoSuchHost),
            ("dial tcp: lookup web on 10.96.0.10:53: read udp: i/o timeout", ScrapeError::Resolver),
            ("dial tcp: lookup web on 10.96.0.10:53: server misbehaving", ScrapeError::Resolver),
            ("x509: certificate has expired or is not yet valid: current time …", ScrapeError::Expired),
            (
                "tls: failed to verify certificate: x509: certificate signed by unknown authority",
                ScrapeError::UnknownAuthority,
            ),
            ("x509: certificate is valid for a.example.com, not b.example.com", ScrapeError::WrongName),
            (
                "x509: cannot validate certificate for 10.0.0.1 because it doesn't contain any IP SANs",
                ScrapeError::WrongName,
            ),
            ("remote error: tls: certificate required", ScrapeError::ClientCertificate),
            ("http: server gave HTTP response to HTTPS client", ScrapeError::Scheme),
            (
                "net/http: HTTP/1.x transport connection broken: malformed HTTP response \"\\x15\\x03\"",
                ScrapeError::Scheme,
            ),
        ];
        for (error, fact) in cases {
            assert_eq!(ScrapeError::of(&format!("{get}{error}")), fact, "{error}");
        }
        for (error, fact) in [
            ("server returned HTTP status 404 Not Found", ScrapeError::Status(404)),
            ("server returned HTTP status 503 ", ScrapeError::Status(503)),
            ("received unsupported Content-Type \"text/html\"", ScrapeError::ContentType),
            ("non-compliant scrape target sending blank Content-Type and no fallback", ScrapeError::ContentType),
            ("body size limit exceeded", ScrapeError::TooLarge),
            ("sample limit exceeded", ScrapeError::TooLarge),
            ("expected value after metric, got \"x\" (\"INVALID\") while parsing: \"x y\"", ScrapeError::Malformed),
            ("\"INVALID\" is not a valid start token", ScrapeError::Malformed),
            ("data does not end with # EOF", ScrapeError::Malformed),
            ("something new", ScrapeError::Other),
        ] {
            assert_eq!(ScrapeError::of(error), fact, "{error}");
        }
    }

    #[test]
    fn what_a_backend_writes_into_its_status_line_is_not_taken_for_prometheus_words() {
        assert_eq!(ScrapeError::of("server returned HTTP status 500 connection refused"), ScrapeError::Status(500));
    }
}
