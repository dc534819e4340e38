//! Rounds of probes: each backend at its turn, spread over its interval, within the places that there are.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::SignedDuration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::context::{Command, Context};
use super::investigate;
use super::registry::{Backend, Round, limits};
use super::request::actuator_request;
use super::self_check::{CHECK_EVERY, Change, OwnCheck};
use super::target::{ProbeTarget, ResolveError, Resolved, prepare};
use crate::api::{ErrorClass, Phase, Reason};
use crate::cluster::events::{Event, Kind, namespace_reference};
use crate::diagnosis::evidence::Vantage;
use crate::diagnosis::gather::vantage;
use crate::health::availability::Availability;
use crate::probe::Outcome;
use crate::probe::actuator::read;
use crate::schedule::{Deadlines, turn_after};
use crate::time::Moment;

/// One that was created so short a while ago is probed at once: somebody is waiting.
const FRESH: SignedDuration = SignedDuration::from_secs(60);
/// How long what was looked up stays good: addresses that come and go, and the others (a changed Secret, say).
const FLEETING: Duration = Duration::from_secs(15);
const STEADY: Duration = Duration::from_secs(60);
/// How long a probe waits for that at most when something to dial is known from before.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(1);

/// Runs the rounds until `stop`.
pub async fn run(context: Arc<Context>, mut commands: mpsc::UnboundedReceiver<Command>, stop: CancellationToken) {
    let (done, mut ended) = mpsc::unbounded_channel::<(Arc<Backend>, Moment)>();
    let mut schedule = ProbeScheduler { context, deadlines: Deadlines::default(), known: HashMap::new() };
    let tasks = TaskTracker::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(poke) = commands.recv() => schedule.poked(poke),
            Some((backend, next)) = ended.recv() => schedule.ended(&backend, next),
            number = schedule.deadlines.next() => {
                let Some((backend, due)) = schedule.begin(number) else { continue };
                let (context, done, stop) = (schedule.context.clone(), done.clone(), stop.clone());
                tasks.spawn(async move {
                    let next = stop.run_until_cancelled(round(&context, &backend, due)).await;
                    if let Some(next) = next {
                        let _ = done.send((backend, next));
                    }
                });
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// Whose turn is when.
struct ProbeScheduler {
    context: Arc<Context>,
    deadlines: Deadlines<u64>,
    known: HashMap<u64, Scheduled>,
}

struct Scheduled {
    backend: Arc<Backend>,
    due: Moment,
    is_under_way: bool,
    /// Its spec changed while a round was under way: the next one comes at once.
    again: bool,
}

impl ProbeScheduler {
    fn poked(&mut self, poke: Command) {
        match poke {
            Command::Look(backend) => self.look(&backend),
            Command::Gone(backend) => {
                self.deadlines.set(backend.number, None);
                self.known.remove(&backend.number);
            }
            Command::Anew => {
                let waiting = self.known.values().filter(|turnus| !turnus.is_under_way);
                let waiting: Vec<_> = waiting.map(|turnus| turnus.backend.clone()).collect();
                for backend in waiting {
                    let due = next_turn(&self.context, &backend);
                    self.set(&backend, due);
                }
            }
        }
    }

    fn look(&mut self, backend: &Arc<Backend>) {
        let now = self.context.clock.read();
        if let Some(known) = self.known.get_mut(&backend.number) {
            known.again = known.is_under_way;
            if !known.is_under_way {
                self.set(backend, now.moment);
            }
            return;
        }
        let created = backend.object().metadata.creation_timestamp.as_ref().map(|created| created.0);
        let is_fresh = created.is_some_and(|created| now.wall.duration_since(created) < FRESH);
        let due = if is_fresh { now.moment } else { next_turn(&self.context, backend) };
        self.set(backend, due);
    }

    fn set(&mut self, backend: &Arc<Backend>, due: Moment) {
        let turnus = Scheduled { backend: backend.clone(), due, is_under_way: false, again: false };
        self.known.insert(backend.number, turnus);
        self.deadlines.set(backend.number, Some(self.context.clock.instant(due)));
    }

    /// Begins a round, unless somebody else leads: then it is looked at again at its next turn.
    fn begin(&mut self, number: u64) -> Option<(Arc<Backend>, Moment)> {
        let context = self.context.clone();
        let turnus = self.known.get_mut(&number)?;
        let backend = turnus.backend.clone();
        if !context.leadership.borrow().hears() {
            let due = next_turn(&context, &backend);
            self.set(&backend, due);
            return None;
        }
        turnus.is_under_way = true;
        Some((backend, turnus.due))
    }

    fn ended(&mut self, backend: &Arc<Backend>, next: Moment) {
        let Some(turnus) = self.known.get(&backend.number) else { return };
        let next = if turnus.again { self.context.clock.now() } else { next };
        self.set(backend, next);
    }
}

fn next_turn(context: &Context, backend: &Backend) -> Moment {
    let now = context.clock.read();
    now.place(turn_after(now.wall, backend.object().spec.probe.interval(), backend.place))
}

/// One round: prepare, probe, judge, and look into it when there is something to look into. Gives when the next is due.
async fn round(context: &Arc<Context>, backend: &Arc<Backend>, due: Moment) -> Moment {
    let regular = next_turn(context, backend);
    let Some(prepared) = prepared(context, backend).await else { return regular };
    let window = regular.since(context.clock.now());
    let is_suspect = backend.with(|live| live.record.last().is_some_and(|last| !last.passed));
    let patience = window.max(Duration::from_secs(1));
    let Some(outcomes) = dial(context, &prepared, is_suspect, due, patience).await else {
        // It never got a place: a window that was missed, and nothing that speaks against the backend.
        context.metrics.missed_window();
        return regular;
    };
    let started_at = outcomes.iter().map(|(at, _)| *at).min().unwrap_or(due);
    judge(context, backend, &prepared, outcomes).await;
    let hurry = backend.with(|live| live.record.hurry(&limits(&live.object)));
    hurry.map_or(regular, |after| (started_at + after).min(regular))
}

/// What to dial, looked up anew when that is old. `None` when there is nothing to dial, which the status says.
async fn prepared(context: &Arc<Context>, backend: &Arc<Backend>) -> Option<Arc<Resolved>> {
    let now = context.clock.now();
    let known = backend.with(|live| live.prepared.clone());
    if let Some((prepared, at)) = &known {
        let good_for = if prepared.is_fleeting { FLEETING } else { STEADY };
        let fails = backend.with(|live| live.record.is_confirming());
        if now.since(*at) < good_for && !(fails && prepared.is_fleeting) {
            return Some(prepared.clone());
        }
    }
    let object = backend.object();
    let lookup = async {
        let _place = context.lookups.acquire().await;
        Box::pin(prepare(&context.client, &object)).await
    };
    let patience = if known.is_some() { LOOKUP_PATIENCE } else { Duration::MAX };
    let late = || ResolveError::Failed("the API server takes too long".to_owned());
    let outcome = timeout(patience, lookup).await.unwrap_or_else(|_| Err(late()));
    match outcome {
        Ok(prepared) => {
            let prepared = Arc::new(prepared);
            let was_refused = backend.with(|live| {
                live.prepared = Some((prepared.clone(), now));
                let refused = live.refused.take_if(|(reason, _)| *reason != Reason::TargetDenied);
                refused.is_some()
            });
            if was_refused {
                context.trigger.wake(&backend.key);
            }
            Some(prepared)
        }
        Err(ResolveError::Refused(reason, message)) => {
            refuse(context, backend, reason, message);
            backend.with(|live| live.prepared = None);
            Box::pin(investigate::look(context, backend, false)).await;
            context.trigger.wake(&backend.key);
            None
        }
        // We could not look: what was known before is dialled as before.
        Err(ResolveError::Failed(why)) => {
            tracing::debug!(backend = %backend.key, why, "its target could not be looked up");
            known.map(|(prepared, _)| prepared)
        }
    }
}

/// The target cannot be probed; says whether that is news.
fn refuse(context: &Context, backend: &Backend, reason: Reason, message: String) {
    let refused = Some((reason, message));
    let is_news = backend.with(|live| std::mem::replace(&mut live.refused, refused.clone()) != refused);
    if is_news {
        backend.with(|live| (live.look_at, live.looks) = (Some(context.clock.now()), 0));
    }
}

/// Dials every aim, each at its own place; `None` when one of them got no place within `patience`. A probe that was
/// started ends by its own timeout, which may be as long as the interval: a hang is a failure, not a missed window.
async fn dial(
    context: &Context,
    prepared: &Resolved,
    is_suspect: bool,
    due: Moment,
    patience: Duration,
) -> Option<Vec<(Moment, Outcome)>> {
    let outcomes = join_all(prepared.aims.iter().map(async |aim: &ProbeTarget| {
        let _place = timeout(patience, context.places.take(&aim.host, is_suspect)).await.ok()?;
        let started_at = context.clock.now();
        context.metrics.probe_started(started_at.since(due));
        // In a box of its own, as everything large here: many rounds wait for a place, few have one.
        Some((started_at, Box::pin(context.prober.probe(&aim.request)).await))
    }));
    outcomes.await.into_iter().collect()
}

async fn judge(context: &Arc<Context>, backend: &Arc<Backend>, prepared: &Resolved, outcomes: Vec<(Moment, Outcome)>) {
    for failure in outcomes.iter().filter_map(|(_, outcome)| outcome.result.as_ref().err()) {
        context.metrics.probe_failed(failure.class, failure.phase);
    }
    if let Some(message) = denied(&outcomes) {
        refuse(context, backend, Reason::TargetDenied, message);
    } else {
        backend.with(|live| live.refused.take_if(|(reason, _)| *reason == Reason::TargetDenied));
    }
    let health = Box::pin(health(context, backend, prepared)).await;
    let now = context.clock.read();
    let mut round = summed_up(prepared, &outcomes, |at| now.stamp(at));
    if let Some((vantage, passed)) = health {
        round.passed &= passed;
        round.vantages.push(vantage);
    }
    let (dark, started_at) =
        (!round.passed && outcomes.iter().all(|(_, outcome)| is_unreachable(outcome)), round.started_at);
    let (changed, interval) = backend.with(|live| {
        let changed = live.take(round, now.moment);
        (changed, live.object.spec.probe.interval())
    });
    let was_blind = context.self_check.blind_for(backend).is_some();
    if let Some(aim) = prepared.aims.first() {
        context.self_check.probed(backend, &aim.host, interval, dark, started_at);
    }
    Box::pin(sight(context)).await;
    if was_blind != context.self_check.blind_for(backend).is_some() {
        // It went dark while we are blind, or is seen again, whatever its own record says.
        context.trigger.wake(&backend.key);
    }
    Box::pin(investigate::look(context, backend, changed)).await;
}

/// What the actuator's health page says, where that is asked for, and whether it passes: UNKNOWN is no failure, but it
/// is not well either.
async fn health(context: &Context, backend: &Backend, prepared: &Resolved) -> Option<(Vantage, bool)> {
    let object = backend.object();
    let actuator = object.spec.probe.actuator.as_ref()?;
    let aim = prepared.aims.first()?;
    let like = actuator_request(&aim.request, actuator);
    let _place = context.places.take(&aim.host, false).await;
    let reading = read(&context.prober, &like, actuator.base_path(), false).await;
    let said = reading.health.said.as_ref().and_then(|health| health.status.as_deref());
    let is_unknown = reading.health.outcome.result.is_ok() && said == Some("UNKNOWN");
    let mut outcome = reading.health.outcome.clone();
    outcome.result = reading.verdict();
    let passed = outcome.result.is_ok() || is_unknown;
    Some((vantage("health", &like, &outcome, context.clock.read().wall), passed))
}

/// Looks whether we see at all, and tells when that changed.
pub async fn sight(context: &Arc<Context>) {
    match context.self_check.look() {
        Change::None => {}
        Change::Opened => {
            tracing::info!("probes see again");
            context.wake_all();
        }
        Change::Blinded(why) => {
            tracing::warn!(why, "probes are blind: those that are dark are not judged");
            context.wake_all();
            tell_blindness(context, &why).await;
        }
    }
}

/// Checks ourselves while anything is dark, until `stop`.
pub async fn check_ourselves(context: Arc<Context>, own: OwnCheck, stop: CancellationToken) {
    let mut tick = tokio::time::interval(CHECK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        if context.self_check.check(&own).await {
            sight(&context).await;
        }
    }
}

/// About each Namespace that has backends which we are blind for.
async fn tell_blindness(context: &Context, why: &str) {
    let at = context.clock.read().wall;
    let dark = context.backends.all().into_iter().filter(|backend| context.self_check.blind_for(backend).is_some());
    let namespaces: std::collections::BTreeSet<String> =
        dark.map(|backend| backend.key.namespace.to_string()).collect();
    for namespace in namespaces {
        let event = Event {
            kind: Kind::Warning,
            reason: "ProbeBlind",
            action: "Judge",
            note: format!("{why}: suspect the operator's own network before the backends; nothing is judged meanwhile"),
            at,
            occurrence: format!("ProbeBlind/{}", at.as_second()),
        };
        let regarding = namespace_reference(namespace);
        if context.leadership.borrow().permit(context.clock.now()).is_some()
            && let Err(error) = context.reporter.tell(&regarding, &event).await
        {
            tracing::warn!(%error, "the event about blindness was not told");
        }
    }
}

/// Why nothing was dialled at all, if so.
fn denied(outcomes: &[(Moment, Outcome)]) -> Option<String> {
    let mut said = None;
    for (_, outcome) in outcomes {
        match &outcome.result {
            Err(failure) if failure.class == ErrorClass::Denied && outcome.seen.address.is_none() => {
                said.get_or_insert_with(|| failure.message.clone());
            }
            _ => return None,
        }
    }
    said
}

/// It got no byte from the far side, and not beyond connecting.
fn is_unreachable(outcome: &Outcome) -> bool {
    let failed = outcome.result.as_ref().err();
    let early = failed.is_some_and(|failure| matches!(failure.phase, Phase::Resolve | Phase::Connect));
    early && !outcome.seen.any_byte && failed.is_some_and(|failure| failure.class != ErrorClass::Denied)
}

/// All aims as one: it passes when any of them does. Those that fail beside it are the workload's trouble, and say so.
fn summed_up(prepared: &Resolved, outcomes: &[(Moment, Outcome)], stamp: impl Fn(Moment) -> jiff::Timestamp) -> Round {
    let passed = outcomes.iter().any(|(_, outcome)| outcome.result.is_ok());
    let relevant = outcomes.iter().filter(|(_, outcome)| outcome.result.is_ok() == passed);
    let vantages = prepared.aims.iter().zip(outcomes);
    Round {
        started_at: outcomes.iter().map(|(at, _)| *at).min().unwrap_or_default(),
        passed,
        took: relevant.map(|(_, outcome)| outcome.took).max().unwrap_or_default(),
        vantages: vantages
            .map(|(aim, (at, outcome))| vantage(&aim.name, &aim.request, outcome, stamp(*at + outcome.took)))
            .collect(),
        phases: outcomes
            .iter()
            .max_by_key(|(_, outcome)| outcome.took)
            .map(|(_, outcome)| outcome.spent.iter().collect())
            .unwrap_or_default(),
        certificate_expires: outcomes.iter().filter_map(|(_, outcome)| outcome.seen.certificate_expires).min(),
    }
}

/// Whether a verdict of Down waits until we know that we see.
pub fn is_held(context: &Context, backend: &Backend, availability: Availability) -> Option<Duration> {
    let until = context.self_check.held_until()?;
    let waits = availability == Availability::Down && context.self_check.is_unreachable(backend);
    waits.then(|| until.since(context.clock.now()).max(Duration::from_millis(100)))
}

#[cfg(test)]
mod tests;
