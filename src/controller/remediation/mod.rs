//! Remediation of both kinds, through one code path.
//!
//! [`Remediator::step`] reads the cluster (`observe`) and then decides and claims a slot under the lock of the fleet
//! (`decide`). The caller writes the status, reports the result of the write ([`Remediator::after_write`],
//! [`Remediator::after_failed_write`]), and only then performs the restart ([`Remediator::perform`]).
//!
//! The state of one attempt is kept in five places:
//!
//! | place | content | after a restart of the operator |
//! |---|---|---|
//! | `status.remediation` of the object | phase, target and time limit of the attempt; ledger; history | kept: the only durable place, apart from the attempt's id in the workload |
//! | the object's slot in [`FleetState`](crate::remediation::fleet::FleetState) | the attempt in flight; a claim, from the decision until the status shows the attempt | built again from the statuses |
//! | `Remediator::refusals` | the API server's final refusal of the attempt | the request is sent and refused again |
//! | `Remediator::published` | the newest attempts whose events were handed to the caller in this epoch | the events are published again, as the same occurrences |
//! | `restart` of the connector's [`Entry`](crate::heartbeat::entry::Entry) | the action offered to the agent, and the agent's acknowledgement | offered again with the same id; the agent executes an id once |

mod brakes;
pub mod breaker;
mod census;
mod observe;
mod published;
mod report;
mod subject;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

pub use brakes::Brakes;
pub use census::Census;
pub use report::{NextStep, events, next_step, view, write_reason};
pub use subject::{Remediable, health_of_backend, health_of_connector, requested_restart, with_current};

use census::id;
use observe::Observations;
use published::Published;

use super::log::{self, LogSubject};
use crate::api::{AttemptPhase, ConditionType, Key, REQUESTED, Reason, RemediationStatus, conditions};
use crate::leadership::WritePermit;
use crate::metrics::Metrics;
use crate::remediation::attempt::{Remedy, Signals, StepResult};
use crate::remediation::fleet::ObjectId;
use crate::remediation::workload::{CallResult, OwnPod, RestartOrder};
use crate::remediation::{
    AgentPresence, Limits, PolicyInput, RestartMeans, RestartRequest, Verdict, attempt, workload,
};
use crate::time::Clock;

/// How many workloads are read at once.
const READS_AT_ONCE: usize = 8;

/// Decides about remedies and performs them.
pub struct Remediator {
    /// The fleet, counted for brake and breaker.
    pub census: Census,
    /// The attempt that the API server refused, with the reason, for good or until the next try.
    refusals: Mutex<HashMap<ObjectId, Refusal>>,
    published: Published,
    client: Client,
    clock: Clock,
    metrics: Arc<Metrics>,
    limits: Limits,
    own_pod: Option<OwnPod>,
    reads: Semaphore,
}

struct Refusal {
    attempt: String,
    reason: String,
    /// The same request would be refused again.
    is_final: bool,
}

/// When the next step follows a restart that was performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowUp {
    /// Now: the cluster changed, or the restart was refused.
    Immediate,
    /// When the step result says: there is nothing new to read.
    Scheduled,
    /// After this time: the request did not succeed, and is sent again then if it is still wanted.
    After(Duration),
}

/// The result of a request to restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Performed {
    /// It was answered, and the cluster shows how.
    Answered,
    /// It was not answered, or the workload was changed meanwhile.
    Failed,
    /// Nothing was sent.
    Nothing,
}

/// The input of a step of one object.
pub struct RemediationInput<'a, K> {
    /// The object as it was read, or as the operator wrote it last.
    pub object: &'a K,
    /// The evaluation of the object.
    pub verdict: &'a Verdict,
    /// The agent that would restart it, where the spec names one.
    pub agent: Option<AgentPresence>,
    /// Restarts are paused on the agent's host: a sentence.
    pub paused: Option<String>,
    /// The agent's answer about an attempt.
    pub acknowledged: Option<Acknowledgement<'a>>,
    /// The attempt whose action the agent was given.
    pub handed_out: Option<&'a str>,
}

/// The agent's answer about an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledgement<'a> {
    /// The id of the attempt.
    pub attempt: &'a str,
    /// Whether the agent restarted its unit.
    pub succeeded: bool,
    /// The agent's message; may be empty.
    pub message: &'a str,
}

