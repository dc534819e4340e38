//! Assesses a Connector: state, conditions, diagnosis. Pure; status, API and metrics use the same function.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::ResourceExt as _;

use super::token::{TokenPlan, Write};
use super::workload_step::WorkloadPresence;
use crate::api::{
    Cause, ConditionType, ConditionValue, Connector, ConnectorState, Diagnosis, Reason, Truth, condition,
};
use crate::controller::remediation::Remediable as _;
use crate::diagnosis::connector::{ConnectorEvidence, DUPLICATE_INSTANCE, diagnose};
use crate::health::checks::{self, CheckInput, Health, judge};
use crate::health::liveness::Presence;
use crate::heartbeat::entry::{Snapshot, is_skewed};
use crate::heartbeat::pod_diagnosis::PodDiagnosis;
use crate::heartbeat::registry::ClaimRefusal;
use crate::time::Now;

/// The input of an assessment.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The object as the store has it.
    pub connector: &'a Connector,
    /// The copy of its entry in the registry.
    pub live: &'a Snapshot,
    /// The counts that mass silence of its site began with.
    pub mass_silence: Option<&'a str>,
    /// `False` of `Accepted`.
    pub refused: Option<(Reason, String)>,
    /// The `Provisioned` condition.
    pub provisioned: ConditionValue,
    /// A token is being delivered to its Secret, and nothing has failed: not provisioned yet, and nothing to explain.
    pub delivering: bool,
    /// When a retired token was used last.
    pub retired_use: Option<Timestamp>,
    /// The diagnosis of the pods of a silent connector.
    pub pods: &'a PodDiagnosis,
    /// Now.
    pub now: Now,
}

/// The facts about a connector that other objects decide.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The counts that mass silence of its site began with.
    pub mass_silence: Option<&'a str>,
    /// Why it does not hold its connectorID.
    pub claim: Option<ClaimRefusal>,
    /// Whether the workload exists.
    pub workload: WorkloadPresence,
    /// A diagnosis of the pods that is newer than the one in the snapshot.
    pub pods: Option<&'a PodDiagnosis>,
}

impl Default for Facts<'_> {
    fn default() -> Self {
        Self { mass_silence: None, claim: None, workload: WorkloadPresence::Unchanged, pods: None }
    }
}

/// The assessment of a connector.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// The state, for display.
    pub state: ConnectorState,
    /// Since when it is in that state, if it enters that state now.
    pub since: Timestamp,
    /// Every condition, `Remediating` as it is stored; the setter decides which changes are transitions.
    pub conditions: Vec<Condition>,
    /// Why it is not healthy.
    pub diagnosis: Option<Diagnosis>,
    /// The judgement of its checks.
    pub health: Health,
}

/// The state of a connector. It needs nothing that has to be read.
pub fn state_of(connector: &Connector, live: &Snapshot) -> ConnectorState {
    checks::state(live.verdict.presence, is_degraded(&health(connector, live), live))
}

impl<'a> Input<'a> {
    /// The input for `connector`. `token` is the plan for its Secret; without one, the stored conditions stand.
    pub fn new(
        connector: &'a Connector,
        live: &'a Snapshot,
        facts: Facts<'a>,
        token: Option<&TokenPlan>,
        now: Now,
    ) -> Self {
        let refused = refused(connector, &facts, token);
        let provisioned = match token {
            Some(token) => token.provisioned.clone(),
            None if connector.is_lease() => {
                ConditionValue::new(Truth::True, Reason::Provisioned, "a Lease source needs no token")
            }
            None => ConditionValue::stored(connector.conditions(), ConditionType::Provisioned).unwrap_or_else(|| {
                ConditionValue::new(Truth::False, Reason::TokenSecretInvalid, "no token has been delivered yet")
            }),
        };
        let delivering = match token {
            Some(token) => token.write != Write::Nothing && !token.has_failed,
            None => connector.status.as_ref().is_none_or(|status| status.token.is_none()),
        };
        let retired_use = retired_use(connector, live, now);
        let (mass_silence, pods) = (facts.mass_silence, facts.pods.unwrap_or(&live.pods));
        Self { connector, live, mass_silence, refused, provisioned, delivering, retired_use, pods, now }
    }
}

