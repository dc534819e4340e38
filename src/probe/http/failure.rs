//! Classifies errors of HTTP.

use std::io::ErrorKind as Kind;

use hyper::Error;

use crate::api::{ErrorClass, Phase};
use crate::probe::trace::ProbeTrace;
use crate::probe::{Failure, Limits, Request, tls};

/// The failure of an error before the head of an answer was read.
pub(super) fn before_the_head(error: &Error, request: &Request, limits: Limits, trace: &mut ProbeTrace) -> Failure {
    if let Some(failure) = of_tls(error, request, trace) {
        return failure;
    }
    let first = trace.answer.as_ref().map(|answer| answer.first()).unwrap_or_default();
    if first.is_empty() {
        return Failure::new(
            ErrorClass::Reset,
            Phase::FirstByte,
            "the connection ended before any byte of an answer came",
        );
    }
    trace.enter_body();
    if error.is_parse_too_large() {
        let message = format!(
            "the head of the answer has more than {} header lines, or more than {} bytes",
            limits.headers, limits.head_bytes
        );
        return Failure::new(ErrorClass::BodyTooLarge, Phase::Body, message);
    }
    let message = match first.as_slice() {
        [0x15, 3, ..] => "the port speaks TLS, and was asked in plain HTTP".to_owned(),
        // The length of a frame, then its type: a server of HTTP/2 begins with a settings frame.
        [0, _, _, 4, ..] => "the port speaks HTTP/2 alone, and was asked with HTTP/1.1".to_owned(),
        [b'H', b'T', b'T', b'P', b'/', ..] if error.is_incomplete_message() => {
            "the answer ended within its head".to_owned()
        }
        // The words of the parser, which quote no byte of the answer.
        [b'H', b'T', b'T', b'P', b'/', ..] => format!("the head of the answer is no valid HTTP: {error}"),
        _ => "what answers does not speak HTTP".to_owned(),
    };
    Failure::new(ErrorClass::NotHTTP, Phase::Body, message).with_detail(&first)
}

/// The failure of an error in the body.
pub(super) fn in_the_body(error: &Error, request: &Request, trace: &ProbeTrace) -> Failure {
    if let Some(failure) = of_tls(error, request, trace) {
        return Failure { phase: Phase::Body, ..failure };
    }
    let bytes = trace.seen.body_bytes;
    let malformed = |error: &std::io::Error| matches!(error.kind(), Kind::InvalidData | Kind::InvalidInput);
    if tls::in_chain(error).is_some_and(|error| !malformed(error)) || error.is_incomplete_message() || error.is_closed()
    {
        return trace
            .failure(ErrorClass::Reset, format!("the connection ended within the body, after {bytes} bytes of it"));
    }
    trace.failure(ErrorClass::NotHTTP, format!("the body is no valid HTTP after {bytes} bytes of it"))
}

/// The failure of TLS, if the error is one. TLS 1.3 reports a missing client certificate only when the first answer is
/// read; that still belongs to the handshake.
fn of_tls(error: &Error, request: &Request, trace: &ProbeTrace) -> Option<Failure> {
    if !request.target.scheme.is_tls() {
        return None;
    }
    let has_tls_error = tls::in_chain::<rustls::Error>(error).is_some();
    let nothing = trace.answer.as_ref().is_none_or(|answer| answer.total() == 0);
    // Or the server just ends the connection: its alert may be lost in the reset.
    let ended = trace.seen.client_certificate_wanted && nothing;
    (has_tls_error || ended).then(|| tls::failure(error, trace, &request.target.host))
}
