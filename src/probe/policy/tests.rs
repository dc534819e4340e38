use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;

fn nets(ranges: &[&str]) -> Vec<IpNet> {
    ranges.iter().map(|range| range.parse().unwrap()).collect()
}

fn cluster() -> Policy {
    Policy { cluster: nets(&["10.244.0.0/16", "10.96.0.0/12", "192.0.2.7/32", "fd00:10::/56"]), ..Policy::default() }
}

#[track_caller]
fn judge(policy: &Policy, address: &str, is_own: bool) -> Result<(), String> {
    policy.judge(address.parse().unwrap(), 80, is_own)
}

/// Every way in which an IPv4 address is embedded in an IPv6 address.
fn embeddings(four: Ipv4Addr) -> Vec<IpAddr> {
    let [a, b, c, d] = four.octets().map(u16::from);
    let (high, low) = (a << 8 | b, c << 8 | d);
    let six = |segments: [u16; 8]| IpAddr::V6(Ipv6Addr::from(segments));
    let mut all = vec![
        IpAddr::V4(four),
        six([0, 0, 0, 0, 0, 0xffff, high, low]),
        six([0, 0, 0, 0, 0xffff, 0, high, low]),
        six([0x64, 0xff9b, 0, 0, 0, 0, high, low]),
        six([0x64, 0xff9b, 1, 0, 0, 0, high, low]),
        six([0x64, 0xff9b, 1, high, c, d << 8, 0, 0]),
        six([0x64, 0xff9b, 1, a, b, low, 0, 0]),
        six([0x64, 0xff9b, 1, 0, a, b << 8 | c, d << 8, 0]),
        six([0x2002, high, low, 0, 0, 0, 0, 1]),
        six([0x2001, 0, high, low, 0, 0, 0, 0]),
        six([0x2001, 0, 0xc000, 0x201, 0, 0, !high, !low]),
        six([0x2001, 0xdb8, 0, 1, 0, 0x5efe, high, low]),
        six([0x2001, 0xdb8, 0, 1, 0x200, 0x5efe, high, low]),
    ];
    // As IPv4-compatible, 0.0.0.0 and 0.0.0.1 would be `::` and `::1`, which are themselves.
    if u32::from(four) > 1 {
        all.push(six([0, 0, 0, 0, 0, 0, high, low]));
    }
    all
}

