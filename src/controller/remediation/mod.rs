//! Remedies for both kinds, through one code path: what is known is put together here, `remedy` decides, and what is
//! decided is done after it was written down.

mod brakes;
mod census;
mod subject;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

pub use brakes::Brakes;
pub use census::Census;
pub use subject::{Remediable, health_of_backend, health_of_connector, request, with_present};

use census::id;

use super::events::{Event, Kind, RETELL};
use super::log::{self, Whose};
use super::paused;
use crate::api::{AttemptPhase, Condition, ConditionType, Key, Reason, RemediationStatus, conditions};
use crate::cluster::{CALL_TIMEOUT, WriteReason, within};
use crate::leadership::Permit;
use crate::metrics::Metrics;
use crate::remediation::attempt::{EventDraft, Remedy, Signals, StepResult};
use crate::remediation::fleet::ObjectId;
use crate::remediation::workload::{Done, Me, Order};
use crate::remediation::{Agent, Health, Limits, Lookup, PolicyInput, RestartMeans, Verdict, attempt, workload};
use crate::time::Clock;
use crate::view::RemedyView;

/// How many workloads are read at once.
const READS_AT_ONCE: usize = 8;

/// Remedies: the fleet as the brakes count it, and what is known of attempts besides their status.
pub struct Remedies {
    /// The fleet, for brake and breaker.
    pub census: Census,
    words: Mutex<HashMap<ObjectId, (String, Signals)>>,
    /// The newest attempts of whom we have told in this epoch of our leadership; of the others nobody may have told.
    told: Mutex<(u64, HashMap<ObjectId, Newest>)>,
    client: Client,
    clock: Clock,
    metrics: Arc<Metrics>,
    limits: Limits,
    me: Option<Me>,
    reads: Semaphore,
}

/// The attempts of an object that something is told of: that under way, once it has begun, and the last one that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Newest {
    begun: Option<String>,
    ended: Option<String>,
}

impl Newest {
    fn of(status: &RemediationStatus) -> Self {
        let begun = status.current.as_ref().filter(|current| current.phase != AttemptPhase::Reserved);
        Self {
            begun: begun.map(|current| current.id.clone()),
            ended: status.history.first().map(|past| past.id.clone()),
        }
    }
}

/// How an act came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acted {
    /// There is something new to see: look again now.
    Again,
    /// Nothing to see yet.
    Wait,
}

/// What is asked about one object.
pub struct Asked<'a, K> {
    /// The object as it was read, or written by us last.
    pub object: &'a K,
    /// What is said of it.
    pub verdict: &'a Verdict,
    /// The agent that would restart it, where the spec names one.
    pub agent: Option<Agent>,
    /// What the agent said of an attempt: its id, whether it restarted, its words.
    pub acknowledged: Option<(&'a str, bool, &'a str)>,
    /// The attempt that the agent was given.
    pub handed_out: Option<&'a str>,
}

impl<'a, K> Asked<'a, K> {
    /// About an object that no agent speaks for.
    pub fn about(object: &'a K, verdict: &'a Verdict) -> Self {
        Self { object, verdict, agent: None, acknowledged: None, handed_out: None }
    }
}

impl Remedies {
    /// Nobody is known yet. `client` sends each request once.
    pub fn new(
        client: Client,
        clock: Clock,
        metrics: Arc<Metrics>,
        (limits, census): (Limits, Census),
        me: Option<Me>,
    ) -> Self {
        let (words, told) = Default::default();
        Self { census, words, told, client, clock, metrics, limits, me, reads: Semaphore::new(READS_AT_ONCE) }
    }

    /// An object is gone.
    pub fn forget<K: Remediable>(&self, key: &Key) {
        self.census.forget::<K>(key);
        let id = ObjectId { kind: K::KIND, key: key.clone() };
        self.words.lock().remove(&id);
        self.told.lock().1.remove(&id);
    }

