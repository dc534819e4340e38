//! The IPv4 addresses that an IPv6 address embeds: its packets may be delivered to them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address itself, and every IPv4 address that it embeds in any of the known ways.
pub(super) fn all(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(six) = address else { return vec![address] };
    let mut all = vec![address];
    for four in embedded(six).map(IpAddr::V4) {
        if !all.contains(&four) {
            all.push(four);
        }
    }
    all
}

fn embedded(six: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let s = six.segments();
    let last = four(s[6], s[7]);
    let mut found = Vec::new();
    match s {
        // Unspecified and loopback are addresses of their own, not 0.0.0.0 and 0.0.0.1 in disguise.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => {}
        // IPv4-compatible (RFC 4291, 2.5.5.1), IPv4-mapped (2.5.5.2), IPv4-translated (RFC 2765).
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => found.push(last),
        // NAT64's well-known prefix (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => found.push(last),
        // NAT64 of one's own (RFC 8215): under it any length of RFC 6052, 2.2 may be in use.
        [0x64, 0xff9b, 1, ..] => {
            let b = six.octets();
            found.extend([
                last,
                Ipv4Addr::new(b[6], b[7], b[9], b[10]),
                Ipv4Addr::new(b[7], b[9], b[10], b[11]),
                Ipv4Addr::new(b[9], b[10], b[11], b[12]),
            ]);
        }
        // 6to4 (RFC 3056).
        [0x2002, ..] => found.push(four(s[1], s[2])),
        // Teredo (RFC 4380): the server, and the client's address with its bits turned.
        [0x2001, 0, ..] => found.extend([four(s[2], s[3]), four(!s[6], !s[7])]),
        _ => {}
    }
    // ISATAP (RFC 5214): an interface identifier, below any prefix.
    if matches!(s[4], 0 | 0x200) && s[5] == 0x5efe {
        found.push(last);
    }
    found.into_iter()
}

fn four(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}
