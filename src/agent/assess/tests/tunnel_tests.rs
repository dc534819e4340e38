use serde_json::json;

use super::{START, Scene};
use crate::api::CheckOutcome::{self, Fail, Pass, Unknown, Warn};
use crate::api::CheckType::{IPForwarding, NATRules, OverlayRoute, WireGuardHandshake, WireGuardInterface};

const LINK: &str = "/network/seen/links/2";
const PEER: &str = "/tunnels/wg0/seen/0";

#[test]
fn the_interface_exists_is_up_and_has_an_address() {
    let absent = "wg0 does not exist: wg-quick up wg0 / systemctl status wg-quick@wg0";
    let socket = "wg0 is a userspace tunnel without its socket /run/wireguard/wg0.sock: its peers cannot be seen";
    for (path, value, outcome, message) in [
        ("is_up", json!(true), Pass, "wg0 is up with 100.64.0.1/32"),
        ("name", json!("wg1"), Fail, absent),
        ("is_up", json!(false), Fail, "wg0 is down: ip link set wg0 up"),
        ("addresses", json!([]), Warn, "wg0 has no address of 100.64.0.0/10: ip address show wg0"),
        ("addresses", json!(["10.8.0.1/24"]), Warn, "wg0 has no address of 100.64.0.0/10: ip address show wg0"),
        ("kind", json!("tun"), Pass, "wg0 is up with 100.64.0.1/32"),
    ] {
        let mut scene = Scene::well();
        scene.set(&format!("{LINK}/{path}"), value);
        scene.expect(WireGuardInterface, outcome, message);
        scene.facts = Scene::well().facts;
        scene.expect(WireGuardInterface, Pass, "wg0 is up with 100.64.0.1/32");
    }
    let mut scene = Scene::well();
    scene.set(&format!("{LINK}/kind"), json!("tun"));
    scene.facts.tunnels.clear();
    scene.expect(WireGuardInterface, Warn, socket);
}

#[test]
fn a_peer_that_is_sent_keepalives_and_has_no_recent_handshake_fails() {
    let mut scene = Scene::well();
    let mut sent = 4096;
    let report = loop {
        sent += 148;
        scene.set(&format!("{PEER}/sent"), json!(sent));
        let report = scene.look();
        let check = report.checks.iter().find(|check| check.type_ == WireGuardHandshake).unwrap();
        if check.outcome != Pass {
            break report;
        }
        assert!(sent < 20_000, "the handshake is never too old");
    };
    let check = report.checks.iter().find(|check| check.type_ == WireGuardHandshake).unwrap();
    assert_eq!(check.outcome, Fail);
    assert_eq!(
        check.message,
        "peer …Zz2= at 192.0.2.2:51820: last handshake 3 min ago, sent 5 KiB since, received nothing: \
         UDP filtered, or the peer's key or endpoint changed"
    );
    scene.set(&format!("{PEER}/handshake"), json!(scene.facts.wall_seconds));
    assert_eq!(scene.settled(WireGuardHandshake).0, Pass);
}

#[test]
fn a_handshake_is_too_old_when_it_was_so_at_the_first_look() {
    for (age, most, outcome) in
        [(209, None, Pass), (220, None, Fail), (220, Some(300), Pass), (25_000, Some(300), Fail)]
    {
        let mut scene = Scene::well();
        scene.config.checks[2].max_handshake_age_seconds = most;
        scene.set(&format!("{PEER}/handshake"), json!(START + 5 - age));
        let report = scene.look();
        let check = report.checks.into_iter().find(|check| check.type_ == WireGuardHandshake).unwrap();
        assert_eq!(check.outcome, outcome, "{age} {most:?}: {}", check.message);
    }
}

#[test]
fn setting_the_clock_makes_no_handshake_older() {
    let mut scene = Scene::well();
    scene.look();
    // The clock jumps a day ahead: the age is measured by the other clock.
    scene.facts.wall_seconds += 86_400;
    assert_eq!(scene.settled(WireGuardHandshake).0, Pass);
}

