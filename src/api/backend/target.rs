//! The target of a backend's probes.

// The derive of KubeSchema repeats each struct inside a function, where nothing public can be reached.
#![allow(unreachable_pub)]

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The longest URL, in characters.
pub const MAX_URL: usize = 2048;
/// The longest path with its query, in characters.
pub const MAX_PATH: usize = 1024;

/// How a target is spoken to, written as in a URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetScheme {
    /// HTTP/1.1 in clear.
    #[default]
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// A connection without any data.
    Tcp,
    /// The gRPC health protocol in clear.
    Grpc,
    /// The gRPC health protocol over TLS.
    Grpcs,
}

impl TargetScheme {
    /// Every scheme.
    pub const ALL: &'static [Self] = &[Self::Http, Self::Https, Self::Tcp, Self::Grpc, Self::Grpcs];

    /// The scheme as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
        }
    }
}

impl std::fmt::Display for TargetScheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for TargetScheme {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|scheme| scheme.as_str() == word).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|scheme| scheme.as_str()).collect();
            format!("{word:?} is no scheme of a target: {} are", known.join(", "))
        })
    }
}

/// CEL: a URL without a user.
pub(super) const NO_USER: &str = "!self.matches('^[^/?#]*//[^/?#]*@')";

/// CEL: a URL whose port, if it has one, is 1 to 65535.
pub(super) const PORT_IN_RANGE: &str = "!isURL(self) || url(self).getPort() == '' \
    || (int(url(self).getPort()) >= 1 && int(url(self).getPort()) <= 65535)";

/// CEL: a URL that can be dialled. A user is admitted here: the rule [`NO_USER`] refuses it with its own message. An IPv6
/// address in brackets has no zone, because a zone differs between hosts; a name in another script must be in punycode.
const URL_SHAPE: &str = "isURL(self) && self.matches(\
    r'^(https?|tcp|grpcs?)://([^/?#]*@)?([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?([/?][!-\"$-~]*)?$')";

/// CEL: a path with its query.
const PATH_SHAPE: &str = "self.matches('^/[!-\"$-~]*$')";

/// A port by its number, or by its name (an IANA service name: at most 15 lower-case letters, digits and single
/// dashes, one letter at least).
fn port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "minimum": 1,
        "maximum": 65535,
        "maxLength": 15,
        "pattern": "^([0-9]+(-[0-9]+)*-?)?[a-z](-?[a-z0-9])*$",
    })
}

/// The address to dial: exactly one of url, service and pods.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.url), has(self.service), has(self.pods)].exists_one(given, given)")
        .message("spec.target needs exactly one of url, service and pods"),
)]
pub struct BackendTarget {
    /// An address of any kind: http, https, tcp, grpc or grpcs, then a host and, for the last three, a port; at most
    /// 2048 characters. No user and no password. For grpc and grpcs the path is the name of the service whose health
    /// is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_URL))]
    #[x_kube(
        validation = Rule::new(NO_USER)
            .message("spec.target.url must hold no user and no password: name a Secret in spec.probe.http"),
        validation = Rule::new(URL_SHAPE)
            .message("spec.target.url must be http, https, tcp, grpc or grpcs, then ://, a host, a port if there is \
                one, and a path without a fragment"),
        validation = Rule::new("!self.matches('^(tcp|grpcs?)://') || self.matches('^[a-z]+://[^/?]*:[0-9]+([/?]|$)')")
            .message("spec.target.url needs a port when it is tcp, grpc or grpcs: those have no usual one"),
        validation = Rule::new(PORT_IN_RANGE)
            .message("spec.target.url must have a port of 1 to 65535, if it has one"),
    )]
    pub url: Option<String>,
    /// A port of a Service in the same namespace. Its cluster address is dialled; each of its endpoints when it is
    /// headless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceTarget>,
    /// A port of each pod of workloadRef, ready or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodsTarget>,
}

/// A port of a Service in the object's own namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceTarget {
    /// Name of the Service, in the namespace of this object.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Number, 1 to 65535, or name of the Service's port.
    #[schemars(schema_with = "port")]
    pub port: IntOrString,
    /// How it is spoken to: http, https, tcp, grpc or grpcs.
    #[serde(default)]
    pub scheme: TargetScheme,
    /// Path and query, beginning with a slash; default: / alone. For grpc and grpcs: the name of the service whose
    /// health is asked for, after the slash. For tcp it means nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_PATH))]
    #[x_kube(
        validation = Rule::new(PATH_SHAPE)
            .message("spec.target.service.path must begin with a slash, and hold neither spaces nor #"),
    )]
    pub path: Option<String>,
}

/// A port of each pod of the workload.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodsTarget {
    /// Number, 1 to 65535, or name of a port that the pods' containers declare.
    #[schemars(schema_with = "port")]
    pub port: IntOrString,
    /// How they are spoken to: http, https, tcp, grpc or grpcs.
    #[serde(default)]
    pub scheme: TargetScheme,
    /// Path and query, beginning with a slash; default: / alone. For grpc and grpcs: the name of the service whose
    /// health is asked for, after the slash. For tcp it means nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_PATH))]
    #[x_kube(
        validation = Rule::new(PATH_SHAPE)
            .message("spec.target.pods.path must begin with a slash, and hold neither spaces nor #"),
    )]
    pub path: Option<String>,
}
