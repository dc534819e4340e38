//! A simulated host on which the helper dies at every step: each id is executed once, or said not to have been.

mod limits;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::engine::{Answer, Engine, Host, Request};
use super::ledger::{Disk, Ledger};
use super::{Outcome, Phase, Run, Seen, State};
use crate::agent::config::Config;
use crate::api::Target;
use crate::time::Clock;

/// The host: it lives on when the helper dies.
#[derive(Default)]
struct World {
    is_unit: bool,
    /// How many runs have begun.
    runs: u32,
    is_running: bool,
    /// A job of systemd: after so many looks it ends with a new run.
    job: Option<u32>,
    disk: Option<Vec<u8>>,
    /// The helper dies at the step of this number.
    dies_at: Option<u32>,
    step: u32,
    is_dead: bool,
    disk_error: bool,
    /// The disk is full after so many writes.
    room: Option<u32>,
    /// A unit that does not run has no run: its host was restarted, or systemd has unloaded it.
    forgets: bool,
    /// How long a look takes.
    look_takes: Duration,
}

impl World {
    /// One step of the helper; true when it dies here.
    fn passes(&mut self) -> bool {
        self.is_dead |= self.dies_at == Some(self.step);
        self.step += 1;
        !self.is_dead
    }

    fn seen(&mut self) -> Seen {
        if let Some(looks) = &mut self.job {
            match looks.checked_sub(1) {
                Some(left) => *looks = left,
                None => {
                    self.job = None;
                    self.runs += 1;
                    self.is_running = true;
                }
            }
        }
        let (id, started_at) = match self.is_unit {
            true => (format!("run-{}", self.runs), String::new()),
            false => ("container".to_owned(), format!("start-{}", self.runs)),
        };
        if self.forgets && !self.is_running {
            let ended = "result success".to_owned();
            return Seen { run: None, state: State::Down { ended }, has_job: self.job.is_some() };
        }
        let down = || State::Down { ended: "exit code 1".to_owned() };
        let state = if self.is_running { State::Running } else { down() };
        Seen { run: Some(Run { id, started_at }), state, has_job: self.job.is_some() }
    }
}

#[derive(Clone)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    /// Does `effect` once; the helper may die before it and after it.
    async fn act(&self, effect: impl FnOnce(&mut World)) -> Result<(), String> {
        let is_alive = {
            let mut world = self.0.lock();
            let begins = world.passes();
            if begins {
                effect(&mut world);
            }
            begins && world.passes()
        };
        if !is_alive {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

impl Host for Shared {
    async fn observe(&self, _target: &Target, _run: Option<&Run>) -> Result<Seen, String> {
        let (is_alive, takes) = {
            let mut world = self.0.lock();
            (world.passes(), world.look_takes)
        };
        if !is_alive {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(takes).await;
        Ok(self.0.lock().seen())
    }

    async fn restart(&self, _target: &Target) -> Result<(), String> {
        self.act(|world| world.job = Some(2)).await
    }

    async fn stop(&self, _run: &Run) -> Result<(), String> {
        self.act(|world| world.is_running = false).await
    }

    async fn start(&self, _run: &Run) -> Result<(), String> {
        self.act(|world| {
            world.runs += u32::from(!world.is_running);
            world.is_running = true;
        })
        .await
    }
}

impl Disk for Shared {
    fn load(&self) -> std::io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().disk.clone())
    }

    fn save(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut world = self.0.lock();
        let is_full = world.room == Some(0);
        world.room = world.room.map(|room| room.saturating_sub(1));
        if world.disk_error || is_full {
            return Err(std::io::Error::other("No space left on device (os error 28)"));
        }
        if world.passes() {
            world.disk = Some(bytes.to_vec());
            world.passes();
        }
        Ok(())
    }
}

fn config() -> Arc<Config> {
    let text = "url: https://vigie.example.com\nconnector: a/b\nrestart: [a.service, \"container:a\"]\n";
    Arc::new(Config::parse(text, "agent.yaml").unwrap())
}

fn request(is_unit: bool, not_after: Timestamp, now: Timestamp) -> Request {
    let target = if is_unit { "a.service" } else { "container:a" };
    Request { id: "r-1".to_owned(), target: target.parse().unwrap(), not_after, now: Some(now) }
}

/// One life of the helper: it is asked until it has the outcome or dies.
fn live(world: &Shared, request: &Request) -> Option<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let engine = Engine::new(world.clone(), Ledger::open(world.clone()), config(), Clock::default());
        engine.recover();
        for _ in 0..600 {
            // A request that meets the death of the helper is never answered.
            let asked = tokio::time::timeout(Duration::from_secs(1), engine.ask(request.clone())).await;
            match asked {
                Ok(Answer::Settled(outcome)) => return Some(outcome),
                Ok(Answer::Pending | Answer::Busy) => tokio::time::sleep(Duration::from_secs(1)).await,
                Err(_) => {}
            }
            if world.0.lock().is_dead {
                return None;
            }
        }
        panic!("the restart never ended: {:?}", Ledger::open(world.clone()).find("r-1"))
    })
}

