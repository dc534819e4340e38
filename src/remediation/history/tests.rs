use proptest::prelude::*;

use super::*;
use crate::api::{Attempt, AttemptPhase, PastAttempt, RemediationMode, Time};
use ObjectHealth::{Healthy, Unhealthy, Unknown};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// Intervals from left to right: the oldest first.
fn intervals(story: &[(ObjectHealth, i64)]) -> Vec<HealthInterval> {
    story.iter().rev().map(|(health, second)| HealthInterval { health: *health, since: at(*second) }).collect()
}

fn bad(story: &[(ObjectHealth, i64)], now: i64) -> i64 {
    unhealthy_duration(&intervals(story), at(now)).as_secs()
}

fn past(outcome: AttemptOutcome, restarted: bool, from: i64, to: i64) -> PastAttempt {
    PastAttempt {
        id: "a".to_owned(),
        cause: "Hung".to_owned(),
        outcome,
        restarted,
        cured: false,
        start_time: Time(at(from)),
        end_time: Time(at(to)),
        message: String::new(),
    }
}

#[test]
fn bad_time_is_what_was_seen_to_be_bad_since_it_was_healthy_last() {
    assert_eq!(bad(&[], 100), 0);
    assert_eq!(bad(&[(Healthy, 0)], 100), 0);
    assert_eq!(bad(&[(Healthy, 0), (Unhealthy, 40)], 100), 60);
    assert_eq!(bad(&[(Unhealthy, 0), (Healthy, 30), (Unhealthy, 40)], 100), 60, "the incident before is another");
    assert_eq!(bad(&[(Healthy, 0), (Unhealthy, 40), (Unknown, 60)], 100), 20, "it pauses while nothing is known");
    assert_eq!(bad(&[(Healthy, 0), (Unhealthy, 40), (Unknown, 60), (Unhealthy, 90)], 100), 30, "and goes on");
    assert_eq!(bad(&[(Unhealthy, 10), (Unhealthy, 40)], 100), 90, "adjacent spells are one");
}

#[test]
fn times_of_the_future_are_now_and_a_step_back_of_the_clock_counts_nothing_twice() {
    assert_eq!(bad(&[(Healthy, 0), (Unhealthy, 500)], 100), 0);
    assert_eq!(bad(&[(Unhealthy, 50), (Unknown, 20), (Unhealthy, 80)], 100), 20);
    assert_eq!(healthy_since(&intervals(&[(Healthy, 50), (Healthy, 40)])), Some(at(40)));
    let hour = RemediationSpec::new(RemediationMode::Restart);
    assert!(!is_reset(&hour, &intervals(&[(Healthy, 9_000)]), at(100)));
}

#[test]
fn it_turned_unhealthy_once_however_often_sight_of_it_was_lost() {
    let since = |story: &[(ObjectHealth, i64)]| unhealthy_since(&intervals(story));
    assert_eq!(since(&[(Healthy, 0), (Unhealthy, 40), (Unknown, 60), (Unhealthy, 90)]), Some(at(40)));
    assert_eq!(since(&[(Unhealthy, 0), (Healthy, 20), (Unhealthy, 40)]), Some(at(40)));
    assert_eq!(since(&[(Unhealthy, 0), (Healthy, 20)]), None);
    assert_eq!(since(&[(Unknown, 0)]), None);
}

#[test]
fn health_counts_as_long_as_it_was_witnessed_without_interruption() {
    let since = |story: &[(ObjectHealth, i64)]| healthy_since(&intervals(story));
    assert_eq!(
        since(&[(Unhealthy, 0), (Healthy, 10), (Healthy, 20)]),
        Some(at(10)),
        "Degraded and Up are both healthy"
    );
    assert_eq!(since(&[(Healthy, 0), (Unknown, 10), (Healthy, 20)]), Some(at(20)));
    assert_eq!(since(&[(Healthy, 0), (Unknown, 10)]), None);
    assert_eq!(since(&[]), None);
}

#[test]
fn the_ledger_is_emptied_after_an_hour_of_health_to_the_second() {
    let spec = RemediationSpec::new(RemediationMode::Restart);
    let story = intervals(&[(Unhealthy, 0), (Healthy, 100)]);
    assert!(!is_reset(&spec, &story, at(100 + 3599)));
    assert!(is_reset(&spec, &story, at(100 + 3600)));
}

