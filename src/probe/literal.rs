//! Parses hosts that are address literals, in every notation that getaddrinfo accepts.
//!
//! Parsed here, no such host depends on the behaviour of the resolver. Other hosts go to the resolver, and the policy
//! checks its answers.

use std::net::{IpAddr, Ipv4Addr};

/// Parses `host` as an address: in the usual notation, or, for IPv4, as `inet_aton(3)` reads it: one to four numbers,
/// each decimal, octal after `0` or hexadecimal after `0x`, the last one filling the bytes that are left.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    host.parse().ok().or_else(|| four(host).map(IpAddr::V4))
}

fn four(host: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<u32> = host.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = numbers.split_last()?;
    if first.len() > 3 || first.iter().any(|number| *number > 255) {
        return None;
    }
    let left = 32 - 8 * first.len();
    if u64::from(*last) >= 1_u64 << left {
        return None;
    }
    let high = first.iter().enumerate().fold(0, |high, (at, number)| high | number << (24 - 8 * at));
    Some(Ipv4Addr::from(high | last))
}

fn number(part: &str) -> Option<u32> {
    let (digits, radix) = match part.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&part[2..], 16),
        [b'0', _, ..] => (&part[1..], 8),
        _ => (part, 10),
    };
    // `from_str_radix` accepts a sign, inet_aton does not.
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if plain { u32::from_str_radix(digits, radix).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notation_of_an_address_is_read_as_getaddrinfo_reads_it() {
        let loopback = [
            "127.0.0.1",
            "0177.1",
            "0177.0.0.01",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "127.1",
            "127.0.1",
            "0X7F.0x1",
        ];
        for host in loopback {
            assert_eq!(address(host), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), "{host}");
        }
        let metadata: IpAddr = "169.254.169.254".parse().unwrap();
        for host in ["169.254.43518", "0xa9fea9fe", "0251.0376.0251.0376", "2852039166"] {
            assert_eq!(address(host), Some(metadata), "{host}");
        }
        assert_eq!(address("0"), Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        assert_eq!(address("::ffff:127.0.0.1"), Some("::ffff:7f00:1".parse().unwrap()));
        assert_eq!(address("255.255.255.255"), Some(IpAddr::V4(Ipv4Addr::BROADCAST)));
    }

    #[test]
    fn what_is_no_address_is_a_name() {
        let names = [
            "",
            ".",
            "example.com",
            "1.2.3.4.5",
            "1.2.3.256",
            "256.1",
            "08.1",
            "0x",
            "4294967296",
            "1..2",
            "+1",
            "1.2.3.-4",
            "127.0.0.1.",
            "1.2.3.4 ",
            "x1",
            "fe80::1%eth0",
            "1.65536.1",
            "1.16777216",
        ];
        for host in names {
            assert_eq!(address(host), None, "{host}");
        }
    }
}
