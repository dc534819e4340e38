//! TLS, as a new client would speak it: no session is resumed, and every certificate is judged anew.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::client::TlsStream;

use super::request::Pem;
use super::stream::Stream;
use super::trace::ProbeTrace;
use super::{Failure, Target, TlsOptions, literal};
use crate::api::ErrorClass;

mod failure;
#[cfg(test)]
mod tests;
mod verify;

pub(super) use failure::{failure, in_chain};
pub(super) use verify::Noted;
use verify::{Asked, Noting};

/// How many different sets of options are kept ready. Building one parses PEM and, for a client certificate, a key;
/// past this the one that was used longest ago goes.
const MOST_READY: usize = 512;

/// The protocol that is agreed upon within TLS (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, for gRPC.
    Http2,
}

/// What makes one configuration differ from another.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    ca: Option<Pem>,
    insecure: bool,
    client: Option<(Pem, Pem)>,
    protocol: Protocol,
}

#[derive(Clone)]
struct Ready {
    config: ClientConfig,
    verifier: Arc<dyn ServerCertVerifier>,
}

/// Configurations, ready to be used.
#[derive(Default)]
pub(super) struct Configs {
    ready: Mutex<Shelf>,
    system: Mutex<Option<Arc<dyn ServerCertVerifier>>>,
}

/// The configurations, each with when it was used last, counted in uses.
#[derive(Default)]
struct Shelf {
    uses: u64,
    known: HashMap<Key, (u64, Arc<Ready>)>,
}

impl Shelf {
    fn find(&mut self, key: &Key) -> Option<Arc<Ready>> {
        self.uses += 1;
        let (used, ready) = self.known.get_mut(key)?;
        *used = self.uses;
        Some(ready.clone())
    }

    fn put(&mut self, key: Key, ready: Arc<Ready>) {
        if self.known.len() >= MOST_READY
            && let Some(oldest) = self.known.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone())
        {
            self.known.remove(&oldest);
        }
        self.uses += 1;
        self.known.insert(key, (self.uses, ready));
    }
}

impl Configs {
    fn get(&self, options: &TlsOptions, protocol: Protocol) -> Result<Arc<Ready>, String> {
        let TlsOptions { ca, server_name: _, insecure_skip_verify, client } = options;
        let key = Key { ca: ca.clone(), insecure: *insecure_skip_verify, client: client.clone(), protocol };
        let known = self.ready.lock().find(&key);
        if let Some(ready) = known {
            return Ok(ready);
        }
        let ready = Arc::new(self.build(&key)?);
        self.ready.lock().put(key, ready.clone());
        Ok(ready)
    }

    fn build(&self, key: &Key) -> Result<Ready, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match &key.ca {
            _ if key.insecure => Arc::new(verify::Anything::new(&provider)),
            Some(pem) => own(pem, &provider)?,
            None => self.system(&provider)?,
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone());
        let mut config = match &key.client {
            None => builder.with_no_client_auth(),
            Some((chain, private)) => {
                let chain = certificates(chain).map_err(|why| format!("the client certificate {why}"))?;
                // The error of a key never shows the key.
                let private = PrivateKeyDer::from_pem_slice(private)
                    .map_err(|_| "the client certificate's key is no private key in PEM".to_owned())?;
                builder
                    .with_client_auth_cert(chain, private)
                    .map_err(|error| format!("the client certificate and its key cannot be used: {error}"))?
            }
        };
        config.resumption = Resumption::disabled();
        config.alpn_protocols = match key.protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
        };
        Ok(Ready { config, verifier })
    }

    /// The system's authorities, read once.
    fn system(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
        let mut system = self.system.lock();
        if let Some(system) = &*system {
            return Ok(system.clone());
        }
        let verifier = rustls_platform_verifier::Verifier::new(provider.clone())
            .map_err(|error| format!("the certificate authorities of this system cannot be read: {error}"))?;
        Ok(system.insert(Arc::new(verifier)).clone())
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| "is no valid PEM".to_owned())?;
    if certificates.is_empty() { Err("holds no certificate in PEM".to_owned()) } else { Ok(certificates) }
}

/// A verifier that trusts the authorities in `pem` alone.
fn own(pem: &[u8], provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let trusted = certificates(pem).map_err(|why| format!("the authority that was given {why}"))?;
    let mut roots = RootCertStore::empty();
    // Of a bundle with an odd certificate the others are good.
    roots.add_parsable_certificates(trusted.iter().cloned());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
        .build()
        .map_err(|error| format!("the authority that was given cannot be used: {error}"))?;
    Ok(Arc::new(verify::Own::new(verifier, trusted)))
}

/// The name to ask for and to verify.
fn server_name(target: &Target, options: &TlsOptions) -> Result<ServerName<'static>, String> {
    let name = options.server_name.as_deref().unwrap_or(&target.host);
    if let Some(address) = literal::address(name) {
        return Ok(ServerName::IpAddress(address.into()));
    }
    // The root's dot is part of a name, not of a certificate.
    let name = name.strip_suffix('.').unwrap_or(name);
    ServerName::try_from(name.to_owned()).map_err(|_| "the name to verify is no name of a host".to_owned())
}

/// Speaks TLS over `stream`. What the certificate and the far side's wishes were is noted in `way`, also on failure.
pub(super) async fn encrypt<S: Stream>(
    configs: &Configs,
    target: &Target,
    options: &TlsOptions,
    protocol: Protocol,
    stream: S,
    way: &mut ProbeTrace,
) -> Result<TlsStream<S>, Failure> {
    let ours = |way: &ProbeTrace, why: String| way.fails(ErrorClass::Internal, why);
    let ready = configs.get(options, protocol).map_err(|why| ours(way, why))?;
    let name = server_name(target, options).map_err(|why| ours(way, why))?;
    let noted = Arc::<Mutex<Noted>>::default();
    let mut config = ready.config.clone();
    config.dangerous().set_certificate_verifier(Arc::new(Noting::new(ready.verifier.clone(), noted.clone())));
    config.client_auth_cert_resolver = Arc::new(Asked::new(config.client_auth_cert_resolver.clone(), noted.clone()));
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    way.handshake = Some(noted);
    let result = connector.connect(name, stream).await;
    way.note();
    result.map_err(|error: io::Error| failure(&error, way, options.server_name.as_deref().unwrap_or(&target.host)))
}
