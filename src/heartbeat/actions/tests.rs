use std::time::Duration;

use super::*;

const START: &str = "2026-01-31T12:00:00Z";
const END: &str = "2026-01-31T12:10:00Z";
const UNIT: &str = "wg-gateway.service";

fn now() -> Now {
    Now { moment: Moment::default(), wall: START.parse().unwrap() }
}

fn action(id: &str) -> Action {
    Action::new(id, Some(UNIT), END.parse().unwrap(), false, now())
}

fn at(seconds: u64) -> Moment {
    Moment::default() + Duration::from_secs(seconds)
}

fn offer(action: Action) -> Offer {
    Offer { action: Some(action), is_expected: true }
}

fn offered(action: Action) -> Restarts {
    let mut restarts = Restarts::default();
    restarts.offer(None, offer(action));
    restarts
}

/// The ids that are handed out, and whether one of them is for the first time.
fn handed(restarts: &mut Restarts, seconds: u64) -> (Vec<String>, bool) {
    let (actions, is_first) = restarts.hand_out(true, at(seconds));
    (actions.iter().map(|action| action.id.to_string()).collect(), is_first)
}

fn ids(of: &[&str]) -> Vec<String> {
    of.iter().map(|id| (*id).to_owned()).collect()
}

fn restart_result(id: &str, result: RestartOutcome, message: &str) -> RestartResult {
    RestartResult { target: None, id: id.to_owned(), result, message: Some(message.to_owned()) }
}

