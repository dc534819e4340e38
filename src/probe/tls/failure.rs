//! Classifies errors of TLS.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError};

use crate::api::{ErrorClass, Phase};
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
        Some(Error::AlertReceived(alert)) => of_alert(*alert, wanted),
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
    use CertificateError as E;
    let expires = trace.seen.certificate_expires;
    let (class, message) = match why {
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
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            // The names of the certificate come from the far side, so they go into the detail.
            let failure =
                Failure::new(ErrorClass::TLSNameMismatch, Phase::TLS, format!("its certificate is not for {name}"));
            return match why {
                E::NotValidForNameContext { presented, .. } => failure.with_detail(presented.join(", ").as_bytes()),
                _ => failure,
            };
        }
        E::Revoked => (ErrorClass::TLSHandshake, "its certificate is revoked".to_owned()),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            (ErrorClass::TLSHandshake, "its certificate is not one for servers".to_owned())
        }
        _ => (ErrorClass::TLSHandshake, "its certificate cannot be read or verified".to_owned()),
    };
    Failure::new(class, Phase::TLS, message)
}

/// webpki has its own error for a server that presents an authority's certificate. rustls passes it on unchanged, and its
/// type cannot be named here.
fn is_authority_itself(OtherError(other): &OtherError) -> bool {
    format!("{other:?}") == "CaUsedAsEndEntity"
}

/// The failure of an alert that the far side sent.
fn of_alert(alert: AlertDescription, wanted: bool) -> Failure {
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
        A::UnrecognisedName => "it knows no server of that name".to_owned(),
        A::NoApplicationProtocol => "it does not speak the protocol that is asked for within TLS (ALPN)".to_owned(),
        A::HandshakeFailure => "it refused the handshake: no cipher or key exchange in common".to_owned(),
        _ => format!("it ended TLS with alert {}", u8::from(alert)),
    };
    Failure::new(ErrorClass::TLSHandshake, Phase::TLS, message)
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
