//! The two units, as the systemd of the host understands them. Pure.

use std::fmt::Write;

use crate::agent::layout::{BINARY, HELPER_UNIT, TOKEN, USER};

/// The oldest systemd whose units are promised: that of RHEL 8.
pub const OLDEST: u32 = 239;
/// From here on systemd hands a file to a service that may not read it: `LoadCredential`.
pub const CREDENTIALS_SINCE: u32 = 247;

/// The state of the host that the units depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The version of systemd.
    pub systemd: u32,
    /// Whether rules of legacy iptables are there: `iptables-legacy-save` needs `CAP_NET_RAW`.
    pub legacy_iptables: bool,
}

/// Directives of both units, each with the first systemd that knows it. An older one would only warn, and the line would
/// promise a protection that is not there.
const HARDENING: [(u32, &str); 27] = [
    (0, "NoNewPrivileges=yes"),
    (0, "ProtectSystem=strict"),
    (0, "ProtectHome=yes"),
    (0, "PrivateTmp=yes"),
    (0, "PrivateDevices=yes"),
    (0, "DevicePolicy=closed"),
    (0, "ProtectKernelTunables=yes"),
    (0, "ProtectKernelModules=yes"),
    (244, "ProtectKernelLogs=yes"),
    (0, "ProtectControlGroups=yes"),
    (245, "ProtectClock=yes"),
    (242, "ProtectHostname=yes"),
    (0, "RestrictNamespaces=yes"),
    (0, "RestrictRealtime=yes"),
    (242, "RestrictSUIDSGID=yes"),
    (0, "LockPersonality=yes"),
    (0, "MemoryDenyWriteExecute=yes"),
    (0, "RemoveIPC=yes"),
    (0, "KeyringMode=private"),
    (0, "SystemCallArchitectures=native"),
    (0, "SystemCallFilter=@system-service"),
    (0, "SystemCallFilter=~@privileged @resources"),
    (0, "SystemCallErrorNumber=EPERM"),
    (0, "AmbientCapabilities="),
    (0, "UMask=0077"),
    (0, "MemoryMax=64M"),
    (0, "TasksMax=32"),
];

/// The allocator would take huge pages: 9 MiB of anonymous memory for each process instead of 1.5 MiB.
const SMALL_PAGES: &str = "Environment=MIMALLOC_ALLOW_THP=0";

/// `vigie-agent.service`.
pub fn agent(host: Host) -> String {
    let mut lines = vec![
        format!("ExecStart={BINARY} agent"),
        "StateDirectory=vigie-agent".to_owned(),
        "RuntimeDirectory=vigie-agent".to_owned(),
    ];
    let mut add = |line: &str| lines.push(line.to_owned());
    if host.systemd >= CREDENTIALS_SINCE {
        add("DynamicUser=yes");
        add(&format!("LoadCredential=token:{TOKEN}"));
        // It sees no other process, and needs none.
        add("ProtectProc=invisible");
    } else {
        add(&format!("User={USER}"));
    }
    add("CapabilityBoundingSet=");
    add("PrivateUsers=yes");
    add("RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX");
    let after = format!("{HELPER_UNIT} network.target");
    unit(host, ("vigie agent: looks at this host and sends heartbeats", &after), Some(HELPER_UNIT), lines)
}

/// `vigie-agent-helper.service`.
pub fn helper(host: Host) -> String {
    // iptables-legacy-save asks the kernel through a raw socket; IPAddressDeny lets no packet of it pass.
    let (capabilities, families) = match host.legacy_iptables {
        true => ("CAP_NET_ADMIN CAP_NET_RAW", "AF_UNIX AF_NETLINK AF_INET AF_INET6"),
        false => ("CAP_NET_ADMIN", "AF_UNIX AF_NETLINK"),
    };
    let lines = vec![
        format!("ExecStart={BINARY} agent helper"),
        "StateDirectory=vigie-agent-helper".to_owned(),
        "RuntimeDirectory=vigie-agent-helper".to_owned(),
        format!("CapabilityBoundingSet={capabilities}"),
        format!("RestrictAddressFamilies={families}"),
        "IPAddressDeny=any".to_owned(),
    ];
    unit(host, ("vigie agent: reads this host and restarts what agent.yaml allows", "dbus.service"), None, lines)
}

