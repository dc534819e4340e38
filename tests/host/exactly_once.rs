//! Each restart is carried out once, or its outcome says that it was not, whatever is killed at which moment: the agent, its
//! helper, or the whole machine. `VIGIE_KILLS` says how many kills there are, `VIGIE_SEED` which.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;

use crate::agent_machine::{self, AGENT, HELPER};
use crate::machine::Machine;
use crate::stand_in::{Offer, StandIn, Told};

/// How many kills there are where `VIGIE_KILLS` does not say it.
const KILLS: u64 = 20;
/// Machines that are killed at the same time.
const MACHINES: u64 = 2;
/// Targets of each kind; a round restarts two units, a container and a service of compose.
const UNITS: u64 = 10;
const CONTAINERS: u64 = 3;
/// The helper restarts a target three times in ten minutes; then it is made to forget.
const ROUNDS: u64 = 9;
/// By how much a job may begin after its last moment: the time from the decision to its first line, on a busy machine.
const LATENESS: i64 = 5;

/// Each run writes when it began, and when it was asked to end; both take a moment, in which a kill may come.
const UNIT: &str = "
[Service]
ExecStartPre=/bin/sleep 0.3
ExecStart=/bin/sh -c 'echo \"start $$(date +%%s)\" >>/var/lib/runs/%p@%i.service; exec sleep infinity'
ExecStop=/bin/sh -c 'echo \"stop $$(date +%%s)\" >>/var/lib/runs/%p@%i.service; sleep 0.7'
[Install]
WantedBy=multi-user.target
";
const CONTAINER: &str = "
trap 'echo \"stop $(busybox date +%s)\" >>/runs/$1; sleep 0.7; exit 0' TERM
echo \"start $(busybox date +%s)\" >>/runs/$1
while :; do sleep 1 & wait $!; done
";

/// Reproducible chance.
struct Chance(u64);