#[test]
fn what_is_denied_is_denied_for_a_reason_that_names_range_and_rule() {
    let table = [
        ("169.254.169.254", "169.254.0.0/16 is link-local"),
        ("fe80::1", "fe80::/10 is link-local"),
        ("fd00:ec2::254", "fd00:ec2::/32 is AWS"),
        ("100.100.100.200", "100.100.100.200/32 is Alibaba"),
        ("168.63.129.16", "Azure"),
        ("fd20:ce::254", "Google"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("255.255.255.255", "broadcast"),
        ("127.0.0.1", "127.0.0.0/8 is loopback; an administrator can allow it with --allow-network"),
        ("::1", "::1/128 is loopback"),
        ("10.244.3.4", "10.244.0.0/16 is the cluster's own"),
        ("10.96.0.1", "10.96.0.0/12 is the cluster's own"),
        ("192.0.2.7", "192.0.2.7/32 is the cluster's own"),
        ("fd00:10::5", "fd00:10::/56 is the cluster's own"),
        ("::ffff:10.244.3.4", "::ffff:10.244.3.4, which stands for 10.244.3.4, may not be dialled: 10.244.0.0/16"),
        ("64:ff9b::a9fe:a9fe", "which stands for 169.254.169.254, may not"),
    ];
    for (address, why) in table {
        let message = judge(&cluster(), address, false).expect_err(address);
        assert!(message.contains(why), "{address}: {message}");
        assert!(message.starts_with(address), "{message}");
    }
}

#[test]
fn what_is_none_of_the_clusters_is_allowed_public_or_private() {
    for address in ["198.51.100.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "2001:db8::1", "fd12::1", "192.0.2.8"] {
        assert_eq!(judge(&cluster(), address, false), Ok(()), "{address}");
    }
}

#[test]
fn an_object_may_dial_its_own_wherever_that_is_but_never_what_is_never_dialled() {
    let policy = cluster();
    for address in ["10.244.3.4", "10.96.0.9", "192.0.2.7", "fd00:10::5"] {
        assert_eq!(judge(&policy, address, true), Ok(()), "{address}");
        assert!(judge(&policy, address, false).is_err(), "{address}");
        // The administrator's denial wins, also over what is the object's own.
        let denying = Policy { deny: nets(&["10.0.0.0/8", "192.0.2.0/24", "fd00::/8"]), ..cluster() };
        let message = judge(&denying, address, true).expect_err(address);
        assert!(message.contains("is denied by --deny-network"), "{message}");
    }
    // A pod that says of itself that it is at such an address is not believed.
    for address in ["169.254.169.254", "127.0.0.1", "::1", "::ffff:127.0.0.1", "fd00:ec2::254", "224.0.0.1"] {
        assert!(judge(&policy, address, true).is_err(), "{address}");
    }
}

#[test]
fn an_administrator_allows_and_denies_and_the_denial_wins() {
    let policy = Policy {
        allow: nets(&["10.244.0.0/16", "127.0.0.0/8", "0.0.0.0/0", "::/0"]),
        deny: nets(&["10.244.9.0/24", "198.51.100.0/24", "::ffff:203.0.113.0/120"]),
        ..cluster()
    };
    for address in ["10.244.3.4", "127.0.0.1", "::ffff:127.0.0.1", "::1", "192.0.2.1"] {
        assert_eq!(judge(&policy, address, false), Ok(()), "{address}");
    }
    for address in ["10.244.9.4", "198.51.100.1", "64:ff9b::c633:6401", "203.0.113.9", "::ffff:203.0.113.9"] {
        let message = judge(&policy, address, false).expect_err(address);
        assert!(message.contains("--deny-network"), "{message}");
    }
    assert!(judge(&policy, "169.254.169.254", false).is_err(), "not even then");
    let only_four = Policy { deny: nets(&["::/0"]), ..Policy::default() };
    assert_eq!(judge(&only_four, "198.51.100.1", false), Ok(()), "all of IPv6 is not IPv4");
    assert!(judge(&only_four, "2001:db8::1", false).is_err());
}

#[test]
fn our_own_ports_are_never_dialled() {
    let policy = Policy {
        allow: nets(&["0.0.0.0/0", "::/0"]),
        own_ports: vec![8080, 9090],
        own_addresses: vec!["10.244.0.9".parse().unwrap()],
        own_sockets: vec!["10.96.0.50:80".parse().unwrap()],
        ..cluster()
    };
    let judge = |address: &str, port| policy.judge(address.parse().unwrap(), port, true);
    for (address, port) in [
        ("127.0.0.1", 9090),
        ("127.9.9.9", 8080),
        ("::1", 8080),
        ("10.244.0.9", 8080),
        ("::ffff:10.244.0.9", 9090),
        ("10.96.0.50", 80),
    ] {
        let message = judge(address, port).expect_err(address);
        assert!(message.contains("vigie's own"), "{message}");
    }
    for (address, port) in [("127.0.0.1", 80), ("10.244.0.9", 80), ("10.96.0.50", 443), ("10.244.0.10", 8080)] {
        assert_eq!(judge(address, port), Ok(()), "{address}:{port}");
    }
}

#[test]
fn a_person_dials_what_they_do_not_deny() {
    let policy = Policy::of_a_person(nets(&["192.0.2.0/24"]), nets(&["198.51.100.0/24", "192.0.2.9/32"]));
    for address in ["127.0.0.1", "10.96.0.1", "169.254.169.254", "192.0.2.1", "203.0.113.1", "::1"] {
        assert_eq!(judge(&policy, address, false), Ok(()), "{address}");
    }
    for address in ["198.51.100.1", "::ffff:198.51.100.1", "192.0.2.9"] {
        assert!(judge(&policy, address, false).is_err(), "{address}");
    }
    assert!(!policy.guards(80));
}

/// Any address of a range.
fn inside(range: &str) -> impl Strategy<Value = IpAddr> + use<> {
    let range: IpNet = range.parse().unwrap();
    any::<u128>().prop_map(move |random| match range {
        IpNet::V4(net) => {
            IpAddr::V4(Ipv4Addr::from(u32::from(net.network()) | random as u32 & u32::from(net.hostmask())))
        }
        IpNet::V6(net) => IpAddr::V6(Ipv6Addr::from(u128::from(net.network()) | random & u128::from(net.hostmask()))),
    })
}

fn forms(address: IpAddr) -> Vec<IpAddr> {
    match address {
        IpAddr::V4(four) => embeddings(four),
        IpAddr::V6(_) => vec![address],
    }
}

proptest! {
    #[test]
    fn nothing_of_a_never_range_passes_in_any_form_whoever_asks_and_whatever_is_allowed(
        (at, random) in (0..NEVER.len()).prop_flat_map(|at| (Just(at), inside(NEVER[at].0))),
        is_own: bool,
        port: u16,
    ) {
        let policy = Policy { allow: nets(&["0.0.0.0/0", "::/0"]), ..Policy::default() };
        for form in forms(random) {
            prop_assert!(policy.judge(form, port, is_own).is_err(), "{form} of {}", NEVER[at].0);
        }
    }

    #[test]
    fn nothing_of_the_cluster_or_loopback_passes_in_any_form_unless_allowed(
        address in prop_oneof![inside("127.0.0.0/8"), inside("10.244.0.0/16"), inside("10.96.0.0/12"), inside("fd00:10::/56")],
        port: u16,
    ) {
        for form in forms(address) {
            prop_assert!(cluster().judge(form, port, false).is_err(), "{form}");
        }
    }

    #[test]
    fn what_is_denied_is_denied_in_any_form(random: u32, port: u16) {
        let policy = Policy { allow: nets(&["0.0.0.0/0", "::/0"]), deny: nets(&["0.0.0.0/1"]), ..Policy::default() };
        for form in embeddings(Ipv4Addr::from(random & 0x7fff_ffff)) {
            prop_assert!(policy.judge(form, port, false).is_err(), "{form}");
        }
    }

    #[test]
    fn judging_never_panics_and_an_empty_policy_allows_the_rest(random: u128, port: u16) {
        let address = Ipv6Addr::from(random);
        let judged = Policy::default().judge(IpAddr::V6(address), port, false);
        let public = Ipv6Addr::from(0x2001_0db8_u128 << 96 | random >> 64);
        prop_assert!(judged.is_ok() || judged.is_err_and(|why| !why.is_empty()));
        prop_assert!(Policy::default().judge(IpAddr::V6(public), port, false).is_ok() || public.segments()[5] == 0x5efe);
    }
}
