//! Verifies certificates, and records the certificate that was presented whatever the result.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{Decode, Reader, SliceReader};

use crate::probe::trace::Handshake;

/// The beginning and the end of the validity of `certificate`; `None` when it cannot be parsed.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let validity = certificate.tbs_certificate().validity();
    let [begins, ends] = [validity.not_before, validity.not_after].map(|time| {
        i64::try_from(time.to_unix_duration().as_secs()).ok().and_then(|at| Timestamp::from_second(at).ok())
    });
    Some((begins?, ends?))
}

/// The fewest bits of an RSA key that are accepted.
const MIN_RSA_BITS: usize = 2048;

/// What in the presented certificates webpki does not accept and does not name, as the rest of a sentence.
fn fault(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Option<String> {
    let own = Certificate::from_der(end_entity).ok()?;
    if own.tbs_certificate().version() != Version::V3 {
        return Some(
            " is of X.509 version 1 or 2: only version 3 is accepted, with the names of its host in subjectAltName"
                .to_owned(),
        );
    }
    let others = intermediates.iter().filter_map(|one| Certificate::from_der(one).ok());
    let keys = std::iter::once(own).chain(others).filter_map(|one| rsa_bits(&one));
    let weak = keys.filter(|bits| *bits < MIN_RSA_BITS).min()?;
    Some(format!(", or one that signed it, has an RSA key of {weak} bits: fewer than {MIN_RSA_BITS} are not accepted"))
}

/// The bits of the modulus of an RSA key; `None` for another key.
fn rsa_bits(certificate: &Certificate) -> Option<usize> {
    const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
    let key = certificate.tbs_certificate().subject_public_key_info();
    let bytes = key.subject_public_key.as_bytes().filter(|_| key.algorithm.oid == RSA)?;
    let mut reader = SliceReader::new(bytes).ok()?;
    let bits = reader.sequence(|reader| {
        let modulus = UintRef::decode(reader)?;
        let _exponent = UintRef::decode(reader)?;
        Ok::<_, x509_cert::der::Error>(8 * modulus.as_bytes().len())
    });
    bits.ok()
}

/// A check of the server's certificate, and of those sent with it, before the inner verifier; `None` leaves the verdict to the inner verifier.
type CertificateCheck =
    dyn Fn(&[&[CertificateDer<'_>]; 2], &ServerName<'_>, UnixTime) -> Option<Result<(), Error>> + Send + Sync;

/// A verifier that runs a check first, and delegates everything else to an inner verifier.
pub(super) struct CheckedVerifier {
    inner: Arc<dyn ServerCertVerifier>,
    check: Box<CertificateCheck>,
}

impl CheckedVerifier {
    /// Records the validity of the certificate in `handshake` and delegates the verdict. Made for one connection.
    pub(super) fn recording(inner: Arc<dyn ServerCertVerifier>, handshake: Arc<Mutex<Handshake>>) -> Self {
        let check = move |[own, others]: &[&[CertificateDer<'_>]; 2], _: &ServerName<'_>, _| {
            let mut handshake = handshake.lock();
            handshake.validity = validity(&own[0]);
            handshake.fault = fault(&own[0], others);
            None
        };
        Self { inner, check: Box::new(check) }
    }

    /// Accepts each of `trusted` itself, and what the authorities of `inner` signed. webpki refuses a server that presents
    /// a self-signed certificate marked as an authority, as `openssl req -x509` makes it; other clients that are given
    /// that certificate accept it.
    pub(super) fn trusting(inner: Arc<WebPkiServerVerifier>, trusted: Vec<CertificateDer<'static>>) -> Self {
        let check = move |[own, _]: &[&[CertificateDer<'_>]; 2], name: &ServerName<'_>, now| {
            let certificate = &own[0];
            let is_trusted = trusted.iter().any(|trusted| trusted.as_ref() == certificate.as_ref());
            is_trusted.then(|| verify_itself(certificate, name, now))
        };
        Self { inner, check: Box::new(check) }
    }
}

/// Verifies a certificate that is trusted itself: it must be valid now, and for this name.
fn verify_itself(certificate: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
    let invalid = |error| Err(Error::InvalidCertificate(error));
    let Some((begins, ends)) = validity(certificate) else { return invalid(CertificateError::BadEncoding) };
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if seconds < begins.as_second() {
        return invalid(CertificateError::NotValidYet);
    }
    if seconds > ends.as_second() {
        return invalid(CertificateError::Expired);
    }
    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)
}

impl ServerCertVerifier for CheckedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match (self.check)(&[std::slice::from_ref(end_entity), intermediates], server_name, now) {
            Some(verdict) => verdict.map(|()| ServerCertVerified::assertion()),
            None => self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl fmt::Debug for CheckedVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedVerifier").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// Accepts any certificate: `insecureSkipVerify`. The proof that the server holds the key is not verified either, so that
/// certificates are accepted which webpki cannot parse.
#[derive(Debug)]
pub(super) struct AcceptAny(Vec<SignatureScheme>);

impl AcceptAny {
    pub(super) fn new(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms.supported_schemes())
    }
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

/// Presents the client certificate of an inner resolver, and records a request for one that there is none for. Made for
/// one connection.
pub(super) struct RecordingClientCert {
    inner: Arc<dyn ResolvesClientCert>,
    handshake: Arc<Mutex<Handshake>>,
}

impl RecordingClientCert {
    pub(super) fn new(inner: Arc<dyn ResolvesClientCert>, handshake: Arc<Mutex<Handshake>>) -> Self {
        Self { inner, handshake }
    }
}

impl ResolvesClientCert for RecordingClientCert {
    fn resolve(&self, root_hint_subjects: &[&[u8]], sigschemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let found = self.inner.resolve(root_hint_subjects, sigschemes);
        self.handshake.lock().client_wanted |= found.is_none();
        found
    }

    fn has_certs(&self) -> bool {
        self.inner.has_certs()
    }
}

impl fmt::Debug for RecordingClientCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordingClientCert")
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;

    fn certificate(name: &str) -> CertificateDer<'static> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/certificates");
        CertificateDer::from_pem_file(folder.join(name)).unwrap()
    }

    #[test]
    fn short_keys_and_old_versions_are_found_in_the_whole_chain() {
        let [short, long, old] = ["rsa1024.pem", "rsa2048.pem", "version1.pem"].map(certificate);
        assert!(fault(&short, &[]).unwrap().contains("an RSA key of 1024 bits"));
        assert_eq!(fault(&long, &[]), None);
        assert!(fault(&long, &[long.clone(), short]).unwrap().contains("1024 bits"));
        assert!(fault(&old, &[]).unwrap().contains("version 1"));
        assert_eq!(fault(&CertificateDer::from(b"no certificate".to_vec()), &[]), None);
    }
}