#[test]
fn a_peer_without_a_first_handshake_has_half_a_minute_for_it() {
    let mut scene = Scene::well();
    scene.set(&format!("{PEER}/handshake"), json!(null));
    scene.expect(WireGuardHandshake, Warn, "wg0 is new and had no handshake yet");
    for _ in 0..6 {
        scene.look();
    }
    let message = "peer …Zz2= at 192.0.2.2:51820: no handshake yet: \
                   UDP filtered, or the peer's key or endpoint changed";
    scene.expect(WireGuardHandshake, Fail, message);
}

#[test]
fn without_keepalives_silence_is_a_fault_only_when_packets_are_not_answered() {
    let mut scene = Scene::well();
    scene.set(&format!("{PEER}/keepalive"), json!(0));
    scene.set(&format!("{PEER}/handshake"), json!(START - 25_000));
    let idle = "cannot tell: the peer is idle and sends no keepalives: set PersistentKeepalive=25";
    scene.expect(WireGuardHandshake, Warn, idle);
    let mut sent = 4096;
    for _ in 0..4 {
        sent += 1_024;
        scene.set(&format!("{PEER}/sent"), json!(sent));
        scene.look();
    }
    let (outcome, message) = scene.settled(WireGuardHandshake);
    assert_eq!(outcome, Fail);
    assert!(
        message.starts_with("peer …Zz2= at 192.0.2.2:51820: last handshake 6 h ago, sent 4 KiB since"),
        "{message}"
    );
    scene.set(&format!("{PEER}/received"), json!(9_000));
    scene.expect(WireGuardHandshake, Warn, idle);
}

/// A tunnel over time: what is sent and received in each second.
struct Traffic {
    scene: Scene,
    second: u64,
    sent: u64,
    received: u64,
    handshake: u64,
}

impl Traffic {
    fn new(keepalive: u64, most: Option<u32>) -> Self {
        let mut scene = Scene::well();
        scene.config.checks[2].max_handshake_age_seconds = most;
        scene.set(&format!("{PEER}/keepalive"), json!(keepalive));
        Self { scene, second: 0, sent: 4096, received: 4096, handshake: 0 }
    }

    fn shake_hands(&mut self) {
        (self.sent, self.received, self.handshake) = (self.sent + 148, self.received + 92, self.second);
    }

    /// The verdict after a look, every 5 seconds.
    fn second(&mut self) -> Option<(CheckOutcome, String)> {
        self.second += 1;
        if !self.second.is_multiple_of(5) {
            return None;
        }
        for (name, value) in [("sent", self.sent), ("received", self.received), ("handshake", START + self.handshake)] {
            self.scene.set(&format!("{PEER}/{name}"), json!(value));
        }
        let report = self.scene.look();
        let check = report.checks.into_iter().find(|check| check.type_ == WireGuardHandshake).unwrap();
        Some((check.outcome, check.message))
    }
}

#[test]
fn a_tunnel_that_is_well_never_fails_however_the_age_is_set() {
    // Seconds between keepalives, and between handshakes: an end that began the last one asks again after 120 seconds,
    // another one after 180, both when the next keepalive is due.
    for (keepalive, handshakes) in [(25, 145), (25, 209), (1, 121), (10, 190), (60, 240), (300, 300)] {
        for most in [None, Some(30), Some(120), Some(180)] {
            let mut tunnel = Traffic::new(keepalive, most);
            for second in 1..1_200 {
                if second % handshakes == 0 {
                    tunnel.shake_hands();
                } else if second % keepalive == 0 {
                    tunnel.sent += 32;
                }
                if let Some((outcome, message)) = tunnel.second() {
                    assert_eq!(outcome, Pass, "{keepalive} {handshakes} {most:?} {second}: {message}");
                }
            }
        }
    }
    // Data in one direction is answered by a keepalive after 10 seconds.
    for keepalive in [0, 25] {
        let mut tunnel = Traffic::new(keepalive, Some(30));
        for second in 1..600 {
            tunnel.sent += 1_200;
            match second {
                _ if second % 120 == 0 => tunnel.shake_hands(),
                _ if second % 10 == 0 => tunnel.received += 32,
                _ => {}
            }
            if let Some((outcome, message)) = tunnel.second() {
                assert_eq!(outcome, Pass, "{keepalive} {second}: {message}");
            }
        }
    }
}

