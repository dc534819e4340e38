//! The flags of `vigie run`.

mod probing;
mod remediation;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::flag_values as values;
use crate::cluster::ConnectionArgs;
use crate::metrics::ObjectMetrics;
pub use probing::ProbingArgs;
pub use remediation::RemediationArgs;

/// The flags of `vigie run`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Examples:
  vigie run                                  against the current context, every namespace
  vigie run --namespace edge --log debug     one namespace, talkative
  VIGIE_LISTEN=127.0.0.1:18080 vigie run     the same by environment")]
pub struct RunArgs {
    /// The ports, and the callers of the admin port.
    #[command(flatten)]
    pub ports: PortArgs,
    /// A namespace to look after; repeatable [default: all]
    #[arg(long, value_name = "NS", env = "VIGIE_NAMESPACE", value_delimiter = ',', value_parser = values::namespace)]
    pub namespace: Vec<String>,
    /// The Lease that replicas elect a leader by.
    #[command(flatten)]
    pub lease: LeaseArgs,
    /// How connectors reach the operator.
    #[command(flatten)]
    pub reachability: ReachabilityArgs,
    /// The limits on writes of unchanged states.
    #[command(flatten)]
    pub writes: StatusWriteArgs,
    /// Proxies and TLS of the heartbeat port.
    #[command(flatten)]
    pub heartbeat: HeartbeatPortArgs,
    /// Whether each connector has metrics of its own; auto: up to 5,000 connectors
    #[arg(long, value_enum, value_name = "WHEN", env = "VIGIE_OBJECT_METRICS", default_value_t)]
    pub object_metrics: ObjectMetrics,
    /// The log.
    #[command(flatten)]
    pub logging: LogArgs,
    /// What probes may dial, and how many run at once.
    #[command(flatten)]
    pub probing: ProbingArgs,
    /// When restarts are held back.
    #[command(flatten)]
    pub remediation: RemediationArgs,
    /// The cluster.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// The ports, and the callers of the admin port.
#[derive(Args, Debug, Clone)]
pub struct PortArgs {
    /// Where connectors send their heartbeats; the default is every address, IPv4 and IPv6
    #[arg(long, value_name = "ADDRESS:PORT", env = "VIGIE_LISTEN", default_value = "[::]:8080",
        value_parser = values::socket)]
    pub listen: SocketAddr,
    /// Where /metrics, /livez, /readyz and the API for `vigie get` are served
    #[arg(long, value_name = "ADDRESS:PORT", env = "VIGIE_ADMIN", default_value = "[::]:9090",
        value_parser = values::socket)]
    pub admin: SocketAddr,
    /// Authentication of requests to the admin port: none, or a token that the API server lets `get` the path
    #[arg(long, value_enum, value_name = "WHO", env = "VIGIE_ADMIN_AUTH", default_value_t)]
    pub admin_auth: AdminAuth,
    /// With --admin-auth kubernetes: an audience for which a token must be issued; repeatable [default: the API server's]
    ///
    /// A token for this audience alone is of no use at the API server, so a scraper that sends it gives nothing else away.
    #[arg(long, value_name = "AUDIENCE", env = "VIGIE_ADMIN_AUTH_AUDIENCE", value_delimiter = ',',
        value_parser = NonEmptyStringValueParser::new())]
    pub admin_auth_audience: Vec<String>,
}

/// The Lease that replicas elect a leader by.
#[derive(Args, Debug, Clone)]
pub struct LeaseArgs {
    /// The namespace of the lease that replicas elect a leader by [default: POD_NAMESPACE, or the context's]
    #[arg(long, value_name = "NS", env = "VIGIE_LEASE_NAMESPACE", value_parser = values::namespace)]
    pub lease_namespace: Option<String>,
    /// The name of that lease
    #[arg(long, value_name = "NAME", env = "VIGIE_LEASE_NAME", default_value = "vigie", value_parser = values::name)]
    pub lease_name: String,
}

/// How connectors reach the operator.
#[derive(Args, Debug, Clone)]
pub struct ReachabilityArgs {
    /// Our Service for heartbeats: in a cluster, being reachable means being behind it
    #[arg(long, value_name = "NAME", env = "VIGIE_HEARTBEAT_SERVICE", value_parser = values::name)]
    pub heartbeat_service: Option<String>,
    /// The URL that connectors reach us by; it is written into their Secrets, and tried every 10 s
    #[arg(long, value_name = "URL", env = "VIGIE_PUBLIC_URL", value_parser = values::url)]
    pub public_url: Option<String>,
}

/// The limits on writes of unchanged states.
#[derive(Args, Debug, Clone)]
pub struct StatusWriteArgs {
    /// How many last contacts of unchanged connectors are written per second, 1 to 1000; transitions never wait
    #[arg(long, value_name = "N", env = "VIGIE_STATUS_WRITES_PER_SECOND", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub status_writes_per_second: u32,
    /// How old a written last contact may get before it is written anew, 1 to 3600
    #[arg(long, value_name = "SECONDS", env = "VIGIE_CHECKPOINT_SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub checkpoint_seconds: u32,
}

/// Proxies and TLS of the heartbeat port.
#[derive(Args, Debug, Clone)]
pub struct HeartbeatPortArgs {
    /// A network whose X-Forwarded-For is believed; repeatable [default: none]
    #[arg(long, value_name = "CIDR", env = "VIGIE_TRUSTED_PROXY", value_delimiter = ',', value_parser = values::network)]
    pub trusted_proxy: Vec<IpNet>,
    /// The certificate chain for the heartbeat port, PEM; read again when it changes
    ///
    /// Without it the port is plain HTTP, for a proxy in front that terminates TLS.
    #[arg(long, value_name = "FILE", env = "VIGIE_TLS_CERT_FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// The private key of that certificate, PEM; read again when it changes
    #[arg(long, value_name = "FILE", env = "VIGIE_TLS_KEY_FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,
}

/// The log.
#[derive(Args, Debug, Clone)]
pub struct LogArgs {
    /// How log lines are written
    #[arg(long, value_enum, value_name = "FORMAT", env = "VIGIE_LOG_FORMAT", default_value_t)]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug or trace, also per module as in `info,vigie::leader=debug`
    #[arg(long, value_name = "LEVEL", env = "VIGIE_LOG", default_value = "info", value_parser = values::log_filter)]
    pub log: String,
}

/// The authentication of requests to the admin port.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdminAuth {
    /// None: every request is answered
    #[default]
    Off,
    /// A bearer token, by TokenReview, whose user may get the path, by SubjectAccessReview
    Kubernetes,
}

/// How log lines are written.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One object per line, for machines
    Json,
}
