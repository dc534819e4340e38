//! Classifies `lastError` (Prometheus 2.42 to 3: scrape/scrape.go, model/textparse, Go's net, net/http and crypto; and
//! the texts of VictoriaMetrics' vmagent).
//!
//! Words before numbers, and the request before its error: the URL in `Get "URL": …` is the one that failed. It is another
//! host's after a redirect. Go's own error text is at the end; text before it may come from the backend, so such patterns
//! are matched at the end only.

use super::{Limit, OwnFault, ScrapeError, Unfit};
use crate::diagnosis::rules::queries::{path_of, port_of};

/// Texts before the URL of a failed request.
const REQUEST: [&str; 4] = ["Get ", "error when scraping ", "cannot scrape target ", "cannot perform request to "];

/// Errors of Prometheus' parsers (model/textparse), and of its reader for a truncated page.
const BROKEN: [&str; 20] = [
    "expected ",
    "is not a valid start token",
    "invalid UTF-8",
    "utf8",
    "strconv.",
    "# EOF",
    "unsupported character",
    "parse",
    "EOF",
    "invalid sample",
    "invalid metric",
    "invalid label",
    "invalid timestamp",
    "invalid exemplar",
    "not a suffix of metric",
    "metric name",
    "is not unique",
    "duplicate",
    "help text",
    "exemplar",
];

/// Statuses of a proxy that refuses CONNECT: Go's error is their text alone.
const PROXY_STATUS: [&str; 9] = [
    "Proxy Authentication Required",
    "Forbidden",
    "Unauthorized",
    "Bad Gateway",
    "Service Unavailable",
    "Gateway Timeout",
    "Gateway Time-out",
    "Method Not Allowed",
    "Host Unreachable",
];

/// Classifies `error`, which the scrape of `target` ended with.
pub(super) fn classify(error: &str, target: &str) -> ScrapeError {
    let error = error.trim();
    if let Some(status) = status(error) {
        return ScrapeError::Status(status);
    }
    // An error without the request in front is about the body: the answer had begun.
    let Some((url, rest)) = request(error) else { return of_body(error) };
    // vmagent quotes the error of Go's client, which begins with the request once more.
    if rest.starts_with("Get ") && request(rest).is_some() {
        return classify(rest, target);
    }
    if rest.contains("stopped after ") && rest.ends_with(" redirects") {
        return ScrapeError::RedirectLoop;
    }
    if let Some(own) = own_fault(rest) {
        return ScrapeError::Own(own);
    }
    if is_elsewhere(url, target) {
        return ScrapeError::Redirected(is_login(url));
    }
    of_connection(rest)
}

fn status(error: &str) -> Option<u16> {
    let digits = error.strip_prefix("server returned HTTP status ").or_else(|| {
        let rest = error.strip_prefix("unexpected status code returned when scraping \"")?;
        Some(rest.split_once("\": ")?.1)
    })?;
    digits.get(..3)?.parse().ok()
}

/// The URL of the failed request, and its error. Go before 1.14 does not quote the URL.
fn request(error: &str) -> Option<(&str, &str)> {
    let rest = REQUEST.iter().find_map(|before| error.strip_prefix(before))?;
    match rest.strip_prefix('"') {
        Some(quoted) => {
            let (url, rest) = quoted.split_once('"')?;
            Some((url, rest.split_once(": ")?.1))
        }
        None => rest.split_once(": "),
    }
}

/// A failure before any packet to the backend.
fn own_fault(rest: &str) -> Option<OwnFault> {
    let begins = |words: &[&str]| words.iter().any(|word| rest.starts_with(word));
    let ends = |words: &[&str]| words.iter().any(|word| rest.trim_end_matches('.').ends_with(word));
    if begins(&["proxyconnect ", "socks connect "]) {
        // An answer of the proxy, in contrast to a failure to reach it.
        let answers = ends(&PROXY_STATUS) || rest.contains("unknown error") || rest.contains("authentication failed");
        return Some(if answers { OwnFault::ProxyRefuses } else { OwnFault::ProxyUnreachable });
    }
    if PROXY_STATUS.contains(&rest) {
        return Some(OwnFault::ProxyRefuses);
    }
    // A token is asked for with POST, a page is not.
    if begins(&["oauth2: ", "Post "]) || rest.contains("unable to read oauth2") {
        return Some(OwnFault::OAuth2);
    }
    let file = ["unable to read ", "unable to load ", "unable to use specified ", "unable to parse ", "error reading "];
    if begins(&file) || begins(&["open /", "read /", "stat /", "tls: failed to find any PEM data"]) {
        return Some(OwnFault::CredentialFile);
    }
    if rest == "context canceled" {
        return Some(OwnFault::Cancelled);
    }
    if !begins(&["dial "]) {
        return None;
    }
    if ends(&["too many open files", "too many open files in system"]) {
        Some(OwnFault::OpenFiles)
    } else if ends(&["operation not permitted", "permission denied", "forbidden by its access permissions"]) {
        Some(OwnFault::Forbidden)
    } else if ends(&[
        "cannot assign requested address",
        "can't assign requested address",
        "address family not supported by protocol",
        "address already in use",
        "is normally permitted",
        "requested address is not valid in its context",
        "no suitable address found",
        "no suitable address",
    ]) {
        Some(OwnFault::NoSourceAddress)
    } else if ends(&["no buffer space available", "cannot allocate memory", "because a queue was full"]) {
        Some(OwnFault::Memory)
    } else {
        None
    }
}

