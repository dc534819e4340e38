use super::super::agent_report::CHANGES_AT_ONCE;
use super::*;
use crate::heartbeat::payload::parse;

const INTERVAL: Duration = Duration::from_secs(30);

/// A heartbeat at this second from the host `192.0.2.<host>`.
fn receive(state: &mut AgentState, second: i64, host: u8, report: &str) -> bool {
    let body = format!(r#"{{"connector_id": "edge/paris", "token": "t"{report}}}"#);
    let beat = parse(body.as_bytes(), None).unwrap();
    let (from, at) = (IpAddr::from([192, 0, 2, host]), (INTERVAL, Moment::from_micros(second * 1_000_000)));
    let mut visible = false;
    if state.is_latest(&beat, from, at, &mut visible) {
        visible |= state.store_report(&beat, from, at, || Timestamp::UNIX_EPOCH) == Shown::Immediately;
    }
    visible
}

#[test]
fn facts_that_alternate_change_once_in_an_interval_after_a_few() {
    let reports = |i: i64| match i % 4 {
        0 => r#","hostname": "a""#,
        1 => r#","checks": [{"type": "Process", "status": "Fail"}]"#,
        2 => "",
        _ => r#","version": "1.0.0", "hostname": "b""#,
    };
    let mut state = AgentState::default();
    // Ten minutes, four heartbeats a second.
    let changes = (0..2400).filter(|i| receive(&mut state, i / 4, 1, reports(*i))).count();
    assert!((20..=28).contains(&changes), "{changes}");
    let mut calm = AgentState::default();
    assert!(receive(&mut calm, 0, 1, reports(0)));
    assert!(!receive(&mut calm, 30, 1, reports(0)));
    assert!(receive(&mut calm, 31, 1, reports(1)) && receive(&mut calm, 32, 1, reports(3)), "a few at once");
    assert!(!receive(&mut calm, 33, 1, reports(2)), "what is not mentioned does not change");
}

#[test]
fn the_last_of_too_many_changes_is_stored_when_the_facts_may_change_again() {
    let failing = |check: i64| format!(r#","checks": [{{"type": "Check{check}", "status": "Fail"}}]"#);
    let mut state = AgentState::default();
    let at_once = i64::from(CHANGES_AT_ONCE);
    for check in 0..at_once {
        assert!(receive(&mut state, 0, 1, &failing(check)));
    }
    assert_eq!(state.deferred_until(INTERVAL), None);
    assert!(!receive(&mut state, 0, 1, &failing(at_once)) && !receive(&mut state, 1, 1, &failing(at_once + 1)));
    let until = state.deferred_until(INTERVAL).unwrap();
    assert_eq!(until, Moment::default() + INTERVAL, "the next change is allowed an interval after those at once");
    assert!(!state.store_deferred(INTERVAL, until - Duration::from_micros(1)));
    assert!(state.is_degraded() && state.checks().unwrap()[0].type_.ends_with('7'));
    assert!(state.store_deferred(INTERVAL, until));
    assert!(state.checks().unwrap()[0].type_.ends_with('9'), "the last one, not the one before");
    assert!(!state.store_deferred(INTERVAL, until + INTERVAL), "once");
    assert_eq!(state.deferred_until(INTERVAL), None);
    // A report that agrees with the stored one again leaves nothing to store.
    assert!(!receive(&mut state, 30, 1, &failing(0)) && state.deferred_until(INTERVAL).is_some());
    assert!(!receive(&mut state, 31, 1, &failing(at_once + 1)) && state.deferred_until(INTERVAL).is_none());
}

#[test]
fn a_second_host_is_noticed_with_and_without_boot_ids() {
    let boot = r#","boot_id": "a""#;
    let is_noticed = |beats: &[(i64, u8, &str)]| {
        let mut state = AgentState::default();
        for (second, host, report) in beats {
            receive(&mut state, *second, *host, report);
        }
        state.own.is_duplicate(INTERVAL, Moment::from_micros(beats.last().unwrap().0 * 1_000_000))
    };
    assert!(is_noticed(&[(0, 1, boot), (10, 2, ""), (30, 1, boot), (40, 2, ""), (60, 1, boot)]), "a thief without one");
    assert!(is_noticed(&[(0, 2, ""), (10, 1, boot), (30, 2, ""), (40, 1, boot), (60, 2, "")]), "and the other way");
    assert!(is_noticed(&[(0, 1, ""), (10, 2, ""), (30, 1, ""), (40, 2, "")]), "neither has one");
    // One sender with two addresses sends no more often for that.
    assert!(!is_noticed(&[(0, 1, ""), (30, 2, ""), (60, 1, ""), (90, 2, ""), (120, 1, ""), (150, 2, "")]));
    assert!(!is_noticed(&[(0, 1, boot), (30, 2, boot), (31, 1, boot), (32, 2, boot), (33, 1, boot)]), "a NAT");
    assert!(!is_noticed(&[(0, 1, ""), (30, 1, ""), (31, 2, ""), (61, 2, ""), (91, 2, "")]), "it moved");
}
