//! Network interfaces, their addresses, and the routes of every table that a rule leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::netlink::{Netlink, attribute, attributes, dump, text, u16_at, u32_at};
use crate::agent::facts::{Link, Network, Route};

const GET_LINK: u16 = 18;
const GET_ADDRESS: u16 = 22;
const GET_ROUTE: u16 = 26;
const GET_RULE: u16 = 34;

/// Most interfaces that are told: those of containers beyond it are left out.
const MAX_LINKS: usize = 256;
/// Most routes that are told: those that lead into no tunnel and to no network of a check are left out first.
const MAX_ROUTES: usize = 512;

const IPV4: u8 = 2;
const IPV6: u8 = 10;
const MAIN_TABLES: [u32; 3] = [253, 254, 255];

/// Reads the interfaces and routes. `wanted`: the networks that checks ask for.
pub(super) fn read(wanted: &[IpNet]) -> Result<Network, String> {
    // No statistics: they are most of the answer.
    let skip_statistics = attribute(29, &8_u32.to_ne_bytes());
    let mut links = BTreeMap::new();
    for message in dump(Netlink::Route, GET_LINK, &[vec![0; 16], skip_statistics].concat())? {
        links.extend(link(&message));
    }
    for message in dump(Netlink::Route, GET_ADDRESS, &[0; 8])? {
        if let Some((index, network)) = address(&message)
            && let Some(link) = links.get_mut(&index)
        {
            link.addresses.push(network);
        }
    }
    let rules: Vec<_> = dump(Netlink::Route, GET_RULE, &[0; 12])?;
    let tables: BTreeSet<u32> = rules.iter().filter_map(|message| table_of_rule(message)).chain(MAIN_TABLES).collect();
    let mut routes = Vec::new();
    for message in dump(Netlink::Route, GET_ROUTE, &[0; 12])? {
        routes.extend(route(&message, &links).filter(|route| tables.contains(&route.table)));
    }
    Ok(bounded(links.into_values().collect(), routes, wanted))
}

/// The network with at most so many interfaces and routes, those that no check can ask for left out first.
fn bounded(mut links: Vec<Link>, mut routes: Vec<Route>, wanted: &[IpNet]) -> Network {
    let is_tunnel = |link: &Link| matches!(link.kind.as_deref(), Some("wireguard" | "tun"));
    let tunnels: BTreeSet<String> = links.iter().filter(|link| is_tunnel(link)).map(|link| link.name.clone()).collect();
    links.sort_by_key(|link| !is_tunnel(link) && link.kind.as_deref() == Some("veth"));
    links.truncate(MAX_LINKS);
    routes.sort_by_key(|route| {
        let is_near = route.links.iter().any(|link| tunnels.contains(link)) || route.to.prefix_len() == 0;
        !is_near && !wanted.iter().any(|network| network.contains(&route.to))
    });
    routes.truncate(MAX_ROUTES);
    Network { links, routes }
}

fn link(message: &[u8]) -> Option<(u32, Link)> {
    const UP: u32 = 1;
    let (index, flags) = (u32_at(message, 4)?, u32_at(message, 8)?);
    let mut link = Link { is_up: flags & UP != 0, ..Link::default() };
    for (kind, value) in attributes(message.get(16..)?) {
        match kind {
            3 => link.name = text(value),
            18 => link.kind = attributes(value).find(|(kind, _)| *kind == 1).map(|(_, kind)| text(kind)),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some((index, link))
}

fn address(message: &[u8]) -> Option<(u32, IpNet)> {
    let (family, prefix) = (*message.first()?, *message.get(1)?);
    let mut found = None;
    for (kind, value) in attributes(message.get(8..)?) {
        // The local address; of a point-to-point link the other attribute is that of the far side.
        if kind == 2 || (kind == 1 && found.is_none()) {
            found = ip(family, value);
        }
    }
    Some((u32_at(message, 4)?, IpNet::new(found?, prefix).ok()?))
}

/// The table that a rule leads to.
fn table_of_rule(message: &[u8]) -> Option<u32> {
    const TO_TABLE: u8 = 1;
    if *message.get(7)? != TO_TABLE {
        return None;
    }
    let long = attributes(message.get(12..)?).find(|(kind, _)| *kind == 15).and_then(|(_, value)| u32_at(value, 0));
    Some(long.unwrap_or_else(|| message.get(4).copied().unwrap_or_default().into()))
}

fn route(message: &[u8], links: &BTreeMap<u32, Link>) -> Option<Route> {
    // A next hop that is dead or whose link is down, and a route that is a mere cache.
    const DEAD: u32 = 0x11;
    const CLONED: u32 = 0x200;
    let (family, prefix, flags) = (*message.first()?, *message.get(1)?, u32_at(message, 8)?);
    let drops = match *message.get(7)? {
        1 => None,
        6 => Some("blackhole"),
        7 => Some("unreachable"),
        8 => Some("prohibit"),
        _ => return None,
    };
    if flags & (DEAD | CLONED) != 0 {
        return None;
    }
    let mut table = u32::from(*message.get(4)?);
    let mut to = match family {
        IPV4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IPV6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let mut hops: Vec<u32> = Vec::new();
    for (kind, value) in attributes(message.get(12..)?) {
        match kind {
            1 => to = ip(family, value)?,
            4 => hops.extend(u32_at(value, 0)),
            9 => hops.extend(next_hops(value)),
            15 => table = u32_at(value, 0)?,
            _ => {}
        }
    }
    let to = IpNet::new(to, prefix).ok()?;
    let is_local = matches!(to, IpNet::V6(to) if to.addr().is_unicast_link_local() || to.addr().is_multicast());
    let names: Vec<String> = hops.iter().filter_map(|hop| links.get(hop)).map(|link| link.name.clone()).collect();
    let leads = drops.is_some() || !names.is_empty();
    (leads && !is_local).then(|| Route { to, links: names, drops: drops.map(str::to_owned), table })
}

/// The interfaces of a route with several next hops.
fn next_hops(mut bytes: &[u8]) -> Vec<u32> {
    const DEAD: u8 = 0x11;
    let mut found = Vec::new();
    while let (Some(length), Some(flags), Some(link)) = (u16_at(bytes, 0), bytes.get(2), u32_at(bytes, 4)) {
        if flags & DEAD == 0 {
            found.push(link);
        }
        let length = usize::from(length).max(8).next_multiple_of(4);
        bytes = bytes.get(length..).unwrap_or_default();
    }
    found
}

fn ip(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        IPV4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        IPV6 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}