    /// What is to be done about an object now. What that needs to know of the cluster is read here.
    pub async fn steer<K: Remediable>(&self, permit: &Permit, asked: Asked<'_, K>) -> StepResult {
        let Asked { object, verdict, agent, acknowledged, handed_out } = asked;
        let id = id(object);
        let nothing = RemediationStatus::default();
        let status = object.remembered().unwrap_or(&nothing);
        self.census.judged(permit, object, &verdict.spells);
        let now = self.clock.read().wall;
        let request = request(object.meta(), status, now);
        let opens = object.remediation().is_some() && verdict.health() == Health::Unhealthy;
        let is_wanted = status.current.is_some() || request.is_some() || opens;
        let (workload, paused) = match is_wanted {
            true => tokio::join!(self.look(object, verdict, status), self.paused(object, now)),
            false => (Lookup::NotLooked, None),
        };
        let means = match (object.workload_ref(), agent) {
            (Some(reference), _) => RestartMeans::Workload(reference),
            (None, Some(agent)) => RestartMeans::Agent(agent),
            (None, None) => RestartMeans::Nothing,
        };
        let word = self.word(&id, status, acknowledged, handed_out);
        let namespace = object.namespace().unwrap_or_default();
        let called = Key::of(object.meta()).to_string();
        // Read anew: looking may have taken seconds.
        let now = self.clock.read().wall;
        let fresh = if is_wanted { fresh_id() } else { String::new() };
        // One lock for counting, deciding and claiming: two objects never take the last place both.
        let mut board = self.census.board.lock();
        let around = self.census.around(&mut board, &id, now);
        let situation = PolicyInput {
            object: &called,
            namespace: &namespace,
            spec: object.remediation(),
            status,
            paused: paused.as_deref(),
            verdict,
            means,
            workload: &workload,
            request: request.as_ref(),
            around: &around,
            now,
        };
        let mut course = attempt::step(&situation, &word, &fresh);
        if let Some(begun) = &course.begun {
            board.claim(&id, begun, now);
        }
        drop(board);
        course.told.splice(0..0, self.untold(permit, &id, status, now));
        course
    }

    /// What is to be told of attempts that another has written down, who may have been killed before he could tell. Told
    /// already, it is the same occurrence.
    fn untold(&self, permit: &Permit, id: &ObjectId, status: &RemediationStatus, now: Timestamp) -> Vec<EventDraft> {
        let mut told = self.told.lock();
        if told.0 != permit.epoch() {
            *told = (permit.epoch(), HashMap::new());
        }
        let newest = Newest::of(status);
        if newest == Newest::default() || told.1.get(id) == Some(&newest) {
            return Vec::new();
        }
        told.1.insert(id.clone(), newest);
        attempt::retold(status, now - RETELL)
    }

    /// Counts what `course` came to, once it is written. `before` is the object as it was.
    pub fn recorded<K: Remediable>(&self, before: &K, course: &StepResult) {
        if !course.told.is_empty() {
            // The caller has it in hand.
            self.told.lock().1.insert(id(before), Newest::of(&course.status));
        }
        let key = Key::of(before.meta());
        let whose = Whose { kind: K::KIND, key: &key };
        for step in log::steps(before.remembered(), &course.status) {
            log::attempt(whose, step);
        }
        if let Some(outcome) = course.ended {
            self.metrics.remedied(outcome);
            self.words.lock().remove(&id(before));
        }
        let said =
            conditions::get(before.conditions(), ConditionType::Remediating).and_then(|said| said.reason.parse().ok());
        // Changes of reason are counted, not looks.
        if let Some(denied) = course.denied.filter(|denied| said != Some(Reason::from(*denied))) {
            self.metrics.denied(denied);
            let Key { namespace, name } = &key;
            tracing::info!(kind = K::KIND, %namespace, %name, reason = denied.as_str(), "denial");
        }
    }

