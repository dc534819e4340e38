use super::*;
use crate::api::{Key, WorkloadKind, WorkloadRef};
use crate::remediation::input::ObjectHealth;

mod breaker_tests;
mod property_tests;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn id(name: &str) -> ObjectId {
    ObjectId { kind: "MonitoredBackend", key: Key { namespace: "shop".into(), name: name.into() } }
}

fn web(name: &str) -> Option<WorkloadRef> {
    Some(WorkloadRef { kind: WorkloadKind::Deployment, name: name.to_owned() })
}

fn healthy(site: &str) -> Member {
    Member {
        site: format!("shop/{site}").into(),
        workload: None,
        unit: None,
        health: ObjectHealth::Healthy,
        unhealthy_since: None,
        was_healthy: true,
        in_flight: None,
        attempts: 0,
        max_attempts: Some(3),
    }
}

fn unhealthy(site: &str, since: i64) -> Member {
    Member { health: ObjectHealth::Unhealthy, unhealthy_since: Some(at(since)), ..healthy(site) }
}

fn flying(member: Member, id: &str, start: i64) -> Member {
    Member { in_flight: Some(InFlight { id: id.to_owned(), start: at(start) }), ..member }
}

fn of(workload: &str, member: Member) -> Member {
    Member { workload: web(workload), ..member }
}

fn state() -> FleetState {
    let mut state = FleetState::new(Limits::default());
    state.set_breaker(Breaker::Closed, None);
    state
}

/// A site of `all` objects, of which `bad` are unhealthy.
fn site(state: &mut FleetState, name: &str, bad: usize, all: usize) {
    for n in 0..all {
        let member = if n < bad { unhealthy(name, -10_000) } else { healthy(name) };
        state.upsert(&id(&format!("{name}-{n}")), member);
    }
}

fn figures(state: &mut FleetState, name: &str) -> (usize, usize) {
    let context = state.context(&id(name), at(0));
    (context.site_unhealthy, context.site_total)
}

#[test]
fn objects_with_one_unit_of_an_agent_are_counted_once_and_locked_together() {
    let unit = |unit: &str, member: Member| Member {
        unit: Some(AgentUnit { connector: "edge-1".into(), unit: unit.into() }),
        ..member
    };
    let mut state = state();
    state.upsert(&id("page"), unit("container:orders", flying(unhealthy("a", -100), "a1", 0)));
    state.upsert(&id("health"), unit("container:orders", unhealthy("a", -100)));
    state.upsert(&id("other"), unit("container:billing", healthy("a")));
    assert_eq!(figures(&mut state, "other"), (1, 2));
    let held_by = |state: &mut FleetState, name: &str| state.context(&id(name), at(1)).held_by;
    assert_eq!(held_by(&mut state, "health").map(|(_, attempt)| attempt), Some("a1".to_owned()));
    assert_eq!(held_by(&mut state, "other"), None);
}

#[test]
fn the_brake_of_a_site_engages_above_its_share_and_releases_by_itself() {
    for (bad, all, held) in [(1, 3, false), (2, 4, false), (2, 5, false), (3, 7, true), (3, 3, true), (2, 2, false)] {
        let mut state = state();
        site(&mut state, "a", bad, all);
        site(&mut state, "b", 0, 10);
        assert_eq!(figures(&mut state, "a-0"), (bad, all));
        let expected = BrakedSite { site: "shop/a".into(), unhealthy: bad, total: all };
        assert_eq!(state.braked_sites(), if held { vec![expected] } else { Vec::new() }, "{bad} of {all}");
        for n in 0..bad {
            state.upsert(&id(&format!("a-{n}")), healthy("a"));
        }
        assert_eq!((state.braked_sites(), figures(&mut state, "a-0")), (Vec::new(), (0, all)));
    }
}

