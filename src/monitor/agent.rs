//! The agent on the host of a backend, as the heartbeats of its Connector show it.

use std::sync::Arc;

use jiff::SignedDuration;

use super::context::Monitor;
use super::entry::Backend;
use crate::api::{MonitoredBackend, Reason};
use crate::diagnosis::evidence::Agent;
use crate::health::availability::Availability;
use crate::time::Now;

/// Two heartbeats give the start of one state in whole seconds each: it counts as the same up to this difference.
const SAME_START: SignedDuration = SignedDuration::from_secs(5);

/// The state of the agent of one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentReading {
    /// Why `spec.agentRef` names no agent: reason and sentence of the condition `Accepted`.
    pub unresolved: Option<(Reason, String)>,
    /// Whether the agent is heard.
    pub is_heard: bool,
    /// Whether it has said anything about its backends to this process.
    pub has_spoken: bool,
    /// Its view of the backend's unit, or why there is none.
    pub evidence: Agent,
}

/// Reads the agent of one backend; `None` where the spec names none.
pub type AgentReader = dyn Fn(&MonitoredBackend, Now) -> Option<AgentReading> + Send + Sync;

impl AgentReading {
    /// The reading with the start of the state as it was read before, if it is the same state.
    fn with_start_of(mut self, before: Option<&Self>) -> Self {
        let known = before.and_then(|before| before.evidence.view.as_ref());
        let (Some(view), Some(known)) = (self.evidence.view.as_mut(), known) else { return self };
        if let (Some(since), Some(earlier)) = (view.since.as_mut(), known.since.as_ref())
            && view.state == known.state
            && since.0.duration_since(earlier.0).abs() <= SAME_START
        {
            *since = earlier.clone();
        }
        self
    }
}

/// Reads the agent of `backend` and stores what it says. Makes an investigation due when that is new and the backend is
/// not Up, and wakes the reconcile when the agent falls silent, is heard again, or is named anew.
pub(super) fn read(monitor: &Arc<Monitor>, backend: &Backend) {
    let object = backend.object();
    if object.spec.agent_ref.is_none() && backend.with(|live| live.agent.is_none()) {
        return;
    }
    let now = monitor.parts.clock.read();
    let reading = (monitor.parts.agents)(&object, now);
    let is_news = backend.with(|live| {
        let reading = reading.map(|reading| reading.with_start_of(live.agent.as_ref()));
        if reading == live.agent {
            return false;
        }
        let link = |reading: Option<&AgentReading>| reading.map(|it| (it.unresolved.clone(), it.is_heard));
        let is_news = link(reading.as_ref()) != link(live.agent.as_ref());
        live.agent = reading;
        if live.record.availability() != Availability::Up {
            live.investigate_from(now.moment);
        }
        is_news
    });
    if is_news {
        monitor.wake(backend);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AgentView, TargetState, Time};

    fn reading(state: TargetState, since: &str) -> AgentReading {
        let view = AgentView { state, since: Some(Time(since.parse().unwrap())), ..AgentView::default() };
        let evidence = Agent { view: Some(view), ..Agent::default() };
        AgentReading { is_heard: true, evidence, ..AgentReading::default() }
    }

    #[test]
    fn the_start_of_a_state_does_not_move_with_each_heartbeat() {
        let before = reading(TargetState::Exited, "2026-11-05T10:00:00Z");
        let again = reading(TargetState::Exited, "2026-11-05T10:00:01Z").with_start_of(Some(&before));
        assert_eq!(again, before);
        let started_anew = reading(TargetState::Exited, "2026-11-05T10:00:20Z");
        assert_eq!(started_anew.clone().with_start_of(Some(&before)), started_anew);
        let other = reading(TargetState::Running, "2026-11-05T10:00:01Z");
        assert_eq!(other.clone().with_start_of(Some(&before)), other);
    }
}
