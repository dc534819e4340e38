//! The helper, asked by processes that it must not obey, and by an agent that was taken over.

use crate::agent_machine::{self, Asker, HELPER, ask, restart_line};
use crate::machine::Machine;
use crate::stand_in::StandIn;

/// By how much its own memory may grow with further requests, in KiB: less than they are long.
const MOST_GROWTH: u64 = 2 * 1024;

/// The memory of the helper that is its own, in KiB.
fn anonymous(machine: &Machine) -> u64 {
    let status = machine.run(&format!("cat /proc/{}/status", machine.property(HELPER, "MainPID"))).ok();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the kernel tells it");
    anonymous.trim_end_matches("kB").trim().parse().unwrap()
}

#[test]
fn a_stranger_learns_nothing_and_an_agent_gone_wrong_restarts_little() {
    let (machine, operator) = (Machine::start(), StandIn::start());
    for unit in ["connector.service", "other.service"] {
        machine.unit(unit, "[Service]\nExecStart=/bin/sleep infinity\n");
    }
    agent_machine::start(&machine, &operator, "checks: []\nrestart: [connector.service]\n");
    operator.beat();
    let run = |unit: &str| machine.property(unit, "InvocationID");
    let (helper, connector, other) = (run(HELPER), run("connector.service"), run("other.service"));

    // Neither another user nor the agent's user in another place is the agent.
    let all = format!("{{\"verb\":\"look\"}}\n{}", restart_line("1", "connector.service"));
    for asker in [Asker::Nobody, Asker::UserOfAgent] {
        let answers = ask(&machine, asker, &all);
        assert_eq!(
            answers.matches("the helper answers vigie-agent.service and root").count(),
            2,
            "{asker:?}: {answers}"
        );
    }
    let foreign = ["other.service", "dbus.service", "container:a"].map(|target| restart_line("2", target)).concat();
    let answers = ask(&machine, Asker::Agent, &foreign);
    assert_eq!(answers.matches("not allowed by restart:").count(), 3, "{answers}");

    let long = format!("{}\n", "x".repeat(10 << 20));
    assert!(ask(&machine, Asker::Agent, &long).contains("more than 64 KiB"));
    assert!(ask(&machine, Asker::Nobody, &long).contains("more than 64 KiB"));
    assert_eq!(run("connector.service"), connector);

    let many: String = (0..1000).map(|at| restart_line(&format!("many/{at}"), "connector.service")).collect();
    let answers = ask(&machine, Asker::Agent, &many);
    assert_eq!(answers.lines().count(), 1000, "{answers}");
    machine.eventually("the restarts have ended", || {
        let answers = ask(&machine, Asker::Agent, "{\"verb\":\"look\"}\n");
        if answers.contains("\"outcome\":{") { Ok(()) } else { Err(answers) }
    });
    let starts = machine.journal("connector.service").matches("Started connector.service").count();
    assert!((2..=4).contains(&starts), "{starts} starts, of which three may be restarts");

    assert_eq!(run(HELPER), helper, "the helper has not ended");
    assert_eq!(run("other.service"), other);
    let before = anonymous(&machine);
    let further: String = (0..1000).map(|at| restart_line(&format!("more/{at}"), "connector.service")).collect();
    let answers = ask(&machine, Asker::Agent, &(further + &long));
    assert_eq!(answers.lines().count(), 1001, "{answers}");
    let after = anonymous(&machine);
    assert!(after <= before + MOST_GROWTH, "{before} KiB, then {after} KiB");
    let pid = machine.property(HELPER, "MainPID");
    let sockets = machine.run("ss --no-header --tcp --udp --raw --all --processes").ok();
    assert!(sockets.contains("vigie") && !sockets.contains(&format!("pid={pid},")), "{sockets}");
}
