use super::*;
use crate::api::{Key, WorkloadKind, WorkloadRef};
use crate::remediation::input::Health;

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
        health: Health::Healthy,
        unhealthy_since: None,
        was_healthy: true,
        in_flight: None,
        attempts: 0,
        max_attempts: Some(3),
    }
}

fn unhealthy(site: &str, since: i64) -> Member {
    Member { health: Health::Unhealthy, unhealthy_since: Some(at(since)), ..healthy(site) }
}

fn flying(member: Member, id: &str, start: i64) -> Member {
    Member { in_flight: Some(InFlight { id: id.to_owned(), start: at(start) }), ..member }
}

fn of(workload: &str, member: Member) -> Member {
    Member { workload: web(workload), ..member }
}

fn board() -> FleetState {
    let mut board = FleetState::new(Limits::default());
    board.set_breaker(Breaker::Closed);
    board
}

/// A site of so many, of which so many are unhealthy.
fn site(board: &mut FleetState, name: &str, bad: usize, all: usize) {
    for n in 0..all {
        let member = if n < bad { unhealthy(name, -10_000) } else { healthy(name) };
        board.see(&id(&format!("{name}-{n}")), member);
    }
}

fn figures(board: &mut FleetState, name: &str) -> (usize, usize) {
    let around = board.surroundings(&id(name), at(0));
    (around.site_unhealthy, around.site_all)
}

#[test]
fn the_brake_of_a_site_engages_above_its_share_and_releases_by_itself() {
    for (bad, all, held) in [(1, 3, false), (2, 4, false), (2, 5, false), (3, 7, true), (3, 3, true), (2, 2, false)] {
        let mut board = board();
        site(&mut board, "a", bad, all);
        site(&mut board, "b", 0, 10);
        assert_eq!(figures(&mut board, "a-0"), (bad, all));
        let expected = Braked { site: "shop/a".into(), unhealthy: bad, all };
        assert_eq!(board.sites(), if held { vec![expected] } else { Vec::new() }, "{bad} of {all}");
        for n in 0..bad {
            board.see(&id(&format!("a-{n}")), healthy("a"));
        }
        assert_eq!((board.sites(), figures(&mut board, "a-0")), (Vec::new(), (0, all)));
    }
}

#[test]
fn objects_of_one_workload_count_once() {
    let mut board = board();
    for n in 0..4 {
        board.see(&id(&format!("x-{n}")), of("web", unhealthy("a", 0)));
    }
    board.see(&id("y"), of("other", healthy("a")));
    assert_eq!(figures(&mut board, "y"), (1, 2));
    board.see(&id("x-0"), of("web", healthy("a")));
    assert_eq!(figures(&mut board, "y"), (1, 2), "any of its objects");
    for n in 0..4 {
        board.see(&id(&format!("x-{n}")), of("web", healthy("a")));
    }
    assert_eq!(figures(&mut board, "y"), (0, 2));
}

#[test]
fn the_same_name_in_another_namespace_is_another_workload() {
    let mut board = board();
    board.see(&id("x"), of("web", unhealthy("a", 0)));
    let other = ObjectId { kind: "Connector", key: Key { namespace: "bank".into(), name: "x".into() } };
    board.see(&other, of("web", Member { site: "bank/a".into(), ..unhealthy("a", 0) }));
    assert_eq!(figures(&mut board, "x"), (1, 1));
    assert_eq!(board.surroundings(&other, at(0)).site_all, 1);
}

#[test]
fn what_was_never_healthy_counts_in_no_share() {
    let mut board = board();
    board.see(&id("new"), Member { was_healthy: false, ..unhealthy("a", 0) });
    site(&mut board, "a", 1, 3);
    assert_eq!(figures(&mut board, "a-0"), (1, 3));
    board.see(&id("new"), flying(Member { was_healthy: false, ..unhealthy("a", 0) }, "asked", 0));
    assert_eq!(figures(&mut board, "a-0"), (1, 3));
    assert_eq!(board.surroundings(&id("a-0"), at(0)).site_in_flight, 1, "its attempt is in flight all the same");
}

#[test]
fn what_is_in_flight_counts_as_unhealthy_for_all_but_itself() {
    let mut board = board();
    site(&mut board, "a", 0, 3);
    board.see(&id("a-0"), flying(healthy("a"), "one", 0));
    assert_eq!(figures(&mut board, "a-1"), (1, 3));
    assert_eq!(figures(&mut board, "a-0"), (0, 3));
    board.see(&id("a-0"), flying(unhealthy("a", 0), "one", 0));
    assert_eq!(figures(&mut board, "a-0"), (1, 3), "it is unhealthy by itself");
    let around = board.surroundings(&id("a-1"), at(1));
    assert_eq!((around.site_in_flight, around.in_flight, around.started), (1, 1, vec![at(0)]));
    let own = board.surroundings(&id("a-0"), at(1));
    assert_eq!((own.site_in_flight, own.in_flight, own.started), (0, 0, vec![]));
}

