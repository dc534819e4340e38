//! What the controller remembers of its own work on each connector, between two reconciles.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use parking_lot::Mutex;

use super::secrets::Token;
use crate::api::{ConditionType, Connector, ConnectorState, Truth};
use crate::controller::events::Event;
use crate::time::Moment;

/// How often a token Secret that nobody touched is looked at (api.md).
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// The first wait after a failure; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Transitions are retried for ever: seldom enough not to hurt an API server in trouble, often enough that nobody
/// waits for us once it is well.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The notes on one connector. There is one for each, so it is kept small.
#[derive(Debug, Default)]
pub struct ReconcileState {
    /// The leadership epoch that the notes are from.
    pub epoch: u64,
    /// What the object asked for when the Secret was looked at last.
    pub looked: Option<TokenRequest>,
    /// Look at the Secret at this moment, whatever else.
    pub look_at: Option<Moment>,
    /// When the pods behind it were looked at last.
    pub looked_behind: Option<Moment>,
    /// What was tried and did not work out; empty for almost all.
    undone: Option<Box<Unfinished>>,
    /// A checkpoint is due.
    pub checkpoint: bool,
    /// The newest transition has been told, by us or before us.
    pub retold: bool,
    /// The object as we wrote it last, until the watch has brought it back: what the store has before that is older, and
    /// deciding by it would repeat the write in vain.
    pub latest: Option<Box<Connector>>,
    /// The youngest delivery whose token we saw reach its Secret. The status says so a moment later, and a Secret that is
    /// deleted in that moment held a token that may be in use.
    pub delivered: i64,
    /// Failures in a row.
    pub failures: u32,
}

/// What is known of a connector's deliveries besides its status.
#[derive(Clone, Debug, Default)]
pub struct DeliveryNotes {
    /// The token whose hash is stored and that has not reached its Secret.
    pub undelivered: Option<Token>,
    /// Why it has not.
    pub trouble: Option<String>,
    /// The youngest delivery whose token we saw reach its Secret; 0 before the first.
    pub delivered: i64,
}

/// What could not be delivered or told, and is tried again.
#[derive(Debug, Default)]
struct Unfinished {
    /// A token whose hash is stored and that has not reached its Secret.
    undelivered: Option<Token>,
    /// Why it has not.
    trouble: Option<String>,
    /// Events that could not be told.
    untold: Vec<Event>,
}

/// What of an object decides about its token, besides the status: a change of it is a reason to look at once.
///
/// Kept as a hash: `kubectl apply` leaves the whole object in an annotation. A collision would put off a look, to its
/// usual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRequest(u64);

