//! Carries restarts out: looks, asks [`next`], does it, and looks again.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::ledger::{Disk, Ledger};
use super::{ACT_LIMIT, Asked, Outcome, Phase, Progress, Record, Run, Seen, State, Step, next};
use crate::agent::config::Config;
use crate::agent::layout::{CONFIG, HELPER_STATE};
use crate::api::Target;
use crate::time::{Clock, Moment, Now};

/// How long to wait between two looks at a target.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The hands of the helper.
pub trait Host: Send + Sync + 'static {
    /// The state of a target. Where several containers could be meant, the one of `run` is.
    ///
    /// # Errors
    /// It cannot be looked at.
    fn observe(&self, target: &Target, run: Option<&Run>) -> impl Future<Output = Result<Seen, String>> + Send;

    /// Restarts a unit without waiting for it, or creates an absent service.
    ///
    /// # Errors
    /// It was refused.
    fn restart(&self, target: &Target) -> impl Future<Output = Result<(), String>> + Send;

    /// Stops the container of this run.
    ///
    /// # Errors
    /// It was refused, or the answer was lost.
    fn stop(&self, run: &Run) -> impl Future<Output = Result<(), String>> + Send;

    /// Starts the container of this run.
    ///
    /// # Errors
    /// As [`Host::stop`].
    fn start(&self, run: &Run) -> impl Future<Output = Result<(), String>> + Send;
}

/// A restart that the operator asks for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The id of the restart.
    pub id: String,
    /// What is restarted.
    pub target: Target,
    /// The last moment at which it may begin.
    pub not_after: Timestamp,
    /// The clock of the operator, as far as the agent knows it; `None` = that of the host is right.
    pub now: Option<Timestamp>,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is over.
    Settled(Outcome),
    /// It is under way.
    Pending,
    /// Another restart of the same target is under way: ask again later.
    Busy,
}

/// Everything that restarts need.
pub struct Engine<H, D> {
    host: H,
    ledger: Mutex<Ledger<D>>,
    config: Arc<Config>,
    clock: Clock,
    /// The ids that a task is at work on.
    active: Mutex<BTreeSet<String>>,
}

