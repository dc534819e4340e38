//! TLS as a new client speaks it: no session is resumed, and every certificate is verified again.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, Error, RootCertStore};
use tokio_rustls::client::TlsStream;

use super::literal;
use super::outcome::Failure;
use super::request::{Pem, Target, TlsOptions};
use super::stream::Stream;
use super::trace::{Handshake, ProbeTrace};
use crate::api::ErrorClass;

mod failure;
#[cfg(test)]
mod tests;
mod verify;

pub(super) use failure::{failure, in_chain};
use verify::{AcceptAny, CheckedVerifier, RecordingClientCert};

/// The most configurations in the cache. Building one parses PEM and, for a client certificate, a key. A full cache drops
/// the least recently used one.
const MAX_CONFIGS: usize = 512;

/// The protocol that is negotiated within TLS (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, for gRPC.
    Http2,
}

/// The options that a configuration is built from.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ConfigKey {
    ca: Option<Pem>,
    insecure: bool,
    client: Option<(Pem, Pem)>,
    protocol: Protocol,
}

#[derive(Clone)]
struct Config {
    client: ClientConfig,
    verifier: Arc<dyn ServerCertVerifier>,
}

/// The configurations of all probes.
#[derive(Default)]
pub(super) struct Configs {
    cache: Mutex<LruCache>,
    /// The verifier by the authorities of this system, once they were read.
    system: Mutex<Option<Arc<dyn ServerCertVerifier>>>,
}

/// A cache of configurations, each with the count of uses at its last use.
#[derive(Default)]
struct LruCache {
    uses: u64,
    configs: HashMap<ConfigKey, (u64, Arc<Config>)>,
}

impl LruCache {
    fn get(&mut self, key: &ConfigKey) -> Option<Arc<Config>> {
        self.uses += 1;
        let (used, config) = self.configs.get_mut(key)?;
        *used = self.uses;
        Some(config.clone())
    }

    fn put(&mut self, key: ConfigKey, config: Arc<Config>) {
        if self.configs.len() >= MAX_CONFIGS
            && let Some(oldest) = self.configs.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone())
        {
            self.configs.remove(&oldest);
        }
        self.uses += 1;
        self.configs.insert(key, (self.uses, config));
    }
}

impl Configs {
    fn get(&self, options: &TlsOptions, protocol: Protocol) -> Result<Arc<Config>, String> {
        let TlsOptions { ca, server_name: _, insecure_skip_verify, client } = options;
        let key = ConfigKey { ca: ca.clone(), insecure: *insecure_skip_verify, client: client.clone(), protocol };
        let known = self.cache.lock().get(&key);
        if let Some(config) = known {
            return Ok(config);
        }
        let config = Arc::new(self.build(&key)?);
        self.cache.lock().put(key, config.clone());
        Ok(config)
    }

    fn build(&self, key: &ConfigKey) -> Result<Config, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match &key.ca {
            _ if key.insecure => Arc::new(AcceptAny::new(&provider)),
            Some(pem) => trusting(pem, &provider)?,
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
                // The error text of a key must never contain the key.
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
        Ok(Config { client: config, verifier })
    }

    /// The verifier by the authorities of this system, which are read once.
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
fn trusting(pem: &[u8], provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let trusted = certificates(pem).map_err(|why| format!("the authority that was given {why}"))?;
    let mut roots = RootCertStore::empty();
    // Certificates of a bundle that cannot be parsed are skipped; the others are used.
    roots.add_parsable_certificates(trusted.iter().cloned());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
        .build()
        .map_err(|error| format!("the authority that was given cannot be used: {error}"))?;
    Ok(Arc::new(CheckedVerifier::trusting(verifier, trusted)))
}

/// The server name to send and to verify.
fn server_name(target: &Target, options: &TlsOptions) -> Result<ServerName<'static>, String> {
    let name = options.server_name.as_deref().unwrap_or(&target.host);
    if let Some(address) = literal::address(name) {
        return Ok(ServerName::IpAddress(address.into()));
    }
    let wrong = || "the name to verify is no name of a host".to_owned();
    // A certificate has names in other scripts in punycode.
    let ascii = if name.is_ascii() { name.to_owned() } else { idna::domain_to_ascii(name).map_err(|_| wrong())? };
    // A trailing dot is part of a DNS name, but not of the name in a certificate.
    let name = ascii.strip_suffix('.').unwrap_or(&ascii);
    ServerName::try_from(name.to_owned()).map_err(|_| wrong())
}

/// Performs the TLS handshake over `stream`. Records the presented certificate and a request for a client certificate in
/// `trace`, also on failure.
pub(super) async fn encrypt<S: Stream>(
    configs: &Configs,
    target: &Target,
    options: &TlsOptions,
    protocol: Protocol,
    stream: S,
    trace: &mut ProbeTrace,
) -> Result<TlsStream<S>, Failure> {
    let internal = |trace: &ProbeTrace, why: String| trace.failure(ErrorClass::Internal, why);
    let config = configs.get(options, protocol).map_err(|why| internal(trace, why))?;
    let name = server_name(target, options).map_err(|why| internal(trace, why))?;
    let handshake = Arc::<Mutex<Handshake>>::default();
    let mut client = config.client.clone();
    let verifier = CheckedVerifier::recording(config.verifier.clone(), handshake.clone());
    client.dangerous().set_certificate_verifier(Arc::new(verifier));
    let resolver = RecordingClientCert::new(client.client_auth_cert_resolver.clone(), handshake.clone());
    client.client_auth_cert_resolver = Arc::new(resolver);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    trace.handshake = Some(handshake);
    let result = connector.connect(name, stream).await;
    trace.observe_connection();
    trace.protocol_refused = result.as_ref().is_err_and(|error| {
        matches!(in_chain(error), Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol)))
    });
    result.map_err(|error: io::Error| failure(&error, trace, options.server_name.as_deref().unwrap_or(&target.host)))
}
