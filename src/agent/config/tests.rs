use super::*;

const FULL: &str = r#"
url: https://vigie.example.com/base/
connector: gateways/edge-1
tokenFile: /etc/vigie/token
caFile: /etc/vigie/ca.pem
proxy: http://192.0.2.9:3128
unit: ztna-connector.service
checks:
- type: Process
  probe: http://127.0.0.1:9000/
- {type: WireGuardHandshake, interfaceName: wg1, maxHandshakeAgeSeconds: 300}
- {type: OverlayRoute, overlayCIDRs: [100.64.0.0/10, "2001:db8::/32"]}
backends:
- {name: orders, unit: "compose:orders:backend", probe: "http://127.0.0.1:8081/actuator/health"}
restart: [ztna-connector.service, "compose:orders:backend"]
composeUp: true
dockerSocket: /run/podman/podman.sock
"#;

fn wrong(text: &str) -> String {
    Config::parse(text, "agent.yaml").expect_err("it is wrong").0
}

#[test]
fn every_key_is_read() {
    let config = Config::parse(FULL, "agent.yaml").unwrap();
    assert_eq!(config.url, "https://vigie.example.com/base");
    assert_eq!(config.connector.to_string(), "gateways/edge-1");
    assert_eq!(config.token_file.as_deref(), Some(Path::new("/etc/vigie/token")));
    assert_eq!(config.unit, Some("ztna-connector.service".parse().unwrap()));
    assert_eq!(config.checks.len(), 3);
    assert_eq!(config.checks[1].interface_name.as_deref(), Some("wg1"));
    assert_eq!(config.checks[2].overlay_cidrs.len(), 2);
    assert_eq!(config.backends[0].unit.to_string(), "compose:orders:backend");
    assert!(config.compose_up && !config.allow_insecure);
    assert_eq!(config.docker_socket, Path::new("/run/podman/podman.sock"));
    let targets: Vec<String> = config.targets().iter().map(ToString::to_string).collect();
    assert_eq!(targets, ["ztna-connector.service", "compose:orders:backend"]);
}

#[test]
fn the_least_is_a_url_and_a_connector() {
    let config = Config::parse("url: https://192.0.2.1:8080\nconnector: a/b.c\n", "agent.yaml").unwrap();
    assert!(config.checks.is_empty() && config.restart.is_empty() && config.unit.is_none());
    assert_eq!(config.docker_socket, Path::new(DOCKER_SOCKET));
}

#[test]
fn a_fault_names_the_file_the_line_and_the_key() {
    let base = "url: https://a.example.com\nconnector: gateways/edge-1\n";
    for (lines, place, named) in [
        ("tokenfile: /x\n", "agent.yaml:3: ", "tokenfile"),
        ("checks:\n- {type: Process, interfacename: wg0}\n", "agent.yaml:4: ", "interfacename"),
        ("checks:\n- {type: Proces}\n", "agent.yaml:4: ", "Proces"),
        ("unit: ssh\n", "agent.yaml:3: ", "NAME.service"),
        ("restart:\n- a.service\n- -x.service\n", "agent.yaml:5: ", "NAME.service"),
        ("checks:\n- {type: Process}\n", "agent.yaml:3: checks: ", "unit"),
        ("checks: [{type: NATRules}, {type: NATRules}]\n", "agent.yaml:3: checks: ", "NATRules: it is there twice"),
        ("checks: [{type: NATRules, overlayCIDRs: [100.64.0.0/33]}]\n", "agent.yaml:3: ", "no network"),
        ("checks: [{type: WireGuardInterface, interfaceName: a/b}]\n", "agent.yaml:3: checks: ", "interfaceName"),
        ("checks: [{type: WireGuardHandshake, maxHandshakeAgeSeconds: 5}]\n", "agent.yaml:3: checks: ", "30 to 86400"),
        ("backends: [{name: A, unit: a.service}]\n", "agent.yaml:3: backends: ", "MonitoredBackend"),
        ("backends: [{name: a, unit: a.service, probe: ftp://x}]\n", "agent.yaml:3: backends: ", "probe"),
    ] {
        let message = wrong(&format!("{base}{lines}"));
        assert!(message.starts_with(place) && message.contains(named), "{lines:?}: {message}");
    }
    for (text, named) in [
        ("url: http://a.example.com\nconnector: a/b\n", "agent.yaml:1: url: the token would go over http://"),
        ("url: a.example.com\nconnector: a/b\n", "agent.yaml:1: url: "),
        ("url: https://u:p@a.example.com\nconnector: a/b\n", "agent.yaml:1: url: "),
        (
            "url: https://a.example.com\nconnector: edge-1\n",
            "agent.yaml:2: connector: \"edge-1\" is not NAMESPACE/NAME",
        ),
        ("url: https://a.example.com\n", "connector"),
        ("url: [", "agent.yaml:"),
        ("", "agent.yaml:"),
    ] {
        let message = wrong(text);
        assert!(message.contains(named), "{text:?}: {message}");
    }
    let message = Config::read(Path::new("/nonexistent/agent.yaml")).unwrap_err().0;
    assert!(message.starts_with("/nonexistent/agent.yaml: No such file"), "{message}");
}

#[test]
fn the_file_overrides_what_the_operator_says_and_a_unit_comes_from_the_file_alone() {
    let config = Config::parse(FULL, "agent.yaml").unwrap();
    let spec: Vec<CheckSpec> = serde_json::from_value(serde_json::json!([
        {"type": "Process", "unit": "sshd.service"},
        {"type": "WireGuardHandshake", "interfaceName": "wg9", "maxHandshakeAgeSeconds": 60},
        {"type": "OverlayRoute", "interfaceName": "wg7", "overlayCIDRs": ["192.0.2.0/24"]},
        {"type": "NATRules", "interfaceName": "wg8"},
    ]))
    .unwrap();
    let told = config.with_parameters(&spec);
    assert_eq!(told.checks[0], config.checks[0]);
    assert_eq!(told.checks[1], config.checks[1]);
    assert_eq!(told.checks[2].interface_name.as_deref(), Some("wg7"));
    assert_eq!(told.checks[2].overlay_cidrs, config.checks[2].overlay_cidrs);
    assert_eq!(told.checks.len(), 3, "a check that the file does not have is not reported");
    let bad: Vec<CheckSpec> =
        serde_json::from_value(serde_json::json!([{"type": "OverlayRoute", "interfaceName": "../x"}])).unwrap();
    assert_eq!(config.with_parameters(&bad), config);
}
