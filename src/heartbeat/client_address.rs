//! The client of a request, from its head: the address and the token.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

/// The address of the client: that of the peer or, when the peer is a trusted proxy, the last address in
/// `X-Forwarded-For` that is not a trusted proxy. The client may have forged the addresses left of that one.
///
/// It is the peer's address when the header cannot be parsed up to there, and the first address when all are trusted.
pub(super) fn client(peer: Option<SocketAddr>, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical());
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    if !is_trusted(peer) {
        return peer;
    }
    let mut client = peer;
    for line in headers.get_all("x-forwarded-for").iter().rev() {
        let Ok(line) = line.to_str() else { return peer };
        for hop in line.rsplit(',') {
            let Some(hop) = address(hop.trim()) else { return peer };
            if !is_trusted(hop) {
                return hop;
            }
            client = hop;
        }
    }
    client
}

/// Parses an address as proxies write it: bare, with a port, in brackets.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().or_else(|_| hop.parse().map(|with_port: SocketAddr| with_port.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

/// The token in `Authorization: Bearer <token>`; `None` for any other scheme, and without the header.
pub(super) fn bearer(authorization: Option<&HeaderValue>) -> Option<&str> {
    let value = std::str::from_utf8(authorization?.as_bytes()).ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "10.0.0.1:4711";

    fn client_of(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        client(Some(peer.parse().unwrap()), &headers, &trusted).to_string()
    }

    #[test]
    fn a_peer_that_is_no_proxy_is_the_client_whatever_it_claims() {
        assert_eq!(client_of("192.0.2.1:1", &["198.51.100.1"]), "192.0.2.1");
        assert_eq!(client_of("[::ffff:192.0.2.1]:1", &[]), "192.0.2.1");
    }

    #[test]
    fn behind_trusted_proxies_the_first_untrusted_from_the_right_is_the_client() {
        assert_eq!(client_of(PROXY, &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client_of(PROXY, &["6.6.6.6, 198.51.100.1, 10.9.9.9"]), "198.51.100.1");
        assert_eq!(client_of(PROXY, &["6.6.6.6", "198.51.100.1", "10.9.9.9"]), "198.51.100.1");
        assert_eq!(client_of("[::ffff:10.0.0.1]:1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client_of("[2001:db8::1]:1", &["[2001:db9::7]:443"]), "2001:db9::7");
        assert_eq!(client_of(PROXY, &["198.51.100.1:55555"]), "198.51.100.1");
        assert_eq!(client_of(PROXY, &["[2001:db9::7]"]), "2001:db9::7");
    }

    #[test]
    fn when_every_hop_is_trusted_the_first_is_the_client() {
        assert_eq!(client_of(PROXY, &["10.1.1.1, 10.2.2.2"]), "10.1.1.1");
        assert_eq!(client_of(PROXY, &[]), "10.0.0.1");
    }

    #[test]
    fn a_malformed_header_makes_the_peer_the_client() {
        for bad in ["unknown", "", "198.51.100.1, nonsense", "1.2.3.4.5", "198.51.100.1,,", "\u{e9}"] {
            assert_eq!(client_of(PROXY, &[bad]), "10.0.0.1", "{bad:?}");
        }
        // Addresses left of the client are not parsed.
        assert_eq!(client_of(PROXY, &["nonsense, 198.51.100.1"]), "198.51.100.1");
    }

    #[test]
    fn only_a_bearer_token_is_a_token() {
        let of = |value: &str| bearer(Some(&HeaderValue::from_bytes(value.as_bytes()).unwrap())).map(str::to_owned);
        for good in ["Bearer abc", "bearer abc", "BEARER  abc ", "bEaReR abc"] {
            assert_eq!(of(good).as_deref(), Some("abc"), "{good:?}");
        }
        for bad in ["Basic abc", "Bearer", "Bearer ", "abc", "", "Bearerabc"] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
        assert_eq!(bearer(None), None);
        assert_eq!(bearer(Some(&HeaderValue::from_bytes(b"Bearer \xff").unwrap())), None);
    }
}
