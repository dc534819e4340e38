//! The network that limits per client apply to.

use std::net::{IpAddr, Ipv6Addr};

/// The network of one client: the /64 of an IPv6 address, because one host owns all of it, and an IPv4 address itself. On a
/// socket for both families an IPv4 address appears as a mapped IPv6 address.
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_one_client_in_either_family() {
        for (address, network) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8::1:2:3", "2001:db8::"),
            ("2001:db8:0:1::1", "2001:db8:0:1::"),
        ] {
            assert_eq!(client_network(address.parse().unwrap()).to_string(), network);
        }
    }
}
