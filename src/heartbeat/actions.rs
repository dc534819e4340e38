//! Restarts that answers to heartbeats ask an agent for, and the agent's result (`docs/design/remediation.md`, "Act").

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::payload::{RestartOutcome, RestartResult};
use crate::api::MAX_RESTARTS;
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
    /// The action in an answer, as JSON.
    json: Box<str>,
}

impl Action {
    /// The action of attempt `id`, offered from `now` until `not_after`.
    pub fn new(id: &str, target: Option<&str>, not_after: Timestamp, is_requested: bool, now: Now) -> Self {
        let target_field = target.map(|unit| format!(r#""target":{},"#, json!(unit))).unwrap_or_default();
        let json = format!(r#"{{"id":{},"type":"Restart",{target_field}"notAfter":"{not_after}"}}"#, json!(id));
        Self {
            id: id.into(),
            target: target.map(Into::into),
            not_after,
            is_requested,
            until: now.place(not_after),
            json: json.into(),
        }
    }

    /// The action in an answer: `{"id":…}`.
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

/// What the agent of a connector is to do about one object that it looks after.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// The restart that it is asked for.
    pub action: Option<Action>,
    /// An incident of the object is open, and this agent is the means to end it: a restart may be asked for at any time.
    pub is_expected: bool,
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

/// How many answers are kept: twice as many as a heartbeat carries, so that those of one heartbeat replace none of them.
const ANSWERS_KEPT: usize = 2 * MAX_RESTARTS;

/// The restarts of one agent: one slot for each object that it looks after.
#[derive(Clone, Debug, Default)]
pub(super) struct Restarts {
    slots: Vec<Slot>,
    /// The last answers, the oldest first. An answer may come before the offer: the leader before this one asked for it.
    answers: Vec<Acknowledged>,
}

#[derive(Clone, Debug)]
struct Slot {
    /// The MonitoredBackend that the offer is about; `None` = the connector itself.
    backend: Option<Box<str>>,
    offered: Option<Offered>,
    is_expected: bool,
}

impl Restarts {
    fn slot(&self, backend: Option<&str>) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.backend.as_deref() == backend)
    }

    fn answer(&self, id: &str) -> Option<&Acknowledged> {
        self.answers.iter().find(|answer| &*answer.id == id)
    }

    /// The action that is offered about a backend, or about the connector itself.
    pub(super) fn offered(&self, backend: Option<&str>) -> Option<&Offered> {
        self.slot(backend)?.offered.as_ref()
    }

    /// The agent's last answers, the oldest first.
    pub(super) fn answers(&self) -> &[Acknowledged] {
        &self.answers
    }

    /// Offers the action about a backend, or about the connector itself, from now on, or withdraws the offer. The same
    /// action offered again keeps the time of its first sending.
    pub(super) fn offer(&mut self, backend: Option<&str>, offer: Offer) {
        let before = self.slots.iter().position(|slot| slot.backend.as_deref() == backend);
        let before = before.and_then(|at| self.slots.swap_remove(at).offered);
        let Offer { action, is_expected } = offer;
        let offered = action.map(|action| {
            let handed_at = before.filter(|before| before.action.is_same(&action)).and_then(|before| before.handed_at);
            Offered { action: Arc::new(action), handed_at }
        });
        if offered.is_some() || is_expected {
            self.slots.push(Slot { backend: backend.map(Into::into), offered, is_expected });
        }
    }

    /// Whether a restart is asked for, or may be asked for at any time.
    pub(super) fn is_expected(&self) -> bool {
        self.slots.iter().any(|slot| {
            slot.is_expected || slot.offered.as_ref().is_some_and(|offered| self.answer(&offered.action.id).is_none())
        })
    }

    /// The actions for the answer to a heartbeat, at most one for each target, and whether one of them is sent for the
    /// first time. `is_unhealthy`: the connector's incident is open after this heartbeat.
    pub(super) fn hand_out(&mut self, is_unhealthy: bool, now: Moment) -> (Vec<Arc<Action>>, bool) {
        let (mut actions, mut is_first): (Vec<Arc<Action>>, bool) = (Vec::new(), false);
        for slot in &mut self.slots {
            let Some(offered) = &mut slot.offered else { continue };
            let Action { id, target, is_requested, until, .. } = &*offered.action;
            let is_answered = self.answers.iter().any(|answer| answer.id == *id);
            // Without an incident there is nothing to restart: the heartbeat that ends it carries no action. The incident
            // of a backend is ended by a probe, which withdraws the offer.
            let is_wanted = slot.backend.is_some() || is_unhealthy || *is_requested;
            if now > *until || is_answered || !is_wanted || actions.iter().any(|other| other.target == *target) {
                continue;
            }
            is_first |= offered.handed_at.is_none();
            offered.handed_at.get_or_insert(now);
            actions.push(Arc::clone(&offered.action));
        }
        (actions, is_first)
    }

    /// Stores the agent's answer; true when it changed. A new message alone is not a change: it may count seconds.
    pub(super) fn acknowledge(&mut self, answer: &RestartResult) -> bool {
        let RestartResult { target: _, id, result, message } = answer;
        let succeeded = *result == RestartOutcome::Succeeded;
        let message = message.as_deref().map(Into::into);
        if let Some(known) = self.answers.iter_mut().find(|known| *known.id == **id) {
            let is_news = known.succeeded != succeeded;
            (known.succeeded, known.message) = (succeeded, message);
            return is_news;
        }
        if self.answers.len() >= ANSWERS_KEPT {
            self.answers.remove(0);
        }
        self.answers.push(Acknowledged { id: id.as_str().into(), succeeded, message });
        true
    }
}

#[cfg(test)]
mod tests;
