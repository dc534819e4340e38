//! The disk of the helper is full or read-only, or its records are damaged: nothing is restarted, the reason is told, and
//! heartbeats go on. When the disk is right again, restarts are done.

use crate::agent_machine::{self, ACTIONS, AGENT, Asker, HELPER, ask, restart_line};
use crate::machine::Machine;
use crate::stand_in::{StandIn, Told};

const SERVICE: &str = "[Service]\nExecStart=/bin/sleep infinity\n";
const UNITS: [&str; 5] = ["a.service", "b.service", "c.service", "d.service", "e.service"];
const STATE: &str = "/var/lib/vigie-agent-helper";

/// The restart is done: another run.
#[track_caller]
fn restarts(machine: &Machine, operator: &StandIn, id: &str, unit: &str) {
    let before = machine.property(unit, "InvocationID");
    let told = operator.restart(id, unit);
    assert!(told.succeeded, "{told:?}\n{}", machine.journal(HELPER));
    assert_ne!(machine.property(unit, "InvocationID"), before);
}

/// The restart is refused for this reason, and the run is the same. Heartbeats go on.
#[track_caller]
fn refuses(machine: &Machine, operator: &StandIn, (id, unit): (&str, &str), reason: &str) {
    let before = machine.property(unit, "InvocationID");
    let told = operator.restart(id, unit);
    let Told { succeeded, message, .. } = &told;
    assert!(!succeeded && message.contains(reason), "{told:?}");
    assert_eq!(machine.property(unit, "InvocationID"), before);
    operator.beat();
    // Its journal says so, too.
    machine.eventually("the reason in the journal", || {
        let journal = machine.journal(HELPER);
        if journal.contains(reason) { Ok(()) } else { Err(journal) }
    });
}

#[test]
fn without_a_disk_that_keeps_records_nothing_is_restarted_and_with_one_again_it_is() {
    let (machine, operator) = (Machine::start(), StandIn::start());
    for unit in UNITS {
        machine.unit(unit, SERVICE);
    }
    machine.run(&format!("mkdir -m 700 {STATE} && mount -t tmpfs -o size=64k,mode=700 tmpfs {STATE}")).ok();
    agent_machine::start(&machine, &operator, &format!("checks: []\nrestart: [{}]\n", UNITS.join(", ")));
    restarts(&machine, &operator, "1", "a.service");

    machine.run(&format!("dd if=/dev/zero of={STATE}/fill bs=4k"));
    refuses(&machine, &operator, ("2", "b.service"), "No space left on device");
    machine.run(&format!("rm {STATE}/fill")).ok();
    restarts(&machine, &operator, "3", "b.service");

    machine.run(&format!("mount -o remount,ro {STATE}")).ok();
    refuses(&machine, &operator, ("4", "c.service"), "Read-only file system");
    machine.run(&format!("mount -o remount,rw {STATE}")).ok();
    restarts(&machine, &operator, "5", "c.service");

    // The agent has a folder of its own, and needs it for gaps alone.
    let own = "/var/lib/private/vigie-agent";
    machine.run(&format!("systemctl stop {AGENT} && mount -t tmpfs -o size=16k,mode=700 tmpfs {own}")).ok();
    machine.run(&format!("dd if=/dev/zero of={own}/fill bs=4k; systemctl start {AGENT}")).ok();
    restarts(&machine, &operator, "6", "d.service");
    assert!(machine.journal(AGENT).contains("the journal of gaps is not written"), "{}", machine.journal(AGENT));
    assert_eq!(operator.contradictions(), Vec::<String>::new());
}

#[test]
fn torn_records_refuse_every_restart_until_they_are_repaired() {
    let (machine, operator) = (Machine::start(), StandIn::start());
    for unit in UNITS {
        machine.unit(unit, SERVICE);
    }
    agent_machine::start(&machine, &operator, &format!("checks: []\nrestart: [{}]\n", UNITS.join(", ")));
    restarts(&machine, &operator, "1", "a.service");
    let good = machine.run(&format!("cat {ACTIONS}")).ok();
    let before = UNITS.map(|unit| machine.property(unit, "InvocationID"));
    let torn = [0, 1, good.len() / 3, good.len() / 2, good.len() - 1].map(|length| good[..length].to_owned());
    for torn in torn.into_iter().chain(["\u{0}".repeat(good.len()), "[]".into(), "{\"records\":[{}]}".into()]) {
        machine.run(&format!("systemctl stop {HELPER}")).ok();
        machine.write(ACTIONS, &torn);
        machine.run(&format!("systemctl start {HELPER}")).ok();
        let asked = restart_line("1", "a.service") + &restart_line("2", "b.service");
        let answers = ask(&machine, Asker::Agent, &asked);
        assert_eq!(answers.matches("cannot be read, so that nothing is restarted").count(), 2, "{torn}: {answers}");
    }
    refuses(&machine, &operator, ("3", "c.service"), "cannot be read");
    assert_eq!(UNITS.map(|unit| machine.property(unit, "InvocationID")), before);
    assert!(machine.journal(HELPER).contains("is damaged"), "it says so when it starts");

    machine.write(ACTIONS, &good);
    restarts(&machine, &operator, "4", "d.service");
    // The id from before is known again.
    let known = operator.restart("1", "a.service");
    assert!(known.succeeded, "{known:?}");
    assert_eq!(machine.property("a.service", "InvocationID"), before[0]);
    assert_eq!(operator.contradictions(), Vec::<String>::new());
}
