//! Keeps the deadlines: wakes at the next one, judges, counts for the site, and wakes the reconciler.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::sites::Sites;
use crate::api::Cause;
use crate::cluster::events::{Event, Kind};
use crate::health::liveness::{Presence, Verdict};
use crate::health::mass_silence::{Change as SiteChange, Site};
use crate::heartbeat::entry::{Change, Entry};
use crate::heartbeat::registry::{Notice, Registry};
use crate::schedule::Deadlines;
use crate::time::Moment;

/// What the keeper is told by others than the registry.
#[derive(Debug)]
pub enum Command {
    /// An entry is new, or its deadlines may have moved.
    Look(Arc<Entry>),
    /// An entry is gone.
    Gone(Arc<Entry>),
    /// `listeningSince` moved: every deadline did.
    ListeningMoved,
    /// We began to lead: what was counted before is not ours.
    TookOver,
}

/// Something to tell about a whole site.
#[derive(Debug)]
pub struct SiteEvent {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// The event.
    pub event: Event,
}

/// Where the keeper's news go.
pub struct Sinks {
    /// Wakes the reconcile of one object.
    pub wake: Box<dyn Fn(&Entry) + Send>,
    /// Events about sites.
    pub told: mpsc::UnboundedSender<SiteEvent>,
    /// Asked before every expiry: did the process run all the time?
    pub is_awake: Box<dyn Fn() -> bool + Send>,
}

/// The keeper of all deadlines. One task owns it.
pub struct DeadlineScheduler {
    registry: Arc<Registry>,
    sites: Arc<Sites>,
    outlets: Sinks,
    deadlines: Deadlines<u64>,
    kept: HashMap<u64, Tracked>,
    counts: HashMap<Arc<str>, Site>,
}

struct Tracked {
    entry: Arc<Entry>,
    /// How the site counts it: not at all, or as silent or not.
    counted: Option<bool>,
}

impl DeadlineScheduler {
    /// A keeper of nothing yet.
    pub fn new(registry: Arc<Registry>, sites: Arc<Sites>, outlets: Sinks) -> Self {
        Self { registry, sites, outlets, deadlines: Deadlines::default(), kept: HashMap::new(), counts: HashMap::new() }
    }

