//! Conditions under which the breaker must open.

use super::*;

/// `turning` of `all` objects turn unhealthy, one each second, from 0 on.
fn fleet(turning: usize, all: usize) -> FleetState {
    let mut state = state();
    for n in 0..all {
        state.upsert(&id(&format!("x-{n}")), healthy(&format!("s-{}", n % 5)));
    }
    for n in 0..turning {
        state.upsert(&id(&format!("x-{n}")), unhealthy(&format!("s-{}", n % 5), i64::try_from(n).unwrap()));
    }
    state
}

#[test]
fn it_opens_above_sixty_percent_and_from_five_of_the_whole_fleet() {
    for (turning, all, opens) in
        [(4, 4, false), (5, 5, true), (5, 8, true), (6, 10, false), (7, 10, true), (60, 100, false), (61, 100, true)]
    {
        let mut state = fleet(turning, all);
        let why = reason(state.breaker_trip(at(100)));
        assert_eq!(why.is_some(), opens, "{turning} of {all}");
        if let Some(why) = why {
            let figures = format!("{turning} of {all} workloads turned unhealthy from 2027-");
            assert!(why.starts_with(&figures) && why.contains("60 %") && why.contains("5 minutes"), "{why}");
        }
    }
    assert_eq!(state().breaker_trip(at(0)), None, "of nobody");
}

#[test]
fn what_turned_longer_ago_than_five_minutes_turned_by_itself() {
    assert!(fleet(7, 10).breaker_trip(at(299)).is_some());
    assert!(fleet(7, 10).breaker_trip(at(300)).is_none(), "the first of the seven is five minutes old");
    let mut slow = state();
    for n in 0..10 {
        slow.upsert(&id(&format!("x-{n}")), healthy("a"));
    }
    for n in 0..10 {
        slow.upsert(&id(&format!("x-{n}")), unhealthy("a", n * 70));
        assert_eq!(slow.breaker_trip(at(n * 70)), None);
    }
}

#[test]
fn who_recovered_meanwhile_counts_all_the_same_and_once() {
    let mut state = fleet(7, 10);
    for n in 0..7 {
        state.upsert(&id(&format!("x-{n}")), healthy(&format!("s-{}", n % 5)));
    }
    assert!(reason(state.breaker_trip(at(100))).is_some_and(|why| why.starts_with("7 of 10")));
    let mut one = fleet(0, 5);
    for n in 0..10 {
        one.upsert(&id("x-0"), unhealthy("s-0", n));
        one.upsert(&id("x-0"), healthy("s-0"));
    }
    assert_eq!((one.turns.by_time.len(), one.breaker_trip(at(20))), (1, None), "one that flaps is one");
}

#[test]
fn what_turned_under_an_attempt_or_was_never_healthy_does_not_count() {
    let mut ours = fleet(0, 5);
    for n in 0..5 {
        let (id, site) = (id(&format!("x-{n}")), format!("s-{n}"));
        ours.upsert(&id, flying(healthy(&site), &format!("a-{n}"), 10));
        ours.upsert(&id, flying(unhealthy(&site, 20), &format!("a-{n}"), 10));
        // The attempt ends, and it is still as it turned.
        ours.upsert(&id, unhealthy(&site, 20));
    }
    assert_eq!(ours.breaker_trip(at(30)), None);
    let mut before = fleet(0, 5);
    for n in 0..5 {
        before.upsert(&id(&format!("x-{n}")), flying(unhealthy("a", 5), &format!("a-{n}"), 10));
    }
    assert!(before.breaker_trip(at(30)).is_some(), "these turned before");
    let mut new = state();
    for n in 0..9 {
        new.upsert(&id(&format!("x-{n}")), Member { was_healthy: false, ..unhealthy("a", 0) });
    }
    assert_eq!(new.breaker_trip(at(1)), None);
}

#[test]
fn a_workload_turns_once_with_the_first_of_its_objects_in_whatever_order_they_are_seen() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut state = state();
        for n in order {
            state.upsert(&id(&format!("x-{n}")), of("web", unhealthy("a", n * 100)));
        }
        assert_eq!(state.turns.by_time.iter().map(|(at, ..)| *at).collect::<Vec<_>>(), [at(0)], "{order:?}");
        // The first recovers; the others are as they were, and that is no turn.
        state.upsert(&id("x-0"), of("web", healthy("a")));
        state.upsert(&id("x-2"), of("web", healthy("a")));
        state.upsert(&id("x-1"), Member { attempts: 1, ..of("web", unhealthy("a", 100)) });
        assert_eq!(state.turns.by_time.iter().map(|(at, ..)| *at).collect::<Vec<_>>(), [at(0)], "{order:?}");
    }
}

#[test]
fn it_opens_once_and_what_turned_before_a_person_reset_it_does_not_open_it_again() {
    let mut state = fleet(7, 10);
    let Trip { reason, scope } = state.breaker_trip(at(10)).unwrap();
    assert_eq!(scope, None, "one namespace is the whole fleet");
    state.set_breaker(Breaker::Open(reason), scope);
    assert_eq!(state.breaker_trip(at(11)), None, "it is open");
    assert!(matches!(state.context(&id("x-0"), at(11)).breaker, Breaker::Open(_)));
    state.reset(at(20));
    state.set_breaker(Breaker::Closed, None);
    assert_eq!(state.breaker_trip(at(21)), None);
    // A late update with an older turn, and a reset that is read again.
    state.upsert(&id("x-9"), unhealthy("s-4", 15));
    state.reset(at(3));
    assert_eq!(state.turns.by_time.len(), 0);
    for n in 0..7 {
        state.upsert(&id(&format!("x-{n}")), unhealthy("a", 30 + n));
    }
    assert!(state.breaker_trip(at(40)).is_some(), "a new storm");
}