fn unit(host: Host, (description, after): (&str, &str), wants: Option<&str>, lines: Vec<String>) -> String {
    let mut text = format!(
        "# Written by vigie agent install; an update writes it anew. Change it by a drop-in: systemctl edit.\n[Unit]\nDescription={description}\nAfter={after}\n"
    );
    if let Some(wants) = wants {
        let _ = writeln!(text, "Wants={wants}");
    }
    text.push_str("StartLimitIntervalSec=0\n\n[Service]\nType=notify\n");
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
    text.push_str("WatchdogSec=60\nRestart=always\nRestartSec=5\nRestartPreventExitStatus=2\n");
    let _ = writeln!(text, "{SMALL_PAGES}");
    for (_, line) in HARDENING.iter().filter(|(since, _)| host.systemd >= *since) {
        let _ = writeln!(text, "{line}");
    }
    text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Host = Host { systemd: 252, legacy_iptables: false };

    fn directives(unit: &str) -> Vec<&str> {
        unit.lines().filter(|line| line.contains('=') && !line.starts_with('#')).collect()
    }

    #[test]
    fn the_half_with_the_network_has_no_privilege_and_the_half_with_privilege_no_network() {
        let (agent, helper) = (agent(HOST), helper(HOST));
        for wanted in ["DynamicUser=yes", "CapabilityBoundingSet=", "LoadCredential=token:/etc/vigie/agent.token"] {
            assert!(directives(&agent).contains(&wanted), "{wanted} in {agent}");
        }
        for wanted in
            ["CapabilityBoundingSet=CAP_NET_ADMIN", "RestrictAddressFamilies=AF_UNIX AF_NETLINK", "IPAddressDeny=any"]
        {
            assert!(directives(&helper).contains(&wanted), "{wanted} in {helper}");
        }
        assert!(!helper.contains("token") && !helper.contains("User="), "{helper}");
    }

    #[test]
    fn an_older_systemd_gets_only_directives_that_it_knows() {
        let old = |systemd| agent(Host { systemd, ..HOST });
        for (version, absent, present) in [
            (239, "ProtectHostname", "User=vigie-agent"),
            (239, "DynamicUser", "User=vigie-agent"),
            (239, "LoadCredential", "ProtectControlGroups=yes"),
            (241, "RestrictSUIDSGID", "LockPersonality=yes"),
            (244, "ProtectClock", "ProtectKernelLogs=yes"),
            (246, "LoadCredential", "ProtectClock=yes"),
            (247, "User=vigie-agent", "LoadCredential=token:/etc/vigie/agent.token"),
        ] {
            let unit = old(version);
            assert!(!unit.contains(absent), "{version}: {absent}");
            assert!(unit.contains(present), "{version}: {present}");
        }
    }

    #[test]
    fn only_rules_of_legacy_iptables_add_a_capability_and_a_raw_socket() {
        let capable = |legacy_iptables| helper(Host { legacy_iptables, ..HOST });
        assert!(!capable(false).contains("CAP_NET_RAW"));
        assert!(capable(true).contains("CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW"));
        let families =
            |legacy| capable(legacy).lines().find(|line| line.starts_with("RestrictAddress")).unwrap().to_owned();
        assert_eq!(families(false), "RestrictAddressFamilies=AF_UNIX AF_NETLINK");
        assert_eq!(families(true), "RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6", "for its raw socket");
    }

    #[test]
    fn both_are_restarted_for_ever_but_not_with_a_wrong_configuration() {
        for unit in [agent(HOST), helper(HOST)] {
            for wanted in [
                "Type=notify",
                "WatchdogSec=60",
                "Restart=always",
                "StartLimitIntervalSec=0",
                SMALL_PAGES,
                "RestartPreventExitStatus=2",
            ] {
                assert!(directives(&unit).contains(&wanted), "{wanted} in {unit}");
            }
        }
    }
}