impl TokenRequest {
    /// What `connector` asks for.
    pub fn of(connector: &Connector) -> Self {
        let meta = &connector.metadata;
        let mut hasher = DefaultHasher::new();
        (meta.generation, &meta.annotations, &meta.labels).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// The desks of all connectors, by entry.
#[derive(Debug, Default)]
pub struct ReconcileStates(Mutex<HashMap<u64, ReconcileState>>);

impl ReconcileStates {
    /// Works at one desk. What a former epoch left there is cleared first: another may have led in between.
    pub fn at<T>(&self, number: u64, epoch: u64, work: impl FnOnce(&mut ReconcileState) -> T) -> T {
        let mut desks = self.0.lock();
        let desk = desks.entry(number).or_default();
        if desk.epoch != epoch {
            *desk = ReconcileState { epoch, ..ReconcileState::default() };
        }
        work(desk)
    }

    /// Marks a checkpoint as due.
    pub fn checkpoint(&self, number: u64, epoch: u64) {
        self.at(number, epoch, |desk| desk.checkpoint = true);
    }

    /// Notes a failure; gives how long to wait before the next try, and how many there were.
    pub fn failed(&self, number: u64) -> (Duration, u32) {
        let mut desks = self.0.lock();
        let desk = desks.entry(number).or_default();
        desk.failures = desk.failures.saturating_add(1);
        (FIRST_WAIT.saturating_mul(1 << (desk.failures - 1).min(10)).min(LONGEST_WAIT), desk.failures)
    }

    /// A connector is gone.
    pub fn remove(&self, number: u64) {
        self.0.lock().remove(&number);
    }
}

impl ReconcileState {
    /// What is known of deliveries besides the status.
    pub fn notes(&self) -> DeliveryNotes {
        let undone = self.undone.as_deref();
        DeliveryNotes {
            undelivered: undone.and_then(|undone| undone.undelivered.clone()),
            trouble: undone.and_then(|undone| undone.trouble.clone()),
            delivered: self.delivered,
        }
    }

    /// Notes how a delivery came out: the token that did not reach its Secret, and why it did not.
    pub fn note_delivery(&mut self, undelivered: Option<Token>, trouble: Option<String>) {
        let untold = self.take_untold();
        self.undone = match (undelivered, trouble) {
            (None, None) if untold.is_empty() => None,
            (undelivered, trouble) => Some(Box::new(Unfinished { undelivered, trouble, untold })),
        };
    }

    /// The events that could not be told: they are the caller's now.
    pub fn take_untold(&mut self) -> Vec<Event> {
        self.undone.as_mut().map(|undone| std::mem::take(&mut undone.untold)).unwrap_or_default()
    }

    /// Keeps events that could not be told.
    pub fn keep_untold(&mut self, events: impl IntoIterator<Item = Event>) {
        let mut events = events.into_iter().peekable();
        if events.peek().is_some() {
            self.undone.get_or_insert_default().untold.extend(events);
        }
    }

    /// The answer to a status write was lost, so that it may be done: then the next try finds nothing to write, and would
    /// find nothing to tell of `events`.
    pub fn doubt(&mut self, events: &[Event]) {
        // The event of a state follows from what is stored then: whether it was written shows there.
        self.retold = false;
        let of_a_state = |event: &Event| event.reason.parse::<ConnectorState>().is_ok();
        let mut untold = self.take_untold();
        // What happened to a token happened. Each try decides anew: another time, and the same occurrence.
        for event in events.iter().filter(|event| !of_a_state(event)) {
            if !untold.iter().any(|known| known.occurrence == event.occurrence) {
                untold.push(event.clone());
            }
        }
        self.keep_untold(untold);
    }

    /// What we wrote ourselves, when that is younger than `seen`.
    pub fn younger_than(&mut self, seen: &Connector) -> Option<Connector> {
        let version = |of: &Connector| of.metadata.resource_version.as_deref()?.parse::<u64>().ok();
        let is_younger = self.latest.as_deref().and_then(version) > version(seen);
        if !is_younger {
            self.latest = None;
        }
        self.latest.as_deref().cloned()
    }

    /// Whether the Secret is to be looked at now. `spread` (0..1) keeps a fleet that was taken over from being looked
    /// at all at once.
    pub fn is_look_due(
        &mut self,
        connector: &Connector,
        used_generation: i64,
        rejected: bool,
        now: Moment,
        spread: f64,
    ) -> bool {
        let wishes = TokenRequest::of(connector);
        let Some(token) = connector.status.as_ref().and_then(|status| status.token.as_ref()) else { return true };
        let to_confirm = token.rotation == crate::api::Rotation::Pending && used_generation >= token.generation;
        let provisioned =
            super::assess::stored(connector, ConditionType::Provisioned).is_some_and(|said| said.0 == Truth::True);
        let rotates = connector.spec.token.rotation_generation > token.observed_rotation_generation;
        let asks = connector.metadata.annotations.as_ref().and_then(|all| all.get(super::REVOKE_REQUESTED));
        let revokes = asks.is_some() && asks != token.observed_revoke_request.as_ref();
        match &self.looked {
            Some(seen) if *seen != wishes => return true,
            Some(_) => {}
            None => {
                let is_current = connector
                    .status
                    .as_ref()
                    .is_some_and(|status| Some(status.observed_generation) == connector.metadata.generation);
                if !is_current || !provisioned || rotates || revokes {
                    return true;
                }
                // Taken over from a predecessor, and in order: its turn comes within the usual time.
                self.looked = Some(wishes);
                self.look_at = Some(now + LOOK_EVERY.mul_f64(spread));
            }
        }
        to_confirm || rejected || self.look_at.is_none_or(|at| now >= at)
    }

    /// Notes that the Secret was looked at; it is looked at again after the usual time, or `sooner`.
    pub fn note_look(&mut self, connector: &Connector, now: Moment, sooner: Option<Duration>) {
        self.looked = Some(TokenRequest::of(connector));
        self.look_at = Some(now + sooner.unwrap_or(LOOK_EVERY));
    }
}
