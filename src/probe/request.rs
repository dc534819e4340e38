//! The request of one probe.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Pattern;

/// The protocol of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// HTTP/1.1 in clear.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// A TCP connection without data.
    Tcp,
    /// The gRPC health protocol in clear.
    Grpc,
    /// The gRPC health protocol over TLS.
    Grpcs,
}

impl Scheme {
    /// The scheme as written in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
        }
    }

    /// Whether the scheme uses TLS.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Grpcs)
    }

    /// The port when the URL names none: 80 or 443 for HTTP; the others have none.
    pub const fn default_port(self) -> Option<u16> {
        match self {
            Self::Http => Some(80),
            Self::Https => Some(443),
            Self::Tcp | Self::Grpc | Self::Grpcs => None,
        }
    }
}

/// The target of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The protocol.
    pub scheme: Scheme,
    /// A name or an address literal, without brackets. Sent as `Host` and as the TLS server name.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Path and query, beginning with a slash, for HTTP; for gRPC the name of the service, which may be empty.
    pub path: String,
    /// The address to dial instead of resolving `host`: a pod's, or a Service's.
    pub address: Option<IpAddr>,
    /// The target is allowed in any network: a pod of the object's own workload, or a Service of its own namespace
    /// (`docs/design/probes-and-diagnosis.md`, "Always allowed"). Ranges that are never dialled stay denied.
    pub is_own: bool,
}

/// The HTTP method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// GET: the body is read.
    #[default]
    Get,
    /// HEAD: there is no body.
    Head,
}

/// Receives the body of an expected answer while it arrives, so that the answer need not be kept as a whole.
pub trait BodyReader: Send + Sync {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// Why the body is refused, as a sentence. The rest of it is not read.
    fn take(&self, bytes: &[u8]) -> Result<(), String>;
}

/// The HTTP request and what is required of its answer. `Debug` shows no value of a header.
#[derive(Clone)]
pub struct HttpOptions {
    /// The method.
    pub method: Method,
    /// Headers that are sent to the host of the target and to no other. Values may be secret and are never shown.
    pub headers: Vec<(String, String)>,
    /// Statuses that pass; empty means any of 200 to 299.
    pub expected_status: Vec<u16>,
    /// The body must match this expression.
    pub body_matches: Option<Pattern>,
    /// The body must not match this expression.
    pub body_not_matches: Option<Pattern>,
    /// Follow up to [`HttpOptions::MOST_REDIRECTS`] redirects on the same host and port.
    pub follow_redirects: bool,
    /// Keep the first [`HttpOptions::most_kept`] bytes of the body in the outcome, whatever its status. The reader of an
    /// actuator needs it.
    pub keep_body: bool,
    /// The most bytes that are kept; default [`HttpOptions::KEPT_BODY`].
    pub most_kept: usize,
    /// The largest body that is not a metrics page, in bytes, uncompressed; a larger one is `BodyTooLarge`. Default
    /// [`HttpOptions::MOST_BODY`].
    pub most_body: u64,
    /// Receives the body. The request then asks for an uncompressed one (`Accept-Encoding: identity`), and a compressed
    /// one is refused unread: a few kilobytes of gzip may expand to gigabytes.
    pub reader: Option<Arc<dyn BodyReader>>,
}

impl HttpOptions {
    /// The most redirects that are followed.
    pub const MOST_REDIRECTS: usize = 5;
    /// The largest body that is not a metrics page, uncompressed: 1 MiB.
    pub const MOST_BODY: u64 = 1 << 20;
    /// The part of a body that is kept on request: 256 KiB.
    pub const KEPT_BODY: usize = 256 << 10;
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            method: Method::Get,
            headers: Vec::new(),
            expected_status: Vec::new(),
            body_matches: None,
            body_not_matches: None,
            follow_redirects: true,
            keep_body: false,
            most_kept: Self::KEPT_BODY,
            most_body: Self::MOST_BODY,
            reader: None,
        }
    }
}

/// Certificates or a key, PEM.
pub type Pem = Arc<[u8]>;

/// Options of TLS. `Debug` shows no certificate and no key.
#[derive(Clone, Default)]
pub struct TlsOptions {
    /// Authorities to trust instead of the system's, PEM.
    pub ca: Option<Pem>,
    /// The server name to send and to verify; default: the host of the target.
    pub server_name: Option<String>,
    /// Accept any certificate. Its expiry is still recorded.
    pub insecure_skip_verify: bool,
    /// The client's certificate chain and key, PEM.
    pub client: Option<(Pem, Pem)>,
}

impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            method,
            headers,
            expected_status,
            body_matches,
            body_not_matches,
            follow_redirects,
            keep_body,
            most_kept,
            most_body,
            reader,
        } = self;
        let headers: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("HttpOptions")
            .field("method", method)
            .field("headers", &headers)
            .field("expected_status", expected_status)
            .field("body_matches", body_matches)
            .field("body_not_matches", body_not_matches)
            .field("follow_redirects", follow_redirects)
            .field("keep_body", keep_body)
            .field("most_kept", most_kept)
            .field("most_body", most_body)
            .field("reader", &reader.is_some())
            .finish()
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ca, server_name, insecure_skip_verify, client } = self;
        f.debug_struct("TlsOptions")
            .field("ca", &ca.is_some())
            .field("server_name", server_name)
            .field("insecure_skip_verify", insecure_skip_verify)
            .field("client", &client.is_some())
            .finish()
    }
}

/// The requirements of a metrics page.
#[derive(Clone, Debug)]
pub struct MetricsOptions {
    /// Names of metrics (samples) that the page must have.
    pub required: Vec<String>,
    /// The largest page, in bytes, uncompressed.
    pub most_bytes: u64,
    /// The most samples.
    pub most_samples: u64,
}

impl Default for MetricsOptions {
    fn default() -> Self {
        Self { required: Vec::new(), most_bytes: 10 << 20, most_samples: 500_000 }
    }
}

/// The request of one probe.
#[derive(Clone, Debug)]
pub struct Request {
    /// The target.
    pub target: Target,
    /// The time limit of all phases together.
    pub timeout: Duration,
    /// Options of `http` and `https`.
    pub http: HttpOptions,
    /// Options of `https` and `grpcs`.
    pub tls: TlsOptions,
    /// Requires a page that Prometheus can scrape, for `http` and `https` only. The expected status is then exactly 200.
    pub metrics: Option<MetricsOptions>,
}
