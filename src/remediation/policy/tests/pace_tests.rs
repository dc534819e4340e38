//! Tests of the pace and of the fleet.

use super::*;

#[test]
fn bad_time_must_reach_its_length_and_unknown_pauses_it() {
    let story = |story: &[(ObjectHealth, i64)]| world().with(|w| w.verdict.intervals = intervals(story));
    let young = story(&[(ObjectHealth::Healthy, 0), (ObjectHealth::Unhealthy, NOW - 119)]);
    assert_eq!(young.expect(Denial::NotLongEnough, &["unhealthyForSeconds (120)"]).check_again_at, Some(at(NOW + 1)));
    assert!(story(&[(ObjectHealth::Healthy, 0), (ObjectHealth::Unhealthy, NOW - 120)]).allow().is_ok());
    let paused = story(&[
        (ObjectHealth::Unhealthy, NOW - 500),
        (ObjectHealth::Unknown, NOW - 450),
        (ObjectHealth::Unhealthy, NOW - 20),
    ]);
    assert_eq!(paused.expect(Denial::NotLongEnough, &[]).check_again_at, Some(at(NOW + 50)));
    assert!(paused.with(|w| w.spec().unhealthy_for_seconds = 0).allow().is_ok());
}

#[test]
fn a_closed_port_is_looked_at_again_before_it_is_told_from_a_crash() {
    let closed = |seconds: i64, asked| {
        world().with(|w| {
            w.spec().unhealthy_for_seconds = asked;
            w.verdict.diagnosis.as_mut().unwrap().cause = Cause::MainPortDead;
            w.verdict.intervals = intervals(&[(ObjectHealth::Healthy, 0), (ObjectHealth::Unhealthy, NOW - seconds)]);
        })
    };
    assert_eq!(
        closed(9, 0)
            .expect(Denial::NotLongEnough, &["the 10 s after which this cause is told from a crash"])
            .check_again_at,
        Some(at(NOW + 1))
    );
    assert!(closed(10, 0).allow().is_ok());
    closed(119, 120).expect(Denial::NotLongEnough, &["unhealthyForSeconds (120)"]);
}

#[test]
fn a_stop_on_purpose_is_left_alone_for_ten_minutes_and_then_ended() {
    let stopped = |seconds: i64, asked| {
        world().with(|w| {
            w.spec().unhealthy_for_seconds = asked;
            w.verdict.is_stopped_on_purpose = true;
            w.verdict.intervals = intervals(&[(ObjectHealth::Healthy, 0), (ObjectHealth::Unhealthy, NOW - seconds)]);
        })
    };
    let denied =
        stopped(599, 120).expect(Denial::NotLongEnough, &["the 600 s for which a stop on purpose is left alone"]);
    assert_eq!(denied.check_again_at, Some(at(NOW + 1)));
    assert!(stopped(600, 120).allow().is_ok());
    stopped(700, 900).expect(Denial::NotLongEnough, &["unhealthyForSeconds (900)"]);
    assert!(stopped(1, 120).requested().allow().is_ok(), "a person may know better");
}

#[test]
fn what_is_not_known_to_be_unhealthy_is_not_restarted_by_itself() {
    for (health, word) in [(ObjectHealth::Unknown, "not known"), (ObjectHealth::Healthy, "is healthy")] {
        let now = world().with(|w| {
            w.spec().unhealthy_for_seconds = 0;
            w.verdict.intervals = intervals(&[(ObjectHealth::Unhealthy, 0), (health, NOW - 1)]);
        });
        assert_eq!(now.expect(Denial::NotLongEnough, &[word]).check_again_at, None);
        assert!(now.requested().allow().is_ok());
    }
    world().with(|w| w.verdict.intervals = Vec::new()).expect(Denial::NotLongEnough, &["not known"]);
}

