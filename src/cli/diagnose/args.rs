//! The flags of `vigie diagnose`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::cluster::ConnectionArgs;
use crate::operator::flag_values as values;

/// What to look into.
#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  vigie diagnose backend orders -n shop              why it is not well, seen from here and from the cluster
  vigie diagnose backend orders -n shop --logs       with the last lines of containers that crashed
  vigie diagnose backend orders --evidence seen.json save what was seen
  vigie diagnose backend --from seen.json            the same conclusions, without a cluster
  vigie diagnose connector edge-1 -n gateways        why it is silent, and how to test it by hand

Exit codes: 0 healthy, 3 something is wrong, 1 could not look, 2 wrong usage.")]
pub enum DiagnoseCommand {
    /// Probes a MonitoredBackend, gathers the evidence and says what is wrong; needs no operator
    Backend(Box<BackendArgs>),
    /// Says what is known of a Connector, and how to test it by hand
    Connector(ConnectorArgs),
}

/// The flags of `vigie diagnose backend`.
#[derive(Args, Debug, Clone)]
pub struct BackendArgs {
    /// The MonitoredBackend
    #[arg(value_name = "NAME", value_parser = values::name, required_unless_present = "from")]
    pub name: Option<String>,
    /// Its namespace [default: the context's]
    #[arg(short, long, value_name = "NS", value_parser = values::namespace)]
    pub namespace: Option<String>,
    /// Read the evidence from a file that --evidence wrote, and ask nobody; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "namespace", "logs", "allow_network", "deny_network"])]
    pub from: Option<PathBuf>,
    /// Save the evidence as JSON; - is stdout, and the report then goes to stderr
    #[arg(long, value_name = "FILE")]
    pub evidence: Option<PathBuf>,
    /// Read the last lines of the previous logs of containers that crashed; they may hold anything
    #[arg(long)]
    pub logs: bool,
    /// A network of the cluster's own that is reached from here, although this runs outside; repeatable
    ///
    /// Outside the cluster the addresses of Services and pods are not dialled: they mean something else there.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = values::network)]
    pub allow_network: Vec<IpNet>,
    /// A network that may not be dialled; repeatable, wins over --allow-network
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = values::network)]
    pub deny_network: Vec<IpNet>,
    /// The Prometheus to ask, in place of the one that the spec names
    #[arg(long, value_name = "URL", env = "VIGIE_PROMETHEUS_URL", value_parser = values::url)]
    pub prometheus_url: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: Format,
    /// Which cluster.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// The flags of `vigie diagnose connector`.
#[derive(Args, Debug, Clone)]
pub struct ConnectorArgs {
    /// The Connector
    #[arg(value_name = "NAME", value_parser = values::name)]
    pub name: String,
    /// Its namespace [default: the context's]
    #[arg(short, long, value_name = "NS", value_parser = values::namespace)]
    pub namespace: Option<String>,
    /// The namespace that the operator runs in
    #[arg(long, value_name = "NS", env = "VIGIE_OPERATOR_NAMESPACE", default_value = "vigie",
        value_parser = values::namespace)]
    pub operator_namespace: String,
    /// The Lease that operators elect a leader by
    #[arg(long, value_name = "NAME", env = "VIGIE_LEASE_NAME", default_value = "vigie", value_parser = values::name)]
    pub lease_name: String,
    /// How to print it
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: Format,
    /// Which cluster.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// How a report is printed.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// For machines
    Json,
}
