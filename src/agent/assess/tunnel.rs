//! The WireGuard interface.

use super::finding::Finding;
use super::host::Host;

pub(super) fn judge(host: &Host<'_>) -> Finding {
    let name = host.interface();
    let link = match host.link() {
        Err(unknown) => return unknown,
        Ok(None) => {
            return Finding::fail(format!(
                "{name} does not exist: wg-quick up {name} / systemctl status wg-quick@{name}"
            ));
        }
        Ok(Some(link)) => link,
    };
    if !link.is_up {
        return Finding::fail(format!("{name} is down: ip link set {name} up"));
    }
    if link.kind.as_deref() == Some("tun") && !host.facts.tunnels.contains_key(name) {
        return Finding::warn(format!(
            "{name} is a userspace tunnel without its socket /run/wireguard/{name}.sock: its peers cannot be seen"
        ));
    }
    let overlays = host.overlays();
    let is_inside = |address: &ipnet::IpNet| overlays.iter().any(|overlay| overlay.contains(&address.addr()));
    if !link.addresses.iter().any(is_inside) {
        let networks: Vec<String> = overlays.iter().map(ToString::to_string).collect();
        return Finding::warn(format!("{name} has no address of {}: ip address show {name}", networks.join(", ")));
    }
    let addresses: Vec<String> = link.addresses.iter().take(4).map(ToString::to_string).collect();
    Finding::pass(format!("{name} is up with {}", addresses.join(", ")))
}