impl<'a, K> RemediationInput<'a, K> {
    /// The input of an object without an agent.
    pub fn about(object: &'a K, verdict: &'a Verdict) -> Self {
        Self { object, verdict, agent: None, paused: None, acknowledged: None, handed_out: None }
    }
}

impl Remediator {
    /// Knows no object yet. `client` must send each request once.
    pub fn new(
        client: Client,
        clock: Clock,
        metrics: Arc<Metrics>,
        limits: Limits,
        census: Census,
        own_pod: Option<OwnPod>,
    ) -> Self {
        let (refusals, published) = Default::default();
        let reads = Semaphore::new(READS_AT_ONCE);
        Self { census, refusals, published, client, clock, metrics, limits, own_pod, reads }
    }

    /// Removes an object that was deleted.
    pub fn remove<K: Remediable>(&self, key: &Key) {
        self.census.remove::<K>(key);
        let id = ObjectId { kind: K::KIND, key: key.clone() };
        self.refusals.lock().remove(&id);
        self.published.remove(&id);
    }

    /// One step of an object: registers it with the fleet, reads the cluster, and decides. May claim a slot.
    pub async fn step<K: Remediable>(&self, permit: &WritePermit, input: RemediationInput<'_, K>) -> StepResult {
        self.census.upsert_evaluated(permit, input.object, &input.verdict.intervals);
        let observed = self.observe(&input).await;
        self.decide(permit, &input, &observed)
    }

    /// Decides by what was observed, and claims a slot for an attempt that begins.
    fn decide<K: Remediable>(
        &self,
        permit: &WritePermit,
        input: &RemediationInput<'_, K>,
        observed: &Observations,
    ) -> StepResult {
        let RemediationInput { object, verdict, agent, .. } = *input;
        let mut status = object.remediation_status().cloned().unwrap_or_default();
        let request = observed.request.as_ref().filter(|request| !is_reserved_for(&status, request));
        if let (Some(answered), None) = (&observed.request, request) {
            status.observed_restart_request = Some(answered.annotation.clone());
        }
        let status = &status;
        let means = match (object.workload_ref(), agent) {
            (Some(reference), _) => RestartMeans::Workload(reference),
            (None, Some(agent)) => RestartMeans::Agent(agent),
            (None, None) => RestartMeans::Nothing,
        };
        let id = id(object);
        let name = id.key.to_string();
        let signals = self.signals(&id, status, input);
        let new_id = if observed.is_wanted { new_id() } else { String::new() };
        // Read again: observing may have taken seconds.
        let now = self.clock.read().wall;
        // One lock for counting, deciding and claiming: two objects never both take the last slot.
        let mut fleet = self.census.fleet.lock();
        let context = self.census.context(&mut fleet, &id, now);
        let policy_input = PolicyInput {
            object: &name,
            namespace: &id.key.namespace,
            spec: object.remediation(),
            status,
            paused: observed.paused.as_deref().or(input.paused.as_deref()),
            verdict,
            means,
            workload: &observed.workload,
            request,
            fleet: &context,
            now,
        };
        let mut result = attempt::step(&policy_input, &signals, &new_id);
        if let Some(reserved) = &result.reserved {
            fleet.claim(&id, reserved, now);
        }
        drop(fleet);
        result.events.splice(0..0, self.published.missing(permit, &id, status, now));
        result
    }

    fn signals<K>(&self, id: &ObjectId, status: &RemediationStatus, input: &RemediationInput<'_, K>) -> Signals {
        let Some(current) = &status.current else { return Signals::default() };
        let refusals = self.refusals.lock();
        let refusal = refusals.get(id).filter(|refusal| refusal.attempt == current.id);
        let acknowledged = input.acknowledged.filter(|answer| answer.attempt == current.id);
        Signals {
            refused: refusal.filter(|refusal| refusal.is_final).map(|refusal| refusal.reason.clone()),
            failed_try: refusal.filter(|refusal| !refusal.is_final).map(|refusal| refusal.reason.clone()),
            handed_out: input.handed_out == Some(&current.id),
            acknowledged: acknowledged.map(|answer| (answer.succeeded, answer.message.to_owned())),
        }
    }