    /// What `course` led to was not written: an attempt that would have begun holds no place, unless it may have been
    /// written all the same.
    pub fn unwritten<K: Remediable>(&self, before: &K, course: &StepResult, is_doubtful: bool) {
        self.told.lock().1.remove(&id(before));
        if course.begun.is_some() && !is_doubtful {
            self.census.board.lock().release(&id(before));
        }
    }

    /// Does what was written down. What the agent is to do is the caller's to hand out.
    pub async fn act<K: Remediable>(&self, permit: &Permit, object: &K, act: &Remedy) -> Acted {
        let namespace = object.namespace().unwrap_or_default();
        let done = match (act, object.workload_ref()) {
            (Remedy::Offer { .. }, _) | (_, None) => return Acted::Wait,
            (Remedy::Restart { id, started, uid, generation }, Some(reference)) => {
                let order = Order { id: id.clone(), started: *started, uid: uid.clone(), generation: *generation };
                workload::restart(&self.client, self.clock, permit, &namespace, reference, &order).await
            }
            (Remedy::Evict { name, uid }, Some(_)) => {
                workload::evict(&self.client, self.clock, permit, &namespace, name, uid).await
            }
        };
        let Key { namespace, name } = Key::of(object.meta());
        let current = object.remembered().and_then(|status| status.current.as_ref());
        let attempt = current.map_or("", |current| &current.id);
        let kind = K::KIND;
        match done {
            // What is logged of it is that it stands in the status, with the next look.
            Done::Done => Acted::Again,
            Done::Stale(why) => {
                tracing::info!(kind, %namespace, %name, attempt, reason = why, "the workload was changed meanwhile: looking again");
                Acted::Again
            }
            Done::Refused(why) => {
                tracing::warn!(kind, %namespace, %name, attempt, reason = why, "the restart was refused");
                if let Some(current) = current {
                    let word = Signals { refused: Some(why), ..Signals::default() };
                    self.words.lock().insert(id(object), (current.id.clone(), word));
                }
                Acted::Again
            }
            Done::Later(why) => {
                tracing::info!(kind, %namespace, %name, attempt, reason = why, "the restart was not answered: looking before repeating");
                Acted::Wait
            }
            Done::NotLeader => Acted::Wait,
        }
    }

    fn word(
        &self,
        id: &ObjectId,
        status: &RemediationStatus,
        acknowledged: Option<(&str, bool, &str)>,
        handed_out: Option<&str>,
    ) -> Signals {
        let Some(current) = &status.current else { return Signals::default() };
        let known = self.words.lock().get(id).filter(|(of, _)| *of == current.id).map(|(_, word)| word.clone());
        let acknowledged = acknowledged.filter(|(of, _, _)| *of == current.id);
        Signals {
            handed_out: handed_out == Some(&current.id),
            acknowledged: acknowledged.map(|(_, succeeded, message)| (succeeded, message.to_owned())),
            ..known.unwrap_or_default()
        }
    }

    async fn look<K: Remediable>(&self, object: &K, verdict: &Verdict, status: &RemediationStatus) -> Lookup {
        // While most of a site is silent, or we are blind, nothing would be done: the API server is left alone.
        let is_hopeless = verdict.mass_silence.is_some() || verdict.blind.is_some() || !self.limits.is_on;
        let Some(reference) = object.workload_ref().filter(|_| status.current.is_some() || !is_hopeless) else {
            return Lookup::NotLooked;
        };
        let namespace = object.namespace().unwrap_or_default();
        let _place = self.reads.acquire().await;
        let mut seen = workload::read(&self.client, &namespace, reference, self.me.as_ref()).await;
        if let Lookup::Found(workload) = &mut seen
            && workload.pods.len() > 1
            && status.current.is_none()
        {
            workload::protect(&self.client, &namespace, workload).await;
        }
        seen
    }

