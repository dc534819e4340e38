//! Classifies errors of TLS.

use std::error::Error as StdError;
use std::io;

use jiff::Timestamp;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError};

use crate::api::{ErrorClass, Phase};
use crate::probe::literal;
use crate::probe::outcome::Failure;
use crate::probe::trace::ProbeTrace;

/// The first error of type `E` among `error` and its sources. Also examines the error inside an [`io::Error`], which
/// `source` skips.
pub(in crate::probe) fn in_chain<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let held = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        next = match held {
            Some(held) => Some(held as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

/// The failure of `error`, on a connection that was to be verified as `name`.
pub(in crate::probe) fn failure(error: &(dyn StdError + 'static), trace: &ProbeTrace, name: &str) -> Failure {
    let fails = |class, message: String| Failure::new(class, Phase::TLS, message);
    let received = trace.wire.as_ref().map_or(0, |wire| wire.total());
    let wanted = trace.seen.client_certificate_wanted;
    let first = trace.wire.as_ref().map(|wire| wire.first()).unwrap_or_default();
    match in_chain::<Error>(error) {
        Some(Error::InvalidCertificate(why)) => of_certificate(why, trace, name),
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) | Some(Error::InvalidMessage(_))
            if !is_tls(&first) =>
        {
            let what = if first.starts_with(b"HTTP/") { "it answers in plain HTTP" } else { "what it says is no TLS" };
            fails(ErrorClass::NotTLS, format!("the port does not speak TLS: {what}")).with_detail(&first)
        }
        Some(Error::AlertReceived(alert)) => of_alert(*alert, wanted, name),
        Some(error) => fails(ErrorClass::TLSHandshake, format!("TLS failed: {}", description(error))),
        None if wanted => fails(
            ErrorClass::TLSHandshake,
            "it asked for a client certificate, got none, and ended the connection".to_owned(),
        ),
        None if received == 0 => {
            fails(ErrorClass::Reset, "the connection ended before any byte of TLS came".to_owned())
        }
        None => fails(ErrorClass::TLSHandshake, "the connection ended while TLS was being set up".to_owned()),
    }
}

/// Whether `first` begins a TLS record: its type, and a version of 3.
fn is_tls(first: &[u8]) -> bool {
    matches!(first, [20..=24, 3, ..] | [20..=24] | [])
}

fn of_certificate(why: &CertificateError, trace: &ProbeTrace, name: &str) -> Failure {
    let fault = trace.handshake.as_ref().and_then(|handshake| handshake.lock().fault.clone());
    if let Some(fault) = fault.filter(|_| may_follow_from_a_fault(why)) {
        return Failure::new(ErrorClass::TLSHandshake, Phase::TLS, format!("its certificate{fault}"));
    }
    if let CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } = why {
        return of_name(why, name);
    }
    let (class, message) = class_and_message(why, trace.seen.certificate_expires);
    Failure::new(class, Phase::TLS, message)
}

/// Whether webpki reports a fault of the certificates like this: the signature of a short key is a wrong one, and a
/// certificate of version 1 an unreadable one.
fn may_follow_from_a_fault(why: &CertificateError) -> bool {
    use CertificateError as E;
    matches!(
        why,
        E::BadSignature
            | E::BadEncoding
            | E::Other(_)
            | E::UnsupportedSignatureAlgorithmContext { .. }
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
    )
}

/// The failure of a certificate for another name. The names in it come from the far side, so they go into the detail.
fn of_name(why: &CertificateError, name: &str) -> Failure {
    let fails = |message: String| Failure::new(ErrorClass::TLSNameMismatch, Phase::TLS, message);
    match why {
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => fails(format!(
            "its certificate is not for {name}: it names no host in subjectAltName, and its common name does not count"
        )),
        CertificateError::NotValidForNameContext { presented, .. } => {
            fails(format!("its certificate is not for {name}")).with_detail(presented.join(", ").as_bytes())
        }
        _ => fails(format!("its certificate is not for {name}")),
    }
}

fn class_and_message(why: &CertificateError, expires: Option<Timestamp>) -> (ErrorClass, String) {
    use CertificateError as E;
    match why {
        E::Expired | E::ExpiredContext { .. } => {
            let at = expires.map(|at| format!(" at {at}")).unwrap_or_default();
            (
                ErrorClass::TLSExpired,
                format!("its certificate, or one that signed it, has expired (its own expires{at})"),
            )
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            (ErrorClass::TLSExpired, "its certificate is not valid yet".to_owned())
        }
        E::UnknownIssuer => (
            ErrorClass::TLSUnknownAuthority,
            "its certificate is not signed by an authority that is trusted".to_owned(),
        ),
        E::BadSignature => {
            (ErrorClass::TLSUnknownAuthority, "its certificate's signature is not that of its authority".to_owned())
        }
        E::Other(other) if is_authority_itself(other) => (
            ErrorClass::TLSUnknownAuthority,
            "its certificate is signed by itself and is none of those that are trusted".to_owned(),
        ),
        E::Revoked => (ErrorClass::TLSHandshake, "its certificate is revoked".to_owned()),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            (ErrorClass::TLSHandshake, "its certificate is not one for servers".to_owned())
        }
        E::UnsupportedSignatureAlgorithmContext { .. } | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => (
            ErrorClass::TLSHandshake,
            "its certificate, or one that signed it, has a key or a signature algorithm that is not accepted (P-521, SHA-1, \
             DSA)"
                .to_owned(),
        ),
        E::UnhandledCriticalExtension => {
            (ErrorClass::TLSHandshake, "its certificate has a critical extension that is not known".to_owned())
        }
        _ => (ErrorClass::TLSHandshake, "its certificate cannot be read or verified".to_owned()),
    }
}