#[test]
fn six_turns_are_flapping_until_the_oldest_is_old() {
    let flaps = |health_changes: i64| {
        world().with(|w| {
            let interval =
                |n: i64| (if n % 2 == 0 { ObjectHealth::Unhealthy } else { ObjectHealth::Healthy }, NOW - 200 - 40 * n);
            w.verdict.intervals = intervals(&(0..=health_changes).rev().map(interval).collect::<Vec<_>>());
        })
    };
    assert!(flaps(5).allow().is_ok());
    assert_eq!(flaps(6).expect(Denial::Flapping, &["6 times"]).check_again_at, Some(at(NOW - 200 - 200 + 600)));
    assert_eq!(flaps(9).expect(Denial::Flapping, &["6 times"]).check_again_at, Some(at(NOW - 200 - 200 + 600)));
    assert!(flaps(9).with(|w| w.now = NOW + 200).allow().is_ok());
    let ours = flaps(6).with(|w| w.status.history = vec![past("a", Cause::Hung, AttemptOutcome::NotCured, 9500, 9700)]);
    assert!(ours.allow().is_ok(), "two of them were ours");
}

#[test]
fn the_backoff_is_waited_for_to_the_second() {
    let cooling = |next| world().with(|w| w.status.next_attempt_time = Some(Time(at(next))));
    assert_eq!(cooling(NOW + 1).expect(Denial::CoolingDown, &["2027-"]).check_again_at, Some(at(NOW + 1)));
    assert!(cooling(NOW).allow().is_ok());
}

#[test]
fn a_budget_of_two_is_two_attempts_and_zero_is_never() {
    let used = |attempts, max| {
        world().with(|w| {
            w.spec().max_attempts = max;
            w.status.ledger = Some(Ledger { attempts, start_time: Time(at(0)) });
        })
    };
    assert!(used(1, 2).allow().is_ok());
    used(2, 2).expect(Denial::GaveUp, &["maxAttempts (2)", "2 were made since 2027-", "resetAfterSeconds (3600)"]);
    used(5, 2).expect(Denial::GaveUp, &["5 were made"]);
    world().with(|w| w.spec().max_attempts = 0).expect(Denial::GaveUp, &["maxAttempts is 0"]);
}

#[test]
fn objects_with_one_workload_have_one_budget_and_the_smallest_counts() {
    let shared = |own, others, max| {
        world().with(|w| {
            w.status.ledger = Some(Ledger { attempts: own, start_time: Time(at(0)) });
            (w.fleet.shared_attempts, w.fleet.shared_max) = (others, Some(max));
        })
    };
    assert!(shared(1, 1, 3).allow().is_ok());
    shared(1, 2, 9)
        .expect(Denial::GaveUp, &["counted together", "smallest maxAttempts is 3", "1 were made", "2 for the others"]);
    shared(1, 0, 1).expect(Denial::GaveUp, &["smallest maxAttempts is 1"]);
    shared(0, 0, 0).expect(Denial::GaveUp, &["another object"]);
}

#[test]
fn a_template_that_others_changed_a_moment_ago_is_left_to_them() {
    let changed = |template: Template| world().with(|w| w.workload().template = template);
    let since = Some(at(NOW - 60));
    let by_others = changed(Template { since, ..Template::default() });
    assert_eq!(by_others.expect(Denial::RecentlyRestartedByOthers, &["not by us"]).check_again_at, Some(at(NOW + 60)));
    assert!(changed(Template { since: Some(at(NOW - 120)), ..Template::default() }).allow().is_ok());
    assert!(changed(Template::default()).allow().is_ok(), "not known");
    assert!(changed(Template { since, is_stripped: true, ..Template::default() }).allow().is_ok());
    // A person may restart what was deployed a moment ago, once every replica has the new template.
    let asked = |rollout| changed(Template { since, ..Template::default() }).with(|w| w.workload().rollout = rollout);
    assert!(asked(Rollout::Complete).requested().allow().is_ok());
    assert!(asked(Rollout::Unavailable("0 of 1".to_owned())).requested().allow().is_ok());
    asked(Rollout::InProgress("1 of 3".to_owned())).requested().expect(Denial::RolloutInProgress, &[]);
    let with_id = |end| {
        changed(Template { since, attempt: Some("a".to_owned()), ..Template::default() })
            .with(|w| w.status.history = vec![past("a", Cause::Hung, AttemptOutcome::NotCured, NOW - 70, end)])
    };
    assert!(with_id(NOW - 10).allow().is_ok(), "it came with our attempt");
    with_id(NOW - 65).expect(Denial::RecentlyRestartedByOthers, &[]);
    let strange = changed(Template { since, attempt: Some("b".to_owned()), ..Template::default() });
    strange.expect(Denial::RecentlyRestartedByOthers, &[]);
}