#[test]
fn objects_of_one_workload_count_once() {
    let mut state = state();
    for n in 0..4 {
        state.upsert(&id(&format!("x-{n}")), of("web", unhealthy("a", 0)));
    }
    state.upsert(&id("y"), of("other", healthy("a")));
    assert_eq!(figures(&mut state, "y"), (1, 2));
    state.upsert(&id("x-0"), of("web", healthy("a")));
    assert_eq!(figures(&mut state, "y"), (1, 2), "any of its objects");
    for n in 0..4 {
        state.upsert(&id(&format!("x-{n}")), of("web", healthy("a")));
    }
    assert_eq!(figures(&mut state, "y"), (0, 2));
}

#[test]
fn the_same_name_in_another_namespace_is_another_workload() {
    let mut state = state();
    state.upsert(&id("x"), of("web", unhealthy("a", 0)));
    let other = ObjectId { kind: "Connector", key: Key { namespace: "bank".into(), name: "x".into() } };
    state.upsert(&other, of("web", Member { site: "bank/a".into(), ..unhealthy("a", 0) }));
    assert_eq!(figures(&mut state, "x"), (1, 1));
    assert_eq!(state.context(&other, at(0)).site_total, 1);
}

#[test]
fn what_was_never_healthy_counts_in_no_share() {
    let mut state = state();
    state.upsert(&id("new"), Member { was_healthy: false, ..unhealthy("a", 0) });
    site(&mut state, "a", 1, 3);
    assert_eq!(figures(&mut state, "a-0"), (1, 3));
    state.upsert(&id("new"), flying(Member { was_healthy: false, ..unhealthy("a", 0) }, "asked", 0));
    assert_eq!(figures(&mut state, "a-0"), (1, 3));
    assert_eq!(state.context(&id("a-0"), at(0)).site_in_flight, 1, "its attempt is in flight all the same");
}

#[test]
fn what_is_in_flight_counts_as_unhealthy_for_all_but_itself() {
    let mut state = state();
    site(&mut state, "a", 0, 3);
    state.upsert(&id("a-0"), flying(healthy("a"), "one", 0));
    assert_eq!(figures(&mut state, "a-1"), (1, 3));
    assert_eq!(figures(&mut state, "a-0"), (0, 3));
    state.upsert(&id("a-0"), flying(unhealthy("a", 0), "one", 0));
    assert_eq!(figures(&mut state, "a-0"), (1, 3), "it is unhealthy by itself");
    let context = state.context(&id("a-1"), at(1));
    assert_eq!((context.site_in_flight, context.in_flight, context.recent_starts), (1, 1, vec![at(0)]));
    let own = state.context(&id("a-0"), at(1));
    assert_eq!((own.site_in_flight, own.in_flight, own.recent_starts), (0, 0, vec![]));
}

#[test]
fn a_claim_holds_its_place_at_once_and_an_older_status_does_not_take_it_away() {
    let mut state = state();
    site(&mut state, "a", 1, 3);
    let others = |state: &mut FleetState, now| state.context(&id("a-1"), at(now)).site_in_flight;
    state.claim(&id("a-0"), "one", at(0));
    assert_eq!((others(&mut state, 0), state.in_flight()), (1, 1));
    state.upsert(&id("a-0"), unhealthy("a", -10_000));
    assert_eq!(others(&mut state, 1), 1, "a status from before the reservation");
    state.upsert(&id("a-0"), flying(unhealthy("a", -10_000), "zero", -400));
    assert_eq!(others(&mut state, 1), 1, "a status from before the last outcome");
    state.upsert(&id("a-0"), flying(unhealthy("a", -10_000), "one", 0));
    assert_eq!(others(&mut state, 300), 1, "shown, and for as long as it is");
    state.upsert(&id("a-0"), unhealthy("a", -10_000));
    assert_eq!((others(&mut state, 301), state.in_flight()), (0, 0));
}

