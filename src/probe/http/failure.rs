//! What went wrong in HTTP, in the words of the closed set.

use std::io::ErrorKind as Kind;

use hyper::Error;

use crate::api::{ErrorClass, Phase};
use crate::probe::trace::ProbeTrace;
use crate::probe::{Failure, Request, tls};

/// Fails before the head of an answer was read.
pub(super) fn before_the_head(error: &Error, request: &Request, way: &mut ProbeTrace) -> Failure {
    if let Some(failure) = of_tls(error, request, way) {
        return failure;
    }
    let first = way.answer.as_ref().map(|answer| answer.first()).unwrap_or_default();
    if first.is_empty() {
        return Failure::new(
            ErrorClass::Reset,
            Phase::FirstByte,
            "the connection ended before any byte of an answer came",
        );
    }
    way.enter_body();
    if error.is_parse_too_large() {
        return Failure::new(ErrorClass::BodyTooLarge, Phase::Body, "the head of the answer exceeds the limit");
    }
    let message = match first.as_slice() {
        [0x15, 3, ..] => "the port speaks TLS, and was asked in plain HTTP",
        [b'H', b'T', b'T', b'P', b'/', ..] if error.is_incomplete_message() => "the answer ended within its head",
        [b'H', b'T', b'T', b'P', b'/', ..] => "the head of the answer is no valid HTTP",
        _ => "what answers does not speak HTTP",
    };
    Failure::new(ErrorClass::NotHTTP, Phase::Body, message).with_detail(&first)
}

/// Fails in the body.
pub(super) fn in_the_body(error: &Error, request: &Request, way: &ProbeTrace) -> Failure {
    if let Some(failure) = of_tls(error, request, way) {
        return Failure { phase: Phase::Body, ..failure };
    }
    let bytes = way.seen.body_bytes;
    let malformed = |error: &std::io::Error| matches!(error.kind(), Kind::InvalidData | Kind::InvalidInput);
    if tls::in_chain(error).is_some_and(|error| !malformed(error)) || error.is_incomplete_message() || error.is_closed()
    {
        return way
            .fails(ErrorClass::Reset, format!("the connection ended within the body, after {bytes} bytes of it"));
    }
    way.fails(ErrorClass::NotHTTP, format!("the body is no valid HTTP after {bytes} bytes of it"))
}

/// TLS 1.3 tells of a missing client certificate only when the first answer is read: that is its handshake still.
fn of_tls(error: &Error, request: &Request, way: &ProbeTrace) -> Option<Failure> {
    if !request.target.scheme.is_tls() {
        return None;
    }
    let told = tls::in_chain::<rustls::Error>(error).is_some();
    let nothing = way.answer.as_ref().is_none_or(|answer| answer.received() == 0);
    // Or it just ends the connection: its alert may be lost in the reset.
    let ended = way.seen.client_certificate_wanted && nothing;
    (told || ended).then(|| tls::failure(error, way, &request.target.host))
}