/// Whether the URL is at another host or port than the target. A redirect may be relative: then it is the same host's.
fn is_elsewhere(url: &str, target: &str) -> bool {
    match (place(url), place(target)) {
        (Some(url), Some(target)) => url != target,
        _ => false,
    }
}

/// Host in lower case, and port.
fn place(url: &str) -> Option<(String, u16)> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?.to_lowercase();
    let end = authority.rfind(':').filter(|at| !authority[*at..].contains(']')).unwrap_or(authority.len());
    Some((authority[..end].to_owned(), port_of(url)?))
}

fn is_login(url: &str) -> bool {
    let host = place(url).map(|(host, _)| host).unwrap_or_default();
    let path = path_of(url).to_lowercase();
    let words = ["login", "signin", "sign-in", "sso", "auth", "saml", "oidc", "idp", "keycloak", "accounts"];
    words.iter().any(|word| path.contains(word) || host.split(['.', '-']).any(|part| part == *word))
}

fn of_connection(rest: &str) -> ScrapeError {
    let bare = rest.trim_end_matches('.');
    let has = |words: &[&str]| words.iter().any(|word| rest.contains(word));
    let ends = |words: &[&str]| words.iter().any(|word| bare.ends_with(word));
    // A resolver that does not answer is also an i/o timeout.
    if ends(&["no such host", "No such host is known", "no address associated with hostname"]) {
        return ScrapeError::NoSuchHost;
    }
    if rest.starts_with("dial ") && has(&[": lookup "]) || ends(&["server misbehaving"]) {
        return ScrapeError::Resolver;
    }
    if let Some(tls) = of_tls(rest) {
        return tls;
    }
    if has(&["http2: ", "stream error: "]) && !has(&["http2: timeout"]) {
        return ScrapeError::Http2;
    }
    if has(&["transport connection broken", "server response headers exceeded", "malformed HTTP"]) {
        return ScrapeError::BadHead;
    }
    of_socket(rest)
}

/// Whether no connection was opened in time; the last words are those of vmagent.
fn is_connect_timeout(rest: &str) -> bool {
    const DIALLED: [&str; 4] =
        ["i/o timeout", "connection timed out", "operation timed out", "connected host has failed to respond"];
    let bare = rest.trim_end_matches('.');
    let is_dialled = rest.starts_with("dial ") && DIALLED.iter().any(|word| bare.ends_with(word));
    is_dialled || bare.ends_with("dialing to the given TCP address timed out")
}

/// The errors of Linux, and those of Windows in parentheses of Go's `connectex` and `wsarecv`.
fn of_socket(rest: &str) -> ScrapeError {
    let bare = rest.trim_end_matches('.');
    let has = |words: &[&str]| words.iter().any(|word| rest.contains(word));
    let ends = |words: &[&str]| words.iter().any(|word| bare.ends_with(word));
    if ends(&["while reading body)"]) {
        ScrapeError::SlowBody
    } else if ends(&["connection refused", "actively refused it"]) {
        ScrapeError::Refused
    } else if ends(&[
        "no route to host",
        "network is unreachable",
        "host is unreachable",
        "host is down",
        "network is down",
        "to an unreachable network",
        "to an unreachable host",
    ]) {
        ScrapeError::NoRoute
    } else if is_connect_timeout(rest) {
        ScrapeError::Timeout(true)
    } else if has(&["context deadline exceeded", "awaiting response headers", "Client.Timeout", "http2: timeout"])
        || ends(&["i/o timeout", "connection timed out", "connected host has failed to respond"])
    {
        ScrapeError::Timeout(false)
    } else if ends(&[
        "connection reset by peer",
        "EOF",
        "broken pipe",
        "forcibly closed by the remote host",
        "aborted by the software in your host machine",
        "server closed idle connection",
        "use of closed network connection",
    ]) {
        ScrapeError::Reset
    } else {
        ScrapeError::Other
    }
}