#[test]
fn a_claim_that_came_to_nothing_is_released_or_forgotten_after_a_minute() {
    let mut state = state();
    site(&mut state, "a", 1, 3);
    let others = |state: &mut FleetState, now| state.context(&id("a-1"), at(now));
    state.claim(&id("a-0"), "one", at(0));
    state.release(&id("a-0"));
    assert_eq!(others(&mut state, 0).in_flight, 0);
    assert_eq!(others(&mut state, 59).recent_starts, [at(0)], "it counts as started");
    state.claim(&id("a-0"), "two", at(100));
    assert_eq!(others(&mut state, 159).in_flight, 1);
    assert_eq!(others(&mut state, 160).in_flight, 0);
    state.claim(&id("nobody"), "three", at(200));
    assert_eq!(state.in_flight(), 0);
}

#[test]
fn starts_are_remembered_for_a_minute_and_each_once() {
    let mut state = state();
    site(&mut state, "a", 2, 5);
    state.upsert(&id("a-1"), flying(unhealthy("a", -10_000), "before-us", -30));
    state.claim(&id("a-0"), "one", at(0));
    state.upsert(&id("a-0"), flying(unhealthy("a", -10_000), "one", 0));
    state.upsert(&id("a-0"), unhealthy("a", -10_000));
    let started = |state: &mut FleetState, now| state.context(&id("a-4"), at(now)).recent_starts;
    assert_eq!(started(&mut state, 0), [at(-30), at(0)], "also what another leader started");
    assert_eq!(started(&mut state, 30), [at(0)]);
    assert_eq!(started(&mut state, 60), []);
}

#[test]
fn one_workload_is_one_lock_and_one_budget() {
    let mut state = state();
    state.upsert(&id("x"), Member { attempts: 1, max_attempts: Some(5), ..of("web", unhealthy("a", 0)) });
    state.upsert(&id("y"), Member { attempts: 2, max_attempts: Some(2), ..of("web", unhealthy("b", 0)) });
    state.upsert(&id("z"), Member { max_attempts: None, ..of("web", healthy("b")) });
    let shared = |state: &mut FleetState, name| {
        let context = state.context(&id(name), at(0));
        (context.held_by, context.shared_attempts, context.shared_max)
    };
    assert_eq!(shared(&mut state, "x"), (None, 2, Some(2)));
    assert_eq!(shared(&mut state, "y"), (None, 1, Some(5)));
    assert_eq!(shared(&mut state, "z"), (None, 3, Some(2)));
    state.claim(&id("x"), "one", at(0));
    let holder = Some(("MonitoredBackend shop/x".to_owned(), "one".to_owned()));
    assert_eq!(shared(&mut state, "y").0, holder);
    assert_eq!(shared(&mut state, "x").0, None);
    assert_eq!(figures(&mut state, "z"), (1, 1), "it counts in every site where an object of it is");
    state.remove(&id("y"));
    assert_eq!(shared(&mut state, "x"), (None, 0, None));
}

#[test]
fn what_is_gone_counts_no_more_and_leaves_nothing_behind() {
    let mut state = state();
    site(&mut state, "a", 3, 3);
    state.claim(&id("a-0"), "one", at(0));
    for n in 0..3 {
        state.remove(&id(&format!("a-{n}")));
    }
    state.remove(&id("a-0"));
    assert_eq!((state.in_flight(), state.braked_sites(), state.totals.workloads.len()), (0, Vec::new(), 0));
    assert!(
        state.slots.is_empty() && state.groups.is_empty() && state.sites.is_empty() && state.turns.by_time.is_empty()
    );
    let context = state.context(&id("a-0"), at(1));
    assert_eq!((context.site_total, context.in_flight, context.site.as_str()), (0, 0, ""));
}

#[test]
fn an_object_that_moves_takes_its_count_along() {
    let mut state = state();
    site(&mut state, "a", 1, 2);
    state.upsert(&id("a-0"), of("web", unhealthy("b", 0)));
    assert_eq!((figures(&mut state, "a-1"), figures(&mut state, "a-0")), ((0, 1), (1, 1)));
}
