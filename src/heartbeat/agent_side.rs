//! What an agent adds to a connector: its own contact beside the connector's, its report, and the restarts that it is
//! asked for. Most connectors have none, so all of it is behind one pointer that is null then.

use std::sync::Arc;

use super::actions::{Offer, Restarts};
use super::agent_backends::AgentBackends;
use super::agent_config::AgentConfig;
use super::agent_report::Sender;
use super::entry::{Inner, Told};
use super::payload::{AgentBeat, Beat};
use crate::api::{AgentGap, AgentPause, StopReason};
use crate::health::liveness::{Known, Listening, Presence, PreviousVerdict, Timing, Verdict, judge};
use crate::schedule::BurstLimit;
use crate::time::Moment;

/// News of backends are told this many times at once, and then once in each interval.
const BACKEND_NEWS_AT_ONCE: u32 = 16;

/// Everything that concerns the agent of one connector.
#[derive(Clone, Debug, Default)]
pub(super) struct AgentSide {
    /// What the agent reports about the connector and itself.
    pub(super) sender: Sender,
    pub(super) contacts: Contacts,
    pub(super) said: AgentSaid,
    pub(super) restarts: Restarts,
    /// Limits how often news of its backends are told.
    backend_news: BurstLimit,
    /// The parameters of the checks in the spec; `None` = there are none.
    pub(super) config: Option<Arc<AgentConfig>>,
}

/// The two contacts of a connector whose agent beats beside it.
#[derive(Clone, Debug, Default)]
pub(super) struct Contacts {
    /// The last heartbeat of the connector itself; `None` = it was never heard, so that its silence says nothing.
    pub(super) own: Option<Moment>,
    pub(super) own_before: PreviousVerdict,
    /// The last heartbeat of the agent; `None` = it was never heard.
    pub(super) agent: Option<Moment>,
    pub(super) agent_before: PreviousVerdict,
}

/// The verdicts on the two contacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContactVerdicts {
    /// The last heartbeat of the connector itself.
    pub own_contact: Option<Moment>,
    /// The verdict on the connector's own heartbeats.
    pub own: Verdict,
    /// The last heartbeat of the agent.
    pub agent_contact: Option<Moment>,
    /// The verdict on the agent's heartbeats.
    pub agent: Verdict,
}

impl ContactVerdicts {
    /// Whether the connector is silent while its agent is heard.
    pub fn is_connector_silent(&self) -> bool {
        self.own.presence == Presence::Offline && self.is_agent_heard()
    }

    /// Whether the agent is heard.
    pub fn is_agent_heard(&self) -> bool {
        matches!(self.agent.presence, Presence::Online | Presence::Late)
    }
}

impl Contacts {
    /// The contacts of a connector before its agent was heard.
    pub(super) fn without_agent(own: Option<Moment>) -> Self {
        Self { own, own_before: established(own), ..Self::default() }
    }

    /// Counts a heartbeat.
    pub(super) fn heard(&mut self, is_of_agent: bool, now: Moment) {
        let (contact, before) = match is_of_agent {
            true => (&mut self.agent, &mut self.agent_before),
            false => (&mut self.own, &mut self.own_before),
        };
        if contact.is_none() {
            *before = established(Some(now));
        }
        *contact = Some(contact.map_or(now, |last| last.max(now)));
    }

    /// Judges both contacts by the rules of `health::liveness`.
    pub(super) fn judge(&self, timing: &Timing, listening: Listening, now: Moment) -> ContactVerdicts {
        let of = |last_contact, previous| judge(timing, &Known { last_contact, previous, listening }, now);
        ContactVerdicts {
            own_contact: self.own,
            own: of(self.own, self.own_before),
            agent_contact: self.agent,
            agent: of(self.agent, self.agent_before),
        }
    }

    /// Whether the agent is heard, by the stored verdict.
    pub(super) fn is_agent_heard(&self) -> bool {
        matches!(self.agent_before.presence, Presence::Online | Presence::Late)
    }

    /// Whether the connector is silent while its agent is heard, by the stored verdicts.
    pub(super) fn is_connector_silent(&self) -> bool {
        self.own_before.presence == Presence::Offline && self.is_agent_heard()
    }

    /// Judges both and stores the verdicts; true when one of them became silent, or is heard again.
    pub(super) fn evaluate(&mut self, timing: &Timing, listening: Listening, now: Moment) -> (ContactVerdicts, bool) {
        let verdicts = self.judge(timing, listening, now);
        let mut is_news = false;
        for (before, verdict) in [(&mut self.own_before, verdicts.own), (&mut self.agent_before, verdicts.agent)] {
            if before.presence != verdict.presence {
                is_news |= [before.presence, verdict.presence].contains(&Presence::Offline);
                *before = PreviousVerdict { presence: verdict.presence, since: verdict.since };
            }
        }
        (verdicts, is_news)
    }
}

/// The verdict on a contact at the time of the contact itself.
pub(super) fn established(contact: Option<Moment>) -> PreviousVerdict {
    contact.map_or_else(PreviousVerdict::default, |since| PreviousVerdict { presence: Presence::Online, since })
}