/// webpki has its own error for a server that presents an authority's certificate. rustls passes it on unchanged, and its
/// type cannot be named here.
fn is_authority_itself(OtherError(other): &OtherError) -> bool {
    format!("{other:?}") == "CaUsedAsEndEntity"
}

/// The failure of an alert that the far side sent.
fn of_alert(alert: AlertDescription, wanted: bool, name: &str) -> Failure {
    use AlertDescription as A;
    let message = match alert {
        A::CertificateRequired => "it requires a client certificate".to_owned(),
        _ if wanted => {
            format!("it asked for a client certificate, got none, and refused with TLS alert {}", u8::from(alert))
        }
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::UnknownCA => format!("it refused our client certificate with TLS alert {}", u8::from(alert)),
        A::ProtocolVersion => "it speaks neither TLS 1.2 nor 1.3".to_owned(),
        A::UnrecognisedName => format!("it knows no server of that name{} (TLS alert 112)", name_sent(name)),
        A::NoApplicationProtocol => "it does not speak the protocol that is asked for within TLS (ALPN)".to_owned(),
        A::HandshakeFailure => format!(
            "it refused the handshake (TLS alert 40): it has no cipher or kind of key in common with us, or serves no host of \
             this name{}",
            name_sent(name)
        ),
        A::InternalError => format!(
            "it ended TLS with alert 80, an error of its own; some servers do when they have no certificate for this name{}",
            name_sent(name)
        ),
        _ => format!("it ended TLS with alert {}", u8::from(alert)),
    };
    Failure::new(ErrorClass::TLSHandshake, Phase::TLS, message)
}

/// What the server was told about the wanted host: an address is not sent as a name.
fn name_sent(name: &str) -> &'static str {
    if literal::address(name).is_some() {
        " (it was asked by an address, which sends no name: set tls.serverName)"
    } else {
        ""
    }
}

/// The description of an error of rustls, without bytes of the far side.
fn description(error: &Error) -> &'static str {
    match error {
        Error::PeerIncompatible(_) => "the far side offers nothing that we accept (TLS 1.2 or 1.3, modern ciphers)",
        Error::PeerMisbehaved(_) => "the far side broke the protocol",
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "the far side sent a message that cannot be read, or not then"
        }
        Error::DecryptError => "a message could not be decrypted",
        Error::PeerSentOversizedRecord => "the far side sent too large a record",
        Error::NoCertificatesPresented => "the far side showed no certificate",
        _ => "for a reason of our own side",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::probe::trace::Handshake;

    fn failure_of(why: CertificateError, fault: Option<&str>) -> Failure {
        let mut trace = ProbeTrace::begin();
        let handshake = Handshake { fault: fault.map(ToOwned::to_owned), ..Handshake::default() };
        trace.handshake = Some(Arc::new(Mutex::new(handshake)));
        failure(&Error::InvalidCertificate(why), &trace, "web.example.com")
    }

    #[test]
    fn a_fault_of_the_certificate_is_named_instead_of_what_follows_from_it() {
        let weak = ", or one that signed it, has an RSA key of 1024 bits: fewer than 2048 are not accepted";
        let failure = failure_of(CertificateError::BadSignature, Some(weak));
        assert_eq!((failure.class, failure.message), (ErrorClass::TLSHandshake, format!("its certificate{weak}")));
        assert_eq!(failure_of(CertificateError::BadSignature, None).class, ErrorClass::TLSUnknownAuthority);
        // It does not hide another fault.
        assert_eq!(failure_of(CertificateError::Expired, Some(weak)).class, ErrorClass::TLSExpired);
        assert_eq!(failure_of(CertificateError::UnknownIssuer, Some(weak)).class, ErrorClass::TLSUnknownAuthority);
    }

    #[test]
    fn an_alert_about_the_name_says_when_no_name_was_sent() {
        for alert in
            [AlertDescription::HandshakeFailure, AlertDescription::UnrecognisedName, AlertDescription::InternalError]
        {
            let message = |name| failure(&Error::AlertReceived(alert), &ProbeTrace::begin(), name).message;
            assert!(message("192.0.2.7").contains("set tls.serverName"), "{}", message("192.0.2.7"));
            assert!(!message("web.example.com").contains("set tls.serverName"));
        }
    }
}
