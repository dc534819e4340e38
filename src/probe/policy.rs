//! The address policy: which addresses a probe may dial (`docs/design/probes-and-diagnosis.md`, "What tenants may aim at
//! is limited").
//!
//! The policy checks the address that is then connected to, never a name. A name that resolves differently a moment later
//! gains nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;

use ipnet::IpNet;

mod embedded;
#[cfg(test)]
mod tests;

/// Ranges that are never dialled, not even with `--allow-network`, and why.
const NEVER: [(&str, &str); 16] = [
    ("0.0.0.0/8", "unspecified: it means this machine"),
    ("::/128", "unspecified: it means this machine"),
    ("169.254.0.0/16", "link-local, where clouds keep their metadata"),
    ("fe80::/10", "link-local"),
    ("224.0.0.0/4", "multicast"),
    ("ff00::/8", "multicast"),
    ("255.255.255.255/32", "broadcast"),
    // Metadata and credentials that are not link-local.
    ("fd00:ec2::/32", "AWS's metadata (fd00:ec2::254) and its like"),
    ("fd20:ce::254/128", "Google Cloud's metadata"),
    ("100.100.100.200/32", "Alibaba Cloud's metadata"),
    ("168.63.129.16/32", "Azure's platform address"),
    ("192.0.0.192/32", "Oracle Cloud's metadata"),
    ("fd00:c1::a9fe:a9fe/128", "Oracle Cloud's metadata"),
    ("fd00:42::42/128", "Scaleway's metadata"),
    ("fd00:a9fe:a9fe::/48", "Akamai's metadata (fd00:a9fe:a9fe::1)"),
    // Deprecated by RFC 3879, and routed like link-local where it still is.
    ("fec0::/10", "site-local"),
];

/// Ranges that are dialled only when an administrator allows them, in every cluster.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

static NEVER_NETS: LazyLock<Vec<IpNet>> = LazyLock::new(|| NEVER.iter().map(|(range, _)| net(range)).collect());
static LOOPBACK_NETS: LazyLock<Vec<IpNet>> = LazyLock::new(|| LOOPBACK.into_iter().map(net).collect());

fn net(range: &str) -> IpNet {
    range.parse().expect("the ranges above are well formed")
}

/// The address policy. Replaced whenever the ranges of the cluster change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Networks that an administrator allows in spite of the defaults: `--allow-network`.
    pub allow: Vec<IpNet>,
    /// Networks that an administrator denies: `--deny-network`. Wins over everything else.
    pub deny: Vec<IpNet>,
    /// Networks of the cluster: addresses of Nodes and the API server, their `podCIDRs`, ServiceCIDRs, `--cluster-network`.
    pub cluster: Vec<IpNet>,
    /// Ports that vigie listens on, on loopback, on any of `own_addresses`, and on any address of its machine.
    pub own_ports: Vec<u16>,
    /// The addresses of vigie's own pod.
    pub own_addresses: Vec<IpAddr>,
    /// Other addresses of vigie: those of its Services.
    pub own_sockets: Vec<SocketAddr>,
    /// A person dials from their own machine (`vigie probe`): only the rule `deny` applies.
    pub of_a_person: bool,
}

impl Policy {
    /// The policy of `vigie probe`, run by a person: only `deny` applies.
    pub fn of_a_person(allow: Vec<IpNet>, deny: Vec<IpNet>) -> Self {
        Self { allow, deny, of_a_person: true, ..Self::default() }
    }

    /// Checks whether `address` may be dialled at `port`. With `is_own` the address belongs to the object's own workload or
    /// Service, which no range of the cluster denies. `--deny-network` always does.
    ///
    /// # Errors
    /// The range and the rule that deny it.
    pub fn judge(&self, address: IpAddr, port: u16, is_own: bool) -> Result<(), String> {
        for candidate in embedded::all(address) {
            self.judge_one(candidate, port, is_own).map_err(|why| {
                let through =
                    if candidate == address { String::new() } else { format!(", which stands for {candidate},") };
                format!("{address}{through} may not be dialled: {why}")
            })?;
        }
        Ok(())
    }

    /// Whether vigie listens on `port`, so that this machine's own addresses must not be dialled at it.
    pub(super) fn guards(&self, port: u16) -> bool {
        !self.of_a_person && self.own_ports.contains(&port)
    }

    fn judge_one(&self, address: IpAddr, port: u16, is_own: bool) -> Result<(), String> {
        if !self.of_a_person {
            never(address)?;
            self.not_ourselves(address, port)?;
        }
        if let Some(range) = within(&self.deny, address) {
            return Err(format!("{range} is denied by --deny-network"));
        }
        // The object's own pods and Services are allowed in any other network; none of them is on loopback.
        if is_own && within(&LOOPBACK_NETS, address).is_none() {
            return Ok(());
        }
        if self.of_a_person || within(&self.allow, address).is_some() {
            return Ok(());
        }
        if let Some(range) = within(&LOOPBACK_NETS, address) {
            return Err(format!("{range} is loopback; an administrator can allow it with --allow-network"));
        }
        if let Some(range) = within(&self.cluster, address) {
            return Err(format!("{range} is the cluster's own; an administrator can allow it with --allow-network"));
        }
        Ok(())
    }

    fn not_ourselves(&self, address: IpAddr, port: u16) -> Result<(), String> {
        let here = within(&LOOPBACK_NETS, address).is_some() || self.own_addresses.contains(&address);
        if here && self.own_ports.contains(&port) || self.own_sockets.contains(&SocketAddr::new(address, port)) {
            return Err(format!("port {port} there is vigie's own"));
        }
        Ok(())
    }
}

fn never(address: IpAddr) -> Result<(), String> {
    let found = NEVER_NETS.iter().position(|range| range.contains(&address)).map(|at| NEVER[at]);
    match found {
        Some((range, why)) => Err(format!("{range} is {why}")),
        None => Ok(()),
    }
}

/// The first of `ranges` that contains `address`. A range of IPv4-mapped addresses counts as one of IPv4.
fn within(ranges: &[IpNet], address: IpAddr) -> Option<IpNet> {
    ranges.iter().copied().find(|range| unmapped(*range).contains(&address))
}

fn unmapped(range: IpNet) -> IpNet {
    let IpNet::V6(six) = range else { return range };
    let mapped: Option<Ipv4Addr> = six.network().to_ipv4_mapped();
    let length = six.prefix_len().checked_sub(96);
    match mapped.zip(length).map(|(address, length)| ipnet::Ipv4Net::new(address, length)) {
        Some(Ok(four)) => IpNet::V4(four),
        _ => range,
    }
}
