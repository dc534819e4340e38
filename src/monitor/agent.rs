//! The agent on the host of a backend, as the heartbeats of its Connector show it.

use std::sync::Arc;

use jiff::SignedDuration;

use super::context::Monitor;
use super::entry::Backend;
use super::live::Live;
use crate::api::{AgentView, MonitoredBackend, Reason, TargetState};
use crate::diagnosis::evidence::Agent;
use crate::health::availability::Availability;
use crate::time::{Moment, Now};

/// Two heartbeats give the start of one state in whole seconds each: it counts as the same up to this difference.
const SAME_START: SignedDuration = SignedDuration::from_secs(5);

/// Each reading computes the time of the last heartbeat from the wall clock anew: up to this difference it is the same one.
const SAME_HEARTBEAT: SignedDuration = SignedDuration::from_secs(1);

/// The state of the agent of one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentReading {
    /// Why `spec.agentRef` names no agent: reason and sentence of the condition `Accepted`.
    pub unresolved: Option<(Reason, String)>,
    /// Whether the agent is heard.
    pub is_heard: bool,
    /// Whether it has said anything about its backends to this process.
    pub has_spoken: bool,
    /// The pause of restarts on its host, in a sentence.
    pub paused: Option<String>,
    /// Its view of the backend's unit, or why there is none.
    pub evidence: Agent,
}

/// Reads the agent of one backend; `None` where the spec names none.
pub type AgentReader = dyn Fn(&MonitoredBackend, Now) -> Option<AgentReading> + Send + Sync;

impl AgentReading {
    /// Whether the agent says that the unit does not run and that its host does not start it, or that it does not answer
    /// there.
    pub(super) fn says_that_it_fails(&self) -> bool {
        use TargetState::{Absent, Created, Exited, Failed, Inactive, Paused, Running};
        self.evidence.view.as_ref().is_some_and(|view| match view.state {
            Exited | Created | Paused | Absent | Failed | Inactive => true,
            Running => view.probe.as_ref().is_some_and(|probe| !probe.ok),
            TargetState::Restarting | TargetState::Activating | TargetState::Unknown => false,
        })
    }

