//! One look at the host. It runs in the privileged half, reads, and changes nothing.

pub(in crate::agent) mod command;
pub mod docker;
mod environment;
pub mod firewall;
mod forwarding;
pub mod listeners;
mod netlink;
mod network;
pub mod systemd;
mod targets;
#[cfg(test)]
mod tests;
pub mod wireguard;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

use self::targets::Words;
use super::config::Config;
use super::facts::{Facts, Look, Network};
use crate::api::CheckType;
use crate::time::Clock;

/// How long one look may take. A look that takes longer could not look.
const LIMIT: Duration = Duration::from_secs(2);

/// The looks at one host, and what is remembered between them: the causes that were found in logs, so that a log is read
/// once for each end of a process.
#[derive(Debug, Default)]
pub struct Looker {
    clock: Clock,
    words: Words,
}

impl Looker {
    /// Looks at everything that the checks and backends of `config` ask for.
    ///
    /// It needs a runtime of tokio with time and I/O; one thread is enough. Answers of the kernel by netlink are read
    /// without giving up the thread: they are there at once.
    pub async fn look(&mut self, config: &Config) -> Facts {
        let wall = self.clock.read().wall;
        let mut facts = Facts { wall_seconds: u64::try_from(wall.as_second()).unwrap_or(0), ..Facts::default() };
        facts.targets = targets::look(config, &mut self.words, &self.clock).await;
        let asks = |types: &[CheckType]| config.checks.iter().any(|check| types.contains(&check.type_));
        let tunnels = [CheckType::WireGuardInterface, CheckType::WireGuardHandshake];
        let forwards = [CheckType::IPForwarding, CheckType::NATRules];
        if asks(&tunnels) || asks(&forwards) || asks(&[CheckType::OverlayRoute]) {
            let wanted: Vec<IpNet> = config.checks.iter().flat_map(|check| check.overlay_cidrs.clone()).collect();
            facts.network = Some(network::read(&wanted).into());
        }
        let network = facts.network.as_ref().and_then(|network| network.seen().ok());
        if let Some(network) = network.filter(|_| asks(&tunnels)) {
            facts.tunnels = peers(network).await;
        }
        if asks(&[CheckType::IPForwarding]) {
            let names = network.map(|network| forwarders(network, config)).unwrap_or_default();
            facts.forwarding = Some(forwarding::read(names).into());
        }
        if asks(&forwards) {
            facts.firewall = Some(firewall::read().await);
        }
        facts
    }
}

/// The peers of each WireGuard interface.
async fn peers(network: &Network) -> BTreeMap<String, Look<Vec<super::facts::Peer>>> {
    let mut found = BTreeMap::new();
    for link in &network.links {
        let peers = match (link.kind.as_deref(), wireguard::socket_of(&link.name)) {
            (Some("wireguard"), _) => wireguard::of_kernel(&link.name),
            (Some("tun"), Some(socket)) => {
                limited(&socket.display().to_string(), wireguard::of_userspace(&socket)).await
            }
            _ => continue,
        };
        found.insert(link.name.clone(), peers.into());
    }
    found
}

/// The interfaces that packets of the overlay come in by or leave by: tunnels, those of the checks, and uplinks.
fn forwarders<'a>(network: &'a Network, config: &'a Config) -> Vec<&'a str> {
    let tunnels = network.links.iter().filter(|link| matches!(link.kind.as_deref(), Some("wireguard" | "tun")));
    let uplinks = network.routes.iter().filter(|route| route.to.prefix_len() == 0).flat_map(|route| &route.links);
    let named = config.checks.iter().filter_map(|check| check.interface_name.as_ref());
    let all = tunnels.map(|link| &link.name).chain(uplinks).chain(named);
    all.map(String::as_str).filter(|name| network.links.iter().any(|link| link.name == *name)).collect()
}

/// The result of a look, or that it took too long.
async fn limited<T>(name: &str, look: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let result = tokio::time::timeout(LIMIT, look).await;
    result.unwrap_or_else(|_| Err(format!("{name} did not answer within {} s", LIMIT.as_secs())))
}

/// The text of a file of the kernel.
fn read_text(path: &Path, most: u64) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