impl<H: Host, D: Disk + Send + 'static> Engine<H, D> {
    /// An engine over the records of `ledger`.
    pub fn new(host: H, ledger: Ledger<D>, config: Arc<Config>, clock: Clock) -> Arc<Self> {
        Arc::new(Self { host, ledger: Mutex::new(ledger), config, clock, active: Mutex::default() })
    }

    /// Continues what was under way when the helper ended, as far as that needs no operator.
    pub fn recover(self: &Arc<Self>) {
        let open: Vec<String> = self.ledger.lock().open_records().map(|record| record.id.clone()).collect();
        for id in open {
            self.work_on(id, (Asked::No, self.clock.now()));
        }
    }

    /// Whether there is a record of this id.
    pub fn knows(&self, id: &str) -> bool {
        self.ledger.lock().find(id).is_some()
    }

    /// The last record of each target, for the report.
    pub fn latest(&self) -> Vec<Record> {
        let mut ledger = self.ledger.lock();
        ledger.catch_up();
        ledger.latest().into_iter().cloned().collect()
    }

    /// Answers a request, and begins what it asks for.
    pub async fn ask(self: &Arc<Self>, request: Request) -> Answer {
        let Now { wall: local, moment: asked_at } = self.clock.read();
        let now = request.now.unwrap_or(local);
        self.ledger.lock().catch_up();
        if let Some(answer) = self.known(&request, (now, asked_at)) {
            return answer;
        }
        if !self.config.restart.contains(&request.target) {
            return Answer::Settled(Outcome::refused(format!("not allowed by restart: in {CONFIG}")));
        }
        if let Some(fault) = self.ledger.lock().fault() {
            return Answer::Settled(fault);
        }
        if let Some(other) = self.other(&request.target) {
            // The operator has given that one up. What is not begun is not begun any more.
            self.work_on(other, (Asked::Superseded, asked_at));
            return Answer::Busy;
        }
        if now > request.not_after {
            return Answer::Settled(Outcome::refused(format!(
                "too late: it was to begin before {}",
                request.not_after
            )));
        }
        // It counts before the look: a second request that comes meanwhile finds it.
        if !self.active.lock().insert(request.id.clone()) {
            return Answer::Pending;
        }
        let seen = self.host.observe(&request.target, None).await;
        self.active.lock().remove(&request.id);
        if self.other(&request.target).is_some() {
            return Answer::Busy;
        }
        match self.record(&request, seen, (local, now)) {
            Ok(()) => {
                self.work_on(request.id, (Asked::At(now), asked_at));
                Answer::Pending
            }
            Err(outcome) => Answer::Settled(outcome),
        }
    }

    /// The id of a restart of this target that is not over.
    fn other(&self, target: &Target) -> Option<String> {
        self.ledger.lock().open_records().find(|record| record.target == *target).map(|record| record.id.clone())
    }

    fn known(self: &Arc<Self>, request: &Request, (now, asked_at): (Timestamp, Moment)) -> Option<Answer> {
        let phase = self.ledger.lock().find(&request.id)?.phase.clone();
        if let Phase::Done(outcome) = phase {
            return Some(Answer::Settled(outcome));
        }
        self.work_on(request.id.clone(), (Asked::At(now), asked_at));
        Some(Answer::Pending)
    }

    /// Writes the intent; or the outcome, where there is nothing to begin.
    fn record(
        &self,
        request: &Request,
        seen: Result<Seen, String>,
        (local, now): (Timestamp, Timestamp),
    ) -> Result<(), Outcome> {
        let Request { id, target, not_after, now: _ } = request;
        // An id is forgotten when neither clock has it in its time: that of the host may be wrong by any span.
        let earliest = local.min(now);
        let mut ledger = self.ledger.lock();
        if let Some(full) = ledger.is_full(earliest) {
            return Err(full);
        }
        let refusal = ledger.refusal(target, local).or_else(|| match &seen {
            Err(error) => Some(Outcome::refused(format!("it cannot be looked at, so it is not restarted: {error}"))),
            Ok(Seen { state: State::Absent { directory }, .. }) => self.absent(target, directory.as_deref()),
            Ok(_) => None,
        });
        let (before, is_running) = match seen {
            Ok(Seen { run, state, .. }) => (run, matches!(state, State::Running | State::Changing)),
            Err(_) => (None, false),
        };
        let record = Record {
            id: id.clone(),
            target: target.clone(),
            not_after: *not_after,
            recorded_at: local,
            before,
            was_running: is_running,
            phase: refusal.clone().map_or(Phase::Intent, Phase::Done),
            is_ours: true,
        };
        let written = ledger.add(record, earliest).map_err(|error| not_recorded(&error));
        refusal.map_or(written, Err)
    }

    fn absent(&self, target: &Target, directory: Option<&str>) -> Option<Outcome> {
        let is_created = matches!(target, Target::Compose { .. }) && self.config.compose_up && directory.is_some();
        let create = match target.creation_command(directory) {
            Some(command) => format!("create it: {command}"),
            None => "create it, then ask again".to_owned(),
        };
        (!is_created).then(|| Outcome::refused(format!("{target} does not exist, so it cannot be restarted; {create}")))
    }

    fn work_on(self: &Arc<Self>, id: String, asked: (Asked, Moment)) {
        if self.active.lock().insert(id.clone()) {
            let engine = Arc::clone(self);
            tokio::spawn(async move {
                engine.carry_out(&id, asked).await;
                engine.active.lock().remove(&id);
            });
        }
    }

    /// Goes on with one restart until it is over, or needs the operator.
    async fn carry_out(&self, id: &str, (asked, asked_at): (Asked, Moment)) {
        let began = self.clock.now();
        let (mut acted, mut proven): (Option<Moment>, Option<(Run, Moment)>) = (None, None);
        let mut progress = Progress::default();
        loop {
            let Some(record) = self.ledger.lock().find(id).cloned() else { return };
            let seen = self.host.observe(&record.target, record.before.as_ref()).await;
            let now = self.clock.now();
            progress.watched_for = now.since(began);
            progress.acted_for = acted.map(|at| now.since(at));
            progress.asked = asked.after(now.since(asked_at));
            let run = seen.as_ref().ok().and_then(|seen| seen.run.clone());
            let step = match seen {
                Ok(seen) => {
                    let is_same = |(run, _): &(Run, Moment)| seen.run.as_ref() == Some(run);
                    if seen.state != State::Running || !proven.as_ref().is_some_and(is_same) {
                        proven = seen.run.clone().filter(|_| seen.state == State::Running).map(|run| (run, now));
                    }
                    progress.proven_for = proven.as_ref().map_or(Duration::ZERO, |(_, since)| now.since(*since));
                    next(&record, &seen, &progress, self.clock.read().wall)
                }
                Err(error) => unseen(&record, &error, &progress),
            };
            match step {
                Step::Rest => return,
                Step::Record(phase) => {
                    self.set(&record, phase);
                    continue;
                }
                Step::Wait => {}
                act => {
                    acted.get_or_insert(now);
                    progress.act_error = self.act(&record.target, &act, run.as_ref()).await.err();
                    progress.has_started |= act == Step::Start;
                    continue;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn set(&self, record: &Record, phase: Phase) {
        let Record { id, target, .. } = record;
        let mut ledger = self.ledger.lock();
        let is_promise = phase == Phase::Stopping;
        if let Phase::Done(Outcome { message, .. }) = &phase {
            tracing::info!(id, %target, "{message}");
        }
        if let Err(error) = ledger.set(id, phase) {
            tracing::error!(id, %target, %error, "actions.json is not written");
            if is_promise {
                // After a crash nothing would say that the container is to be started again: it is not stopped.
                let _ = ledger.set(id, Phase::Done(not_recorded(&error)));
            }
        }
    }

    async fn act(&self, target: &Target, act: &Step, run: Option<&Run>) -> Result<(), String> {
        match (act, run) {
            (Step::Restart, _) => self.host.restart(target).await,
            (Step::Stop, Some(run)) => self.host.stop(run).await,
            (Step::Start, Some(run)) => self.host.start(run).await,
            (Step::Stop | Step::Start | Step::Record(_) | Step::Wait | Step::Rest, _) => Ok(()),
        }
    }
}

/// The step where the target cannot be looked at. A container that is stopped is not left alone.
fn unseen(record: &Record, error: &str, progress: &Progress) -> Step {
    if progress.watched_for <= ACT_LIMIT || record.phase == Phase::Stopping {
        return Step::Wait;
    }
    let message = format!("its outcome is not known, because it cannot be looked at: {error}");
    let has_begun = progress.acted_for.is_some() || record.phase != Phase::Intent;
    match has_begun {
        true => Step::Record(Phase::Done(Outcome::failed(message))),
        false => Step::Rest,
    }
}

fn not_recorded(error: &io::Error) -> Outcome {
    Outcome::refused(format!(
        "the intent could not be written to actions.json, so that nothing was restarted: {error}; see the disk of \
         {HELPER_STATE}"
    ))
}