/// `False` of `Accepted`: by the facts that were read now, and by the stored condition for those that were not.
fn refused(connector: &Connector, facts: &Facts<'_>, token: Option<&TokenPlan>) -> Option<(Reason, String)> {
    if let Some(refusal) = &facts.claim {
        return Some(claim_refused(connector, refusal));
    }
    let of_claim = [Reason::DuplicateConnectorID, Reason::InvalidSpec];
    let stored = ConditionValue::stored(connector.conditions(), ConditionType::Accepted)
        .filter(|value| value.status == Truth::False && !of_claim.contains(&value.reason))
        .map(|value| (value.reason, value.message));
    let (of_workload, of_token) = match stored {
        Some((Reason::WorkloadNotFound, message)) => (Some((Reason::WorkloadNotFound, message)), None),
        other => (None, other),
    };
    token.map_or(of_token, |token| token.refused.clone()).or_else(|| match &facts.workload {
        WorkloadPresence::Unchanged => of_workload,
        WorkloadPresence::Present => None,
        WorkloadPresence::Missing(message) => Some((Reason::WorkloadNotFound, message.clone())),
    })
}

/// Why a connector does not hold its id, in words that name no object of another namespace.
fn claim_refused(connector: &Connector, refusal: &ClaimRefusal) -> (Reason, String) {
    let (id, namespace) = (connector.effective_id(), connector.namespace().unwrap_or_default());
    match refusal {
        ClaimRefusal::HeldBy(holder) if *holder.namespace == *namespace => {
            (Reason::DuplicateConnectorID, format!("connectorID {id} belongs to Connector {holder}, which is older"))
        }
        ClaimRefusal::HeldBy(_) => (
            Reason::DuplicateConnectorID,
            format!("connectorID {id} belongs to a Connector of another namespace, which comes before this one"),
        ),
        ClaimRefusal::Resting(_) => (
            Reason::DuplicateConnectorID,
            format!(
                "connectorID {id} belonged to a Connector of another namespace, and is kept for that namespace until ten \
                 minutes after its deletion"
            ),
        ),
        ClaimRefusal::NotOwn => (
            Reason::InvalidSpec,
            format!(
                "spec.connectorID {id} begins with the name of another namespace: an id with a / begins with the namespace \
                 of its Connector, here {namespace}/"
            ),
        ),
    }
}

