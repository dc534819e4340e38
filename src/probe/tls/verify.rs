//! Judging certificates, and noting what was shown whatever the judgement.

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
use x509_cert::der::Decode;

/// What was seen in one handshake.
#[derive(Debug, Default)]
pub(in crate::probe) struct Noted {
    /// When the certificate that was shown begins and ceases to be valid.
    pub(in crate::probe) validity: Option<(Timestamp, Timestamp)>,
    /// A client certificate was asked for, and there was none.
    pub(in crate::probe) client_wanted: bool,
}

/// When `certificate` begins and ceases to be valid; `None` when it is none.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let validity = certificate.tbs_certificate().validity();
    let [begins, ends] = [validity.not_before, validity.not_after].map(|time| {
        i64::try_from(time.to_unix_duration().as_secs()).ok().and_then(|at| Timestamp::from_second(at).ok())
    });
    Some((begins?, ends?))
}

/// Leaves the judgement to another, and notes what was shown. Made for one connection.
#[derive(Debug)]
pub(super) struct Noting {
    inner: Arc<dyn ServerCertVerifier>,
    noted: Arc<Mutex<Noted>>,
}

impl Noting {
    pub(super) fn new(inner: Arc<dyn ServerCertVerifier>, noted: Arc<Mutex<Noted>>) -> Self {
        Self { inner, noted }
    }
}

impl ServerCertVerifier for Noting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.noted.lock().validity = validity(end_entity);
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
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

/// Trusts given authorities, and given certificates themselves: a self-signed one that says it is an authority, as
/// `openssl req -x509` makes it, is none that webpki lets a server show, but everyone else does who was given it.
#[derive(Debug)]
pub(super) struct Own {
    inner: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl Own {
    pub(super) fn new(inner: Arc<WebPkiServerVerifier>, trusted: Vec<CertificateDer<'static>>) -> Self {
        Self { inner, trusted }
    }

    /// The judgement of a certificate that was given as it is: it must be valid now, and for this name.
    fn itself(end_entity: &CertificateDer<'_>, server_name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
        let invalid = |error| Err(Error::InvalidCertificate(error));
        let Some((begins, ends)) = validity(end_entity) else { return invalid(CertificateError::BadEncoding) };
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if seconds < begins.as_second() {
            return invalid(CertificateError::NotValidYet);
        }
        if seconds > ends.as_second() {
            return invalid(CertificateError::Expired);
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)
    }
}

impl ServerCertVerifier for Own {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.trusted.iter().any(|trusted| trusted.as_ref() == end_entity.as_ref()) {
            return Self::itself(end_entity, server_name, now).map(|()| ServerCertVerified::assertion());
        }
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
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

/// Believes anything: `insecureSkipVerify`. Not even who holds the key is asked, so that certificates pass which webpki
/// cannot read.
#[derive(Debug)]
pub(super) struct Anything(Vec<SignatureScheme>);

impl Anything {
    pub(super) fn new(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms.supported_schemes())
    }
}

impl ServerCertVerifier for Anything {
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

/// Gives the client certificate that another has, and notes when one was asked for in vain. Made for one connection.
pub(super) struct Asked {
    inner: Arc<dyn ResolvesClientCert>,
    noted: Arc<Mutex<Noted>>,
}

impl Asked {
    pub(super) fn new(inner: Arc<dyn ResolvesClientCert>, noted: Arc<Mutex<Noted>>) -> Self {
        Self { inner, noted }
    }
}

impl ResolvesClientCert for Asked {
    fn resolve(&self, root_hint_subjects: &[&[u8]], sigschemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let found = self.inner.resolve(root_hint_subjects, sigschemes);
        self.noted.lock().client_wanted |= found.is_none();
        found
    }

    fn has_certs(&self) -> bool {
        self.inner.has_certs()
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asked")
    }
}
