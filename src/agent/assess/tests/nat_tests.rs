use serde_json::json;

use super::Scene;
use crate::agent::facts::{Chain, Family};
use crate::agent::look::firewall::{iptables, reachable};
use crate::api::CheckOutcome::{Fail, Pass, Unknown, Warn};
use crate::api::CheckType::{IPForwarding, NATRules};

const YES: &str = "packets from 100.64.0.0/10 are translated";
const NO: &str = "no masquerade or snat rule meets packets from 100.64.0.0/10: nft list ruleset, iptables-save -t nat";

#[test]
fn a_rule_translates_what_it_can_meet() {
    let unclear =
        |name: &str| format!("{YES} only under a condition that is not understood: {name} (nft list ruleset)");
    let elsewhere = |name: &str| {
        format!(
            "{YES} only when they leave by {name}, which does not exist or is not their way: nft list ruleset, ip link"
        )
    };
    for (rules, outcome, message) in [
        ("-A POSTROUTING -j MASQUERADE", Pass, YES.to_owned()),
        ("-A POSTROUTING -o e+ -j MASQUERADE", Pass, YES.to_owned()),
        ("-A POSTROUTING -o eth0 -j SNAT --to-source 192.0.2.10", Pass, YES.to_owned()),
        ("-A POSTROUTING ! -o wg0 -j MASQUERADE", Pass, YES.to_owned()),
        ("-A POSTROUTING -s 100.64.3.0/24 -j MASQUERADE", Pass, YES.to_owned()),
        ("-A POSTROUTING ! -s 172.17.0.0/16 -j MASQUERADE", Pass, YES.to_owned()),
        ("-A POSTROUTING ! -d 100.64.0.0/10 -j MASQUERADE", Pass, YES.to_owned()),
        ("-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE", Pass, YES.to_owned()),
        (r#"-A POSTROUTING -m comment --comment "a \"b\" -s 1.2.3.4" -j MASQUERADE"#, Pass, YES.to_owned()),
        ("-A POSTROUTING -j OWN\n-A OWN -o eth0 -j MASQUERADE", Pass, YES.to_owned()),
        ("-A POSTROUTING -g OWN\n-A OWN -o eth0 -j MASQUERADE", Pass, YES.to_owned()),
        ("-A OWN -j MASQUERADE", Fail, NO.to_owned()),
        ("", Fail, NO.to_owned()),
        ("-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", Fail, NO.to_owned()),
        ("-A POSTROUTING ! -s 100.64.0.0/10 -j MASQUERADE", Fail, NO.to_owned()),
        ("-A POSTROUTING -d 100.64.0.0/10 -j MASQUERADE", Fail, NO.to_owned()),
        ("-A POSTROUTING -o wg0 -j MASQUERADE", Fail, NO.to_owned()),
        ("-A POSTROUTING -o ens3 -j MASQUERADE", Fail, elsewhere("ens3")),
        ("-A POSTROUTING -s 10.0.0.0/8 -o ens3 -j MASQUERADE", Fail, NO.to_owned()),
        ("-A POSTROUTING -s 172.17.0.0/16 -j OWN\n-A OWN -j MASQUERADE", Fail, NO.to_owned()),
        ("-A POSTROUTING -s 100.64.0.0/10 -j RETURN\n-A POSTROUTING -j MASQUERADE", Fail, NO.to_owned()),
        ("-A POSTROUTING -j ACCEPT\n-A POSTROUTING -j MASQUERADE", Fail, NO.to_owned()),
        ("-A POSTROUTING -d 10.0.0.0/8 -j RETURN\n-A POSTROUTING -j MASQUERADE", Pass, YES.to_owned()),
        ("-A POSTROUTING -j OWN\n-A OWN -j RETURN\n-A OWN -j MASQUERADE", Fail, NO.to_owned()),
        ("-A POSTROUTING -j OWN\n-A OWN -j RETURN\n-A POSTROUTING -j MASQUERADE", Pass, YES.to_owned()),
        ("-A POSTROUTING -g OWN\n-A POSTROUTING -j MASQUERADE", Fail, NO.to_owned()),
        ("-A POSTROUTING -m geoip --src-cc DE -j MASQUERADE", Warn, unclear("geoip --src-cc")),
        ("-A POSTROUTING -p tcp -j MASQUERADE", Warn, unclear("protocol tcp")),
        ("-A POSTROUTING -m geoip --src-cc DE -j OWN\n-A OWN -j MASQUERADE", Warn, unclear("geoip --src-cc")),
        ("-A POSTROUTING -p tcp -j MASQUERADE\n-A POSTROUTING -j MASQUERADE", Pass, YES.to_owned()),
        ("-A POSTROUTING -m conntrack --ctstate RELATED,ESTABLISHED -j MASQUERADE", Fail, NO.to_owned()),
        ("-A POSTROUTING -j OWN\n-A OWN -j POSTROUTING", Fail, NO.to_owned()),
    ] {
        let mut scene = Scene::well();
        scene.expect(NATRules, Pass, YES);
        scene.rules(rules);
        let (got, told) = scene.settled(NATRules);
        if rules.ends_with("-j POSTROUTING") {
            assert_eq!(got, Warn, "a circle, which the kernel refuses, ends: {told}");
        } else {
            assert_eq!((got, told), (outcome, message), "{rules}");
        }
        scene.facts = Scene::well().facts;
        scene.expect(NATRules, Pass, YES);
    }
}

#[test]
fn the_rules_of_legacy_iptables_count_too() {
    let chains = |rules: &str| -> Vec<Chain> {
        let text = format!("*nat\n:POSTROUTING ACCEPT [0:0]\n{rules}\n");
        reachable(iptables::parse(text.as_bytes(), Family::V4)).unwrap()
    };
    let mut scene = Scene::well();
    scene.rules("");
    let firewall = scene.facts.firewall.as_mut().unwrap();
    firewall.legacy = Some(crate::agent::facts::Look::Seen(chains("-A POSTROUTING -o eth0 -j MASQUERADE")));
    scene.expect(NATRules, Pass, YES);
    scene.set("/firewall/legacy", json!({"blind": "iptables-legacy-save: Permission denied"}));
    scene.expect(NATRules, Unknown, "could not look: iptables-legacy-save: Permission denied");
    scene.set("/firewall/nft", json!({"seen": chains("-A POSTROUTING -o eth0 -j MASQUERADE")}));
    scene.expect(NATRules, Pass, YES);
}

#[test]
fn the_worst_network_is_told() {
    let mut scene = Scene::well();
    scene.config.checks[5].overlay_cidrs = vec!["100.64.0.0/10".parse().unwrap(), "2001:db8:1::/64".parse().unwrap()];
    let (outcome, message) = scene.settled(NATRules);
    assert!(outcome == Fail && message.contains("2001:db8:1::/64"), "{message}");
}

#[test]
fn many_jumps_end() {
    let mut rules = String::new();
    let mut heads = String::new();
    for depth in 0..15 {
        heads.push_str(&format!(":C{depth} - [0:0]\n"));
        rules.push_str(&format!("-A C{depth} -j C{}\n", depth + 1).repeat(8));
    }
    let text = format!("*nat\n:POSTROUTING ACCEPT [0:0]\n{heads}:C15 - [0:0]\n-A POSTROUTING -j C0\n{rules}");
    let mut scene = Scene::well();
    scene.look();
    let chains = reachable(iptables::parse(text.as_bytes(), Family::V4)).unwrap();
    scene.set("/firewall/nft", json!({ "seen": chains }));
    assert_eq!(scene.settled(NATRules).0, Warn);
}

/// The verdict with these rules of the filter table.
fn forward(policy: &str, rules: &str) -> (crate::api::CheckOutcome, String) {
    let text = format!("*filter\n:FORWARD {policy} [0:0]\n:DOCKER-USER - [0:0]\n:DOCKER - [0:0]\n{rules}\n");
    let mut scene = Scene::well();
    let chains = reachable(iptables::parse(text.as_bytes(), Family::V4)).unwrap();
    scene.set("/firewall/nft", json!({ "seen": chains }));
    scene.settled(IPForwarding)
}

#[test]
fn a_filter_that_drops_what_comes_by_the_tunnel_is_a_warning() {
    let docker = "-A FORWARD -j DOCKER-USER\n-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
        -A FORWARD -o docker0 -j DOCKER\n-A FORWARD -i docker0 ! -o docker0 -j ACCEPT\n\
        -A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 8080 -j ACCEPT\n-A DOCKER-USER -j RETURN";
    let dropped = "forwarding is on, but iptables filter FORWARD drops what it does not name, and nothing in it accepts packets \
        from wg0: add iptables -I FORWARD -i wg0 -j ACCEPT (with Docker: DOCKER-USER)";
    for (policy, rules, outcome) in [
        ("ACCEPT", docker.to_owned(), Pass),
        ("DROP", docker.to_owned(), Warn),
        ("DROP", format!("-A FORWARD -i wg0 -j ACCEPT\n{docker}"), Pass),
        ("DROP", format!("-A FORWARD -i wg+ -o eth0 -j ACCEPT\n{docker}"), Pass),
        ("DROP", format!("-A FORWARD -s 100.64.0.0/10 -j ACCEPT\n{docker}"), Pass),
        ("DROP", format!("-A DOCKER-USER -i wg0 -j ACCEPT\n{docker}"), Pass),
        ("DROP", "-A FORWARD -i wg1 -j ACCEPT".to_owned(), Warn),
        ("DROP", "-A FORWARD -o wg0 -j ACCEPT".to_owned(), Warn),
        ("DROP", "-A FORWARD -j ACCEPT".to_owned(), Pass),
        ("DROP", "-A FORWARD -m geoip --src-cc DE -j ACCEPT".to_owned(), Pass),
        ("ACCEPT", "-A FORWARD -j REJECT --reject-with icmp-port-unreachable".to_owned(), Warn),
        ("ACCEPT", "-A FORWARD -i eth0 -j DROP".to_owned(), Pass),
        ("ACCEPT", String::new(), Pass),
    ] {
        let (got, message) = forward(policy, &rules);
        assert_eq!(got, outcome, "{policy} {rules}: {message}");
        assert_eq!(message, if outcome == Pass { "forwarding is on" } else { dropped }, "{policy} {rules}");
    }
}
