//! The brakes of the fleet: publishes when one engages, and opens the breaker when it trips.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::Remediator;
use crate::cluster::events::{Event, EventType, namespace_reference};
use crate::cluster::{Retry, WriteError};
use crate::controller::remediation::breaker::{BreakerRecord, BreakerStore};
use crate::leadership::WritePermit;
use crate::remediation::Breaker;
use crate::remediation::fleet::{FleetState, Trip};
use crate::time::Moment;

/// How often the fleet is checked. Each decision about a remedy counts by itself; this check publishes events, and opens
/// a breaker that no decision happens to run into.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Monitors the brakes and the breaker.
pub struct Brakes {
    /// Has the census of the fleet.
    pub remediator: Arc<Remediator>,
    /// Stores the breaker.
    pub breaker_store: BreakerStore,
}

impl Brakes {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let Self { remediator, breaker_store } = self;
        let record = Arc::new(Mutex::new(BreakerRecord::default()));
        let follow = {
            let (remediator, record) = (remediator.clone(), record.clone());
            let on_change = move |breaker: Breaker, read: BreakerRecord| {
                let mut fleet = remediator.census.fleet.lock();
                if let Some(at) = read.reset {
                    fleet.reset(at);
                }
                fleet.set_breaker(breaker, read.scope.clone());
                drop(fleet);
                *record.lock() = read;
            };
            breaker_store.clone().follow(on_change, stop.clone())
        };
        tokio::join!(follow, monitor(&remediator, &breaker_store, &record, &stop));
    }
}

async fn monitor(
    remediator: &Remediator,
    breaker_store: &BreakerStore,
    record: &Mutex<BreakerRecord>,
    stop: &CancellationToken,
) {
    let mut tick = tokio::time::interval(CHECK_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut published: BTreeMap<String, Timestamp> = BTreeMap::new();
    // A trip that could not be stored yet. It holds from the moment of the decision.
    let mut unwritten: Option<(Trip, Timestamp)> = None;
    let (mut opening, mut publishing) = (Retry::default(), Retry::default());
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let Some(permit) = breaker_store.leadership.borrow().permit(breaker_store.clock.now()) else {
            // Another replica publishes now. When this one leads again, an engaged brake is the same occurrence or another.
            published.clear();
            continue;
        };
        let now = breaker_store.clock.read().wall;
        let brakes = {
            let mut fleet = remediator.census.fleet.lock();
            if !matches!(fleet.breaker(), Breaker::Open(_)) {
                // A person reset it meanwhile, or another client wrote it: the turns decide again.
                unwritten = None;
            }
            if let Some(trip) = fleet.breaker_trip(now) {
                // From this moment, not from the write on: no attempt begins in between.
                fleet.set_breaker(Breaker::Open(trip.reason.clone()), trip.scope.clone());
                unwritten = Some((trip, now));
            }
            engaged(&fleet, &published)
        };
        let moment = breaker_store.clock.now();
        if let Some((trip, at)) = unwritten.take_if(|_| opening.is_due(moment)) {
            let opened = open_breaker(breaker_store, record, &permit, &trip, at).await;
            unwritten = note_opened(opened, &mut opening, moment).then_some((trip, at));
        }
        if publishing.is_due(moment) {
            publish(breaker_store, &brakes, &mut published, &mut publishing).await;
        }
    }
}

/// Writes that the breaker is open.
async fn open_breaker(
    breaker_store: &BreakerStore,
    record: &Mutex<BreakerRecord>,
    permit: &WritePermit,
    trip: &Trip,
    at: Timestamp,
) -> Result<(), WriteError> {
    let read = record.lock().clone();
    breaker_store.open(permit, &read, trip, at).await
}

/// Notes the result of that write; returns whether a later check has to try it again.
fn note_opened(opened: Result<(), WriteError>, opening: &mut Retry, now: Moment) -> bool {
    let Err(error) = opened else {
        opening.succeeded();
        return false;
    };
    if let WriteError::Call(error) = &error {
        opening.failed(error, now);
    }
    tracing::warn!(%error, "the breaker is open and cannot be stored yet; trying again");
    true
}

/// A site whose brake is engaged.
struct EngagedBrake {
    domain: String,
    unhealthy: usize,
    total: usize,
    /// When the last of its workloads turned unhealthy: the same on every leader.
    since: Timestamp,
}

/// Sites with remediation whose brake is engaged. For a site that was published the known time is used.
fn engaged(fleet: &FleetState, published: &BTreeMap<String, Timestamp>) -> Vec<EngagedBrake> {
    let braked = fleet.braked_sites().into_iter();
    let with_start = braked.filter_map(|braked| {
        let domain = braked.site.to_string();
        let since = match published.get(&domain) {
            Some(since) => *since,
            None => {
                let members: Vec<_> = fleet.members().filter(|member| member.site == braked.site).collect();
                let is_remediated = members.iter().any(|member| member.max_attempts.is_some());
                members.iter().filter(|_| is_remediated).filter_map(|member| member.unhealthy_since).max()?
            }
        };
        Some(EngagedBrake { domain, unhealthy: braked.unhealthy, total: braked.total, since })
    });
    with_start.collect()
}

/// Publishes an event about the Namespace for each brake that has engaged, once.
async fn publish(
    breaker_store: &BreakerStore,
    engaged: &[EngagedBrake],
    published: &mut BTreeMap<String, Timestamp>,
    publishing: &mut Retry,
) {
    published.retain(|site, _| engaged.iter().any(|engaged| engaged.domain == *site));
    for EngagedBrake { domain, unhealthy, total, since } in engaged {
        if published.contains_key(domain) {
            continue;
        }
        let namespace = domain.split('/').next().unwrap_or_default();
        let regarding = namespace_reference(namespace);
        let event = Event {
            kind: EventType::Warning,
            reason: "BrakeEngaged",
            action: "Judge",
            note: format!(
                "{unhealthy} of {total} workloads of site {domain} are unhealthy: nothing new is restarted there until fewer are; suspect what they share"
            ),
            at: *since,
            occurrence: format!("BrakeEngaged/{domain}/{since}"),
        };
        match breaker_store.reporter.publish(&regarding, &event).await {
            Ok(()) => {
                tracing::warn!(
                    site = domain,
                    unhealthy,
                    total,
                    "the brake is engaged: nothing new is restarted in this site"
                );
                publishing.succeeded();
                published.insert(domain.clone(), *since);
            }
            Err(error) => {
                tracing::debug!(%error, "publishing the event of a brake failed; trying again");
                publishing.failed(&error, breaker_store.clock.now());
                return;
            }
        }
    }
}
