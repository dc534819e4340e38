//! Restarts that answers to heartbeats ask an agent for, and the agent's result (`docs/design/remediation.md`, "Act").

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::payload::{RestartOutcome, RestartResult};
use crate::time::{Moment, Now};

/// A restart that an agent is asked for. The agent executes an id once, however often it receives it.
#[derive(Clone, Debug)]
pub struct Action {
    /// The id of the attempt.
    pub id: Box<str>,
    /// The unit to restart; `None` = the agent's default unit.
    pub target: Option<Box<str>>,
    /// The agent must not execute it after this time, by the wall clock.
    pub not_after: Timestamp,
    /// A person requested it: it is also sent in answers to heartbeats of a connector that is not degraded.
    pub is_requested: bool,
    /// `not_after` on the monotonic clock: after it the action is not sent.
    until: Moment,
    /// The list of actions in an answer, as JSON.
    json: Box<str>,
}

impl Action {
    /// The action of attempt `id`, offered from `now` until `not_after`.
    pub fn new(id: &str, target: Option<&str>, not_after: Timestamp, is_requested: bool, now: Now) -> Self {
        let target_field = target.map(|unit| format!(r#""target":{},"#, json!(unit))).unwrap_or_default();
        let json = format!(r#"[{{"id":{},"type":"Restart",{target_field}"notAfter":"{not_after}"}}]"#, json!(id));
        Self {
            id: id.into(),
            target: target.map(Into::into),
            not_after,
            is_requested,
            until: now.place(not_after),
            json: json.into(),
        }
    }

    /// The list of actions in an answer: `[{"id":…}]`.
    pub(super) fn json(&self) -> &str {
        &self.json
    }

    /// Whether both are the same to the agent.
    fn is_same(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

/// An action that is offered.
#[derive(Clone, Debug)]
pub struct Offered {
    /// The offered action.
    pub action: Arc<Action>,
    /// When it was first sent; `None` = never, so that nothing was restarted because of it.
    pub handed_at: Option<Moment>,
}

/// An agent's answer about a restart that it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The id of the attempt, as the agent returned it.
    pub id: Box<str>,
    /// Whether the unit was restarted.
    pub succeeded: bool,
    /// The agent's message, at most 1024 characters.
    pub message: Option<Box<str>>,
}

/// The restarts of one agent. Most connectors have none, so it is kept behind a pointer that is null then.
#[derive(Clone, Debug, Default)]
pub(super) struct Restart {
    offered: Option<Offered>,
    acknowledged: Option<Acknowledged>,
}

impl Restart {
    /// The offered action.
    pub(super) fn offered(&self) -> Option<&Offered> {
        self.offered.as_ref()
    }

    /// The agent's last answer.
    pub(super) fn acknowledged(&self) -> Option<&Acknowledged> {
        self.acknowledged.as_ref()
    }

    /// Offers `action` from now on, or withdraws the offer. The same action offered again keeps the time of its first sending.
    pub(super) fn offer(slot: &mut Option<Box<Self>>, action: Option<Action>) {
        let Some(action) = action else {
            if let Some(restart) = slot {
                restart.offered = None;
                if restart.acknowledged.is_none() {
                    *slot = None;
                }
            }
            return;
        };
        let restart = slot.get_or_insert_default();
        let before = restart.offered.take().filter(|before| before.action.is_same(&action));
        let handed_at = before.and_then(|before| before.handed_at);
        restart.offered = Some(Offered { action: Arc::new(action), handed_at });
    }

    /// The action for the answer to a heartbeat, and whether it is sent for the first time. `is_degraded`: a critical
    /// check of the connector fails.
    pub(super) fn hand_out(&mut self, is_degraded: bool, now: Moment) -> Option<(Arc<Action>, bool)> {
        let answered = self.acknowledged.as_ref().map(|last| &*last.id);
        let offered = self.offered.as_mut()?;
        let Action { id, is_requested, until, .. } = &*offered.action;
        // Without a failing critical check there is no incident, or it is over.
        if now > *until || answered == Some(&**id) || !(is_degraded || *is_requested) {
            return None;
        }
        let is_first = offered.handed_at.is_none();
        offered.handed_at.get_or_insert(now);
        Some((Arc::clone(&offered.action), is_first))
    }

    /// Stores the agent's answer; true when it changed. A new message alone is not a change: it may count seconds.
    pub(super) fn acknowledge(slot: &mut Option<Box<Self>>, answer: &RestartResult) -> bool {
        let RestartResult { target: _, id, result, message } = answer;
        let restart = slot.get_or_insert_default();
        let asked = restart.offered.as_ref().map(|offered| &*offered.action.id);
        let before = restart.acknowledged.as_ref();
        // A heartbeat that was overtaken may report an older attempt: it does not replace the answer to the current one.
        if asked.is_some_and(|asked| asked != id && before.is_some_and(|before| &*before.id == asked)) {
            return false;
        }
        let succeeded = *result == RestartOutcome::Succeeded;
        let is_news = before.is_none_or(|before| *before.id != **id || before.succeeded != succeeded);
        let message = message.as_deref().map(Into::into);
        restart.acknowledged = Some(Acknowledged { id: id.as_str().into(), succeeded, message });
        is_news
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: &str = "2026-01-31T12:00:00Z";
    const END: &str = "2026-01-31T12:10:00Z";

    fn now() -> Now {
        Now { moment: Moment::default(), wall: START.parse().unwrap() }
    }

    fn action(id: &str) -> Action {
        Action::new(id, None, END.parse().unwrap(), false, now())
    }

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    fn offered(action: Action) -> Option<Box<Restart>> {
        let mut slot = None;
        Restart::offer(&mut slot, Some(action));
        slot
    }

    fn handed(slot: &mut Option<Box<Restart>>, seconds: u64) -> Option<(String, bool)> {
        let (action, is_first) = slot.as_mut()?.hand_out(true, at(seconds))?;
        Some((action.id.to_string(), is_first))
    }

    fn restart_result(id: &str, result: RestartOutcome, message: &str) -> RestartResult {
        RestartResult { target: None, id: id.to_owned(), result, message: Some(message.to_owned()) }
    }

    #[test]
    fn an_action_is_written_as_the_contract_has_it_and_escaped() {
        assert_eq!(action("a1").json(), r#"[{"id":"a1","type":"Restart","notAfter":"2026-01-31T12:10:00Z"}]"#);
        let unit = Action::new("a1", Some("wg\"0"), END.parse().unwrap(), false, now());
        assert!(unit.json().contains(r#""target":"wg\"0""#), "{}", unit.json());
    }

    #[test]
    fn it_is_handed_out_again_and_again_until_it_is_withdrawn() {
        let mut slot = offered(action("a1"));
        assert_eq!(handed(&mut slot, 1), Some(("a1".to_owned(), true)));
        Restart::offer(&mut slot, Some(action("a1")));
        assert_eq!(handed(&mut slot, 2), Some(("a1".to_owned(), false)), "offered again it is the same");
        assert_eq!(slot.as_ref().unwrap().offered().unwrap().handed_at, Some(at(1)));
        Restart::offer(&mut slot, Some(action("a2")));
        assert_eq!(handed(&mut slot, 3), Some(("a2".to_owned(), true)));
        Restart::offer(&mut slot, None);
        assert!(slot.is_none(), "nothing is kept of what was never answered");
    }

    #[test]
    fn it_is_not_handed_out_after_its_time() {
        let mut slot = offered(action("a1"));
        assert!(handed(&mut slot, 600).is_some());
        assert!(handed(&mut slot, 601).is_none());
    }

    #[test]
    fn a_beat_with_nothing_wrong_carries_it_only_when_a_person_asked() {
        let mut slot = offered(action("a1"));
        assert!(slot.as_mut().unwrap().hand_out(false, at(1)).is_none());
        assert!(slot.unwrap().offered().unwrap().handed_at.is_none());
        let mut slot = offered(Action { is_requested: true, ..action("a1") });
        assert!(slot.as_mut().unwrap().hand_out(false, at(1)).is_some());
    }

    #[test]
    fn an_answer_ends_the_handing_out_and_is_news_once() {
        let mut slot = offered(action("a1"));
        assert!(Restart::acknowledge(&mut slot, &restart_result("a1", RestartOutcome::Failed, "no such unit")));
        assert!(handed(&mut slot, 1).is_none(), "also when it failed: an id is executed once");
        assert!(!Restart::acknowledge(
            &mut slot,
            &restart_result("a1", RestartOutcome::Failed, "no such unit, 2 s ago")
        ));
        assert!(
            !Restart::acknowledge(&mut slot, &restart_result("a0", RestartOutcome::Succeeded, "")),
            "of an older attempt"
        );
        let last = slot.as_ref().unwrap().acknowledged().unwrap();
        assert_eq!((&*last.id, last.succeeded, last.message.as_deref()), ("a1", false, Some("no such unit, 2 s ago")));
        Restart::offer(&mut slot, None);
        assert!(slot.as_ref().unwrap().acknowledged().is_some(), "the answer outlives the offer");
        Restart::offer(&mut slot, Some(action("a2")));
        assert!(handed(&mut slot, 1).is_some());
        assert!(Restart::acknowledge(&mut slot, &restart_result("a2", RestartOutcome::Succeeded, "")));
    }

    #[test]
    fn an_answer_that_came_before_the_offer_counts() {
        let mut slot = None;
        assert!(Restart::acknowledge(&mut slot, &restart_result("a1", RestartOutcome::Succeeded, "")));
        Restart::offer(&mut slot, Some(action("a1")));
        assert!(handed(&mut slot, 1).is_none(), "the leader before us asked for it");
    }
}