    /// Keeps until `stop`.
    pub async fn run(
        mut self,
        mut told: mpsc::UnboundedReceiver<Notice>,
        mut commands: mpsc::UnboundedReceiver<Command>,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                // What was heard comes before what is due: a beat in time is never overtaken by its own expiry.
                biased;
                () = stop.cancelled() => return,
                Some(Notice { entry, change }) = told.recv() => self.changed(&entry, change),
                Some(poke) = commands.recv() => self.poked(poke),
                number = self.deadlines.next() => self.due(number),
            }
        }
    }

    fn now(&self) -> Moment {
        self.registry.clock().now()
    }

    fn due(&mut self, number: u64) {
        // A process that was stopped finds all its deadlines past: that silence was ours.
        let awake = (self.outlets.is_awake)();
        let Some(entry) = self.kept.get(&number).map(|kept| kept.entry.clone()) else { return };
        if !awake {
            tracing::debug!(connector = %entry.identity.key, "its deadline is judged anew after a freeze");
        }
        self.evaluate(&entry);
    }

    /// Judges, and sets the next deadline. A change comes back through the registry's channel.
    fn evaluate(&mut self, entry: &Arc<Entry>) -> Verdict {
        let verdict = self.registry.evaluate(entry, self.now());
        let at = verdict.look_again_at.map(|at| self.registry.clock().instant(at));
        self.deadlines.set(entry.number, at);
        verdict
    }

    fn changed(&mut self, entry: &Arc<Entry>, change: Change) {
        if let Change::Presence { from, to, since } = change {
            self.count(entry, to, since);
            if from != to && !self.deadlines_follow(to) {
                self.deadlines.set(entry.number, None);
            } else if self.kept.contains_key(&entry.number) {
                self.evaluate(entry);
            }
        }
        (self.outlets.wake)(entry);
    }

    fn deadlines_follow(&self, presence: Presence) -> bool {
        !matches!(presence, Presence::Offline | Presence::NeverSeen)
    }

    fn poked(&mut self, poke: Command) {
        match poke {
            Command::Look(entry) => {
                self.kept.entry(entry.number).or_insert_with(|| Tracked { entry: entry.clone(), counted: None });
                let verdict = self.evaluate(&entry);
                self.count_in(&entry, verdict);
            }
            Command::Gone(entry) => self.gone(&entry),
            Command::ListeningMoved => {
                for entry in self.entries() {
                    self.evaluate(&entry);
                    (self.outlets.wake)(&entry);
                }
            }
            Command::TookOver => self.took_over(),
        }
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.kept.values().map(|kept| kept.entry.clone()).collect()
    }

    fn took_over(&mut self) {
        self.counts.clear();
        self.sites.clear();
        for kept in self.kept.values_mut() {
            kept.counted = None;
        }
        let now = self.now();
        let mut silent_together: HashMap<Arc<str>, usize> = HashMap::new();
        for entry in self.entries() {
            let verdict = self.evaluate(&entry);
            self.count_in(&entry, verdict);
            if entry.was_mass_silent() && verdict.presence.is_silent() {
                *silent_together.entry(entry.identity.domain.clone()).or_default() += 1;
            }
        }
        // What our predecessor called mass silence goes on: its end is ours to see.
        for (domain, silent) in silent_together {
            let Some(site) = self.counts.get_mut(&domain) else { continue };
            let (_, members) = site.counts();
            if 2 * silent >= members {
                site.resume(now);
                self.sites.set(&domain, Some(format!("{silent} of {members}")));
            }
        }
    }

    fn gone(&mut self, entry: &Arc<Entry>) {
        self.deadlines.set(entry.number, None);
        let Some(Tracked { counted: Some(silent), .. }) = self.kept.remove(&entry.number) else { return };
        let now = self.now();
        let domain = &entry.identity.domain;
        let Some(site) = self.counts.get_mut(domain) else { return };
        let change = site.remove(entry.number, silent, now);
        let empty = site.is_empty();
        self.site_changed(domain.clone(), entry, change);
        if empty {
            self.counts.remove(domain);
        }
    }

    /// Counts a member that the site does not know yet: as it is, which is no news.
    fn count_in(&mut self, entry: &Arc<Entry>, verdict: Verdict) {
        let now = self.now();
        let Some(kept) = self.kept.get_mut(&entry.number) else { return };
        if kept.counted.is_some() || verdict.presence == Presence::NeverSeen {
            return;
        }
        let silent = verdict.presence.is_silent();
        let just_turned = verdict.presence == Presence::Late && verdict.since + entry.timing().late > now;
        let site = self.counts.entry(entry.identity.domain.clone()).or_default();
        kept.counted = Some(silent);
        let mut change = site.add(silent && !just_turned, now);
        if just_turned {
            change = site.turned_silent(entry.number, verdict.since, entry.timing().late, now);
        }
        self.site_changed(entry.identity.domain.clone(), entry, change);
    }

    fn count(&mut self, entry: &Arc<Entry>, to: Presence, since: Moment) {
        let now = self.now();
        let Some(kept) = self.kept.get_mut(&entry.number) else { return };
        if to == Presence::NeverSeen {
            return;
        }
        let silent = to.is_silent();
        let site = self.counts.entry(entry.identity.domain.clone()).or_default();
        let change = match kept.counted.replace(silent) {
            None => site.add(silent, now),
            Some(false) if silent => site.turned_silent(entry.number, since, entry.timing().late, now),
            Some(true) if !silent => site.heard(entry.number, now),
            Some(_) => SiteChange::None,
        };
        self.site_changed(entry.identity.domain.clone(), entry, change);
    }

    fn site_changed(&mut self, domain: Arc<str>, entry: &Entry, change: SiteChange) {
        let Some(site) = self.counts.get(&domain) else { return };
        let (silent, members) = site.counts();
        match change {
            SiteChange::None => return,
            SiteChange::Began => {
                let counts = format!("{silent} of {members}");
                tracing::warn!(site = %domain, silent, members, "mass silence: we suspect the path to ourselves");
                let at = self.registry.clock().read().wall;
                let event = Event {
                    kind: Kind::Warning,
                    reason: Cause::MassSilence.as_str(),
                    action: "Judge",
                    note: format!(
                        "{counts} connectors of site {domain} fell silent together: suspect what they share, and the path to vigie first"
                    ),
                    at,
                    occurrence: format!("MassSilence/{domain}/{at}"),
                };
                self.sites.set(&domain, Some(counts));
                let _ = self.outlets.told.send(SiteEvent { namespace: entry.identity.key.namespace.clone(), event });
            }
            SiteChange::Ended => {
                tracing::info!(site = %domain, silent, members, "mass silence is over");
                self.sites.set(&domain, None);
            }
        }
        // The reason of every silent member changes with it.
        for kept in self.kept.values().filter(|kept| kept.counted == Some(true) && kept.entry.identity.domain == domain)
        {
            (self.outlets.wake)(&kept.entry);
        }
    }
}

#[cfg(test)]
mod tests;
