//! HTTP probes: the request, the expected response, and TLS.

// The derive of KubeSchema repeats each struct inside a function, where nothing public can be reached.
#![allow(unreachable_pub)]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::shared::{MAX_NAME, SecretKeyRef};
use crate::api::words::words;

words! {
    /// The method of an HTTP probe.
    HttpMethod {
        /// The body is read.
        GET,
        /// There is no body.
        HEAD,
    }
}

/// How many headers a probe may send.
pub const MAX_HEADERS: usize = 16;

/// The request of an HTTP probe, and the responses that pass.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.method == 'GET' || !(has(self.bodyMatches) || has(self.bodyNotMatches))")
        .message("spec.probe.http.method HEAD brings no body: bodyMatches and bodyNotMatches need GET")
        .field_path(".method"),
    validation = Rule::new("!(has(self.bearerTokenSecretRef) && has(self.basicAuthSecretName))")
        .message("spec.probe.http.basicAuthSecretName and bearerTokenSecretRef exclude each other")
        .field_path(".basicAuthSecretName"),
    validation = Rule::new("!(has(self.bearerTokenSecretRef) || has(self.basicAuthSecretName)) \
        || !has(self.headers) || !self.headers.exists(header, header.name.lowerAscii() == 'authorization')")
        .message("spec.probe.http.headers must not have Authorization beside bearerTokenSecretRef or \
            basicAuthSecretName")
        .field_path(".headers"),
)]
pub struct HttpProbe {
    /// GET or HEAD. The answer to a HEAD has no body.
    #[serde(default = "HttpProbe::default_method")]
    pub method: HttpMethod,
    /// Headers to send, one entry for each name. They go to the host of the target and to no other. Not Host, and
    /// none that is about the connection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_HEADERS))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub headers: Vec<HeaderSpec>,
    /// Statuses that pass. Default: each of 200 to 299. With spec.probe.metrics exactly 200 passes, whatever stands
    /// here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(range(min = 100, max = 599)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub expected_status: Vec<i32>,
    /// A regular expression (syntax of Rust's regex crate, without look-around; `\b` knows ASCII words) that the body,
    /// at most 1 MiB, must match somewhere. One that cannot be compiled, or takes more than 288 KiB then, makes the
    /// condition Accepted False. One that needs too much work on a body fails the probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub body_matches: Option<String>,
    /// A regular expression that the body must match nowhere. The rules of bodyMatches hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub body_not_matches: Option<String>,
    /// Whether up to 5 redirects on the same host and port are followed. One that leads elsewhere fails the probe.
    #[serde(default = "HttpProbe::default_follow_redirects")]
    pub follow_redirects: bool,
    /// How TLS is spoken, when the target is https or grpcs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// A key of a Secret that holds a token, sent as Authorization: Bearer. The Secret must carry the label
    /// vigie.dev/probe-credentials: "true".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_secret_ref: Option<SecretKeyRef>,
    /// Name of a Secret with the keys username and password (type kubernetes.io/basic-auth), in the namespace of this
    /// object. It must carry the label vigie.dev/probe-credentials: "true".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_NAME), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub basic_auth_secret_name: Option<String>,
}

impl HttpProbe {
    const fn default_method() -> HttpMethod {
        HttpMethod::GET
    }

    const fn default_follow_redirects() -> bool {
        true
    }

    /// Seconds before its expiry from which a certificate is warned about.
    pub fn warn_before_expiry_seconds(&self) -> i32 {
        self.tls.as_ref().map_or(TlsSpec::default_warn_before_expiry(), |tls| tls.warn_before_expiry_seconds)
    }
}

// By hand: a derived one would become the schema's default of an absent block, which follows no redirects.
impl Default for HttpProbe {
    fn default() -> Self {
        Self {
            method: Self::default_method(),
            headers: Vec::new(),
            expected_status: Vec::new(),
            body_matches: None,
            body_not_matches: None,
            follow_redirects: Self::default_follow_redirects(),
            tls: None,
            bearer_token_secret_ref: None,
            basic_auth_secret_name: None,
        }
    }
}

/// One header: its value stands here, or in a Secret.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.value) != has(self.valueFrom)")
        .message("spec.probe.http.headers[] needs exactly one of value and valueFrom"),
)]
pub struct HeaderSpec {
    /// Name of the header, at most 128 characters that RFC 9110 allows in a token.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"))]
    // Those of RFC 9110, section 7.6.1, older ones that servers still know, and what says how long a body is.
    #[x_kube(
        validation = Rule::new("!(self.lowerAscii() in ['host', 'connection', 'keep-alive', 'proxy-authenticate', \
            'proxy-authorization', 'proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade', \
            'content-length', 'expect'])")
            .message("spec.probe.http.headers[].name must be neither Host nor a header about the connection"),
    )]
    pub name: String,
    /// The value, at most 2048 printable ASCII characters. Everyone who may read this object reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^[ -~]*$"))]
    pub value: Option<String>,
    /// Where the value is to be read from, when it is a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<HeaderSource>,
}

/// Where the value of a header is read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderSource {
    /// A key of a Secret. The Secret must carry the label vigie.dev/probe-credentials: "true".
    pub secret_ref: SecretKeyRef,
}

/// How TLS is spoken.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsSpec {
    /// A key of a Secret that holds certificates in PEM: they are trusted in place of the system's authorities. The
    /// Secret must carry the label vigie.dev/probe-credentials: "true".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// The name that is asked for and that the certificate must have. Default: the target's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_NAME), regex(pattern = r"^[A-Za-z0-9._:-]+$"))]
    pub server_name: Option<String>,
    /// Whether any certificate is believed. Its expiry is recorded all the same.
    #[serde(default)]
    pub insecure_skip_verify: bool,
    /// Name of a Secret with the keys tls.crt and tls.key (type kubernetes.io/tls), in the namespace of this object:
    /// the certificate that we show. It must carry the label vigie.dev/probe-credentials: "true".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_NAME), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub client_certificate_secret_name: Option<String>,
    /// How many seconds before its certificate expires the backend is said to be CertificateExpiring, 0 to 31536000;
    /// 0 never. Default: two weeks.
    #[serde(default = "TlsSpec::default_warn_before_expiry")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub warn_before_expiry_seconds: i32,
}

impl TlsSpec {
    const fn default_warn_before_expiry() -> i32 {
        1_209_600
    }
}

impl Default for TlsSpec {
    fn default() -> Self {
        Self {
            ca_secret_ref: None,
            server_name: None,
            insecure_skip_verify: false,
            client_certificate_secret_name: None,
            warn_before_expiry_seconds: Self::default_warn_before_expiry(),
        }
    }
}
