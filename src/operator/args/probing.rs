//! The flags of `vigie run` that are about probes.

use clap::Args;
use ipnet::IpNet;

use crate::operator::flag_values as values;

/// What probes may dial, and how many run at once.
#[derive(Args, Debug, Clone)]
pub struct ProbingArgs {
    /// A network that probes may dial although it is loopback or the cluster's own; repeatable
    #[arg(long, value_name = "CIDR", env = "VIGIE_ALLOW_NETWORK", value_delimiter = ',', value_parser = values::network)]
    pub allow_network: Vec<IpNet>,
    /// A network that probes may not dial, the object's own Services and pods included; repeatable, wins over --allow-network
    #[arg(long, value_name = "CIDR", env = "VIGIE_DENY_NETWORK", value_delimiter = ',', value_parser = values::network)]
    pub deny_network: Vec<IpNet>,
    /// A range of the cluster's own that cannot be read from it; repeatable
    #[arg(long, value_name = "CIDR", env = "VIGIE_CLUSTER_NETWORK", value_delimiter = ',', value_parser = values::network)]
    pub cluster_network: Vec<IpNet>,
    /// How many probes run at once, 2 to 10000; one namespace uses at most half of those that the others leave
    #[arg(long, value_name = "N", env = "VIGIE_PROBE_CONCURRENCY", default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub probe_concurrency: u32,
    /// The Prometheus whose own view of backends is told, where they name none
    #[arg(long, value_name = "URL", env = "VIGIE_PROMETHEUS_URL", value_parser = values::url)]
    pub prometheus_url: Option<String>,
}