#[test]
fn the_brake_holds_from_three_and_above_forty_percent_of_a_site() {
    // Unhealthy, all, held: scenario 33, sites of one and two, and one below and above the share.
    let cases = [
        (1, 1, false),
        (1, 2, false),
        (2, 2, false),
        (1, 3, false),
        (2, 3, false),
        (3, 3, true),
        (2, 4, false),
        (4, 4, true),
        (2, 5, false),
        (3, 5, true),
        (3, 7, true),
        (3, 8, false),
        (40, 100, false),
        (41, 100, true),
        (100, 100, true),
        (0, 0, false),
    ];
    for (unhealthy, all, held) in cases {
        assert_eq!(is_braked(&Limits::default(), unhealthy, all), held, "{unhealthy} of {all}");
        let site = world().with(|w| (w.fleet.site_unhealthy, w.fleet.site_total) = (unhealthy, all));
        if held {
            let words = format!("{unhealthy} of {all} workloads of site shop/site-a");
            site.expect(Denial::SiteBrake, &[&words, "40 %", "at least 3"]);
            assert!(site.requested().allow().is_ok(), "a person may");
        } else {
            assert!(site.allow().is_ok(), "{unhealthy} of {all}");
        }
    }
}

#[test]
fn one_attempt_at_once_in_a_site_and_five_everywhere() {
    let flying = |site, all| world().with(|w| (w.fleet.site_in_flight, w.fleet.in_flight) = (site, all));
    assert!(flying(0, 4).allow().is_ok());
    flying(1, 1).expect(Denial::TooManyInFlight, &["1 of at most 1", "site shop/site-a"]);
    flying(0, 5).expect(Denial::TooManyInFlight, &["5 of at most 5"]);
    flying(1, 1).requested().expect(Denial::TooManyInFlight, &[]);
    let own = world().with(|w| w.status.current = Some(attempt("Hung")));
    own.requested().expect(Denial::TooManyInFlight, &["its own attempt mine"]);
}

#[test]
fn ten_a_minute_and_the_next_when_the_first_is_a_minute_old() {
    let started = |times: Vec<i64>| world().with(|w| w.fleet.recent_starts = times.into_iter().map(at).collect());
    assert!(started((0..9).map(|n| NOW - 9 + n).collect()).allow().is_ok());
    let ten = started((0..10).map(|n| NOW - 30 + n).collect());
    assert_eq!(ten.expect(Denial::RateLimited, &["--max-per-minute (10)"]).check_again_at, Some(at(NOW + 30)));
    assert!(ten.clone().with(|w| w.now = NOW + 30).allow().is_ok());
    let twelve = started((0..12).map(|n| NOW - 30 + n).collect());
    assert_eq!(twelve.denied().check_again_at, Some(at(NOW + 32)), "three must leave");
    let never = world().with(|w| w.fleet.limits.per_minute = 0);
    assert_eq!(never.expect(Denial::RateLimited, &[]).check_again_at, None);
}

#[test]
fn a_breaker_that_cannot_be_read_is_as_good_as_open() {
    let unknown = world().with(|w| w.fleet.breaker = Breaker::Unknown("no answer in 5 s".to_owned()));
    unknown.expect(Denial::BreakerOpen, &["cannot be read", "no answer in 5 s"]);
    unknown.requested().expect(Denial::BreakerOpen, &[]);
}
