//! What there is on the host, and the configuration that follows from it. Only checks whose subject is there are written,
//! so that nothing fails that never was. Pure, but for [`Found::look`].

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use crate::agent::config::BackendConfig;
use crate::api::Target;

/// What the installer is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The operator.
    pub url: String,
    /// `NAMESPACE/NAME` of the connector.
    pub connector: String,
    /// Whether the token may go over `http://`.
    pub allow_insecure: bool,
    /// What runs the connector.
    pub unit: Option<Target>,
    /// The backends on this host.
    pub backends: Vec<BackendConfig>,
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The first WireGuard interface, and the network that its address or its routes name.
    pub tunnel: Option<Tunnel>,
    /// Whether packets are forwarded: the host is a gateway.
    pub forwards: bool,
    /// Whether a rule translates addresses.
    pub translates: bool,
}

/// A tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Its interface.
    pub interface: String,
    /// The networks that are routed into it.
    pub networks: BTreeSet<String>,
}

impl Found {
    /// Looks at this host.
    pub fn look() -> Self {
        let links = output("ip", &["-o", "link", "show"]);
        let sockets = std::fs::read_dir("/run/wireguard").map(|entries| {
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
        });
        let kernel = output("ip", &["-o", "link", "show", "type", "wireguard"]);
        let interface = tunnel_of(&links, &kernel, &sockets.unwrap_or_default());
        let tunnel = interface.map(|interface| {
            let routes = output("ip", &["-4", "route", "show", "table", "all", "dev", &interface]);
            Tunnel { networks: networks_of(&routes), interface }
        });
        let forwards = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() == "1");
        // Asked for a table that is not there, the legacy tool creates it.
        let legacy = if legacy_iptables() { output("iptables-legacy-save", &[]) } else { String::new() };
        let rules = [output("nft", &["list", "ruleset"]), legacy].concat();
        Self { tunnel, forwards, translates: translates(&rules) }
    }
}

/// Whether rules of legacy iptables are there; anyone may read this, and `nft` does not show them.
pub fn legacy_iptables() -> bool {
    let tables = |file| std::fs::read_to_string(file).is_ok_and(|text| !text.trim().is_empty());
    ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"].into_iter().any(tables)
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// The kernel's interface, else one whose name has a socket of a userspace WireGuard.
fn tunnel_of(links: &str, kernel: &str, sockets: &[String]) -> Option<String> {
    let first_name = |line: &str| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned());
    let is_userspace =
        |name: &String| sockets.iter().any(|socket| Path::new(socket).file_stem() == Some(name.as_ref()));
    kernel.lines().find_map(first_name).or_else(|| links.lines().filter_map(first_name).find(is_userspace))
}

fn networks_of(routes: &str) -> BTreeSet<String> {
    let network = |line: &str| {
        let word = line.split_whitespace().next()?;
        let (address, _) = word.split_once('/')?;
        address.parse::<Ipv4Addr>().ok().map(|_| word.to_owned())
    };
    routes.lines().filter_map(network).collect()
}

fn translates(rules: &str) -> bool {
    let words = rules.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_ascii_lowercase);
    words.into_iter().any(|word| word == "masquerade" || word == "snat")
}

/// The text of `/etc/vigie/agent.yaml`.
pub fn configuration(wanted: &Wanted, found: &Found, token_file: Option<&str>) -> String {
    let mut text = "# The agent of vigie. Its keys: docs/agent.md. After a change: systemctl restart vigie-agent-helper vigie-agent\n".to_owned();
    let mut line = |indent: &str, key: &str, value: &str| {
        let _ = writeln!(text, "{indent}{key}: {}", quoted(value));
    };
    line("", "url", &wanted.url);
    line("", "connector", &wanted.connector);
    if let Some(file) = token_file {
        line("", "tokenFile", file);
    }
    if let Some(unit) = &wanted.unit {
        line("", "unit", &unit.to_string());
    }
    if wanted.allow_insecure {
        text.push_str("allowInsecure: true\n");
    }
    text.push_str("# Exactly these are reported.\nchecks:\n");
    for check in checks(wanted, found) {
        let _ = writeln!(text, "  - {check}");
    }
    if !wanted.backends.is_empty() {
        text.push_str("backends:\n");
    }
    for BackendConfig { name, unit, probe } in &wanted.backends {
        let _ = writeln!(text, "  - name: {}\n    unit: {}", quoted(name), quoted(&unit.to_string()));
        if let Some(probe) = probe {
            let _ = writeln!(text, "    probe: {}", quoted(probe));
        }
    }
    let targets: BTreeSet<&Target> =
        wanted.unit.iter().chain(wanted.backends.iter().map(|backend| &backend.unit)).collect();
    text.push_str("# Nothing else is ever restarted. Remove a line to forbid it.\n");
    text.push_str(if targets.is_empty() { "restart: []\n" } else { "restart:\n" });
    for target in targets {
        let _ = writeln!(text, "  - {}", quoted(&target.to_string()));
    }
    text
}

