//! Whether the kernel forwards packets between the tunnel and the uplink.

use std::collections::BTreeSet;

use super::finding::Finding;
use super::host::{Host, seen};
use super::rules::{Packets, drops};

pub(super) fn judge(host: &Host<'_>) -> Finding {
    let forwarding = match seen(host.facts.forwarding.as_ref(), "the settings of the kernel") {
        Err(unknown) => return unknown,
        Ok(forwarding) => forwarding,
    };
    let overlays = host.overlays();
    let has = |v4: bool| overlays.iter().any(|overlay| overlay.addr().is_ipv4() == v4);
    let off = |setting: &str| {
        Finding::fail(format!(
            "{setting} is 0: sysctl -w {setting}=1; and in /etc/sysctl.d, or it is lost at the next boot"
        ))
    };
    for (setting, value, counts) in
        [("net.ipv4.ip_forward", forwarding.v4, has(true)), ("net.ipv6.conf.all.forwarding", forwarding.v6, has(false))]
    {
        match value.filter(|_| counts) {
            Some(false) => return off(setting),
            None if counts => return Finding::unknown(format!("could not look: {setting} cannot be read")),
            _ => {}
        }
    }
    let uplinks = uplinks(host);
    for name in std::iter::once(host.interface()).chain(uplinks.iter().copied()) {
        let (v4, v6) = forwarding.links.get(name).copied().unwrap_or_default();
        for (family, value) in [("ipv4", v4.filter(|_| has(true))), ("ipv6", v6.filter(|_| has(false)))] {
            if value == Some(false) {
                // A name with dots is written with slashes.
                return off(&format!("net.{family}.conf.{}.forwarding", name.replace('.', "/")));
            }
        }
    }
    match dropped(host, &uplinks) {
        Some((chain, command)) => Finding::warn(format!(
            "forwarding is on, but {chain} drops what it does not name, and nothing in it accepts packets from {}: add \
             {command}",
            host.interface(),
        )),
        None => Finding::pass("forwarding is on"),
    }
}

/// The interfaces of the default routes.
fn uplinks<'a>(host: &Host<'a>) -> BTreeSet<&'a str> {
    let Ok(network) = host.network() else { return BTreeSet::new() };
    let defaults = network.routes.iter().filter(|route| route.to.prefix_len() == 0);
    let names = defaults.flat_map(|route| &route.links).map(String::as_str);
    names.filter(|name| *name != host.interface()).collect()
}

/// The chain that drops packets from the tunnel to the uplink, and the command that lets them pass. What cannot be seen
/// drops nothing.
fn dropped(host: &Host<'_>, uplinks: &BTreeSet<&str>) -> Option<(String, String)> {
    let firewall = host.facts.firewall.as_ref()?;
    let (tunnel, overlays) = (host.interface(), host.overlays());
    let ways: Vec<&str> = uplinks.iter().copied().collect();
    let looks = [(Some(&firewall.nft), ""), (firewall.legacy.as_ref(), "-legacy")];
    let chains: Vec<_> = looks.into_iter().filter_map(|(look, kind)| Some((look?.seen().ok()?, kind))).collect();
    overlays.iter().find_map(|overlay| {
        let packets = Packets { overlay, all_overlays: &overlays, tunnel, ways: &ways };
        chains.iter().find_map(|(chains, kind)| {
            let chain = drops(chains, packets)?;
            let command = accepting(&chain, kind, tunnel);
            Some((chain, command))
        })
    })
}

/// The command that adds a rule to a chain. One in another table would not help: packets pass all of them.
fn accepting(chain: &str, kind: &str, tunnel: &str) -> String {
    let tool = match chain {
        "ip filter FORWARD" | "iptables filter FORWARD" => "iptables",
        "ip6 filter FORWARD" | "ip6tables filter FORWARD" => "ip6tables",
        _ => return format!("nft insert rule {chain} iifname {tunnel} accept"),
    };
    format!("{tool}{kind} -I FORWARD -i {tunnel} -j ACCEPT (with Docker: DOCKER-USER)")
}
