//! Restarts, each exactly once: pure decisions over a record that is on disk before anything is touched.
//!
//! A record holds the run that a restart is to replace. A run has an identity: systemd's InvocationID, or the id and the start
//! of a container. So after a crash at any point the next look says whether the restart was done: the run is another one, or
//! it is not. [`next`] is the same function in the normal course and after a crash.

pub mod engine;
pub mod ledger;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::Target;

/// How long the new run must last before a restart counts as a success.
pub const PROVEN_AFTER: Duration = Duration::from_secs(5);
/// How long a stop, a start or a job of systemd may take.
pub const ACT_LIMIT: Duration = Duration::from_secs(120);
/// Longest id of a restart, in characters, as in a heartbeat.
pub const MAX_ID: usize = 63;
/// How far the clock of the host may be wrong where no answer of the operator corrects it.
const CLOCK_SLACK: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

/// Whether `text` may be the id of a restart: it stands in logs, on disk and in heartbeats.
pub fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// One run of a unit or container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The InvocationID of a unit, or the id of a container.
    pub id: String,
    /// When the container was started, as Docker writes it; empty for a unit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub started_at: String,
}

impl Run {
    /// Whether it is a container that was created and not started: Docker and Podman date its start in the year 1.
    fn never_began(&self) -> bool {
        self.started_at.starts_with("0001-")
    }
}

/// The state of a target at one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The current or last run; `None` = it is absent, or it never ran since the host started.
    pub run: Option<Run>,
    /// Whether it runs.
    pub state: State,
    /// A job of systemd is waiting or running.
    pub has_job: bool,
}

/// Whether a target runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs, or it has done what it is for.
    Running,
    /// It is starting or stopping.
    Changing,
    /// It does not run.
    Down {
        /// How it ended, for people: `exit code 1: …`.
        ended: String,
    },
    /// There is no such unit or container.
    Absent {
        /// The folder of its compose project, where another container names it: there it can be created.
        directory: Option<String>,
    },
}

/// How far a restart is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It is decided. Nothing was done yet, or it is not known.
    Intent,
    /// The container is to be stopped, or is stopped: from here on it is started again in any case.
    Stopping,
    /// A new run exists.
    Started {
        /// The new run.
        run: Run,
        /// The helper knows that it began this run.
        by_us: bool,
    },
    /// It is over.
    Done(Outcome),
}

/// What came of a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether the target was restarted and runs.
    pub succeeded: bool,
    /// Whether the target was touched.
    pub acted: bool,
    /// The outcome in a sentence.
    pub message: String,
}

impl Outcome {
    /// It was not restarted, because of `message`; nothing was touched.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { succeeded: false, acted: false, message: message.into() }
    }

    fn failed(message: impl Into<String>) -> Self {
        Self { succeeded: false, acted: true, message: message.into() }
    }

    fn succeeded(message: impl Into<String>) -> Self {
        Self { succeeded: true, acted: true, message: message.into() }
    }
}

/// One restart that the operator asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The id that the operator gave it.
    pub id: String,
    /// What is restarted.
    pub target: Target,
    /// After this moment nothing is begun.
    pub not_after: Timestamp,
    /// When it was recorded, by the clock of the host.
    pub recorded_at: Timestamp,
    /// The run that is replaced; `None` = there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Run>,
    /// Whether that run was running.
    #[serde(default)]
    pub was_running: bool,
    /// How far it is.
    pub phase: Phase,
    /// This process has recorded it, so it knows all that was done for it.
    #[serde(skip)]
    pub is_ours: bool,
}

/// Whether the operator asks for a restart now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// It does not.
    #[default]
    No,
    /// It does, and its clock shows this.
    At(Timestamp),
    /// It asks for another restart of the same target instead.
    Superseded,
}

impl Asked {
    /// The same question, asked this much earlier.
    #[must_use]
    pub fn after(self, waited: Duration) -> Self {
        let waited = jiff::SignedDuration::try_from(waited).unwrap_or(jiff::SignedDuration::MAX);
        match self {
            Self::At(then) => Self::At(then.saturating_add(waited).unwrap_or(Timestamp::MAX)),
            other => other,
        }
    }
}

/// What the helper knows of a restart beside its record. A crash forgets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How long ago this process first touched the target; `None` = it did not.
    pub acted_for: Option<Duration>,
    /// This process has started the container.
    pub has_started: bool,
    /// How long this process has seen the new run.
    pub proven_for: Duration,
    /// How long this process has been at it.
    pub watched_for: Duration,
    /// Whether the operator asks for this restart now.
    pub asked: Asked,
    /// The error of the last act.
    pub act_error: Option<String>,
}

/// The next step of a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Restart the unit, or create the absent service.
    Restart,
    /// Stop the container.
    Stop,
    /// Start the container.
    Start,
    /// Write this phase to disk.
    Record(Phase),
    /// Look again later.
    Wait,
    /// Nothing is to be done until the operator asks again.
    Rest,
}

/// Decides the next step of `record`. `local` is the clock of the host.
pub fn next(record: &Record, seen: &Seen, progress: &Progress, local: Timestamp) -> Step {
    match &record.phase {
        Phase::Done(_) => Step::Rest,
        Phase::Intent => of_intent(record, seen, progress, local),
        Phase::Stopping => of_stopping(record, seen, progress, local),
        Phase::Started { run, by_us } => of_started((run, *by_us), seen, progress),
    }
}