#[test]
fn a_peer_that_leaves_packets_unanswered_fails_as_soon_as_its_handshake_is_older_than_is_allowed() {
    // When data is sent every second, and when there are only keepalives until the session ends and handshakes are
    // asked for every 5 seconds.
    for (has_data, most, earliest, latest) in
        [(true, None, 211, 220), (true, Some(60), 61, 70), (true, Some(30), 31, 40), (false, Some(60), 150, 175)]
    {
        let mut tunnel = Traffic::new(25, most);
        let failed = (1..400).find_map(|second| {
            tunnel.sent += match second {
                _ if has_data => 128,
                ..145 => {
                    if second % 25 == 0 {
                        32
                    } else {
                        0
                    }
                }
                _ => {
                    if second % 5 == 0 {
                        148
                    } else {
                        0
                    }
                }
            };
            let (outcome, message) = tunnel.second()?;
            (outcome == Fail).then_some((second, message))
        });
        let (second, message) = failed.unwrap();
        assert!((earliest..=latest).contains(&second), "{has_data} {most:?}: {second} {message}");
        assert!(
            message.ends_with("received nothing: UDP filtered, or the peer's key or endpoint changed"),
            "{message}"
        );
        tunnel.shake_hands();
        let well = (0..10).filter_map(|_| tunnel.second()).last().unwrap();
        assert_eq!(well.0, Pass, "{well:?}");
    }
}

#[test]
fn some_of_several_peers_are_a_warning_and_all_a_failure() {
    let mut scene = Scene::well();
    let peer = |key: &str, age: u64| json!({"key": key, "endpoint": "192.0.2.3:51820", "handshake": START - age, "received": 0, "sent": 0, "keepalive": 25});
    scene.set("/tunnels/wg0/seen", json!([peer("aaaaAAA=", 20), peer("bbbbBBB=", 5_000)]));
    let (outcome, message) = scene.settled(WireGuardHandshake);
    assert_eq!(outcome, Warn);
    assert!(message.starts_with("1 of 2 peers do not answer: peer …BBB= at 192.0.2.3:51820"), "{message}");
    scene.set("/tunnels/wg0/seen", json!([peer("aaaaAAA=", 4_000), peer("bbbbBBB=", 5_000)]));
    let (outcome, message) = scene.settled(WireGuardHandshake);
    assert_eq!(outcome, Fail);
    assert!(message.starts_with("none of 2 peers answers, the first is peer …AAA="), "{message}");
    scene.set("/tunnels/wg0/seen", json!([]));
    scene.expect(WireGuardHandshake, Warn, "wg0 has no peer: wg show wg0");
}

#[test]
fn handshakes_that_cannot_be_seen_are_unknown() {
    let mut scene = Scene::well();
    scene.facts.tunnels.clear();
    let message = "wg0 is no WireGuard interface of the kernel and has no socket /run/wireguard/wg0.sock";
    scene.expect(WireGuardHandshake, Unknown, message);
    scene.set(&format!("{LINK}/name"), json!("wg1"));
    scene.expect(WireGuardHandshake, Unknown, "wg0 does not exist");
}