#[test]
fn an_action_is_written_as_the_contract_has_it_and_escaped() {
    assert_eq!(
        action("a1").json(),
        r#"{"id":"a1","type":"Restart","target":"wg-gateway.service","notAfter":"2026-01-31T12:10:00Z"}"#
    );
    let unit = Action::new("a1", Some("wg\"0"), END.parse().unwrap(), false, now());
    assert!(unit.json().contains(r#""target":"wg\"0""#), "{}", unit.json());
    let own = Action::new("a1", None, END.parse().unwrap(), false, now());
    assert_eq!(own.json(), r#"{"id":"a1","type":"Restart","notAfter":"2026-01-31T12:10:00Z"}"#);
}

#[test]
fn it_is_handed_out_again_and_again_until_it_is_withdrawn() {
    let mut restarts = offered(action("a1"));
    assert_eq!(handed(&mut restarts, 1), (ids(&["a1"]), true));
    restarts.offer(None, offer(action("a1")));
    assert_eq!(handed(&mut restarts, 2), (ids(&["a1"]), false), "offered again it is the same");
    assert_eq!(restarts.offered(None).unwrap().handed_at, Some(at(1)));
    restarts.offer(None, offer(action("a2")));
    assert_eq!(handed(&mut restarts, 3), (ids(&["a2"]), true));
    restarts.offer(None, Offer::default());
    assert!(restarts.slots.is_empty() && restarts.answers.is_empty(), "nothing is kept of what was never answered");
}

#[test]
fn it_is_not_handed_out_after_its_time() {
    let mut restarts = offered(action("a1"));
    assert_eq!(handed(&mut restarts, 600).0, ids(&["a1"]));
    assert_eq!(handed(&mut restarts, 601).0, ids(&[]));
}

#[test]
fn without_an_incident_it_is_handed_out_only_when_a_person_asked() {
    let mut restarts = offered(action("a1"));
    assert!(restarts.hand_out(false, at(1)).0.is_empty());
    assert!(restarts.offered(None).unwrap().handed_at.is_none());
    let mut restarts = offered(Action { is_requested: true, ..action("a1") });
    assert_eq!(restarts.hand_out(false, at(1)).0.len(), 1);
}

#[test]
fn each_object_has_a_slot_of_its_own_and_each_target_one_action() {
    let of = |id: &str, unit: &str| offer(Action::new(id, Some(unit), END.parse().unwrap(), false, now()));
    let mut restarts = offered(action("a1"));
    restarts.offer(Some("orders"), of("b1", "compose:orders:backend"));
    restarts.offer(Some("stock"), of("b2", "stock.service"));
    restarts.offer(Some("twin"), of("b3", "stock.service"));
    let (given, _) = handed(&mut restarts, 1);
    assert_eq!(given.iter().filter(|id| ["b2", "b3"].contains(&id.as_str())).count(), 1, "{given:?}");
    assert!(given.contains(&"a1".to_owned()) && given.contains(&"b1".to_owned()), "{given:?}");
    // The connector's own incident is over, the one of its backend is not.
    restarts.offer(Some("stock"), Offer::default());
    restarts.offer(Some("twin"), Offer::default());
    let (actions, _) = restarts.hand_out(false, at(2));
    assert_eq!(actions.iter().map(|action| &*action.id).collect::<Vec<_>>(), ["b1"]);
    assert!(restarts.acknowledge(&restart_result("b1", RestartOutcome::Succeeded, "")));
    assert_eq!(handed(&mut restarts, 3).0, ids(&["a1"]), "the answer about one target ends no other");
    assert_eq!(restarts.offered(Some("orders")).unwrap().action.id.as_ref(), "b1");
}

#[test]
fn an_answer_ends_the_handing_out_and_is_news_once() {
    let mut restarts = offered(action("a1"));
    assert!(restarts.acknowledge(&restart_result("a1", RestartOutcome::Failed, "no such unit")));
    assert!(handed(&mut restarts, 1).0.is_empty(), "also when it failed: an id is executed once");
    assert!(!restarts.acknowledge(&restart_result("a1", RestartOutcome::Failed, "no such unit, 2 s ago")));
    restarts.acknowledge(&restart_result("a0", RestartOutcome::Succeeded, "of an older attempt"));
    let last = restarts.answer("a1").unwrap();
    assert_eq!((last.succeeded, last.message.as_deref()), (false, Some("no such unit, 2 s ago")));
    restarts.offer(None, Offer::default());
    assert!(restarts.answer("a1").is_some(), "the answer outlives the offer");
    restarts.offer(None, offer(action("a2")));
    assert_eq!(handed(&mut restarts, 1).0, ids(&["a2"]));
    assert!(restarts.acknowledge(&restart_result("a2", RestartOutcome::Succeeded, "")));
}

#[test]
fn an_answer_that_came_before_the_offer_counts() {
    let mut restarts = Restarts::default();
    assert!(restarts.acknowledge(&restart_result("a1", RestartOutcome::Succeeded, "")));
    restarts.offer(None, offer(action("a1")));
    assert!(handed(&mut restarts, 1).0.is_empty(), "the leader before us asked for it");
}

#[test]
fn the_answers_that_are_repeated_with_each_heartbeat_are_news_once_and_bounded() {
    let mut restarts = Restarts::default();
    let all = |restarts: &mut Restarts, from: usize| {
        let results = (from..from + MAX_RESTARTS).map(|i| restart_result(&format!("a{i}"), RestartOutcome::Failed, ""));
        results.map(|result| restarts.acknowledge(&result)).filter(|is_news| *is_news).count()
    };
    for from in 0..100 {
        assert_eq!(all(&mut restarts, from), if from == 0 { MAX_RESTARTS } else { 1 });
        assert_eq!(all(&mut restarts, from), 0);
    }
    assert_eq!(restarts.answers().len(), ANSWERS_KEPT);
}

#[test]
fn a_restart_is_expected_while_an_incident_is_open_or_an_action_is_not_answered() {
    let mut restarts = Restarts::default();
    assert!(!restarts.is_expected());
    restarts.offer(None, Offer { action: None, is_expected: true });
    assert!(restarts.is_expected());
    restarts.offer(None, Offer { action: Some(action("a1")), is_expected: false });
    assert!(restarts.is_expected());
    restarts.acknowledge(&restart_result("a1", RestartOutcome::Succeeded, ""));
    assert!(!restarts.is_expected());
}
