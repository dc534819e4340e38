//! A copy of the state of one connector, for its reconcile and its view.

use super::actions::{Acknowledged, Offered};
use super::agent_report::AgentReport;
use super::agent_side::{AgentSaid, ContactVerdicts};
use super::entry::{Entry, Inner};
use super::payload::ReportedCheck;
use super::pod_diagnosis::PodDiagnosis;
use crate::health::liveness::{Listening, Timing, Verdict};
use crate::time::Moment;

/// A copy of the state of one connector at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The settings that its deadlines follow.
    pub timing: Timing,
    /// When the last authenticated heartbeat was received.
    pub last_contact: Option<Moment>,
    /// The verdict at that moment.
    pub verdict: Verdict,
    /// The youngest delivery whose token was used; 0 = none.
    pub used_generation: i64,
    /// When a retired token was used last.
    pub retired_use: Option<Moment>,
    /// Since when two hosts send heartbeats with one token, and until when that is remembered.
    pub duplicate: Option<(Moment, Moment)>,
    /// The report of the connector, completed by its agent's; `None` until this process accepted a heartbeat.
    pub agent: Option<AgentReport>,
    /// The reported checks; `None` until this process received some.
    pub checks: Option<Vec<ReportedCheck>>,
    /// The verdicts on the two contacts; `None` for a connector whose agent was never heard.
    pub contacts: Option<ContactVerdicts>,
    /// What the agent says about its host.
    pub said: AgentSaid,
    /// The restart of the connector that the agent is offered.
    pub offered: Option<Offered>,
    /// The agent's last answers about restarts that it was asked for.
    pub restarted: Vec<Acknowledged>,
    /// The diagnosis of its pods.
    pub pods: PodDiagnosis,
    /// The last contact in the stored status.
    pub written: Option<Moment>,
}

impl Snapshot {
    /// The last heartbeat of the connector itself; of its agent, where only that was ever heard.
    pub fn connector_contact(&self) -> Option<Moment> {
        self.contacts.and_then(|contacts| contacts.own_contact).or(self.last_contact)
    }

    /// The connector is silent, and its agent is heard: since when, and its last heartbeat.
    pub fn connector_silence(&self) -> Option<(Moment, Moment)> {
        let contacts = self.contacts.filter(ContactVerdicts::is_connector_silent)?;
        Some((contacts.own.since, contacts.own_contact?))
    }
}

impl Entry {
    /// The whole state, judged at `now`.
    pub fn snapshot(&self, listening: Listening, now: Moment) -> Snapshot {
        let inner = self.inner.lock();
        let Inner { timing, contact, tokens, agent, pods } = &*inner;
        let timing = timing.timing();
        let side = agent.side.as_deref();
        Snapshot {
            timing,
            last_contact: contact.last,
            verdict: inner.judge(listening, now),
            used_generation: tokens.used_generation,
            retired_use: tokens.retired_use,
            duplicate: agent.duplicate(timing.interval, now),
            agent: agent.report(),
            checks: agent.checks(),
            contacts: side
                .filter(|side| side.contacts.agent.is_some())
                .map(|side| side.contacts.judge(&timing, listening, now)),
            said: side.map(|side| side.said.clone()).unwrap_or_default(),
            offered: side.and_then(|side| side.restarts.offered(None)).cloned(),
            restarted: side.map(|side| side.restarts.answers().to_vec()).unwrap_or_default(),
            pods: pods.clone(),
            written: contact.written,
        }
    }

    /// The restart of the unit behind a MonitoredBackend that the agent is offered, and its answer about this attempt.
    pub fn restart_of(&self, backend: &str, attempt: &str) -> (Option<Offered>, Option<Acknowledged>) {
        let inner = self.inner.lock();
        let Some(restarts) = inner.agent.side.as_deref().map(|side| &side.restarts) else { return (None, None) };
        let answer = restarts.answers().iter().find(|answer| *answer.id == *attempt);
        (restarts.offered(Some(backend)).cloned(), answer.cloned())
    }
}