#[test]
fn until_it_was_read_it_is_not_known() {
    assert!(matches!(FleetState::new(Limits::default()).breaker(), Breaker::Unknown(_)));
}

#[test]
fn a_new_leader_sees_a_storm_that_began_before_it() {
    let storm = || {
        let mut state = state();
        site(&mut state, "a", 0, 3);
        for n in 0..7 {
            state.upsert(&id(&format!("b-{n}")), unhealthy("b", 0));
        }
        state
    };
    assert!(storm().breaker_trip(at(200)).is_some());
    assert_eq!(storm().breaker_trip(at(400)), None, "an old one is none");
}

fn reason(trip: Option<Trip>) -> Option<String> {
    trip.map(|trip| trip.reason)
}

fn in_namespace(namespace: &str, name: &str) -> ObjectId {
    ObjectId { kind: "MonitoredBackend", key: Key { namespace: namespace.into(), name: name.into() } }
}

/// Namespaces with so many workloads, of which so many turn unhealthy.
fn tenants(of: &[(&str, usize, usize)]) -> FleetState {
    let mut state = state();
    for (namespace, all, bad) in of {
        for n in 0..*all {
            let site = format!("{namespace}/");
            let well = Member { site: site.as_str().into(), ..healthy("") };
            let id = in_namespace(namespace, &format!("x-{n}"));
            state.upsert(&id, well.clone());
            if n < *bad {
                let since = Some(at(i64::try_from(n).unwrap()));
                state.upsert(&id, Member { health: ObjectHealth::Unhealthy, unhealthy_since: since, ..well });
            }
        }
    }
    state
}

#[test]
fn the_storm_of_one_tenant_holds_its_own_remedies_and_no_others() {
    let mut state = tenants(&[("greedy", 10, 10), ("shop", 2, 1), ("bank", 1, 0)]);
    let Trip { reason, scope } = state.breaker_trip(at(100)).unwrap();
    assert_eq!(scope, Some(["greedy".into()].into()));
    assert!(reason.starts_with("10 of 10 workloads of namespace greedy turned unhealthy"), "{reason}");
    state.set_breaker(Breaker::Open(reason), scope);
    let breaker = |state: &mut FleetState, namespace| state.context(&in_namespace(namespace, "x-0"), at(100)).breaker;
    assert!(matches!(breaker(&mut state, "greedy"), Breaker::Open(_)));
    assert_eq!(breaker(&mut state, "shop"), Breaker::Closed);
    assert_eq!(state.breaker_trip(at(101)), None, "it is open for it");
    // A second one joins, and a storm of most of them is everybody's.
    for n in 0..2 {
        let id = in_namespace("shop", &format!("x-{n}"));
        state.upsert(&id, Member { site: "shop/".into(), ..unhealthy("", 50 + n) });
    }
    assert_eq!(state.breaker_trip(at(101)), None, "one and two are fewer than five");
    for n in 0..5 {
        let id = in_namespace("shop", &format!("y-{n}"));
        state.upsert(&id, Member { site: "shop/".into(), ..unhealthy("", 60 + n) });
    }
    assert_eq!(state.breaker_trip(at(102)).unwrap().scope, None, "two of three namespaces");
}

#[test]
fn a_stranger_whose_one_workload_fails_beside_a_storm_is_still_restarted() {
    let trip = tenants(&[("greedy", 10, 10), ("shop", 1, 1)]).breaker_trip(at(100)).unwrap();
    assert_eq!(trip.scope, Some(["greedy".into()].into()));
    assert_eq!(tenants(&[("a", 4, 4), ("b", 1, 0)]).breaker_trip(at(100)), None, "four are no storm");
    let mut some = vec![("a", 5, 5), ("b", 5, 5)];
    some.extend(["c", "d", "e", "f"].map(|namespace| (namespace, 1, 0)));
    let trip = tenants(&some).breaker_trip(at(100)).unwrap();
    assert_eq!(trip.scope, Some(["a".into()].into()), "two of six namespaces are not most of the fleet");
    let five = ["a", "b", "c", "d", "e"].map(|namespace| (namespace, 2, 2));
    assert_eq!(tenants(&five).breaker_trip(at(100)).unwrap().scope, None);
}

#[test]
fn what_has_no_remediation_counts_neither_in_the_storm_nor_in_the_fleet() {
    let mut state = tenants(&[("shop", 10, 0)]);
    for n in 0..20 {
        let watched = Member { max_attempts: None, ..unhealthy("a", n) };
        state.upsert(&id(&format!("watched-{n}")), watched);
    }
    assert_eq!(state.breaker_trip(at(100)), None);
    for n in 0..7 {
        let member = Member { site: "shop/".into(), ..unhealthy("", n) };
        state.upsert(&in_namespace("shop", &format!("x-{n}")), member);
    }
    assert!(
        reason(state.breaker_trip(at(100))).is_some_and(|why| why.starts_with("7 of 10")),
        "of those with remediation"
    );
}