    /// Logs and counts `result` after it was written. `before` is the object before the write.
    pub fn after_write<K: Remediable>(&self, before: &K, result: &StepResult) {
        let id = id(before);
        if !result.events.is_empty() {
            // The caller publishes them.
            self.published.insert(&id, &result.status);
        }
        let key = &id.key;
        for step in log::steps(before.remediation_status(), &result.status) {
            log::attempt(LogSubject { kind: K::KIND, key }, step);
        }
        if let Some(outcome) = result.ended {
            self.metrics.remedied(outcome);
            self.refusals.lock().remove(&id);
        }
        let condition = conditions::get(before.conditions(), ConditionType::Remediating);
        let reason: Option<Reason> = condition.and_then(|condition| condition.reason.parse().ok());
        // Changes of the reason are counted, not steps.
        if let Some(denial) = result.denial.filter(|denial| reason != Some(Reason::from(*denial))) {
            self.metrics.denied(denial);
            let Key { namespace, name } = key;
            tracing::info!(kind = K::KIND, %namespace, %name, reason = denial.as_str(), "denial");
        }
    }

    /// Takes back what `result` claimed after its write failed. The claim of an attempt that would have begun is released
    /// unless the outcome of the write is unknown.
    pub fn after_failed_write<K: Remediable>(&self, before: &K, result: &StepResult, outcome_unknown: bool) {
        let id = id(before);
        self.published.remove(&id);
        if result.reserved.is_some() && !outcome_unknown {
            self.census.fleet.lock().release(&id);
        }
    }

    /// Performs a remedy after the status was written. An offer to an agent is the caller's to hand out.
    pub async fn perform<K: Remediable>(&self, permit: &WritePermit, object: &K, remedy: &Remedy) -> Performed {
        let namespace = object.namespace().unwrap_or_default();
        let called = match (remedy, object.workload_ref()) {
            (Remedy::Offer { .. }, _) | (_, None) => return Performed::Nothing,
            (Remedy::Restart { id, started, uid, generation }, Some(reference)) => {
                let order =
                    RestartOrder { id: id.clone(), started: *started, uid: uid.clone(), generation: *generation };
                workload::restart(&self.client, self.clock, permit, &namespace, reference, &order).await
            }
            (Remedy::Evict { name, uid }, Some(_)) => {
                workload::evict(&self.client, self.clock, permit, &namespace, name, uid).await
            }
        };
        let id = id(object);
        let ObjectId { kind, key: Key { namespace, name } } = &id;
        let current = object.remediation_status().and_then(|status| status.current.as_ref());
        let attempt = current.map_or("", |current| &current.id);
        match called {
            // Logged with the next step, which reads it from the workload.
            CallResult::Applied => Performed::Answered,
            CallResult::Stale(why) => {
                tracing::info!(kind, %namespace, %name, attempt, reason = why, "the workload was changed meanwhile: reading it again");
                // Tried after a wait all the same: a webhook may answer like that each time.
                Performed::Failed
            }
            CallResult::Refused(why) => {
                tracing::warn!(kind, %namespace, %name, attempt, reason = why, "the restart was refused");
                if let Some(current) = current {
                    let refusal = Refusal { attempt: current.id.clone(), reason: why, is_final: true };
                    self.refusals.lock().insert(id, refusal);
                }
                Performed::Answered
            }
            CallResult::Retry(why) => {
                tracing::info!(kind, %namespace, %name, attempt, reason = why, "the restart was not answered: reading the workload before repeating it");
                if let Some(current) = current {
                    let refusal = Refusal { attempt: current.id.clone(), reason: why, is_final: false };
                    self.refusals.lock().insert(id, refusal);
                }
                Performed::Failed
            }
            CallResult::NotLeader => Performed::Nothing,
        }
    }
}

/// Whether the reserved attempt in a stored status is the answer to a request that this status does not name as observed: a
/// definition that is older than the operator dropped the field. The field is written again, and until it is kept nothing
/// is restarted: else one request would restart the workload again and again.
fn is_reserved_for(status: &RemediationStatus, request: &RestartRequest) -> bool {
    status.current.as_ref().is_some_and(|current| {
        let is_reserved = current.cause == REQUESTED && current.phase == AttemptPhase::Reserved;
        is_reserved && request.at.duration_since(current.start_time.0) <= SignedDuration::from_secs(1)
    })
}

/// A random id that no other attempt has.
fn new_id() -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("the kernel's random numbers never fail once the machine is up");
    format!("{:016x}", u64::from_ne_bytes(random))
}