fn of_tls(rest: &str) -> Option<ScrapeError> {
    let has = |words: &[&str]| words.iter().any(|word| rest.contains(word));
    // An alert or a handshake of TLS in answer to plain HTTP; Go quotes the first bytes.
    let speaks_tls = has(&["malformed HTTP response \"\\x15\\x03", "malformed HTTP response \"\\x16\\x03"]);
    if speaks_tls || has(&["gave HTTP response to HTTPS client", "does not look like a TLS handshake"]) {
        return Some(ScrapeError::Scheme);
    }
    if has(&["TLS handshake timeout"]) {
        return Some(ScrapeError::HandshakeTimeout);
    }
    match rest.split_once("remote error: tls: ") {
        Some((_, alert)) => of_alert(alert),
        None => of_certificate(rest),
    }
}

/// An alert of the server (RFC 8446, section 6; the texts of Go's crypto/tls).
fn of_alert(alert: &str) -> Option<ScrapeError> {
    Some(match alert.trim_end_matches('.') {
        "certificate required" | "bad certificate" => ScrapeError::ClientCertificate,
        "unknown certificate authority"
        | "unknown certificate"
        | "expired certificate"
        | "revoked certificate"
        | "unsupported certificate"
        | "access denied"
        | "error decrypting message" => ScrapeError::ClientCertificateRefused,
        "unrecognized name" => ScrapeError::UnrecognizedName,
        "protocol version not supported" => ScrapeError::Handshake(true),
        _ => ScrapeError::Handshake(false),
    })
}

/// The reason for which Prometheus itself ends the handshake.
fn of_certificate(rest: &str) -> Option<ScrapeError> {
    let has = |words: &[&str]| words.iter().any(|word| rest.contains(word));
    Some(if has(&["unsupported protocol version", "no supported versions"]) {
        ScrapeError::Handshake(true)
    } else if has(&["insecure algorithm"]) {
        ScrapeError::UnfitCertificate(Unfit::Signature)
    } else if has(&["incompatible key usage"]) {
        ScrapeError::UnfitCertificate(Unfit::KeyUsage)
    } else if has(&["legacy Common Name"]) {
        ScrapeError::UnfitCertificate(Unfit::NoAlternativeName)
    } else if has(&["certificate has expired"]) {
        ScrapeError::Expired
    } else if has(&["unknown authority", "certificate is not trusted"]) {
        ScrapeError::UnknownAuthority
    } else if has(&["certificate is valid for", "doesn't contain any IP SANs", "not valid for any names"]) {
        ScrapeError::WrongName
    } else if has(&["x509: "]) {
        ScrapeError::UnfitCertificate(Unfit::Other)
    } else if rest.starts_with("tls: ") || rest.starts_with("local error: tls: ") {
        ScrapeError::Handshake(false)
    } else {
        return None;
    })
}

fn limit(error: &str) -> Option<Limit> {
    let has = |words: &[&str]| words.iter().any(|word| error.contains(word));
    Some(if has(&["target_limit exceeded"]) {
        Limit::Targets
    } else if has(&["body size limit exceeded", "maxScrapeSize"]) {
        Limit::Body
    } else if has(&["label_limit", "label_name_length_limit", "label_value_length_limit"]) {
        Limit::Labels
    } else if has(&["limit exceeded", "sample_limit"]) {
        Limit::Samples
    } else {
        return None;
    })
}

fn of_body(error: &str) -> ScrapeError {
    let has = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if has(&["Content-Type"]) {
        ScrapeError::ContentType
    } else if let Some(limit) = limit(error) {
        ScrapeError::Limit(limit)
    } else if has(&["context deadline exceeded", "i/o timeout", "Client.Timeout"]) {
        ScrapeError::SlowBody
    } else if error.ends_with("unexpected EOF") || error.ends_with("connection reset by peer") {
        ScrapeError::CutOff
    } else if has(&["stream error: ", "http2: "]) {
        ScrapeError::Http2
    } else if is_compressed(error) {
        ScrapeError::Compressed
    } else if has(&["chunked ", "chunk length"]) {
        ScrapeError::BadHead
    } else if has(&BROKEN) {
        ScrapeError::Malformed
    } else {
        ScrapeError::Other
    }
}

/// Whether Go cannot decompress the page, or it begins with the first byte of a compressed one: `(` of zstd, or that of
/// gzip, which is not decoded twice.
fn is_compressed(error: &str) -> bool {
    if ["gzip: invalid ", "flate: "].iter().any(|begin| error.starts_with(begin)) {
        return true;
    }
    ["(", "\\x1f"]
        .iter()
        .any(|first| error.starts_with(&format!("expected a valid start token, got \"{first}\" (\"INVALID\")")))
}

#[cfg(test)]
mod tests;
