//! The tunnel, the routes and the rules of a gateway, and all of its checks by heartbeats.

use jiff::SignedDuration;

use super::stand_in::StandIn;
use super::{FORWARD, NOWHERE, VIGIE, break_and_repair, configure, fault, is_told, look_by, start, told};
use crate::machine::Machine;

const CONNECTOR: &str = "
[Service]
ExecStart=/bin/sh -c 'mkdir -p /tmp/www && echo ok >/tmp/www/index.html && exec busybox httpd -f -p 127.0.0.1:9000 -h /tmp/www'
Restart=always
RestartSec=60
";
const GATEWAY: &str = "unit: connector.service
checks:
- {type: Process, probe: 'http://127.0.0.1:9000/'}
- {type: WireGuardInterface}
- {type: WireGuardHandshake, maxHandshakeAgeSeconds: 30}
- {type: OverlayRoute}
- {type: IPForwarding}
- {type: NATRules}
- {type: ControlPlane}
- {type: ClockSkew}
";
const ALL: [&str; 8] = [
    "Process",
    "WireGuardInterface",
    "WireGuardHandshake",
    "OverlayRoute",
    "IPForwarding",
    "NATRules",
    "ControlPlane",
    "ClockSkew",
];

/// What Firezone sets up on its gateway: every interface whose name begins with e.
const MASQUERADE: &str = "iptables-nft -t nat -A POSTROUTING -o e+ -j MASQUERADE";

/// A gateway whose checks all pass.
fn gateway() -> Machine {
    let machine = Machine::start();
    machine.copy_vigie(VIGIE);
    machine.wireguard();
    machine.run(&format!("{FORWARD} && {MASQUERADE}")).ok();
    machine.unit("connector.service", CONNECTOR);
    machine
}

#[test]
fn every_check_of_a_gateway_is_told_by_heartbeats_when_it_breaks_and_when_it_is_well_again() {
    let machine = gateway();
    let operator = StandIn::start(machine.host_address());
    configure(&machine, &operator.url(), GATEWAY);
    let eventually = |what: &str, expected: &[(&str, &str, &[&str])]| {
        machine.eventually(what, || {
            let told = told(&operator.last()["checks"]);
            expected.iter().try_for_each(|(check, status, words)| is_told(&told, check, status, words))
        });
    };
    let all = |status: &'static str| ALL.map(|check| (check, status, &[] as &[&str]));

    start(&machine, "vigie-agent.service");
    eventually("nothing can be looked at without the helper", &all("Unknown"));
    machine.run("systemctl stop vigie-agent").ok();
    start(&machine, "vigie-agent-helper.service");
    operator.refuse(2);
    machine.run("systemctl start vigie-agent").ok();
    let refused = ["heartbeats of the last 5 min were not accepted", "HTTPStatus"];
    let others = all("Pass").into_iter().filter(|told| told.0 != "ControlPlane");
    let expected: Vec<_> = others.chain([("ControlPlane", "Warn", &refused[..])]).collect();
    eventually("all is well, but for heartbeats that were refused", &expected);

    machine.run_at_peer("nft 'add table ip lost; add chain ip lost input { type filter hook input priority 0; }; add rule ip lost input udp dport 51820 drop'").ok();
    // A peer that had answered some of it would ask for handshakes: its packets come through.
    machine.run("systemd-run --quiet --unit traffic ping -i 0.5 100.64.0.2").ok();
    machine.kill("connector.service", "KILL");
    machine.run("sysctl -q -w net.ipv4.ip_forward=0 && nft flush ruleset").ok();
    operator.set_clock(SignedDuration::from_mins(210));
    eventually(
        "what breaks is told",
        &[
            ("Process", "Warn", &["connector.service ended (signal 9)", "systemd restarts it by itself"]),
            ("IPForwarding", "Fail", &["net.ipv4.ip_forward is 0: sysctl -w net.ipv4.ip_forward=1", "/etc/sysctl.d"]),
            ("NATRules", "Fail", &["no masquerade or snat rule meets packets from 100.64.0.0/10", "nft list ruleset"]),
            ("ClockSkew", "Warn", &["the clock is 3 h behind the operator's"]),
        ],
    );
    machine.run(&format!("systemctl start connector && {FORWARD} && {MASQUERADE}")).ok();
    operator.set_clock(SignedDuration::ZERO);
    let silent = ["192.0.2.2:51820: last handshake", "received nothing: UDP filtered"];
    eventually("UDP that is dropped fails the handshake", &[("WireGuardHandshake", "Fail", &silent)]);
    machine.run_at_peer("nft delete table ip lost").ok();
    eventually("it is well again", &all("Pass"));

    machine.run("ip link set wg0 down").ok();
    machine.run("rm /tmp/www/index.html").ok();
    eventually(
        "a tunnel that is down",
        &[
            ("WireGuardInterface", "Fail", &["wg0 is down: ip link set wg0 up"]),
            ("OverlayRoute", "Fail", &["ip route replace 100.64.0.0/10 dev wg0"]),
            ("Process", "Fail", &["connector.service runs, and does not answer: HTTPStatus 404 on 127.0.0.1:9000/"]),
        ],
    );
    machine.run("ip link set wg0 up && ip route replace 100.64.0.0/10 dev wg0 && echo >/tmp/www/index.html").ok();
    eventually("it is well again", &all("Pass"));
}

