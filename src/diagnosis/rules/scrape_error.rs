//! Why a scrape failed, as Prometheus says it. Its quotes from the backend are never shown.

use jiff::SignedDuration;

use super::text::url;
use crate::diagnosis::evidence::{Evidence, ScrapeTarget};

mod words;

/// Why a scrape failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScrapeError {
    /// No answer in time; `true` if the connection itself timed out.
    Timeout(bool),
    /// The connection was made, and the TLS handshake did not end in time.
    HandshakeTimeout,
    /// The answer began and did not end in time: packets do flow.
    SlowBody,
    /// Connection refused: nothing listens there.
    Refused,
    /// No route to it.
    NoRoute,
    /// The connection was reset.
    Reset,
    /// The HTTP/2 connection or its stream was ended with an error.
    Http2,
    /// Its name does not exist.
    NoSuchHost,
    /// Its name cannot be resolved.
    Resolver,
    /// The certificate has expired.
    Expired,
    /// The certificate's authority is not known.
    UnknownAuthority,
    /// The certificate is refused for this property.
    UnfitCertificate(Unfit),
    /// The certificate is for another name.
    WrongName,
    /// The server has no certificate for the name that Prometheus sends.
    UnrecognizedName,
    /// It wants a client certificate.
    ClientCertificate,
    /// It refuses the client certificate that Prometheus shows.
    ClientCertificateRefused,
    /// TLS versions or ciphers cannot be agreed upon; `true` if the versions are the reason.
    Handshake(bool),
    /// One side speaks TLS, the other does not.
    Scheme,
    /// It redirects to another host or port, and that fails; `true` if it is probably a login page.
    Redirected(bool),
    /// It redirects in a circle.
    RedirectLoop,
    /// The status of the answer.
    Status(u16),
    /// The head of the answer, or the chunks of its body, break the rules of HTTP.
    BadHead,
    /// The content type is not one of a metrics page.
    ContentType,
    /// A limit of the scrape configuration.
    Limit(Limit),
    /// The page cannot be parsed.
    Malformed,
    /// The page is compressed with a coding that Prometheus does not read.
    Compressed,
    /// The page ends in the middle.
    CutOff,
    /// Prometheus fails before it reaches the backend.
    Own(OwnFault),
    /// Something else.
    Other,
}

/// A property for which a certificate is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It is signed with SHA-1 or MD5.
    Signature,
    /// It is not for servers (extended key usage).
    KeyUsage,
    /// It has no subjectAltName.
    NoAlternativeName,
    /// Another property.
    Other,
}

/// A limit of the scrape configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// `body_size_limit`.
    Body,
    /// `sample_limit`, or the limit of a histogram's buckets.
    Samples,
    /// `label_limit`, `label_name_length_limit` or `label_value_length_limit`.
    Labels,
    /// `target_limit`: the targets of the job, whatever their pages are like.
    Targets,
}

/// What fails at Prometheus itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnFault {
    /// The name of its proxy cannot be resolved, or the proxy cannot be reached.
    ProxyUnreachable,
    /// Its proxy answers and does not let it through.
    ProxyRefuses,
    /// It has too many open files.
    OpenFiles,
    /// Its host forbids the connection.
    Forbidden,
    /// Its host has no free source address or port for the connection.
    NoSourceAddress,
    /// Its host has no memory for the connection.
    Memory,
    /// A file of credentials or certificates cannot be read.
    CredentialFile,
    /// Its token service does not give it a token.
    OAuth2,
    /// It ended the scrape itself.
    Cancelled,
}

impl ScrapeError {
    /// Text for messages.
    pub(super) fn text(self) -> String {
        let said = match self {
            Self::Timeout(true) => "i/o timeout while it connects",
            Self::Timeout(false) => "context deadline exceeded",
            Self::HandshakeTimeout => "TLS handshake timeout",
            Self::SlowBody => "the page does not end in time",
            Self::Refused => "connection refused",
            Self::NoRoute => "no route to host",
            Self::Reset => "the connection was reset",
            Self::Http2 => "the HTTP/2 connection was ended with an error",
            Self::NoSuchHost => "no such host",
            Self::Resolver => "its resolver fails",
            Self::Expired => "the certificate has expired",
            Self::UnknownAuthority => "the certificate's authority is not known to it",
            Self::UnfitCertificate(Unfit::Signature) => "the certificate is signed with SHA-1 or MD5",
            Self::UnfitCertificate(Unfit::KeyUsage) => "the certificate is not one for servers",
            Self::UnfitCertificate(Unfit::NoAlternativeName) => "the certificate has no subjectAltName",
            Self::UnfitCertificate(Unfit::Other) => "it refuses the certificate",
            Self::WrongName => "the certificate is for another name",
            Self::UnrecognizedName => "the server has no certificate for this name",
            Self::ClientCertificate => "a client certificate is wanted",
            Self::ClientCertificateRefused => "its client certificate is refused",
            Self::Handshake(true) => "the two sides have no TLS version in common",
            Self::Handshake(false) => "the server ends the TLS handshake",
            Self::Scheme => "one side speaks TLS, the other does not, or it is no HTTP",
            Self::Redirected(_) => "it redirects to another host, and that fails",
            Self::RedirectLoop => "it redirects in a circle",
            Self::Status(status) => return format!("HTTP status {status}"),
            Self::BadHead => "the answer breaks the rules of HTTP",
            Self::ContentType => "unsupported content type",
            Self::Limit(Limit::Body) => "body_size_limit is exceeded",
            Self::Limit(Limit::Samples) => "sample_limit is exceeded",
            Self::Limit(Limit::Labels) => "a limit of labels is exceeded",
            Self::Limit(Limit::Targets) => "target_limit of its job is exceeded",
            Self::Malformed => "the page cannot be parsed",
            Self::Compressed => "the page is compressed in a way that it cannot read",
            Self::CutOff => "the page ends in the middle",
            Self::Own(fault) => fault.text(),
            Self::Other => "an error that is not known here",
        };
        said.to_owned()
    }

    /// Classifies an error without the target that it is about.
    #[cfg(test)]
    pub(super) fn of(error: &str) -> Self {
        words::classify(error, "")
    }

    /// Classifies the error of a target.
    pub(super) fn of_target(target: &ScrapeTarget) -> Self {
        words::classify(&target.last_error, &target.url)
    }
}

impl OwnFault {
    fn text(self) -> &'static str {
        match self {
            Self::ProxyUnreachable => "its proxy cannot be reached",
            Self::ProxyRefuses => "its proxy does not let it through",
            Self::OpenFiles => "it has too many open files",
            Self::Forbidden => "its own host forbids the connection",
            Self::NoSourceAddress => "its own host has no free source address or port",
            Self::Memory => "its own host has no memory for the connection",
            Self::CredentialFile => "it cannot read a file of its credentials or certificates",
            Self::OAuth2 => "its token service gives it no token",
            Self::Cancelled => "it ended the scrape itself",
        }
    }
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
        .map(|target| (target, ScrapeError::of_target(target)))
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