    /// Who paused remedies of the object: its spec, its annotation, or its namespace's.
    async fn paused<K: Remediable>(&self, object: &K, now: Timestamp) -> Option<String> {
        if let Some(paused) = paused::in_words(object.meta(), object.paused(), now) {
            return Some(paused);
        }
        let name = object.namespace().unwrap_or_default();
        let api: Api<Namespace> = Api::all(self.client.clone());
        let what = format!("reading Namespace {name}");
        match within(&what, CALL_TIMEOUT, api.get_metadata(&name)).await {
            Ok(namespace) => paused::by_annotation(&namespace.metadata, now)
                .map(|until| format!("Namespace {name} pauses remedies until {until}")),
            // A pause that cannot be read may be there: nothing is done then.
            Err(error) => Some(format!("whether Namespace {name} pauses remedies cannot be read: {error}")),
        }
    }
}

/// Why the status is written that `course` is part of.
pub fn why_written<K: Remediable>(before: &K, course: &StepResult, is_transition: bool) -> WriteReason {
    let current = before.remembered().and_then(|status| status.current.as_ref());
    let is_remedy = !is_transition && current != course.status.current.as_ref();
    if is_remedy { WriteReason::Remedy } else { WriteReason::Transition }
}

/// When the next step of an object is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Now.
    Again,
    /// After this time; `None`: at the next change.
    After(Option<Duration>),
}

/// When the next step is due because of `course`.
pub fn next_step(course: &StepResult, acted: Acted, now: Timestamp) -> NextStep {
    let wait = course.again.map(|again| Duration::try_from(again.duration_since(now)).unwrap_or_default());
    if acted == Acted::Again || wait == Some(Duration::ZERO) { NextStep::Again } else { NextStep::After(wait) }
}

/// What is remembered of the remedies of an object, for whoever asks.
pub fn view(said: &[Condition], status: Option<&RemediationStatus>) -> RemedyView {
    let remediating = conditions::get(said, ConditionType::Remediating).filter(|said| said.status == "False");
    RemedyView {
        denial: remediating.and_then(|said| said.reason.parse().ok()),
        last_outcome: status.and_then(|status| status.history.first()).map(|past| past.outcome),
    }
}

/// What is told about the object.
pub fn events(told: &[EventDraft]) -> impl Iterator<Item = Event> + '_ {
    told.iter().map(|told| Event {
        kind: if told.is_warning { Kind::Warning } else { Kind::Normal },
        reason: told.reason,
        action: "Restart",
        note: told.note.clone(),
        at: told.at,
        occurrence: told.occurrence.clone(),
    })
}

/// An id that no other attempt has.
fn fresh_id() -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("the kernel's random numbers never fail once the machine is up");
    format!("{:016x}", u64::from_ne_bytes(random))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{AttemptOutcome, Denial, Truth, condition};

    #[test]
    fn a_view_has_the_denial_that_stands_and_the_last_outcome() {
        let at = "2026-11-22T12:00:00Z";
        let status: RemediationStatus = serde_json::from_value(json!({"history": [
            {"id": "b", "cause": "Hung", "outcome": "TimedOut", "restarted": true, "cured": false, "startTime": at, "endTime": at},
            {"id": "a", "cause": "Hung", "outcome": "Succeeded", "restarted": true, "cured": true, "startTime": at, "endTime": at},
        ]}))
        .expect("it is a status");
        let said = |truth, reason| [condition(ConditionType::Remediating, truth, reason, String::new(), 1)];
        let denied = view(&said(Truth::False, Reason::GaveUp), Some(&status));
        assert_eq!(denied, RemedyView { denial: Some(Denial::GaveUp), last_outcome: Some(AttemptOutcome::TimedOut) });
        assert_eq!(view(&said(Truth::False, Reason::Idle), None), RemedyView::default());
        assert_eq!(view(&said(Truth::True, Reason::RestartInProgress), None).denial, None);
    }
}