#[test]
fn turns_are_changes_within_ten_minutes_and_losing_sight_is_none() {
    let none = RemediationStatus::default();
    let turned = |story: &[(ObjectHealth, i64)], now| health_changes(&intervals(story), &none, at(now));
    assert_eq!(turned(&[(Healthy, 0), (Unhealthy, 10), (Healthy, 20)], 30), [at(20), at(10)]);
    assert_eq!(turned(&[(Healthy, 0), (Unknown, 10), (Healthy, 20)], 30), []);
    assert_eq!(turned(&[(Healthy, 0), (Unknown, 10), (Unhealthy, 20)], 30), [at(20)]);
    assert_eq!(turned(&[(Healthy, 0), (Unhealthy, 10)], 609), [at(10)]);
    assert_eq!(turned(&[(Healthy, 0), (Unhealthy, 10)], 610), []);
}

#[test]
fn what_an_attempt_of_ours_did_is_no_flapping_and_what_it_did_not_do_is() {
    let story = intervals(&[(Unhealthy, 0), (Healthy, 50), (Unhealthy, 100), (Healthy, 150)]);
    let count = |status: &RemediationStatus| health_changes(&story, status, at(200)).len();
    let with = |past| RemediationStatus { history: vec![past], ..RemediationStatus::default() };
    assert_eq!(count(&RemediationStatus::default()), 3);
    assert_eq!(count(&with(past(AttemptOutcome::NotCured, true, 40, 100))), 1);
    assert_eq!(count(&with(past(AttemptOutcome::TimedOut, false, 40, 60))), 2, "nobody knows what the agent did");
    assert_eq!(count(&with(past(AttemptOutcome::Recalled, false, 40, 100))), 3, "it touched nothing");
    let within = at(50) + SignedDuration::from_millis(600);
    let fast = [HealthInterval { health: Healthy, since: within }, HealthInterval { health: Unhealthy, since: at(40) }];
    let of_one_second = with(past(AttemptOutcome::Succeeded, true, 50, 50));
    assert_eq!(health_changes(&fast, &of_one_second, at(200)), [], "it ended in that second, by that cure");
    let current = Attempt {
        id: "b".to_owned(),
        cause: "Hung".to_owned(),
        start_time: Time(at(120)),
        workload_uid: None,
        workload_generation: None,
        pod_name: None,
        pod_uid: None,
        phase: AttemptPhase::Restarting,
        restarted_time: None,
        not_after: Time(at(900)),
    };
    assert_eq!(count(&RemediationStatus { current: Some(current), ..RemediationStatus::default() }), 2);
}

#[test]
fn the_backoff_doubles_up_to_an_hour_and_is_the_same_for_whoever_computes_it() {
    let spec = RemediationSpec::new(RemediationMode::Restart);
    for (attempts, base) in [(0, 300), (1, 300), (2, 600), (3, 1200), (4, 2400), (5, 3600), (100, 3600)] {
        let waits = backoff(&spec, attempts, "shop/web");
        let range = SignedDuration::from_secs(base * 9 / 10)..=SignedDuration::from_secs(base * 11 / 10);
        assert!(range.contains(&waits), "{attempts}: {waits:#}");
        assert_eq!(waits, backoff(&spec, attempts, "shop/web"));
    }
    let spread: std::collections::BTreeSet<_> = (0..200).map(|n| backoff(&spec, 1, &format!("shop/web-{n}"))).collect();
    assert!(spread.len() > 15, "what failed together does not start together: {}", spread.len());
}

proptest! {
    #[test]
    fn a_flapping_object_never_empties_its_ledger(steps in prop::collection::vec((0_i64..3600, 0..3_u8), 1..10)) {
        let spec = RemediationSpec::new(RemediationMode::Restart);
        let mut now = 0;
        let mut story = Vec::new();
        for (seconds, health) in steps {
            // Never healthy twice in a row: each run of health is shorter than resetAfterSeconds.
            let health = match (health, story.last()) {
                (0, Some((Healthy, _)) ) | (1, _) => Unhealthy,
                (2, _) => Unknown,
                _ => Healthy,
            };
            story.push((health, now));
            now += seconds;
        }
        prop_assert!(!is_reset(&spec, &intervals(&story), at(now)));
    }

    #[test]
    fn bad_time_only_grows_while_it_is_bad_and_stands_still_while_nothing_is_known(
        story in prop::collection::vec((0_i64..1000, 0..3_u8), 1..10), later in 0_i64..1000,
    ) {
        let mut story: Vec<(ObjectHealth, i64)> =
            story.into_iter().map(|(s, h)| ([Healthy, Unhealthy, Unknown][usize::from(h)], s)).collect();
        story.sort_by_key(|(_, second)| *second);
        let (before, after) = (bad(&story, 1000), bad(&story, 1000 + later));
        let expected = if story.last().is_some_and(|(health, _)| *health == Unhealthy) { later } else { 0 };
        prop_assert_eq!(after - before, expected);
    }
}