impl Chance {
    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

fn name_of_unit(at: u64) -> String {
    format!("work@{at}.service")
}

/// A machine with all targets, and an agent that may restart them.
fn machine(operator: &StandIn) -> Machine {
    let machine = Machine::start();
    machine.docker();
    machine.write("/etc/systemd/system/work@.service", UNIT);
    machine.write("/var/lib/runs/run.sh", CONTAINER);
    let units: Vec<String> = (0..UNITS).map(name_of_unit).collect();
    let all = units.join(" ");
    machine.run(&format!("systemctl daemon-reload && systemctl enable --quiet --now docker {all}")).ok();
    let mut compose = "version: '2.4'\nservices:\n".to_owned();
    let mut targets = units;
    for at in 0..CONTAINERS {
        let options = format!("--detach --name c{at} --restart always --volume /var/lib/runs:/runs");
        machine.run(&format!("docker run {options} busybox:1 sh /runs/run.sh container:c{at}")).ok();
        compose += &format!(
            "  s{at}:\n    image: busybox:1\n    command: ['sh', '/runs/run.sh', 'compose:orders:s{at}']\n    \
             restart: unless-stopped\n    volumes: ['/var/lib/runs:/runs']\n"
        );
        targets.extend([format!("container:c{at}"), format!("compose:orders:s{at}")]);
    }
    machine.compose("orders", &compose);
    let keys = format!("checks: []\nrestart: {}\n", serde_json::to_string(&targets).unwrap());
    agent_machine::start(&machine, operator, &keys);
    operator.beat();
    machine
}

/// The lines of each target.
fn runs(machine: &Machine) -> BTreeMap<String, Vec<(String, i64)>> {
    let text = machine.run("cd /var/lib/runs && grep -H . *:* *@*").ok();
    let mut runs = BTreeMap::<String, Vec<_>>::new();
    for line in text.lines() {
        let (head, at) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (target, what) = head.rsplit_once(':').unwrap_or_else(|| panic!("{line}"));
        runs.entry(target.to_owned()).or_default().push((what.to_owned(), at.parse().unwrap()));
    }
    runs
}

/// Why a target does not run now.
fn not_running(machine: &Machine, target: &str) -> Option<String> {
    let seen = match target.split(':').collect::<Vec<_>>()[..] {
        ["container", name] => machine.run(&format!("docker inspect -f '{{{{.State.Status}}}}' {name}")),
        ["compose", project, service] => {
            machine.run(&format!("docker inspect -f '{{{{.State.Status}}}}' {project}_{service}_1"))
        }
        _ => machine.run(&format!("systemctl is-active {target}")),
    };
    (!matches!(seen.stdout.trim(), "running" | "active")).then(|| format!("{target}: {seen:?}"))
}

/// Kills something `kills` times; returns how often the machine lost its power.
fn strike(machine: &mut Machine, chance: &mut Chance, kills: u64) -> usize {
    let mut boots = 0;
    for _ in 0..kills {
        std::thread::sleep(Duration::from_millis(chance.below(2500)));
        match chance.below(20) {
            0..9 => agent_machine::kill(machine, AGENT),
            9..18 => agent_machine::kill(machine, HELPER),
            _ => {
                machine.crash();
                machine.boot();
                boots += 1;
            }
        }
    }
    boots
}

/// A restart of a round, and what was there before.
struct Case {
    offer: Offer,
    ahead: SignedDuration,
    before: Vec<(String, i64)>,
}

impl Case {
    /// The promise, with the lines that the target has written by now, and how often the machine has booted meanwhile.
    fn check(&self, told: &Told, after: &[(String, i64)], boots: usize) -> Result<(), String> {
        let new = &after[self.before.len()..];
        let count = |what: &str| new.iter().filter(|(said, _)| said == what).count();
        let (starts, stops) = (count("start"), count("stop"));
        let wrong = |why: &str| {
            let (Offer { id, target, not_after }, before) = (&self.offer, &self.before);
            Err(format!("{id} of {target} until {not_after}: {why}; {told:?}; {boots} boots; {before:?}, then {new:?}"))
        };
        if told.target != self.offer.target {
            return wrong("another target was told");
        }
        if stops > 1 || starts > 1 + boots {
            return wrong("it was restarted more than once");
        }
        // Only a machine that lost its power may not know what it did.
        let is_blind = boots > 0 && told.message.starts_with("it cannot be looked at, so it is not restarted");
        let is_untouched = told.message.starts_with("too late") || is_blind;
        let is_known = ["not repeated", "ended before it had run"].iter().any(|words| told.message.contains(words));
        match (told.succeeded, is_untouched, boots) {
            (true, ..) if starts == 0 => return wrong("it was not restarted"),
            (false, true, _) if stops > 0 || starts > boots => return wrong("it was restarted all the same"),
            (false, false, 0) => return wrong("it failed"),
            (false, false, _) if !is_known => return wrong("the reason is none"),
            _ => {}
        }
        let last_moment = (self.offer.not_after - self.ahead).as_second();
        match new.iter().find(|(what, at)| what == "stop" && *at > last_moment + LATENESS) {
            Some(_) => wrong("it began after its last moment"),
            None => Ok(()),
        }
    }
}

/// One round: four restarts, and kills while they are under way.
fn round(machine: &mut Machine, operator: &StandIn, chance: &mut Chance, (at, kills): (u64, u64)) {
    let ahead = SignedDuration::from_hours(1) * i32::try_from(chance.below(3)).unwrap() - SignedDuration::from_hours(1);
    operator.set_ahead(ahead);
    // The agent learns the clock of the operator with an answer.
    operator.beat();
    let before = runs(machine);
    let container = at % CONTAINERS;
    let of_round = [
        name_of_unit(2 * at % UNITS),
        name_of_unit((2 * at + 1) % UNITS),
        format!("container:c{container}"),
        format!("compose:orders:s{container}"),
    ];
    let cases = of_round.map(|target| {
        let within = match chance.below(8) {
            0 => SignedDuration::from_secs(-1),
            1 => SignedDuration::from_millis(i64::try_from(chance.below(8000)).unwrap()),
            _ => SignedDuration::from_mins(10),
        };
        let offer = operator.offer(&format!("{at}/{target}"), &target, within);
        Case { offer, ahead, before: before.get(&target).cloned().unwrap_or_default() }
    });
    operator.delivered();
    let boots = strike(machine, chance, kills);
    let told = cases.each_ref().map(|case| operator.outcome(&case.offer.id));
    for case in &cases {
        machine.eventually("it runs", || not_running(machine, &case.offer.target).map_or(Ok(()), Err));
    }
    let after = runs(machine);
    for (case, told) in cases.iter().zip(told) {
        case.check(&told, after.get(&case.offer.target).map_or(&[][..], Vec::as_slice), boots)
            .unwrap_or_else(|error| panic!("{error}\n{}", machine.journal(HELPER)));
    }
    assert_eq!(operator.contradictions(), Vec::<String>::new());
}

fn life(seed: u64, kills: u64) {
    let operator = StandIn::start();
    let mut machine = machine(&operator);
    let mut chance = Chance(seed);
    let (mut left, mut at) = (kills, 0);
    while left > 0 {
        if at > 0 && at % ROUNDS == 0 {
            machine
                .run(&format!("systemctl stop {HELPER} && rm {} && systemctl start {HELPER}", agent_machine::ACTIONS))
                .ok();
        }
        let now = left.min(1 + chance.below(4));
        round(&mut machine, &operator, &mut chance, (at, now));
        left -= now;
        at += 1;
        println!("round {at}: {} of {kills} kills on {}", kills - left, machine.address());
    }
}

#[test]
fn whatever_is_killed_each_restart_happens_once_or_is_said_not_to_have() {
    let kills = number("VIGIE_KILLS").unwrap_or(KILLS);
    let seed = number("VIGIE_SEED").unwrap_or_else(|| u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap());
    println!("{kills} kills; the same again: VIGIE_SEED={seed} VIGIE_KILLS={kills}");
    std::thread::scope(|scope| {
        for at in 0..MACHINES {
            let share = kills / MACHINES + u64::from(at < kills % MACHINES);
            // Neighbouring seeds of this generator begin alike, and zero stays zero.
            let seed = (seed ^ at).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            scope.spawn(move || life(seed, share));
        }
    });
}