/// Lives with deaths at these steps, each counted from the birth of that helper, and a last life without. Returns the
/// outcome and the number of runs that began.
fn lives(is_unit: bool, was_running: bool, deaths: &[u32]) -> (Outcome, u32) {
    let first = World { is_unit, is_running: was_running, ..World::default() };
    let world = Shared(Arc::new(Mutex::new(first)));
    let now = Timestamp::now();
    let request = request(is_unit, now + SignedDuration::from_mins(10), now);
    for death in deaths.iter().copied().map(Some).chain([None]) {
        {
            let mut world = world.0.lock();
            (world.dies_at, world.step, world.is_dead) = (death, 0, false);
        }
        if let Some(outcome) = live(&world, &request) {
            let world = world.0.lock();
            assert!(world.is_running, "{deaths:?}: it was left stopped: {outcome:?}");
            return (outcome, world.runs);
        }
    }
    unreachable!("the last life has no death")
}

#[test]
fn a_death_at_any_step_and_another_at_any_later_one_leave_one_restart() {
    for (is_unit, was_running) in [(true, true), (true, false), (false, true), (false, false)] {
        for first in 0..16 {
            for second in 0..16 {
                let (outcome, runs) = lives(is_unit, was_running, &[first, second]);
                assert_eq!(runs, 1, "unit {is_unit}, running {was_running}, deaths {first} {second}: {outcome:?}");
                assert!(outcome.succeeded, "{outcome:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn however_often_it_dies_there_is_one_restart(
        is_unit: bool, was_running: bool, deaths in prop::collection::vec(0..40_u32, 0..12)
    ) {
        let (outcome, runs) = lives(is_unit, was_running, &deaths);
        prop_assert_eq!(runs, 1, "{:?}", outcome);
        prop_assert!(outcome.succeeded);
    }

    #[test]
    fn the_clock_of_the_operator_says_what_is_late(is_unit: bool, wrong_by in -3600..3600_i64, late_by in -600..600_i64) {
        // The clock of the host is wrong: its own moment of the end lies elsewhere.
        let now = Timestamp::now() + SignedDuration::from_secs(wrong_by);
        let request = request(is_unit, now - SignedDuration::from_secs(late_by), now);
        let world = Shared(Arc::new(Mutex::new(World { is_unit, is_running: true, ..World::default() })));
        let outcome = live(&world, &request).expect("it does not die");
        prop_assert_eq!(world.0.lock().runs, u32::from(late_by <= 0), "{:?}", &outcome);
        prop_assert_eq!(outcome.succeeded, late_by <= 0);
    }
}

#[test]
fn what_is_asked_for_again_after_it_became_late_was_not_done_and_is_said_so() {
    for is_unit in [true, false] {
        let world = Shared(Arc::new(Mutex::new(World { is_unit, is_running: true, ..World::default() })));
        let now = Timestamp::now();
        let end = now + SignedDuration::from_mins(10);
        // It dies after the intent is on disk: a look, and the write of the intent.
        world.0.lock().dies_at = Some(2);
        assert_eq!(live(&world, &request(is_unit, end, now)), None);
        {
            let mut world = world.0.lock();
            (world.dies_at, world.is_dead, world.step) = (None, false, 0);
        }
        let late = request(is_unit, end, end + SignedDuration::from_secs(1));
        let outcome = live(&world, &late).expect("it does not die");
        assert!(outcome.message.starts_with("too late") && !outcome.acted, "{outcome:?}");
        assert_eq!(world.0.lock().runs, 0);
    }
}

#[test]
fn a_container_that_was_stopped_for_a_restart_is_started_also_when_the_operator_never_asks_again() {
    let mut stopped = 0;
    for death in 0..24 {
        let world = Shared(Arc::new(Mutex::new(World { is_running: true, dies_at: Some(death), ..World::default() })));
        let now = Timestamp::now();
        if live(&world, &request(false, now + SignedDuration::from_mins(10), now)).is_some() {
            continue;
        }
        {
            let mut world = world.0.lock();
            stopped += u32::from(!world.is_running);
            (world.dies_at, world.is_dead, world.step) = (None, false, 0);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let engine = Engine::new(world.clone(), Ledger::open(world.clone()), config(), Clock::default());
            engine.recover();
            tokio::time::sleep(Duration::from_secs(60)).await;
        });
        let world = world.0.lock();
        assert!(world.is_running, "death at {death}: the container was left stopped");
        assert!(world.runs <= 1);
    }
    assert!(stopped > 0, "it died with the container stopped at some step");
}

#[test]
fn a_restart_that_was_given_up_before_it_began_does_not_block_the_next() {
    let world = Shared(Arc::new(Mutex::new(World { is_unit: true, is_running: true, ..World::default() })));
    let now = Timestamp::now();
    let first = request(true, now + SignedDuration::from_mins(10), now);
    world.0.lock().dies_at = Some(2);
    assert_eq!(live(&world, &first), None);
    {
        let mut world = world.0.lock();
        (world.dies_at, world.is_dead, world.step) = (None, false, 0);
    }
    let outcome = live(&world, &Request { id: "r-2".to_owned(), ..first.clone() }).expect("it does not die");
    assert!(outcome.succeeded, "{outcome:?}");
    let outcome = live(&world, &first).expect("it does not die");
    assert!(!outcome.acted && outcome.message.contains("not begun"), "{outcome:?}");
    assert_eq!(world.0.lock().runs, 1);
}

#[test]
fn without_a_disk_nothing_is_restarted() {
    let now = Timestamp::now();
    let request = request(true, now + SignedDuration::from_mins(10), now);
    let broken = |disk, disk_error| {
        let world = World { is_unit: true, is_running: true, disk, disk_error, ..World::default() };
        let world = Shared(Arc::new(Mutex::new(world)));
        let outcome = live(&world, &request).expect("it does not die");
        assert_eq!(world.0.lock().runs, 0);
        assert!(!outcome.succeeded && !outcome.acted);
        outcome.message
    };
    assert!(broken(None, true).contains("os error 28"));
    assert!(broken(Some(b"{\"records\":[{".to_vec()), false).contains("is damaged"));
    assert!(broken(Some(Vec::new()), false).contains("is damaged"));
}

#[test]
fn a_disk_that_fills_up_after_the_intent_changes_nothing() {
    let world = Shared(Arc::new(Mutex::new(World { is_unit: true, is_running: true, ..World::default() })));
    let now = Timestamp::now();
    let request = request(true, now + SignedDuration::from_mins(10), now);
    // It dies right after systemd has accepted the restart, and the next helper finds a full disk.
    world.0.lock().dies_at = Some(5);
    assert_eq!(live(&world, &request), None);
    {
        let mut world = world.0.lock();
        (world.dies_at, world.is_dead, world.disk_error) = (None, false, true);
        assert_eq!(world.job, Some(2), "the restart was sent");
    }
    let outcome = live(&world, &request).expect("it does not die");
    assert!(outcome.succeeded, "{outcome:?}");
    assert_eq!(world.0.lock().runs, 1);
    let kept = Ledger::open(world.clone());
    assert_eq!(kept.find("r-1").map(|record| &record.phase), Some(&Phase::Intent));
}
