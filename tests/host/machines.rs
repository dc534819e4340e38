//! The test machines themselves: each thing that the agent looks at is there, and really breaks and works.

use std::path::PathBuf;
use std::process::Command;

use crate::machine::{Machine, OVERLAY};
use crate::support::process::{run, signal};

/// A service that runs until it is killed, and that systemd then restarts.
const SERVICE: &str = "
[Service]
ExecStart=/bin/sleep infinity
Restart=always
RestartSec=100ms
";

#[test]
fn a_killed_unit_is_restarted_by_systemd_and_the_journal_says_so() {
    let machine = Machine::start();
    machine.unit("connector.service", SERVICE);
    let before = machine.property("connector.service", "InvocationID");
    machine.kill("connector.service", "KILL");
    machine.eventually("systemd restarts it", || {
        let seen = ["InvocationID", "ActiveState", "NRestarts"].map(|name| machine.property("connector.service", name));
        if seen[0] != before && seen[1] == "active" && seen[2] == "1" { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    assert!(machine.journal("connector.service").contains("status=9/KILL"));
}

#[test]
fn a_machine_that_lost_its_power_boots_again_with_its_disk_and_another_boot_id() {
    let mut machine = Machine::start();
    let id = |machine: &Machine| machine.run("cat /proc/sys/kernel/random/boot_id").ok();
    let first = id(&machine);
    machine.write("/etc/kept", "kept");
    machine.run("touch /run/lost").ok();
    machine.crash();
    machine.boot();
    assert_ne!(id(&machine), first);
    assert_eq!(machine.run("cat /etc/kept").ok(), "kept");
    assert_ne!(machine.run("test -e /run/lost").code, 0);
}

#[test]
fn a_container_of_compose_runs_is_published_and_comes_back_when_it_is_killed() {
    let machine = Machine::start();
    machine.docker();
    machine.compose(
        "orders",
        "
version: '2.4'
services:
  backend:
    image: busybox:1
    command: ['sh', '-c', 'echo ok >/tmp/index.html; exec httpd -f -p 8081 -h /tmp']
    restart: always
    ports: ['8081:8081']
",
    );
    let answers = || {
        let url = format!("http://{}:8081/index.html", machine.address());
        let seen =
            run(Command::new("curl").args(["--silent", "--show-error", "--max-time", "5", "--noproxy", "*", &url]));
        if seen.stdout == "ok\n" { Ok(()) } else { Err(format!("{seen:?}")) }
    };
    machine.eventually("it answers on its published port", answers);
    let inspect = |what: &str| machine.run(&format!("docker inspect -f '{{{{{what}}}}}' orders_backend_1")).ok();
    let pid = inspect(".State.Pid");
    machine.run(&format!("kill -9 {pid}")).ok();
    machine.eventually("Docker restarts it", || match inspect(".RestartCount").trim() {
        "1" => Ok(()),
        seen => Err(seen.to_owned()),
    });
    machine.eventually("it answers again", answers);
}

#[test]
fn two_userspace_wireguards_shake_hands_and_carry_packets() {
    let machine = Machine::start();
    machine.wireguard();
    machine.run(&format!("ping -c 1 -W 5 {}", OVERLAY[1])).ok();
    let seen = machine.run_at_peer("wg show wg0 latest-handshakes").ok();
    assert!(seen.split_whitespace().nth(1).is_some_and(|at| at != "0"), "{seen}");
}

#[test]
fn rules_of_nft_and_of_both_iptables_are_kept_apart() {
    let machine = Machine::start();
    let tables = || machine.run("cat /proc/net/ip_tables_names").ok();
    assert_eq!(tables(), "", "no legacy table before the first legacy rule");
    machine.run("nft add table ip gateway").ok();
    machine.run("iptables-nft -t nat -A POSTROUTING -s 100.64.0.0/10 -j MASQUERADE").ok();
    let rules = machine.run("nft -j list ruleset").ok();
    assert!(rules.contains("100.64.0.0") && rules.contains("MASQUERADE") && rules.contains("gateway"), "{rules}");
    machine.run("iptables-legacy -t nat -A POSTROUTING -s 100.65.0.0/16 -j MASQUERADE").ok();
    assert_eq!(tables(), "nat\n");
    assert!(!machine.run("nft -j list ruleset").ok().contains("100.65.0.0"), "legacy rules are invisible to nft");
    assert!(machine.run("iptables-legacy-save").ok().contains("100.65.0.0"));
}

#[test]
fn nothing_of_a_machine_outlives_it_however_it_ends() {
    let there = |traces: &[PathBuf]| traces.iter().filter(|path| path.exists()).cloned().collect::<Vec<_>>();
    let machine = Machine::start();
    let traces = machine.traces();
    assert_eq!(there(&traces), traces);
    // As when the test is killed: its pipe closes.
    drop(machine);
    assert_eq!(there(&traces), Vec::<PathBuf>::new());

    let machine = Machine::start();
    machine.unit("connector.service", SERVICE);
    let traces = machine.traces();
    signal(machine.supervisor(), "KILL");
    // The cgroup, which is empty then, is removed by the next machine with this number.
    machine.eventually("its processes and its network die with a supervisor that was killed", || {
        let left = there(&traces[..2]);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}