impl Input<'_> {
    /// Assesses the connector.
    pub fn assess(&self) -> Assessment {
        let presence = self.live.verdict.presence;
        let health = health(self.connector, self.live);
        let online = self.online();
        let heard = matches!(presence, Presence::Online | Presence::Late);
        let healthy = self.healthy(heard, &health);
        let state = checks::state(presence, is_degraded(&health, self.live));
        let ready = ready(self.refused.as_ref(), &self.provisioned, &online, &healthy);
        Assessment {
            state,
            since: self.since(state),
            diagnosis: self.diagnosis(&health, heard),
            conditions: self.conditions([
                (ConditionType::Ready, ready),
                (ConditionType::Accepted, self.accepted()),
                (ConditionType::Provisioned, self.provisioned.clone()),
                (ConditionType::Online, online),
                (ConditionType::Healthy, healthy),
                (ConditionType::Remediating, self.remediating()),
            ]),
            health,
        }
    }

    /// The last contact. A stored contact keeps its timestamp: the wall clock is slewed all the time, and converting the
    /// same moment again would give another timestamp each time.
    pub fn last_contact(&self) -> Option<Timestamp> {
        let contact = self.live.last_contact?;
        let stored = || self.connector.status.as_ref()?.last_contact();
        let is_stored = self.live.written == Some(contact);
        Some(stored().filter(|at| is_stored && *at <= self.now.wall).unwrap_or_else(|| self.now.stamp(contact)))
    }

    /// Since when it is in `state`: the time of the contact verdict, or now when only its checks changed.
    fn since(&self, state: ConnectorState) -> Timestamp {
        let is_heard = |state| matches!(state, ConnectorState::Online | ConnectorState::Degraded);
        let before = self.connector.status.as_ref().and_then(|status| status.state);
        if before.is_some_and(|before| before != state && is_heard(before) && is_heard(state)) {
            let silent = self.live.connector_silence().filter(|_| state == ConnectorState::Degraded);
            return silent.map_or(self.now.wall, |(since, _)| self.now.stamp(since));
        }
        self.now.stamp(self.live.verdict.since)
    }

    fn online(&self) -> ConditionValue {
        let verdict = &self.live.verdict;
        let (truth, message) = match verdict.presence {
            Presence::NeverSeen => (Truth::Unknown, "it has never been heard".to_owned()),
            Presence::Online => (Truth::True, "it is heard in time".to_owned()),
            Presence::Late => (Truth::True, format!("silent for more than {} s", self.live.timing.late.as_secs())),
            Presence::Offline => {
                (Truth::False, format!("silent for more than {} s", self.live.timing.offline.as_secs()))
            }
            Presence::Unknown => (Truth::Unknown, "vigie could not have heard it".to_owned()),
        };
        match (verdict.presence, self.mass_silence) {
            (Presence::Offline, Some(counts)) => ConditionValue::new(
                truth,
                Reason::MassSilence,
                format!("{message}, together with most of its site ({counts})"),
            ),
            _ => ConditionValue::new(truth, verdict.reason, message),
        }
    }

    fn healthy(&self, heard: bool, health: &Health) -> ConditionValue {
        if self.live.verdict.presence == Presence::NeverSeen {
            return ConditionValue::new(Truth::Unknown, Reason::NotReported, "nothing has been reported yet");
        }
        if !heard {
            return ConditionValue::new(
                Truth::Unknown,
                Reason::Stale,
                "what was reported is as old as the last contact",
            );
        }
        let mut reports: Vec<String> = health.faults.iter().map(|fault| fault.to_string()).collect();
        let (mut truth, mut reason) = (health.truth, health.reason);
        if self.live.duplicate.is_some() {
            reports.push(DUPLICATE_INSTANCE.to_owned());
            if truth != Truth::False {
                (truth, reason) = (Truth::True, Reason::Warnings);
            }
        }
        if let Some(silence) = self.connector_silence() {
            reports.insert(0, silence.message());
            if truth != Truth::False || reason != Reason::ProcessDown {
                (truth, reason) = (Truth::False, Reason::ConnectorSilent);
            }
        }
        let message = match reason {
            Reason::NotReported => "its beats carry no checks".to_owned(),
            Reason::ChecksPassed => "every reported check passes".to_owned(),
            _ => reports.join("; "),
        };
        ConditionValue { status: truth, reason, message }
    }

    /// The host name that was reported last.
    pub(super) fn host(&self) -> Option<&str> {
        let status = self.connector.status.as_ref();
        let stored = || status.and_then(|status| status.agent.as_ref()).and_then(|agent| agent.hostname.as_deref());
        self.live.agent.as_ref().and_then(|agent| agent.hostname.as_deref()).or_else(stored)
    }

    fn accepted(&self) -> ConditionValue {
        match &self.refused {
            Some((reason, message)) => ConditionValue::new(Truth::False, *reason, message.clone()),
            None => ConditionValue::new(Truth::True, Reason::Accepted, "the spec can be acted upon"),
        }
    }

    fn remediating(&self) -> ConditionValue {
        ConditionValue::stored(self.connector.conditions(), ConditionType::Remediating)
            .unwrap_or_else(|| ConditionValue::new(Truth::False, Reason::Idle, "no remedy has been wanted yet"))
    }

    fn conditions(&self, of: [(ConditionType, ConditionValue); 6]) -> Vec<Condition> {
        let generation = self.connector.metadata.generation.unwrap_or(0);
        let mut all: Vec<Condition> =
            of.into_iter().map(|(type_, value)| value.into_condition(type_, generation)).collect();
        if let Some((reason, message)) = &self.refused {
            all.push(condition(ConditionType::Stalled, Truth::True, *reason, message.clone(), generation));
        }
        all
    }

    fn diagnosis(&self, health: &Health, heard: bool) -> Option<Diagnosis> {
        let connector_id = self.connector.effective_id();
        let secret = self.connector.credential_secret_name();
        let status = self.connector.status.as_ref();
        let contact = self.last_contact();
        let ConditionValue { status: truth, reason, message } = &self.provisioned;
        let mut found = diagnose(&ConnectorEvidence {
            connector_id: &connector_id,
            refused: self.refused.as_ref().map(|(reason, message)| (*reason, message.as_str())),
            unprovisioned: (*truth == Truth::False && !self.delivering).then_some((*reason, message.as_str())),
            presence: self.live.verdict.presence,
            reason: self.live.verdict.reason,
            // While heartbeats arrive, the last contact changes all the time: it is part of a diagnosis of silence only.
            last_contact: contact.filter(|_| self.live.verdict.presence != Presence::Online),
            offline_after: self.live.timing.offline.as_secs(),
            mass_silence: self.mass_silence,
            retired_token_used: self.retired_use.filter(|used| contact.is_none_or(|contact| *used > contact)),
            faults: if heard { &health.faults } else { &[] },
            duplicate: heard && self.live.duplicate.is_some(),
            pods: self.pods.why(),
            lease: self.connector.spec.heartbeat.lease_name.as_deref().filter(|_| self.connector.is_lease()),
            secret: &secret,
            host: self.host(),
            silence: self.connector_silence(),
            stopping: self.agent_stop(),
        })?;
        let known = status.and_then(|status| status.diagnosis.as_ref()).filter(|known| known.cause == found.cause);
        found.since = match known {
            Some(known) => known.since.clone(),
            None => Some(MicroTime(self.begun(found.cause))),
        };
        Some(found)
    }

    /// Since when a cause holds that was not diagnosed before.
    fn begun(&self, cause: Cause) -> Timestamp {
        match cause {
            Cause::ConnectorSilent => {
                let since = self.live.connector_silence().map(|(since, _)| since);
                since.map_or(self.now.wall, |since| self.now.stamp(since))
            }
            Cause::HeartbeatExpired
            | Cause::AgentStopped
            | Cause::HeartbeatLate
            | Cause::ObserverRestarted
            | Cause::ObserverUnreachable => self.now.stamp(self.live.verdict.since),
            _ => self.now.wall,
        }
    }
}