#[test]
fn every_overlay_has_a_route_by_the_tunnel() {
    let route = |to: &str, link: &str| json!({"to": to, "links": [link], "drops": null, "table": 254});
    let default = route("0.0.0.0/0", "eth0");
    for (routes, outcome, message) in [
        (json!([default, route("100.64.0.0/10", "wg0")]), Pass, "100.64.0.0/10 by wg0"),
        (json!([default, route("100.64.3.0/24", "wg0")]), Pass, "100.64.3.0/24 by wg0"),
        (json!([route("0.0.0.0/0", "wg0")]), Pass, "0.0.0.0/0 by wg0"),
        (json!([default]), Fail, "no route to 100.64.0.0/10 by wg0: ip route replace 100.64.0.0/10 dev wg0"),
        (
            json!([default, route("100.64.0.0/10", "eth0")]),
            Fail,
            "no route to 100.64.0.0/10 by wg0: ip route replace 100.64.0.0/10 dev wg0",
        ),
        (
            json!([default, route("100.64.0.0/10", "wg0"), route("100.72.1.0/24", "eth0")]),
            Warn,
            "100.72.1.0/24 leads elsewhere: by eth0 (ip route show 100.72.1.0/24)",
        ),
        (
            json!([route("100.64.0.0/10", "wg0"), {"to": "100.64.9.0/24", "links": [], "drops": "blackhole", "table": 254},
                route("100.72.1.0/24", "eth0")]),
            Warn,
            "100.64.9.0/24 leads elsewhere: blackhole and 1 more (ip route show 100.64.9.0/24)",
        ),
    ] {
        let mut scene = Scene::well();
        scene.set("/network/seen/routes", routes.clone());
        scene.expect(OverlayRoute, outcome, message);
        scene.facts = Scene::well().facts;
        scene.expect(OverlayRoute, Pass, "100.64.0.0/10 by wg0");
    }
}

#[test]
fn the_kernel_forwards_for_all_and_for_each_interface_on_the_way() {
    let off = |setting: &str| {
        format!("{setting} is 0: sysctl -w {setting}=1; and in /etc/sysctl.d, or it is lost at the next boot")
    };
    for (path, value, outcome, message) in [
        ("v4", json!(true), Pass, "forwarding is on".to_owned()),
        ("v4", json!(false), Fail, off("net.ipv4.ip_forward")),
        ("v4", json!(null), Unknown, "could not look: net.ipv4.ip_forward cannot be read".to_owned()),
        ("links/wg0", json!([false, true]), Fail, off("net.ipv4.conf.wg0.forwarding")),
        ("links/eth0", json!([false, true]), Fail, off("net.ipv4.conf.eth0.forwarding")),
        ("links/eth0", json!([null, null]), Pass, "forwarding is on".to_owned()),
    ] {
        let mut scene = Scene::well();
        scene.set(&format!("/forwarding/seen/{path}"), value.clone());
        scene.expect(IPForwarding, outcome, &message);
        scene.facts = Scene::well().facts;
        scene.expect(IPForwarding, Pass, "forwarding is on");
    }
    let mut scene = Scene::well();
    scene.config.checks[4].overlay_cidrs = vec!["2001:db8:1::/64".parse().unwrap()];
    scene.expect(IPForwarding, Fail, &off("net.ipv6.conf.all.forwarding"));
    scene.set("/forwarding/seen/v6", json!(true));
    scene.expect(IPForwarding, Fail, &off("net.ipv6.conf.wg0.forwarding"));
}

#[test]
fn these_two_checks_are_about_the_tunnel_of_the_others() {
    let mut scene = Scene::well();
    scene.config.checks[1].interface_name = Some("wg7".to_owned());
    scene.config.checks[3].overlay_cidrs = vec!["10.8.0.0/24".parse().unwrap()];
    scene.set("/forwarding/seen/links", json!({"wg7": [false, false]}));
    let (outcome, message) = scene.settled(IPForwarding);
    assert!(outcome == Fail && message.starts_with("net.ipv4.conf.wg7.forwarding is 0"), "{message}");
    let (outcome, message) = scene.settled(NATRules);
    assert!(outcome == Fail && message.contains("10.8.0.0/24"), "{message}");
}
