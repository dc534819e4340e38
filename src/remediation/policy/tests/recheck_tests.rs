//! Tests of the checks between the reservation and the act.

use super::*;

fn reserved(cause: &str) -> World {
    world().with(|w| {
        w.status.current = Some(attempt(cause));
        w.status.ledger = Some(Ledger { attempts: 3, start_time: Time(at(NOW - 1)) });
    })
}

#[test]
fn what_was_reserved_may_be_done_while_nothing_has_changed() {
    assert_eq!(reserved("Hung").still(), Ok(()));
    assert_eq!(reserved(REQUESTED).still(), Ok(()));
    let unread = reserved("Hung").with(|w| w.workload = WorkloadLookup::Failed("no answer".to_owned()));
    assert_eq!(unread.still(), Ok(()), "it is waited for");
    let younger = reserved("Hung").with(|w| w.diagnosis().confidence = Confidence::Possible);
    assert_eq!(younger.still(), Ok(()), "it was decided; only what may have changed is asked");
}

#[test]
fn a_brake_recalls_and_a_change_by_others_supersedes() {
    let cases: [(Change, Denial); 16] = [
        (|w| w.fleet.limits.is_on = false, Denial::RemediationOff),
        (|w| w.spec = None, Denial::RemediationOff),
        (|w| w.paused = Some("paused by ops".to_owned()), Denial::Paused),
        (|w| w.verdict.mass_silence = Some("4 of 5".to_owned()), Denial::MassSilence),
        (|w| w.verdict.blind = Some("9 of 10".to_owned()), Denial::ProbeBlind),
        (|w| w.fleet.breaker = Breaker::Open("it opened".to_owned()), Denial::BreakerOpen),
        (|w| (w.fleet.site_unhealthy, w.fleet.site_total) = (3, 3), Denial::SiteBrake),
        (|w| w.spec().mode = RemediationMode::Suggest, Denial::SuggestOnly),
        (|w| w.verdict.intervals = intervals(&[(ObjectHealth::Healthy, NOW)]), Denial::NotLongEnough),
        (|w| w.verdict.intervals = intervals(&[(ObjectHealth::Unknown, NOW)]), Denial::NotLongEnough),
        (|w| w.workload().uid = "w2".to_owned(), Denial::WorkloadNotFound),
        (|w| w.workload().is_terminating = true, Denial::WorkloadNotFound),
        (|w| w.workload = WorkloadLookup::Absent, Denial::WorkloadNotFound),
        (|w| w.agent = Some(AgentPresence { is_heard: true }), Denial::WorkloadNotFound),
        (|w| w.workload().is_paused = true, Denial::WorkloadPaused),
        (|w| w.workload().replicas = 0, Denial::ScaledToZero),
    ];
    for (change, reason) in cases {
        assert_eq!(reserved("Hung").with(change).still().expect_err("it was allowed").reason, reason);
        let asked = reserved(REQUESTED).with(change).still().map_err(|denied| denied.reason);
        let passes = [Denial::SiteBrake, Denial::NotLongEnough].contains(&reason);
        assert_eq!(asked, if passes { Ok(()) } else { Err(reason) });
    }
}

#[test]
fn an_eviction_does_not_mind_a_paused_deployment() {
    let pod = reserved("Hung").with(|w| {
        let current = w.status.current.as_mut().unwrap();
        (current.pod_name, current.pod_uid) = (Some("web-1".to_owned()), Some("uid-of-web-1".to_owned()));
        w.workload().is_paused = true;
    });
    assert_eq!(pod.still(), Ok(()));
}

#[test]
fn what_was_decided_for_an_agent_is_not_done_to_a_workload() {
    let agent = reserved("Hung").with(|w| {
        let current = w.status.current.as_mut().unwrap();
        (current.workload_uid, current.workload_generation) = (None, None);
        w.agent = Some(AgentPresence { is_heard: false });
    });
    assert_eq!(agent.still(), Ok(()), "it rides in the next beat");
    let other = agent.with(|w| w.agent = None).still().expect_err("it was allowed");
    assert_eq!(other.reason, Denial::WorkloadNotFound);
}