/// When a retired token was used last, by the account of this process or by the stored status.
pub(super) fn retired_use(connector: &Connector, live: &Snapshot, now: Now) -> Option<Timestamp> {
    let stored =
        connector.status.as_ref().and_then(|status| status.token.as_ref()?.last_rejected_time.as_ref()).map(|at| at.0);
    live.retired_use.map(|at| now.stamp(at)).max(stored)
}

fn health(connector: &Connector, live: &Snapshot) -> Health {
    let stored = connector.status.as_ref().map(|status| status.checks.as_slice()).unwrap_or_default();
    let reports: Vec<CheckInput<'_>> = match live.checks.as_deref() {
        Some(checks) => checks
            .iter()
            .map(|check| CheckInput { type_: &check.type_, outcome: check.status, message: check.message.as_deref() })
            .collect(),
        // This process has not received a heartbeat yet: the stored checks are as old as the last contact, and stand with
        // it.
        None => stored
            .iter()
            .map(|check| CheckInput { type_: &check.type_, outcome: check.status, message: check.message.as_deref() })
            .collect(),
    };
    judge(|type_| connector.spec.severity_of(type_), &reports, is_skewed(skew(connector, live)))
}

fn skew(connector: &Connector, live: &Snapshot) -> Option<i64> {
    let stored = || connector.status.as_ref()?.agent.as_ref()?.clock_skew_seconds;
    live.agent.as_ref().and_then(|agent| agent.clock_skew_seconds).or_else(stored)
}

/// A critical check fails, or the connector is silent while its agent is heard.
fn is_degraded(health: &Health, live: &Snapshot) -> bool {
    health.is_degraded() || live.connector_silence().is_some()
}

/// Ready = Accepted ∧ Provisioned ∧ Online ∧ Healthy ≠ False; else the first failing one's reason.
fn ready(
    refused: Option<&(Reason, String)>,
    provisioned: &ConditionValue,
    online: &ConditionValue,
    healthy: &ConditionValue,
) -> ConditionValue {
    if let Some((reason, message)) = refused {
        return ConditionValue::new(Truth::False, *reason, message.clone());
    }
    for value in [provisioned, online] {
        if value.status != Truth::True {
            return value.clone();
        }
    }
    if healthy.status == Truth::False {
        return healthy.clone();
    }
    ConditionValue::new(Truth::True, Reason::Ready, "it is heard, and nothing that it reports is critical")
}