    /// The reading with the time of the heartbeat and the start of the state as they were read before, if they are the same.
    fn with_times_of(mut self, before: Option<&Self>) -> Self {
        if let Some((at, earlier)) =
            self.evidence.confirmed_at.as_mut().zip(before.and_then(|before| before.evidence.confirmed_at))
            && at.duration_since(earlier).abs() < SAME_HEARTBEAT
        {
            *at = earlier;
        }
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

/// Reads the agent of `backend` and stores what it says. Where that may change the assessment, the next round begins at
/// once and investigates: what the agent says explains a failure, and only a probe makes a backend Down or Up. Wakes the
/// reconcile when the agent falls silent, is heard again, or is named anew.
pub(super) fn read(monitor: &Monitor, backend: &Arc<Backend>) {
    let object = backend.object();
    if object.spec.agent_ref.is_none() && backend.with(|live| live.agent.is_none()) {
        return;
    }
    let now = monitor.parts.clock.read();
    let reading = (monitor.parts.agents)(&object, now);
    let (is_news, is_urgent) = backend.with(|live| live.take_agent(reading, now.moment));
    if is_urgent {
        monitor.hurry(backend);
    }
    if is_news {
        monitor.wake(backend);
    }
}

impl Live {
    /// Stores a reading of the agent. Returns whether the link to it changed, and whether a round is to begin now.
    fn take_agent(&mut self, reading: Option<AgentReading>, now: Moment) -> (bool, bool) {
        let reading = reading.map(|reading| reading.with_times_of(self.agent.as_ref()));
        if reading == self.agent {
            return (false, false);
        }
        let link =
            |reading: Option<&AgentReading>| reading.map(|it| (it.unresolved.clone(), it.is_heard, it.paused.clone()));
        let is_news = link(reading.as_ref()) != link(self.agent.as_ref());
        let fails = |reading: Option<&AgentReading>| reading.is_some_and(AgentReading::says_that_it_fails);
        let is_up = self.record.availability() == Availability::Up;
        let is_other = is_said_otherwise(reading.as_ref(), self.agent.as_ref());
        let is_matter = if is_up { fails(reading.as_ref()) && !fails(self.agent.as_ref()) } else { is_other };
        self.agent = reading;
        if !is_up && is_other {
            self.investigate_from(now);
        }
        (is_news, is_matter && self.may_hurry(now))
    }
}

/// Whether two readings differ in more than sentences.
fn is_said_otherwise(one: Option<&AgentReading>, other: Option<&AgentReading>) -> bool {
    let facts = |reading: Option<&AgentReading>| {
        let view = reading.and_then(|reading| reading.evidence.view.clone());
        let view = view.map(|view| AgentView { message: None, ..view });
        (view, reading.is_some_and(|reading| reading.is_heard))
    };
    facts(one) != facts(other)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::{AgentProbe, Time};
    use crate::health::availability::Sample;
    use crate::monitor::live::limits;

    fn reading(state: TargetState, since: &str) -> AgentReading {
        let view = AgentView { state, since: Some(Time(since.parse().unwrap())), ..AgentView::default() };
        let evidence = Agent { view: Some(view), ..Agent::default() };
        AgentReading { is_heard: true, evidence, ..AgentReading::default() }
    }

    fn at(second: u64) -> Moment {
        Moment::default() + Duration::from_secs(second)
    }

    /// A backend with an interval of 60 s whose last probe passed or failed.
    fn live(passes: bool) -> Live {
        let object = serde_json::from_value(serde_json::json!({
            "apiVersion": "vigie.dev/v1alpha1", "kind": "MonitoredBackend",
            "metadata": { "name": "orders", "namespace": "shop", "uid": "u1" },
            "spec": { "target": { "url": "http://192.0.2.1/" }, "agentRef": { "name": "vm-7" },
                "probe": { "intervalSeconds": 60, "failureThreshold": 1, "successThreshold": 1 } },
        }))
        .unwrap();
        let mut live = Live::resumed(&object, Now { moment: at(0), wall: jiff::Timestamp::UNIX_EPOCH });
        let sample = Sample { at: at(1), passed: passes, took: Duration::from_millis(1) };
        live.record.record(sample, &limits(&object));
        live.investigate_at = None;
        live
    }

    const SINCE: &str = "2026-11-05T10:00:00Z";

    #[test]
    fn a_backend_that_is_up_is_probed_at_once_when_its_agent_says_that_it_fails_and_only_then() {
        let mut live = live(true);
        live.take_agent(Some(reading(TargetState::Running, SINCE)), at(2));
        let mut says = |state, second| live.take_agent(Some(reading(state, SINCE)), at(second));
        assert_eq!(says(TargetState::Running, 3), (false, false), "nothing new");
        assert_eq!(says(TargetState::Restarting, 4), (false, false), "its host starts it again");
        assert_eq!(says(TargetState::Exited, 5), (false, true));
        assert_eq!(says(TargetState::Failed, 6), (false, false), "it was probed because of that already");
        assert_eq!(says(TargetState::Unknown, 7), (false, false));
        assert_eq!(live.investigate_at, None, "there is nothing to explain");
        let mut unanswered = reading(TargetState::Running, SINCE);
        let view = unanswered.evidence.view.as_mut().unwrap();
        view.probe = Some(AgentProbe { ok: false, ..AgentProbe::default() });
        assert_eq!(live.take_agent(Some(unanswered), at(8)), (false, true));
    }

    #[test]
    fn a_backend_that_is_down_is_investigated_at_once_with_each_new_fact_of_its_agent() {
        let mut live = live(false);
        live.take_agent(Some(reading(TargetState::Exited, SINCE)), at(2));
        live.investigate_at = None;
        let mut worded = reading(TargetState::Exited, SINCE);
        worded.evidence.view.as_mut().unwrap().message = Some("it ended 3 s ago".to_owned());
        assert_eq!(live.take_agent(Some(worded), at(3)), (false, false), "a sentence is no fact");
        assert_eq!(live.take_agent(Some(reading(TargetState::Running, SINCE)), at(4)), (false, true));
        assert_eq!(live.investigate_at, Some(at(4)));
        let silent = AgentReading { is_heard: false, ..AgentReading::default() };
        assert_eq!(live.take_agent(Some(silent), at(5)), (true, true), "its silence is written, too");
    }

    #[test]
    fn an_agent_that_says_something_new_with_each_heartbeat_causes_few_rounds() {
        let mut live = live(false);
        let mut rounds = 0;
        for second in 0..600 {
            let state = if second % 2 == 0 { TargetState::Running } else { TargetState::Exited };
            rounds += u32::from(live.take_agent(Some(reading(state, SINCE)), at(second)).1);
        }
        // 4 at once, and one in each interval of 60 s.
        assert!((4..=14).contains(&rounds), "{rounds}");
    }

    #[test]
    fn a_failure_that_the_agent_sees_too_is_confirmed_within_seconds() {
        let mut live = live(true);
        let mut object = (*live.object).clone();
        object.spec.probe.failure_threshold = 3;
        live.object = std::sync::Arc::new(object);
        let sample = Sample { at: at(60), passed: false, took: Duration::from_millis(1) };
        live.record.record(sample, &limits(&live.object));
        assert_eq!(live.confirm_in(), Some(Duration::from_secs(15)));
        live.take_agent(Some(reading(TargetState::Exited, SINCE)), at(61));
        assert_eq!(live.confirm_in(), Some(Duration::from_secs(1)));
        live.take_agent(Some(reading(TargetState::Restarting, SINCE)), at(62));
        assert_eq!(live.confirm_in(), Some(Duration::from_secs(15)), "its host may have it back by then");
    }

    #[test]
    fn the_start_of_a_state_does_not_move_with_each_heartbeat() {
        let before = reading(TargetState::Exited, "2026-11-05T10:00:00Z");
        let again = reading(TargetState::Exited, "2026-11-05T10:00:01Z").with_times_of(Some(&before));
        assert_eq!(again, before);
        let mut told = before.clone();
        told.evidence.confirmed_at = Some("2026-11-05T10:01:00.000001Z".parse().unwrap());
        let mut read_again = told.clone();
        read_again.evidence.confirmed_at = Some("2026-11-05T10:00:59.999998Z".parse().unwrap());
        assert_eq!(read_again.with_times_of(Some(&told)), told, "nor does the time of one heartbeat with each reading");
        let mut next = told.clone();
        next.evidence.confirmed_at = Some("2026-11-05T10:01:05Z".parse().unwrap());
        assert_eq!(next.clone().with_times_of(Some(&told)), next);
        let started_anew = reading(TargetState::Exited, "2026-11-05T10:00:20Z");
        assert_eq!(started_anew.clone().with_times_of(Some(&before)), started_anew);
        let other = reading(TargetState::Running, "2026-11-05T10:00:01Z");
        assert_eq!(other.clone().with_times_of(Some(&before)), other);
    }
}