/// The part of an agent's heartbeats that concerns its host, as of its last heartbeat.
#[derive(Clone, Debug, Default)]
pub struct AgentSaid {
    /// A person paused restarts on the host.
    pub paused: Option<AgentPause>,
    /// When that pause ends.
    pub paused_until: Option<Moment>,
    /// It was about to stop.
    pub stopping: Option<StopReason>,
    /// A person stopped the unit of the connector.
    pub is_stopped_on_purpose: bool,
    /// The gaps that it reported last, and when.
    pub gaps: Option<(Arc<[AgentGap]>, Moment)>,
    /// The backends that it reported last.
    pub backends: Option<AgentBackends>,
}

/// What is new in a heartbeat of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Something that is shown in the connector's status.
    pub(super) of_connector: bool,
    /// Something that the diagnosis of a backend may depend on.
    pub(super) of_backends: bool,
}

impl AgentSaid {
    /// Stores what an agent's heartbeat says, and returns what is new.
    ///
    /// A pause and a stop are over when the next heartbeat of the agent does not mention them; lists stay.
    pub(super) fn hear(&mut self, beat: &AgentBeat, now: Moment) -> News {
        let is_same_pause = match (&self.paused, &beat.paused) {
            (Some(known), Some(said)) => (&known.by, &known.reason) == (&said.by, &said.reason),
            (known, said) => known.is_none() == said.is_none(),
        };
        let last = (self.stopping, self.is_stopped_on_purpose);
        let of_connector = !is_same_pause || last != (beat.stopping, beat.stopped_on_purpose);
        self.paused.clone_from(&beat.paused);
        let seconds = beat.paused.as_ref().and_then(|paused| paused.seconds);
        self.paused_until = seconds.map(|seconds| now + std::time::Duration::from_secs(seconds.min(MOST_SECONDS)));
        (self.stopping, self.is_stopped_on_purpose) = (beat.stopping, beat.stopped_on_purpose);
        if let Some(gaps) = beat.gaps.as_ref().filter(|gaps| !gaps.is_empty()) {
            self.gaps = Some((gaps.as_slice().into(), now));
        }
        let backends = beat.backends.as_ref();
        let of_backends = backends.is_some_and(|said| AgentBackends::hear(&mut self.backends, said, now));
        News { of_connector, of_backends }
    }

    /// The pause of restarts on the host, while it lasts.
    pub fn pause(&self, now: Moment) -> Option<&AgentPause> {
        self.paused.as_ref().filter(|_| self.paused_until.is_none_or(|until| now < until))
    }
}

/// The longest pause that is counted: a year. Anything longer ends with a heartbeat that does not mention it.
const MOST_SECONDS: u64 = 366 * 86_400;

impl AgentSide {
    /// Forgets what the agent reported: another leader has written newer reports to the status.
    pub(super) fn forget_reports(&mut self) {
        self.sender.forget_reports();
        (self.said, self.restarts, self.contacts) = Default::default();
    }
}

impl Inner {
    /// The side of the agent, which begins with the contact of the connector itself.
    pub(super) fn side(&mut self) -> &mut AgentSide {
        // A contact that was only read from the status may have been that of an agent.
        let own = self.contact.last.filter(|_| self.agent.own.report.is_some());
        self.agent.side.get_or_insert_with(|| {
            Box::new(AgentSide { contacts: Contacts::without_agent(own), ..AgentSide::default() })
        })
    }

    /// Stores what an agent says about its host and about restarts, and returns what is new. News of backends are limited:
    /// an agent whose reports alternate is read once a second all the same.
    pub(super) fn hear_agent(&mut self, beat: &Beat<'_>, is_latest: bool, now: Moment) -> News {
        let mut news = News::default();
        if let Some(agent) = beat.agent.as_deref().filter(|agent| agent.is_agent && is_latest) {
            let interval = self.timing.timing().interval;
            let side = self.side();
            news = side.said.hear(agent, now);
            news.of_backends = news.of_backends && side.backend_news.allows(BACKEND_NEWS_AT_ONCE, interval, now);
        }
        for result in beat.restart_results() {
            news.of_connector |= self.side().restarts.acknowledge(result);
        }
        news
    }

    /// What the answer to a heartbeat tells its sender; `is_first` becomes true when an action is sent for the first time.
    /// `is_degraded`: a critical check fails.
    pub(super) fn tell(&mut self, beat: &Beat<'_>, is_degraded: bool, now: Moment, is_first: &mut bool) -> Told {
        let is_of_agent = beat.is_of_agent();
        let Some(side) = &mut self.agent.side else { return Told::default() };
        // While an agent beats beside the connector, the connector itself is not asked.
        if !is_of_agent && side.contacts.is_agent_heard() {
            return Told::default();
        }
        let (actions, first) = side.restarts.hand_out(is_degraded, now);
        *is_first |= first;
        let known = beat.agent.as_deref().and_then(|agent| agent.config_generation);
        let config = is_of_agent.then(|| side.config.clone().unwrap_or_else(AgentConfig::empty));
        let config = config.filter(|config| known != Some(config.generation.into()));
        Told { actions, config, is_expected: is_of_agent && side.restarts.is_expected() }
    }

    /// Offers the agent a restart, or withdraws the offer.
    pub(super) fn offer(&mut self, backend: Option<&str>, offer: Offer) {
        if self.agent.side.is_some() || offer.action.is_some() || offer.is_expected {
            self.side().restarts.offer(backend, offer);
        }
    }
}

#[cfg(test)]
mod tests;
