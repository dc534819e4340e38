//! The brakes of the fleet: told when they engage, and the breaker latched when it trips.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::Remedies;
use crate::cluster::events::{Event, Kind, namespace_reference};
use crate::controller::breaker::{BreakerStore, Record};
use crate::leadership::Permit;
use crate::remediation::Breaker;
use crate::remediation::fleet::FleetState;

/// How often the fleet is looked at. Whoever decides about a remedy counts for himself; this is for telling, and for a
/// breaker that nobody happens to run into.
const TICK: Duration = Duration::from_millis(500);

/// Who watches over the brakes.
pub struct Brakes {
    /// The fleet.
    pub remedies: Arc<Remedies>,
    /// Where the breaker is kept.
    pub breaker_store: BreakerStore,
}

impl Brakes {
    /// Watches until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let Self { remedies, breaker_store } = self;
        let record = Arc::new(Mutex::new(Record::default()));
        let follow = {
            let (remedies, record) = (remedies.clone(), record.clone());
            let tell = move |breaker: Breaker, read: Record| {
                let mut board = remedies.census.board.lock();
                if let Some(at) = read.reset {
                    board.reset(at);
                }
                board.set_breaker(breaker);
                drop(board);
                *record.lock() = read;
            };
            breaker_store.clone().follow(tell, stop.clone())
        };
        tokio::join!(follow, watch_over(&remedies, &breaker_store, &record, &stop));
    }
}

async fn watch_over(
    remedies: &Remedies,
    breaker_store: &BreakerStore,
    record: &Mutex<Record>,
    stop: &CancellationToken,
) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told: BTreeMap<String, Timestamp> = BTreeMap::new();
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let Some(permit) = breaker_store.leadership.borrow().permit(breaker_store.clock.now()) else {
            // Another tells now; when we lead again, what is engaged then is the same occurrence or another.
            told.clear();
            continue;
        };
        let now = breaker_store.clock.read().wall;
        let (brakes, trips) = {
            let mut board = remedies.census.board.lock();
            // Where nobody asks for remedies there is nothing to hold back.
            let trips = board.breaker_trip(now).filter(|_| board.members().any(|member| member.max_attempts.is_some()));
            if let Some(why) = &trips {
                // From this moment, not from when it is written: nothing begins in between.
                board.set_breaker(Breaker::Open(why.clone()));
            }
            (engaged(&board, &told), trips)
        };
        if let Some(why) = trips {
            latch(remedies, breaker_store, record, &permit, &why, now).await;
        }
        tell(breaker_store, &brakes, &mut told).await;
    }
}

/// Writes that the breaker is open. What cannot be written now is tried again with the next look: the fleet is as it was.
async fn latch(
    remedies: &Remedies,
    breaker_store: &BreakerStore,
    record: &Mutex<Record>,
    permit: &Permit,
    why: &str,
    now: Timestamp,
) {
    let read = record.lock().clone();
    if let Err(error) = breaker_store.open(permit, &read, why, now).await {
        tracing::warn!(%error, "the breaker is open and cannot be written down yet; trying again");
        remedies.census.board.lock().set_breaker(Breaker::Unknown(format!("{why}; it is being written down: {error}")));
    }
}

/// A site whose brake is engaged.
struct Engaged {
    domain: String,
    unhealthy: usize,
    all: usize,
    /// When the last of its workloads turned unhealthy: the same for whoever leads.
    since: Timestamp,
}

/// The sites that remedies are asked for in and whose brake is engaged. Of those that were told nothing more is looked up.
fn engaged(board: &FleetState, told: &BTreeMap<String, Timestamp>) -> Vec<Engaged> {
    let braked = board.sites().into_iter();
    let with_since = braked.filter_map(|braked| {
        let domain = braked.site.to_string();
        let since = match told.get(&domain) {
            Some(since) => *since,
            None => {
                let members: Vec<_> = board.members().filter(|member| member.site == braked.site).collect();
                let is_cared_for = members.iter().any(|member| member.max_attempts.is_some());
                members.iter().filter(|_| is_cared_for).filter_map(|member| member.unhealthy_since).max()?
            }
        };
        Some(Engaged { domain, unhealthy: braked.unhealthy, all: braked.all, since })
    });
    with_since.collect()
}

/// Tells of each brake that has engaged, once, about the Namespace.
async fn tell(breaker_store: &BreakerStore, engaged: &[Engaged], told: &mut BTreeMap<String, Timestamp>) {
    told.retain(|site, _| engaged.iter().any(|engaged| engaged.domain == *site));
    for Engaged { domain, unhealthy, all, since, .. } in engaged {
        if told.contains_key(domain) {
            continue;
        }
        tracing::warn!(site = domain, unhealthy, all, "the brake is engaged: nothing new is restarted in this site");
        let namespace = domain.split('/').next().unwrap_or_default();
        let regarding = namespace_reference(namespace);
        let event = Event {
            kind: Kind::Warning,
            reason: "BrakeEngaged",
            action: "Judge",
            note: format!(
                "{unhealthy} of {all} workloads of site {domain} are unhealthy: nothing new is restarted there until fewer are; suspect what they share"
            ),
            at: *since,
            occurrence: format!("BrakeEngaged/{domain}/{since}"),
        };
        match breaker_store.reporter.tell(&regarding, &event).await {
            Ok(()) => drop(told.insert(domain.clone(), *since)),
            Err(error) => tracing::debug!(%error, "telling about a brake; trying again"),
        }
    }
}