#[test]
fn a_claim_holds_its_place_at_once_and_an_older_status_does_not_take_it_away() {
    let mut board = board();
    site(&mut board, "a", 1, 3);
    let others = |board: &mut FleetState, now| board.surroundings(&id("a-1"), at(now)).site_in_flight;
    board.claim(&id("a-0"), "one", at(0));
    assert_eq!((others(&mut board, 0), board.in_flight()), (1, 1));
    board.see(&id("a-0"), unhealthy("a", -10_000));
    assert_eq!(others(&mut board, 1), 1, "a status from before the reservation");
    board.see(&id("a-0"), flying(unhealthy("a", -10_000), "zero", -400));
    assert_eq!(others(&mut board, 1), 1, "a status from before the last outcome");
    board.see(&id("a-0"), flying(unhealthy("a", -10_000), "one", 0));
    assert_eq!(others(&mut board, 300), 1, "shown, and for as long as it is");
    board.see(&id("a-0"), unhealthy("a", -10_000));
    assert_eq!((others(&mut board, 301), board.in_flight()), (0, 0));
}

#[test]
fn a_claim_that_came_to_nothing_is_released_or_forgotten_after_a_minute() {
    let mut board = board();
    site(&mut board, "a", 1, 3);
    let others = |board: &mut FleetState, now| board.surroundings(&id("a-1"), at(now));
    board.claim(&id("a-0"), "one", at(0));
    board.release(&id("a-0"));
    assert_eq!(others(&mut board, 0).in_flight, 0);
    assert_eq!(others(&mut board, 59).started, [at(0)], "it counts as started");
    board.claim(&id("a-0"), "two", at(100));
    assert_eq!(others(&mut board, 159).in_flight, 1);
    assert_eq!(others(&mut board, 160).in_flight, 0);
    board.claim(&id("nobody"), "three", at(200));
    assert_eq!(board.in_flight(), 0);
}

#[test]
fn starts_are_remembered_for_a_minute_and_each_once() {
    let mut board = board();
    site(&mut board, "a", 2, 5);
    board.see(&id("a-1"), flying(unhealthy("a", -10_000), "before-us", -30));
    board.claim(&id("a-0"), "one", at(0));
    board.see(&id("a-0"), flying(unhealthy("a", -10_000), "one", 0));
    board.see(&id("a-0"), unhealthy("a", -10_000));
    let started = |board: &mut FleetState, now| board.surroundings(&id("a-4"), at(now)).started;
    assert_eq!(started(&mut board, 0), [at(-30), at(0)], "also what another leader started");
    assert_eq!(started(&mut board, 30), [at(0)]);
    assert_eq!(started(&mut board, 60), []);
}

#[test]
fn one_workload_is_one_lock_and_one_budget() {
    let mut board = board();
    board.see(&id("x"), Member { attempts: 1, max_attempts: Some(5), ..of("web", unhealthy("a", 0)) });
    board.see(&id("y"), Member { attempts: 2, max_attempts: Some(2), ..of("web", unhealthy("b", 0)) });
    board.see(&id("z"), Member { max_attempts: None, ..of("web", healthy("b")) });
    let shared = |board: &mut FleetState, name| {
        let around = board.surroundings(&id(name), at(0));
        (around.held_by, around.shared_attempts, around.shared_max)
    };
    assert_eq!(shared(&mut board, "x"), (None, 2, Some(2)));
    assert_eq!(shared(&mut board, "y"), (None, 1, Some(5)));
    assert_eq!(shared(&mut board, "z"), (None, 3, Some(2)));
    board.claim(&id("x"), "one", at(0));
    let holder = Some(("MonitoredBackend shop/x".to_owned(), "one".to_owned()));
    assert_eq!(shared(&mut board, "y").0, holder);
    assert_eq!(shared(&mut board, "x").0, None);
    assert_eq!(figures(&mut board, "z"), (1, 1), "it counts in every site where an object of it is");
    board.forget(&id("y"));
    assert_eq!(shared(&mut board, "x"), (None, 0, None));
}

#[test]
fn what_is_gone_counts_no_more_and_leaves_nothing_behind() {
    let mut board = board();
    site(&mut board, "a", 3, 3);
    board.claim(&id("a-0"), "one", at(0));
    for n in 0..3 {
        board.forget(&id(&format!("a-{n}")));
    }
    board.forget(&id("a-0"));
    assert_eq!((board.in_flight(), board.sites(), board.all), (0, Vec::new(), 0));
    assert!(board.seats.is_empty() && board.crews.is_empty() && board.sites.is_empty() && board.turns.is_empty());
    let around = board.surroundings(&id("a-0"), at(1));
    assert_eq!((around.site_all, around.in_flight, around.site.as_str()), (0, 0, ""));
}

#[test]
fn an_object_that_moves_takes_its_count_along() {
    let mut board = board();
    site(&mut board, "a", 1, 2);
    board.see(&id("a-0"), of("web", unhealthy("b", 0)));
    assert_eq!((figures(&mut board, "a-1"), figures(&mut board, "a-0")), ((0, 1), (1, 1)));
}