fn checks(wanted: &Wanted, found: &Found) -> Vec<String> {
    let mut checks = Vec::new();
    if wanted.unit.is_some() {
        checks.push("{type: Process}".to_owned());
    }
    if let Some(Tunnel { interface, networks }) = &found.tunnel {
        let name = quoted(interface);
        let networks = networks.iter().map(|network| quoted(network)).collect::<Vec<_>>().join(", ");
        checks.push(format!("{{type: WireGuardInterface, interfaceName: {name}}}"));
        checks.push(format!("{{type: WireGuardHandshake, interfaceName: {name}}}"));
        if !networks.is_empty() {
            checks.push(format!("{{type: OverlayRoute, interfaceName: {name}, overlayCIDRs: [{networks}]}}"));
        }
        if found.forwards {
            checks.push(format!("{{type: IPForwarding, interfaceName: {name}}}"));
        }
        if found.translates && !networks.is_empty() {
            checks.push(format!("{{type: NATRules, overlayCIDRs: [{networks}]}}"));
        }
    }
    checks.extend(["{type: ControlPlane}", "{type: ClockSkew}"].map(str::to_owned));
    checks
}

/// A YAML string in double quotes: JSON's strings are a part of YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::config::Config;
    use crate::api::CheckType;

    fn wanted() -> Wanted {
        Wanted {
            url: "https://vigie.example.com".into(),
            connector: "gateways/edge-1".into(),
            unit: Some("ztna-connector.service".parse().unwrap()),
            backends: vec![BackendConfig {
                name: "orders".into(),
                unit: "compose:orders:backend".parse().unwrap(),
                probe: Some("http://127.0.0.1:8081/actuator/health".into()),
            }],
            ..Wanted::default()
        }
    }

    fn types(config: &Config) -> Vec<CheckType> {
        config.checks.iter().map(|check| check.type_).collect()
    }

    #[test]
    fn a_gateway_gets_every_check_and_a_host_without_tunnel_none_of_the_tunnels() {
        use CheckType::{ClockSkew, ControlPlane, Process};
        let tunnel = Tunnel { interface: "wg1".into(), networks: BTreeSet::from(["100.64.0.0/10".to_owned()]) };
        let gateway = Found { tunnel: Some(tunnel), forwards: true, translates: true };
        let config = Config::parse(&configuration(&wanted(), &gateway, None), "agent.yaml").unwrap();
        assert_eq!(types(&config), CheckType::ALL);
        assert_eq!(config.checks[3].interface_name.as_deref(), Some("wg1"));
        assert_eq!(config.checks[3].overlay_cidrs, ["100.64.0.0/10".parse().unwrap()]);

        let vm = Found { forwards: true, translates: true, tunnel: None };
        let config =
            Config::parse(&configuration(&wanted(), &vm, Some("/etc/vigie/agent.token")), "agent.yaml").unwrap();
        assert_eq!(types(&config), [Process, ControlPlane, ClockSkew]);
        assert_eq!(config.restart.len(), 2);
        assert_eq!(config.backends[0].name, "orders");
        assert_eq!(config.token_file.as_deref(), Some(Path::new("/etc/vigie/agent.token")));
    }

    #[test]
    fn a_host_that_only_beats_may_restart_nothing() {
        let wanted = Wanted { unit: None, backends: Vec::new(), ..wanted() };
        let config = Config::parse(&configuration(&wanted, &Found::default(), None), "agent.yaml").unwrap();
        assert!(config.restart.is_empty() && config.unit.is_none());
    }

    #[test]
    fn a_userspace_tunnel_is_found_by_its_socket() {
        let links = "1: lo: <LOOPBACK,UP>\\n2: eth0@if3: <UP>\n7: wg0: <POINTOPOINT,UP> mtu 1420";
        assert_eq!(tunnel_of(links, "", &["wg0.sock".into()]).as_deref(), Some("wg0"));
        assert_eq!(tunnel_of(links, "", &[]), None);
        assert_eq!(tunnel_of(links, "9: tun9: <UP>", &["wg0.sock".into()]).as_deref(), Some("tun9"));
    }

    #[test]
    fn networks_are_those_of_routes_and_addresses_translate_by_either_tool() {
        let routes = "100.64.0.0/10 scope link\nlocal 100.64.0.1 table local\n100.64.0.9 scope link\n";
        assert_eq!(networks_of(routes).into_iter().collect::<Vec<_>>(), ["100.64.0.0/10"]);
        assert!(translates("-A POSTROUTING -s 100.64.0.0/10 -j MASQUERADE"));
        assert!(translates("ip saddr 100.64.0.0/10 masquerade"));
        assert!(!translates("-A POSTROUTING -j DNAT"));
    }
}