#[test]
fn the_tunnel_and_the_rules_of_a_gateway_are_looked_at_as_they_are() {
    let machine = gateway();
    configure(&machine, NOWHERE, GATEWAY);
    let without_nft = format!("nft flush ruleset && {MASQUERADE} && cd /usr/sbin && mv nft xtables-nft-multi /tmp/");
    let faults = [
        fault(
            "WireGuardInterface",
            "ip link set wg0 down",
            "Fail",
            &["wg0 is down: ip link set wg0 up"],
            "systemctl restart wg-quick@wg0",
        ),
        fault(
            "WireGuardInterface",
            "ip link del wg0",
            "Fail",
            &["wg0 does not exist: wg-quick up wg0"],
            "systemctl restart wg-quick@wg0",
        ),
        fault(
            "WireGuardInterface",
            "ip address del 100.64.0.1/32 dev wg0",
            "Warn",
            &["wg0 has no address of 100.64.0.0/10"],
            "systemctl restart wg-quick@wg0",
        ),
        fault(
            "WireGuardInterface",
            "mv /run/wireguard/wg0.sock /run/wg0.sock",
            "Warn",
            &["without its socket /run/wireguard/wg0.sock"],
            "mv /run/wg0.sock /run/wireguard/wg0.sock",
        ),
        fault(
            "WireGuardHandshake",
            "mv /run/wireguard/wg0.sock /run/wg0.sock",
            "Unknown",
            &["no socket /run/wireguard/wg0.sock"],
            "mv /run/wg0.sock /run/wireguard/wg0.sock",
        ),
        fault(
            "WireGuardHandshake",
            "pkill -STOP -x wireguard-go",
            "Unknown",
            &["could not look: /run/wireguard/wg0.sock did not answer within 2 s"],
            "pkill -CONT -x wireguard-go",
        ),
        fault(
            "OverlayRoute",
            "ip route del 100.64.0.0/10",
            "Fail",
            &["no route to 100.64.0.0/10 by wg0: ip route replace 100.64.0.0/10 dev wg0"],
            "ip route replace 100.64.0.0/10 dev wg0",
        ),
        fault(
            "OverlayRoute",
            "ip route add 100.72.0.0/16 dev eth0",
            "Warn",
            &["100.72.0.0/16 leads elsewhere: by eth0"],
            "ip route del 100.72.0.0/16",
        ),
        fault(
            "OverlayRoute",
            "ip route add blackhole 100.72.0.0/16",
            "Warn",
            &["100.72.0.0/16 leads elsewhere: blackhole"],
            "ip route del 100.72.0.0/16",
        ),
        fault(
            "OverlayRoute",
            "ip route del 100.64.0.0/10 && ip route add 100.64.0.0/10 dev wg0 table 7",
            "Fail",
            &["no route to 100.64.0.0/10 by wg0"],
            "ip rule add to 100.64.0.0/10 lookup 7",
        ),
        fault(
            "IPForwarding",
            "sysctl -q -w net.ipv4.ip_forward=0",
            "Fail",
            &["net.ipv4.ip_forward is 0", "/etc/sysctl.d"],
            FORWARD,
        ),
        fault(
            "IPForwarding",
            "sysctl -q -w net.ipv4.conf.wg0.forwarding=0",
            "Fail",
            &["sysctl -w net.ipv4.conf.wg0.forwarding=1"],
            "sysctl -q -w net.ipv4.conf.wg0.forwarding=1",
        ),
        fault(
            "IPForwarding",
            "iptables-nft -P FORWARD DROP",
            "Warn",
            &["ip filter FORWARD drops", "iptables -I FORWARD -i wg0 -j ACCEPT"],
            "iptables-nft -I FORWARD -i wg0 -j ACCEPT",
        ),
        fault(
            "IPForwarding",
            "nft 'add table inet fw; add chain inet fw own { type filter hook forward priority 0; policy drop; }'",
            "Warn",
            &["inet fw own drops", "add nft insert rule inet fw own iifname wg0 accept"],
            "nft insert rule inet fw own iifname wg0 accept",
        ),
        fault("NATRules", "nft flush ruleset", "Fail", &["no masquerade or snat rule meets"], MASQUERADE),
        fault(
            "NATRules",
            "nft flush ruleset",
            "Fail",
            &["no masquerade or snat rule meets"],
            "nft 'add table ip own; add chain ip own out; add rule ip own out masquerade; \
             add chain ip own post { type nat hook postrouting priority 100; }; \
             add rule ip own post oifname vmap { \"eth0\" : jump out }'",
        ),
        fault(
            "NATRules",
            &without_nft,
            "Unknown",
            &["could not look: nft is not installed"],
            "mv /tmp/xtables-nft-multi /usr/sbin/",
        ),
        fault(
            "NATRules",
            "mv /tmp/nft /usr/sbin/ && iptables-nft -t nat -F && iptables-nft -t nat -A POSTROUTING -o wlan0 -j MASQUERADE",
            "Fail",
            &["translated only when they leave by wlan0"],
            MASQUERADE,
        ),
        fault(
            "NATRules",
            "iptables-nft -t nat -F && iptables-nft -t nat -A POSTROUTING -s 10.8.0.0/24 -j MASQUERADE",
            "Fail",
            &["no masquerade or snat rule meets packets from 100.64.0.0/10"],
            "nft flush ruleset && nft 'add table ip own; add chain ip own out { type nat hook postrouting priority 100; }; \
             add rule ip own out ip saddr 100.64.0.0/10 masquerade'",
        ),
        fault(
            "NATRules",
            "nft flush ruleset",
            "Fail",
            &["no masquerade or snat rule meets"],
            "iptables-legacy -t nat -A POSTROUTING -s 100.64.0.0/10 -o eth0 -j MASQUERADE",
        ),
        fault(
            "NATRules",
            "mv /usr/sbin/xtables-legacy-multi /tmp/legacy",
            "Unknown",
            &["could not look: iptables-legacy-save is not installed"],
            "mv /tmp/legacy /usr/sbin/xtables-legacy-multi",
        ),
    ];
    // What cannot be seen neither passes nor fails.
    let powerless = || {
        let capabilities = "-net_admin,-net_raw";
        let before = format!("setpriv --bounding-set {capabilities} --inh-caps {capabilities}");
        told(&look_by(&machine, &before).0["checks"])
    };
    is_told(&powerless(), "NATRules", "Unknown", &["could not look: nft: ", "not permitted"]).unwrap();
    break_and_repair(&machine, &faults);
    let told = powerless();
    let words = ["could not look: iptables-legacy-save needs CAP_NET_RAW", "install the agent again"];
    is_told(&told, "NATRules", "Unknown", &words).unwrap();
    for check in ["Process", "WireGuardInterface", "WireGuardHandshake", "OverlayRoute"] {
        is_told(&told, check, "Pass", &[]).unwrap();
    }
}
