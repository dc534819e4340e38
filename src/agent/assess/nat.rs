//! Whether packets of the overlay leave the host with its own address.

use ipnet::IpNet;

use super::finding::Finding;
use super::host::{Host, seen};
use super::rules::{Answer, Packets, translates};
use crate::agent::facts::Firewall;

pub(super) fn judge(host: &Host<'_>) -> Finding {
    let Some(firewall) = &host.facts.firewall else {
        return Finding::unknown("the helper did not look at the rules");
    };
    let network = match host.network() {
        Err(unknown) => return unknown,
        Ok(network) => network,
    };
    let (tunnel, overlays) = (host.interface(), host.overlays());
    let others = network.links.iter().map(|link| link.name.as_str());
    let ways: Vec<&str> = others.filter(|name| *name != tunnel && *name != "lo").collect();
    let judged = overlays.iter().map(|overlay| {
        let packets = Packets { overlay, all_overlays: &overlays, tunnel, ways: &ways };
        one(firewall, packets)
    });
    // The worst network is told.
    let worst = judged.max_by_key(|finding| finding.outcome);
    worst.unwrap_or_else(|| Finding::unknown("no overlay is configured"))
}

fn one(firewall: &Firewall, packets: Packets<'_>) -> Finding {
    let overlay = packets.overlay;
    let (mut best, mut blind) = (Answer::No, None);
    for look in [Some(&firewall.nft), firewall.legacy.as_ref()].into_iter().flatten() {
        match seen(Some(look), "the rules") {
            Ok(chains) => best = best.max(translates(chains, packets)),
            Err(unknown) => blind = Some(unknown),
        }
    }
    match (best, blind) {
        (Answer::Yes, _) => Finding::pass(format!("packets from {overlay} are translated")),
        (_, Some(unknown)) => unknown,
        (Answer::Unclear(name), None) => Finding::warn(format!(
            "packets from {overlay} are translated only under a condition that is not understood: {name} (nft list ruleset)"
        )),
        (Answer::NoInterface(name), None) => Finding::fail(format!(
            "packets from {overlay} are translated only when they leave by {name}, which does not exist or is not their way: \
             nft list ruleset, ip link"
        )),
        (Answer::No, None) => Finding::fail(no_rule(overlay)),
    }
}

fn no_rule(overlay: &IpNet) -> String {
    format!("no masquerade or snat rule meets packets from {overlay}: nft list ruleset, iptables-save -t nat")
}
