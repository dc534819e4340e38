//! What the controller remembers of its own work on each connector, between two reconciles.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::secrets::Token;
use crate::api::{ConditionType, Connector, Truth};
use crate::controller::events::Event;
use crate::health::Moment;

/// How often a token Secret that nobody touched is looked at (api.md).
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// The first wait after a failure; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Transitions are retried for ever: seldom enough not to hurt an API server in trouble, often enough that nobody
/// waits for us once it is well.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The notes on one connector.
#[derive(Debug, Default)]
pub struct Desk {
    /// The leadership epoch that the notes are from.
    pub epoch: u64,
    /// When the Secret was looked at last, and what the object asked for then.
    pub looked: Option<(Moment, Wishes)>,
    /// Look at the Secret at this moment, whatever else.
    pub look_at: Option<Moment>,
    /// A token whose hash is stored and that has not reached its Secret.
    pub undelivered: Option<Token>,
    /// Why it has not.
    pub trouble: Option<String>,
    /// A checkpoint is due.
    pub checkpoint: bool,
    /// Events that could not be told.
    pub untold: Vec<Event>,
    /// The newest transition has been told, by us or before us.
    pub retold: bool,
    /// The object as we wrote it last, until the watch has brought it back: what the store has before that is older, and
    /// deciding by it would repeat the write in vain.
    pub latest: Option<Box<Connector>>,
    /// Failures in a row.
    pub failures: u32,
}

/// What of an object decides about its token, besides the status: a change of it is a reason to look at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wishes {
    generation: Option<i64>,
    annotations: Option<std::collections::BTreeMap<String, String>>,
    labels: Option<std::collections::BTreeMap<String, String>>,
}

impl Wishes {
    /// What `connector` asks for.
    pub fn of(connector: &Connector) -> Self {
        let meta = &connector.metadata;
        Self { generation: meta.generation, annotations: meta.annotations.clone(), labels: meta.labels.clone() }
    }
}

/// The desks of all connectors, by entry.
#[derive(Debug, Default)]
pub struct Desks(Mutex<HashMap<u64, Desk>>);

impl Desks {
    /// Works at one desk. What a former epoch left there is cleared first: another may have led in between.
    pub fn at<T>(&self, number: u64, epoch: u64, work: impl FnOnce(&mut Desk) -> T) -> T {
        let mut desks = self.0.lock();
        let desk = desks.entry(number).or_default();
        if desk.epoch != epoch {
            *desk = Desk { epoch, ..Desk::default() };
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

impl Desk {
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
        let wishes = Wishes::of(connector);
        let Some(token) = connector.status.as_ref().and_then(|status| status.token.as_ref()) else { return true };
        let to_confirm = token.rotation == crate::api::Rotation::Pending && used_generation >= token.generation;
        let provisioned =
            super::assess::stored(connector, ConditionType::Provisioned).is_some_and(|said| said.0 == Truth::True);
        let rotates = connector.spec.token.rotation_generation > token.observed_rotation_generation;
        let asks = connector.metadata.annotations.as_ref().and_then(|all| all.get(super::REVOKE_REQUESTED));
        let revokes = asks.is_some() && asks != token.observed_revoke_request.as_ref();
        match &self.looked {
            Some((_, seen)) if *seen != wishes => return true,
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
                self.looked = Some((now, wishes));
                self.look_at = Some(now + LOOK_EVERY.mul_f64(spread));
            }
        }
        to_confirm || rejected || self.look_at.is_none_or(|at| now >= at)
    }

    /// Notes that the Secret was looked at; it is looked at again after the usual time, or `sooner`.
    pub fn note_look(&mut self, connector: &Connector, now: Moment, sooner: Option<Duration>) {
        self.looked = Some((now, Wishes::of(connector)));
        self.look_at = Some(now + sooner.unwrap_or(LOOK_EVERY));
    }
}
