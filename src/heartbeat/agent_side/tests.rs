use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::health::liveness::Gap;

const OFFLINE: u64 = 300;

fn timing() -> Timing {
    let seconds = Duration::from_secs;
    Timing { interval: seconds(30), late: seconds(90), offline: seconds(OFFLINE) }
}

fn at(second: u64) -> Moment {
    Moment::default() + Duration::from_secs(second)
}

fn listening(since: u64) -> Listening {
    Listening { since: Some(at(since)), gap: Gap::Restarted }
}

/// Heartbeats of the connector itself (false) and of its agent (true), then silence until `until`, judged each second.
fn heard(beats: &[(u64, bool)], until: u64) -> Vec<ContactVerdicts> {
    let mut contacts = Contacts::default();
    let each = |second| {
        for (_, is_of_agent) in beats.iter().filter(|(at, _)| *at == second) {
            contacts.heard(*is_of_agent, at(second));
        }
        contacts.evaluate(&timing(), listening(0), at(second)).0
    };
    (0..=until).map(each).collect()
}

#[test]
fn an_agent_alone_keeps_its_connector_heard() {
    let beats: Vec<_> = (0..2000).step_by(30).map(|second| (second, true)).collect();
    assert!(heard(&beats, 2000).iter().all(|verdicts| !verdicts.is_connector_silent()));
}

#[test]
fn a_connector_that_hangs_while_its_agent_lives_is_silent_from_its_own_deadline_on() {
    let mut beats: Vec<_> = (0..2000).step_by(30).map(|second| (second, true)).collect();
    beats.extend([(7, false), (37, false)]);
    let verdicts = heard(&beats, 1000);
    let first = verdicts.iter().position(ContactVerdicts::is_connector_silent).unwrap();
    assert_eq!(first as u64, 37 + OFFLINE);
    assert_eq!(verdicts[1000].own.since, at(37 + OFFLINE), "dated at the deadline");
    assert!(verdicts[first..].iter().all(ContactVerdicts::is_connector_silent));
    // It is heard again.
    beats.push((600, false));
    let verdicts = heard(&beats, 1000);
    assert!(!verdicts[600].is_connector_silent() && verdicts[599].is_connector_silent());
}

#[test]
fn both_silent_is_not_the_silence_of_the_connector_alone() {
    let beats = [(0, true), (0, false), (100, true)];
    let verdicts = heard(&beats, 1000);
    assert!(verdicts[300..400].iter().all(ContactVerdicts::is_connector_silent));
    assert!(
        verdicts[400..]
            .iter()
            .all(|verdicts| !verdicts.is_connector_silent() && verdicts.agent.presence == Presence::Offline)
    );
}

#[test]
fn what_a_predecessor_wrote_stands_only_as_far_as_it_can_be_vouched_for() {
    // The connector was silent before the restart of the operator: that stands.
    let silent = Contacts {
        own: Some(at(100)),
        own_before: PreviousVerdict { presence: Presence::Offline, since: at(400) },
        agent: Some(at(990)),
        agent_before: established(Some(at(990))),
    };
    assert!(silent.judge(&timing(), listening(1000), at(1000)).is_connector_silent());
    // It was heard 200 s before: its silence counts from the restart on.
    let mut heard = Contacts { own: Some(at(800)), own_before: established(Some(at(800))), ..silent };
    for second in 1000..1300 {
        heard.heard(true, at(second));
        assert!(!heard.evaluate(&timing(), listening(1000), at(second)).0.is_connector_silent(), "{second}");
    }
    heard.heard(true, at(1300));
    assert!(heard.evaluate(&timing(), listening(1000), at(1300)).0.is_connector_silent());
}

#[test]
fn the_wakes_are_exact() {
    let mut contacts = Contacts::default();
    contacts.heard(false, at(0));
    contacts.heard(true, at(50));
    let mut seen = Vec::new();
    let mut now = at(50);
    for _ in 0..10 {
        let (verdicts, is_news) = contacts.evaluate(&timing(), listening(0), now);
        seen.extend(is_news.then_some(now));
        let next = [verdicts.own.next_check_at, verdicts.agent.next_check_at].into_iter().flatten().min();
        let Some(next) = next else { break };
        assert!(next > now);
        now = next;
    }
    assert_eq!(seen, [at(OFFLINE), at(50 + OFFLINE)]);
}

proptest! {
    /// However the two beat: the connector is silent exactly when it was heard once, then not for the whole deadline, while
    /// its agent was heard within its own; and judging more often changes nothing.
    #[test]
    fn it_is_silent_exactly_by_its_own_contact(
        beats in proptest::collection::vec((0u64..1500, any::<bool>()), 0..40), until in 1u64..2000,
        looks in proptest::collection::btree_set(0u64..2000, 0..20),
    ) {
        let mut contacts = Contacts::default();
        for second in 0..=until {
            for (_, is_of_agent) in beats.iter().filter(|(at, _)| *at == second) {
                contacts.heard(*is_of_agent, at(second));
                contacts.evaluate(&timing(), listening(0), at(second));
            }
            if looks.contains(&second) {
                contacts.evaluate(&timing(), listening(0), at(second));
            }
        }
        let last = |of_agent| beats.iter().filter(|(at, is)| *is == of_agent && *at <= until).map(|(at, _)| *at).max();
        let is_past = |last: Option<u64>| last.map(|last| until >= last + OFFLINE);
        let verdicts = contacts.judge(&timing(), listening(0), at(until));
        prop_assert_eq!(verdicts.is_connector_silent(), is_past(last(false)) == Some(true) && is_past(last(true)) == Some(false));
        prop_assert_eq!(verdicts.agent.presence == Presence::Offline, is_past(last(true)) == Some(true));
        prop_assert_eq!((verdicts.own_contact, verdicts.agent_contact), (last(false).map(at), last(true).map(at)));
    }
}

fn pause(seconds: Option<u64>) -> AgentBeat {
    let paused = AgentPause { by: Some("ops".into()), reason: Some("kernel update".into()), seconds };
    AgentBeat { is_agent: true, paused: Some(paused), ..AgentBeat::default() }
}

#[test]
fn a_pause_ends_by_itself_or_with_a_heartbeat_that_does_not_mention_it() {
    let mut said = AgentSaid::default();
    assert!(said.hear(&pause(Some(60)), at(0)).of_connector);
    assert!(!said.hear(&pause(Some(30)), at(30)).of_connector, "the seconds count down");
    assert!(said.pause(at(59)).is_some() && said.pause(at(60)).is_none());
    assert!(said.hear(&AgentBeat::default(), at(31)).of_connector && said.pause(at(31)).is_none());
    said.hear(&pause(None), at(40));
    assert!(said.pause(at(1_000_000)).is_some(), "it has no end");
    said.hear(&pause(Some(u64::MAX)), at(50));
    assert!(said.pause(at(1_000_000)).is_some());
}

#[test]
fn lists_stay_until_they_are_mentioned_again() {
    let gap = AgentGap {
        kind: crate::api::GapKind::HostDown,
        ended_seconds_ago: 1,
        lasted_seconds: 2,
        error_class: None,
        phase: None,
        attempts: None,
        failing: Vec::new(),
    };
    let mut said = AgentSaid::default();
    said.hear(&AgentBeat { gaps: Some(vec![gap]), backends: Some(Vec::new()), ..AgentBeat::default() }, at(5));
    said.hear(&AgentBeat::default(), at(10));
    assert_eq!(said.gaps.as_ref().map(|(gaps, at)| (gaps.len(), *at)), Some((1, at(5))));
    assert!(said.backends.is_some());
}
