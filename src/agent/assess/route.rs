//! The routes into the overlay.

use ipnet::IpNet;

use super::finding::Finding;
use super::host::Host;
use crate::agent::facts::Route;

pub(super) fn judge(host: &Host<'_>) -> Finding {
    let network = match host.network() {
        Err(unknown) => return unknown,
        Ok(network) => network,
    };
    let (name, overlays) = (host.interface(), host.overlays());
    let by_tunnel = |route: &&Route| route.links.iter().any(|link| link == name);
    let leads_into = |route: &Route, overlay: &IpNet| route.to.contains(overlay) || overlay.contains(&route.to);
    let missing: Vec<&IpNet> = overlays
        .iter()
        .filter(|overlay| !network.routes.iter().filter(by_tunnel).any(|route| leads_into(route, overlay)))
        .collect();
    if let Some(first) = missing.first() {
        return Finding::fail(format!("no route to {first} by {name}: ip route replace {first} dev {name}"));
    }
    // A route inside the overlay is narrower than that by the tunnel, so it wins.
    let inside = |route: &&Route| overlays.iter().any(|overlay| overlay.contains(&route.to));
    let beside: Vec<&Route> = network.routes.iter().filter(inside).filter(|route| !by_tunnel(route)).collect();
    if let Some(first) = beside.first() {
        let way = first.drops.clone().unwrap_or_else(|| format!("by {}", first.links.join(", ")));
        let more = if beside.len() > 1 { format!(" and {} more", beside.len() - 1) } else { String::new() };
        return Finding::warn(format!("{} leads elsewhere: {way}{more} (ip route show {})", first.to, first.to));
    }
    let route = network.routes.iter().filter(by_tunnel).find(|route| leads_into(route, &overlays[0]));
    Finding::pass(route.map_or_else(String::new, |route| format!("{} by {name}", route.to)))
}
