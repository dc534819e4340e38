//! What one probe is asked to do.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use regex::bytes::Regex;

/// How a target is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// HTTP/1.1 in clear.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// A connection, and nothing said.
    Tcp,
    /// The gRPC health protocol in clear.
    Grpc,
    /// The gRPC health protocol over TLS.
    Grpcs,
}

impl Scheme {
    /// As it stands in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
        }
    }

    /// Whether TLS is spoken.
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

/// What is dialled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// A name or an address literal, without brackets. It is what `Host` and the server name say.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query, beginning with a slash, for HTTP; for gRPC the name of the service, which may be empty.
    pub path: String,
    /// Dial this address in place of what `host` resolves to: a pod's own, or a Service's.
    pub address: Option<IpAddr>,
    /// The object may aim at it whatever network it is in: its own workload's pods and Services of its own namespace
    /// (probes-and-diagnosis.md, "Always allowed"). What may never be dialled is refused all the same.
    pub is_own: bool,
}

/// GET or HEAD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// The body is read.
    #[default]
    Get,
    /// There is no body.
    Head,
}

/// What is asked of an HTTP answer. Its `Debug` shows no value of a header.
#[derive(Clone)]
pub struct HttpOptions {
    /// GET or HEAD.
    pub method: Method,
    /// Headers to send to the host of the target, and to no other. Values may be secret and are never shown.
    pub headers: Vec<(String, String)>,
    /// Statuses that pass; empty means any of 200 to 299.
    pub expected_status: Vec<u16>,
    /// The body must match it.
    pub body_matches: Option<Regex>,
    /// The body must not match it.
    pub body_not_matches: Option<Regex>,
    /// Follow up to [`HttpOptions::MOST_REDIRECTS`] redirects on the same host and port.
    pub follow_redirects: bool,
    /// Keep the body's first [`HttpOptions::most_kept`] bytes in the outcome, whatever its status, for the reader of an
    /// actuator.
    pub keep_body: bool,
    /// How much is kept, in bytes; default [`HttpOptions::KEPT_BODY`].
    pub most_kept: usize,
    /// How much of a body is read, in bytes, uncompressed, when it is no metrics page; more is `BodyTooLarge`. Default
    /// [`HttpOptions::MOST_BODY`].
    pub most_body: u64,
}

impl HttpOptions {
    /// How many redirects are followed.
    pub const MOST_REDIRECTS: usize = 5;
    /// How much of a body is read at most, uncompressed, when it is no metrics page: 1 MiB.
    pub const MOST_BODY: u64 = 1 << 20;
    /// How much of it is kept when asked for: 256 KiB.
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
        }
    }
}

/// Certificates or a key, PEM.
pub type Pem = Arc<[u8]>;

/// How TLS is spoken. Its `Debug` shows no certificate and no key.
#[derive(Clone, Default)]
pub struct TlsOptions {
    /// Authorities to trust in place of the system's, PEM.
    pub ca: Option<Pem>,
    /// The name to ask for and to verify; default: the target's host.
    pub server_name: Option<String>,
    /// Believe any certificate. Its expiry is recorded all the same.
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

/// What is asked of a metrics page.
#[derive(Clone, Debug)]
pub struct MetricsOptions {
    /// Names of metrics (samples) that must be there.
    pub required: Vec<String>,
    /// Largest page, in bytes, uncompressed.
    pub most_bytes: u64,
    /// Most samples.
    pub most_samples: u64,
}

impl Default for MetricsOptions {
    fn default() -> Self {
        Self { required: Vec::new(), most_bytes: 10 << 20, most_samples: 500_000 }
    }
}

/// One probe.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is dialled.
    pub target: Target,
    /// For all phases together.
    pub timeout: Duration,
    /// For `http` and `https`.
    pub http: HttpOptions,
    /// For `https` and `grpcs`.
    pub tls: TlsOptions,
    /// The page must be scrapeable the way Prometheus scrapes it; `http` and `https` only. Then `expected_status` is
    /// exactly 200.
    pub metrics: Option<MetricsOptions>,
}
