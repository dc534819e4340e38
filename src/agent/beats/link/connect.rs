//! Connects to the operator, phase by phase.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::Service;

use super::Failure;
use crate::agent::config::Config;
use crate::api::{ErrorClass, Phase};
use crate::http::proxy::{ProxyEnvironment, proxy};
use crate::time::Clock;

/// How long a name may take to resolve.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);
/// How long one address may take to accept, and TLS to be agreed.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Most addresses of a name that are tried.
const MOST_ADDRESSES: usize = 4;

pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

type Dialled = TokioIo<Box<dyn ByteStream>>;

/// How the operator is reached.
pub(super) struct Dialling {
    ca_file: Option<PathBuf>,
    proxy: Option<String>,
}

impl Dialling {
    pub(super) fn new(config: &Config) -> Self {
        Self { ca_file: config.ca_file.clone(), proxy: config.proxy.clone() }
    }

    /// A new connection to the host of `url`. Adds to `spent` how long each phase took.
    pub(super) async fn dial(
        &self,
        url: &Uri,
        clock: Clock,
        spent: &mut Vec<(Phase, Duration)>,
    ) -> Result<Dialled, Failure> {
        let is_tls = url.scheme_str() == Some("https");
        // An IPv6 address has brackets in a URL, and none elsewhere.
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let way = proxy(self.proxy.as_deref(), url, &ProxyEnvironment::of_process());
        let way = way.map_err(|error| {
            Failure::new(ErrorClass::Internal, Phase::Resolve, format!("the proxy is named by no URL: {error}"))
        })?;
        let mut began = clock.now();
        let mut ends = |phase: Phase| {
            let now = clock.now();
            spent.push((phase, now.since(began)));
            began = now;
        };
        let stream: TcpStream = match way {
            Some(way) => through(way, url.host().unwrap_or_default(), port).await?,
            None => {
                let addresses = resolve(host, port).await?;
                ends(Phase::Resolve);
                connect(host, addresses).await?
            }
        };
        ends(Phase::Connect);
        let _ = stream.set_nodelay(true);
        let stream: Box<dyn ByteStream> = match is_tls {
            true => Box::new(self.encrypt(stream, host).await?),
            false => Box::new(stream),
        };
        if is_tls {
            ends(Phase::TLS);
        }
        Ok(TokioIo::new(stream))
    }

    async fn encrypt(&self, stream: TcpStream, host: &str) -> Result<impl ByteStream + use<>, Failure> {
        let internal = |error: String| Failure::new(ErrorClass::Internal, Phase::TLS, error);
        let config = self.tls().map_err(internal)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| internal(error.to_string()))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        match timeout(CONNECT_LIMIT, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(tls_failure(&error)),
            Err(_) => Err(Failure::new(ErrorClass::TLSHandshake, Phase::TLS, "TLS was not agreed within 5 s")),
        }
    }

    /// Read anew for each connection: a file of authorities that was replaced counts from then on.
    fn tls(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        let builder = match &self.ca_file {
            None => {
                builder.with_platform_verifier().map_err(|error| format!("the authorities of the host: {error}"))?
            }
            Some(path) => {
                let wrong = |error: &dyn std::fmt::Display| format!("caFile {}: {error}", path.display());
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
                    let certificate = certificate.map_err(|error| wrong(&error))?;
                    roots.add(certificate).map_err(|error| wrong(&error))?;
                }
                if roots.is_empty() {
                    return Err(wrong(&"there is no certificate in it"));
                }
                builder.with_root_certificates(roots)
            }
        };
        Ok(builder.with_no_client_auth())
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    match timeout(RESOLVE_LIMIT, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(addresses)) => Ok(addresses.take(MOST_ADDRESSES).collect()),
        Ok(Err(error)) => Err(Failure::new(ErrorClass::DNSFailure, Phase::Resolve, format!("{host}: {error}"))),
        Err(_) => {
            let message = format!("{host} was not resolved within {} s", RESOLVE_LIMIT.as_secs());
            Err(Failure::new(ErrorClass::DNSTimeout, Phase::Resolve, message))
        }
    }
}

async fn connect(host: &str, addresses: Vec<SocketAddr>) -> Result<TcpStream, Failure> {
    let mut last = Failure::new(ErrorClass::DNSNotFound, Phase::Resolve, format!("{host} has no address"));
    for address in addresses {
        match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = connect_failure(&address.to_string(), &error),
            Err(_) => {
                let message = format!("{address} did not accept within {} s", CONNECT_LIMIT.as_secs());
                last = Failure::new(ErrorClass::ConnectTimeout, Phase::Connect, message);
            }
        }
    }
    Err(last)
}

/// A tunnel through the proxy.
async fn through(way: Uri, host: &str, port: u16) -> Result<TcpStream, Failure> {
    let name = way.host().unwrap_or_default().to_owned();
    let failed = |message: String| Failure::new(ErrorClass::ConnectTimeout, Phase::Connect, message);
    if way.scheme_str() != Some("http") {
        let message = format!("the proxy {name} is named by a URL that does not begin with http://");
        return Err(Failure::new(ErrorClass::Internal, Phase::Resolve, message));
    }
    let user = way.authority().and_then(|authority| authority.as_str().rsplit_once('@')).map(|(user, _)| user);
    let basic = user.map(|user| format!("Basic {}", BASE64_STANDARD.encode(user)));
    let mut tunnel = Tunnel::new(way.clone(), HttpConnector::new());
    if let Some(basic) = basic.and_then(|basic| HeaderValue::try_from(basic).ok()) {
        tunnel = tunnel.with_auth(basic);
    }
    let there = Uri::builder().scheme("https").authority(format!("{host}:{port}")).path_and_query("/").build();
    let there = there.map_err(|error| failed(error.to_string()))?;
    match timeout(CONNECT_LIMIT + RESOLVE_LIMIT, tunnel.call(there)).await {
        Ok(Ok(stream)) => Ok(stream.into_inner()),
        Ok(Err(error)) => {
            let message = format!("the proxy {name} does not lead to {host}:{port}: {error}");
            Err(Failure::new(ErrorClass::Unreachable, Phase::Connect, message))
        }
        Err(_) => Err(failed(format!("the proxy {name} did not answer in time"))),
    }
}

fn connect_failure(to: &str, error: &io::Error) -> Failure {
    let class = match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorClass::Refused,
        io::ErrorKind::TimedOut => ErrorClass::ConnectTimeout,
        io::ErrorKind::ConnectionReset => ErrorClass::Reset,
        _ => ErrorClass::Unreachable,
    };
    Failure::new(class, Phase::Connect, format!("{to}: {error}"))
}

fn tls_failure(error: &io::Error) -> Failure {
    let class = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => ErrorClass::TLSUnknownAuthority,
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => ErrorClass::TLSExpired,
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => ErrorClass::TLSNameMismatch,
        Some(rustls::Error::InvalidMessage(_)) => ErrorClass::NotTLS,
        _ => ErrorClass::TLSHandshake,
    };
    Failure::new(class, Phase::TLS, format!("TLS: {error}"))
}
