//! Exactly once under kill -9. Gateways fail and recover continuously, operators are killed at random and at chosen
//! moments, and at the end the API server's own record is counted: ReplicaSets and the audit log.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{UNBRAKED, WRITES};
use crate::remedies::{healthy, tunnel};
use crate::support::beats::Connector;
use crate::support::faults::{ANY, Fault, Faults};
use crate::support::http::{get, post_beat};
use crate::support::world::SOON;
use crate::support::{Operator, World, eventually, process, seconds, text};

/// Number of gateways that fail, recover and are restarted throughout.
const PATIENTS: usize = 8;
/// How long a kill waits for the write that it is tied to.
const PATIENCE: Duration = seconds(10);

/// The count from the environment variable, else the default.
pub(super) fn wanted(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// The moment of a kill.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// This long after the process has opened its ports: between then and the end of a whole attempt.
    After(Duration),
    /// This long after it has sent this write.
    Sent(&'static str, Duration),
    /// When this write is done, and its answer is still on its way.
    Unanswered(&'static str),
    /// While this write is on its way; it is held until another process works.
    OnItsWay(&'static str),
}

impl Moment {
    /// Never the same moment twice; each kind of moment and each write in turn.
    fn of(kill: usize, seed: u64) -> Self {
        let random = seed.wrapping_add(kill as u64).wrapping_mul(6_364_136_223_846_793_005) >> 33;
        let write = WRITES[(kill / 4) % WRITES.len()];
        match kill % 4 {
            0 => Self::After(Duration::from_millis(random % 3_000)),
            1 => Self::Sent(write, Duration::from_millis(random % 40)),
            2 => Self::Unanswered(write),
            _ => Self::OnItsWay(write),
        }
    }
}

/// One gateway that fails repeatedly and that each restart cures, whichever operator leads.
struct Patient {
    connector: Connector,
    /// The attempt whose pod template cured it last.
    cured_by: Option<String>,
    is_down: bool,
    failures: usize,
    /// Every recorded attempt and how it ended: its outcome, and whether it restarted the workload.
    ended: BTreeMap<String, (String, bool)>,
}

impl Patient {
    /// Records the attempts in its status.
    fn note(&mut self, seen: &Value) {
        for past in seen.pointer("/status/remediation/history").and_then(Value::as_array).into_iter().flatten() {
            let ending = (text(past, "/outcome").to_owned(), past["restarted"] == true);
            self.ended.insert(text(past, "/id").to_owned(), ending);
        }
    }

    /// Beats with its current state: down until it has a template that it has not seen yet, then up until its attempt
    /// is over and forgotten, then down again. Each third failure ends without a restart.
    fn live(&mut self, seen: &Value, newest: Option<&String>, to: &[SocketAddr]) {
        let is_over = ["current", "ledger"].iter().all(|part| seen["status"]["remediation"][part].is_null());
        if self.is_down && (newest != self.cured_by.as_ref() || self.failures.is_multiple_of(3)) {
            self.cured_by = newest.cloned();
            self.is_down = false;
        } else if !self.is_down && is_over && text(seen, "/status/state") == "Online" {
            self.cured_by = newest.cloned();
            self.is_down = true;
            self.failures += 1;
        }
        self.beat(to, if self.is_down { "Fail" } else { "Pass" });
    }

    /// There may be no operator to hear it at this moment.
    fn beat(&self, to: &[SocketAddr], status: &str) {
        for address in to {
            let _ = post_beat(*address, &self.connector.body(&tunnel(status)));
        }
    }
}

/// The gateways, and the operators that are killed.
struct Ward {
    world: World,
    faults: Faults,
    operators: Vec<Operator>,
    patients: Vec<Patient>,
    /// The number of kills that happened in each phase of an attempt.
    phases: BTreeMap<&'static str, usize>,
    inside: usize,
    kills: usize,
}

impl Ward {
    async fn open(name: &str, operators: usize) -> Self {
        let world = World::new(name).await;
        let faults = Faults::before(&world).await;
        let flags = [&UNBRAKED[..], &["--brake-min", "1000"]].concat();
        let mut all = vec![world.operator_through(&faults, &flags).await];
        let mut patients = Vec::new();
        for number in 0..PATIENTS {
            let budget = json!({"maxAttempts": 100, "resetAfterSeconds": 1});
            let connector = healthy(&world, &all[0], &format!("gw-{number}"), budget).await;
            let ended = BTreeMap::new();
            patients.push(Patient { connector, cured_by: None, is_down: false, failures: 0, ended });
        }
        for _ in 1..operators {
            all.push(world.replica_through(&faults, &flags).await);
        }
        Self { world, faults, operators: all, patients, phases: BTreeMap::new(), inside: 0, kills: 0 }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.operators.iter().map(Operator::beats).collect()
    }

    /// One round of beats.
    async fn live(&mut self) {
        let (seen, to) = (self.world.with_attempts(self.world.connectors()).await, self.addresses());
        for patient in &mut self.patients {
            let (object, newest) = &seen[&patient.connector.name];
            patient.note(object);
            patient.live(object, newest.as_ref(), &to);
        }
    }

    /// Records the phases of the attempts while no operator runs that could continue them.
    async fn note(&mut self) {
        let mut fell = BTreeSet::new();
        for (object, newest) in self.world.with_attempts(self.world.connectors()).await.values() {
            let current = &object["status"]["remediation"]["current"];
            let is_applied = newest.as_deref() == Some(text(current, "/id"));
            fell.insert(match text(current, "/phase") {
                "Reserved" if is_applied => "acted, not noted",
                "Reserved" => "reserved, not acted",
                "Restarting" => "noted, not verified",
                "Verifying" => "verified, not recorded",
                _ => continue,
            });
        }
        self.kills += 1;
        self.inside += usize::from(!fell.is_empty());
        for phase in if fell.is_empty() { BTreeSet::from(["outside of any attempt"]) } else { fell } {
            *self.phases.entry(phase).or_default() += 1;
        }
    }

    /// Runs rounds until the operator of this number is killed, at `moment`.
    async fn kill(&mut self, number: usize, moment: Moment) {
        let (pid, faults, from) = (self.operators[number].pid(), self.faults.clone(), self.faults.writes().len());
        match moment {
            Moment::Unanswered(write) => faults.plan(ANY, write, Fault::DoneAndWithheld),
            Moment::OnItsWay(write) => faults.plan(ANY, write, Fault::Held),
            Moment::After(_) | Moment::Sent(..) => {}
        }
        let killing = tokio::spawn(async move {
            match moment {
                Moment::After(time) => tokio::time::sleep(time).await,
                Moment::Sent(write, after) => {
                    sent(&faults, from, write, false).await;
                    tokio::time::sleep(after).await;
                }
                Moment::Unanswered(write) => sent(&faults, from, write, true).await,
                Moment::OnItsWay(write) => sent(&faults, from, write, false).await,
            }
            process::signal(pid, "KILL");
        });
        while !killing.is_finished() {
            self.live().await;
        }
        killing.await.expect("it is killed");
        self.operators[number].kill();
        self.faults.forget_plans();
        self.note().await;
    }

    /// The number of the operator that hears beats.
    async fn leader(&mut self) -> usize {
        let began = Instant::now();
        loop {
            let hears = |operator: &Operator| get(operator.beats(), "/api/health").is_ok_and(|said| said.status == 200);
            if let Some(number) = self.operators.iter().position(hears) {
                return number;
            }
            assert!(began.elapsed() < SOON, "no operator leads");
            self.live().await;
        }
    }

    /// Lets the attempts in progress end, all gateways being healthy; then counts by the API server's own record.
    async fn close(mut self) {
        eventually(2 * SOON, "all are Online, and no attempt is under way", async || {
            let (seen, to) = (self.world.with_attempts(self.world.connectors()).await, self.addresses());
            let mut going = Vec::new();
            for patient in &mut self.patients {
                let status = &seen[&patient.connector.name].0["status"];
                patient.note(&seen[&patient.connector.name].0);
                patient.beat(&to, "Pass");
                if !status["remediation"]["current"].is_null() || status["state"] != "Online" {
                    going.push(format!("{}: {status:#}", patient.connector.name));
                }
            }
            if going.is_empty() { Ok(()) } else { Err(going.join("\n")) }
        })
        .await;
        let (mut decided, mut restarted) = (0, 0);
        for patient in &self.patients {
            decided += patient.ended.len();
            restarted += self.counts(patient).await;
        }
        let Self { kills, inside, phases, .. } = &self;
        println!(
            "{kills} kills, {inside} of them inside an attempt; {decided} attempts, {restarted} restarts; {phases:?}"
        );
        assert!(*inside > 0, "no kill fell inside an attempt: {phases:?}");
        assert!(restarted >= PATIENTS, "too few restarts");
    }

    /// Compares the recorded attempts of one gateway with the API server's record; returns the number of its restarts.
    async fn counts(&self, patient: &Patient) -> usize {
        let name = &patient.connector.name;
        let templates = self.world.attempts_of(name).await;
        let distinct: BTreeSet<&String> = templates.iter().collect();
        assert_eq!(templates.len(), distinct.len(), "{name}: one attempt, two templates: {templates:?}");
        let recorded: BTreeSet<&String> =
            patient.ended.iter().filter(|(_, (_, restarted))| *restarted).map(|(id, _)| id).collect();
        assert_eq!(distinct, recorded, "{name}: restarts made and restarts recorded: {:?}", patient.ended);
        let patched = self.world.touches().iter().filter(|touch| touch.name == *name && touch.is_success()).count();
        assert_eq!(patched, templates.len(), "{name}: each template is one patch, by the audit log");
        let seen = self.world.get(name).await;
        assert_eq!(seen["status"]["remediation"]["restarts"], templates.len(), "{name}: {seen:#}");
        for reason in ["RestartStarted", "RestartSucceeded", "RestartNotCured", "RestartFailed"] {
            let is_told = |(outcome, restarted): &&(String, bool)| match reason {
                "RestartStarted" => *restarted,
                "RestartSucceeded" => outcome == "Succeeded",
                "RestartNotCured" => outcome == "NotCured",
                _ => !["Succeeded", "NotCured"].contains(&&**outcome),
            };
            let due = patient.ended.values().filter(is_told).count();
            eventually(SOON, &format!("{name}: {due} events {reason}"), async || {
                let told = self.world.events(name, reason).await.len();
                if told == due { Ok(()) } else { Err(format!("{told}: {:?}", patient.ended)) }
            })
            .await;
        }
        templates.len()
    }
}

/// Waits until this write was sent after the first `from`; with `is_done`, until it was done.
async fn sent(faults: &Faults, from: usize, write: &str, is_done: bool) {
    let began = Instant::now();
    let is_it = |sent: &crate::support::faults::Write| sent.remedy == write && (!is_done || sent.code.is_some());
    while began.elapsed() < PATIENCE && !faults.writes()[from..].iter().any(is_it) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_every_attempt_restarts_its_workload_exactly_once() {
    let mut ward = Ward::open("chaos-kills", 1).await;
    let seed = jiff::Timestamp::now().as_second() as u64;
    let kills = wanted("VIGIE_CHAOS_KILLS", 20);
    ward.world.may_lead_by((0..kills).map(|kill| format!("vigie-{kill}"))).await;
    for kill in 0..kills {
        let moment = Moment::of(kill, seed);
        ward.kill(0, moment).await;
        // A killed process leads no more; with a Lease of another name the next process need not wait until the Lease
        // ends.
        ward.operators[0].change_flag("--lease-name", &format!("vigie-{kill}"));
        ward.operators[0].restart().await;
        // The delayed request arrives while another operator works.
        ward.leader().await;
        ward.faults.release();
        ward.faults.hold_again();
    }
    ward.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_carries_on_where_the_leader_was_killed() {
    let mut ward = Ward::open("chaos-failover", 2).await;
    for kill in 0..wanted("VIGIE_CHAOS_FAILOVERS", 2) {
        let leader = ward.leader().await;
        // Alternates between before and after the act.
        let moment = if kill % 2 == 0 { Moment::OnItsWay("Patch") } else { Moment::Unanswered("Patch") };
        ward.kill(leader, moment).await;
        let next = ward.leader().await;
        assert_ne!(next, leader, "the other one carries on");
        ward.faults.release();
        ward.faults.hold_again();
        ward.operators[leader].restart().await;
    }
    ward.close().await;
}