fn of_intent(record: &Record, seen: &Seen, progress: &Progress, local: Timestamp) -> Step {
    if seen.has_job {
        let is_long = progress.watched_for > ACT_LIMIT;
        return if is_long {
            done(Outcome::failed("its job of systemd has not ended after 120 s"))
        } else {
            Step::Wait
        };
    }
    if seen.run != record.before {
        let is_unfinished = record.before.is_none() && seen.run.as_ref().is_some_and(Run::never_began);
        return match is_unfinished {
            // `docker compose up` was cut off after it had created the container.
            true if progress.has_started => unchanged_by_act(record, progress),
            true => Step::Start,
            false => replaced(seen, progress.acted_for.is_some()),
        };
    }
    if progress.acted_for.is_some() {
        return unchanged_by_act(record, progress);
    }
    // A unit without a run has none either after a run that ended, or after the host was restarted.
    if record.before.is_none() && !record.is_ours && matches!(record.target, Target::Unit(_)) {
        return done(Outcome::failed(
            "it did not run when the restart was asked for, and the helper ended after that: it is not known whether it was \
             started meanwhile, so that is not repeated",
        ));
    }
    if let Some(step) = refused_by_time(record, progress, local) {
        return step;
    }
    match (&record.target, &seen.state) {
        (Target::Unit(_), _) | (_, State::Absent { .. }) => Step::Restart,
        (_, State::Down { .. }) => Step::Start,
        (_, State::Running | State::Changing) => Step::Record(Phase::Stopping),
    }
}

fn of_stopping(record: &Record, seen: &Seen, progress: &Progress, local: Timestamp) -> Step {
    if seen.run != record.before {
        return replaced(seen, true);
    }
    if matches!(seen.state, State::Down { .. }) {
        return if progress.has_started { unchanged_by_act(record, progress) } else { Step::Start };
    }
    if progress.acted_for.is_some() {
        return unchanged_by_act(record, progress);
    }
    match refused_by_time(record, progress, local) {
        // A helper that was killed may have sent the stop, and the container takes its time to end.
        Some(Step::Record(_)) if !record.is_ours && progress.watched_for <= ACT_LIMIT => Step::Wait,
        Some(step) => step,
        None => Step::Stop,
    }
}

/// The run that was to be replaced is no longer there: it was replaced by this restart, or by its service manager.
fn replaced(seen: &Seen, by_us: bool) -> Step {
    match &seen.run {
        Some(run) => Step::Record(Phase::Started { run: run.clone(), by_us }),
        // A unit that does not run after the host has restarted has no InvocationID.
        None => done(Outcome::failed(
            "it is gone since the restart was asked for, or the host was restarted: it is not known whether it was restarted \
             before, so that is not repeated",
        )),
    }
}

/// This process has acted, and the run is still the old one.
fn unchanged_by_act(record: &Record, progress: &Progress) -> Step {
    let is_over = progress.acted_for.is_some_and(|acted_for| acted_for > ACT_LIMIT);
    match &progress.act_error {
        // A stop whose answer was lost may still be under way: the container is looked at until that is settled.
        Some(_) if record.phase == Phase::Stopping && !progress.has_started && !is_over => Step::Wait,
        Some(error) if progress.has_started => done(Outcome::failed(format!("it could not be started: {error}"))),
        Some(error) => done(Outcome::refused(format!("it was not restarted: {error}"))),
        None if is_over => done(Outcome::failed("the restart was sent, and no new run began within 120 s")),
        None => Step::Wait,
    }
}

/// The step where nothing may be begun now; `None` = it may be.
fn refused_by_time(record: &Record, progress: &Progress, local: Timestamp) -> Option<Step> {
    let is_late = match progress.asked {
        Asked::At(now) => now > record.not_after,
        Asked::Superseded => {
            let message = "the operator asks for another restart of the same target; this one was not begun";
            return Some(done(Outcome::refused(message)));
        }
        // The clock of the host may be wrong, so only the operator's clock says "late" before the slack is over.
        Asked::No if local.saturating_sub(CLOCK_SLACK).is_ok_and(|earliest| earliest > record.not_after) => true,
        Asked::No => return Some(Step::Rest),
    };
    let not_after = record.not_after;
    let late = || Outcome::refused(format!("too late: it was to begin before {not_after}; nothing was restarted"));
    is_late.then(|| done(late()))
}

fn of_started((run, by_us): (&Run, bool), seen: &Seen, progress: &Progress) -> Step {
    if seen.run.as_ref() != Some(run) {
        let ended = match &seen.state {
            State::Down { ended } => format!(": {ended}"),
            _ => String::new(),
        };
        return done(Outcome::failed(format!("the new run ended before it had run for 5 s{ended}")));
    }
    match &seen.state {
        State::Running if progress.proven_for >= PROVEN_AFTER => done(Outcome::succeeded(match by_us {
            true => "restarted, and running for 5 s",
            false => {
                "it was started after the restart was asked for, by the restart or by its service manager: not repeated; \
                 running for 5 s"
            }
        })),
        State::Running => Step::Wait,
        State::Changing if progress.watched_for > ACT_LIMIT => done(Outcome::failed("still starting after 120 s")),
        State::Changing => Step::Wait,
        State::Down { ended } => done(Outcome::failed(format!("restarted, and ended at once: {ended}"))),
        State::Absent { .. } => done(Outcome::failed("restarted, and removed at once")),
    }
}

fn done(outcome: Outcome) -> Step {
    Step::Record(Phase::Done(outcome))
}
