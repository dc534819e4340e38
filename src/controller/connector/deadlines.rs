//! The deadline scheduler of Connectors: evaluates each connector at its deadline, counts it for its site, and requests
//! its reconcile.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::sites::Sites;
use crate::api::Cause;
use crate::cluster::events::{Event, EventType};
use crate::health::liveness::{Presence, Verdict};
use crate::health::mass_silence::{Site, SiteChange};
use crate::heartbeat::entry::{Change, Entry};
use crate::heartbeat::registry::{Notice, Registry};
use crate::schedule::Deadlines;
use crate::time::Moment;

/// A command for the deadline scheduler.
#[derive(Debug)]
pub enum Command {
    /// An entry is new, or its deadlines may have moved.
    Upsert(Arc<Entry>),
    /// An entry was removed.
    Remove(Arc<Entry>),
    /// `listeningSince` moved, and every deadline with it.
    ListeningMoved,
    /// This replica began to lead: the counts of before are not valid.
    TookOver,
}

/// An event about a whole site.
#[derive(Debug)]
pub struct SiteEvent {
    /// The namespace of the site.
    pub namespace: Arc<str>,
    /// The event.
    pub event: Event,
}

/// The outputs of the deadline scheduler.
pub struct Sinks {
    /// Requests the reconcile of one object.
    pub wake: Box<dyn Fn(&Entry) + Send>,
    /// Hands on that the agent of a connector said something new about backends.
    pub backends: Box<dyn Fn(&Entry) + Send>,
    /// Events about sites.
    pub events: mpsc::UnboundedSender<SiteEvent>,
    /// Called before every expiry: excludes a freeze since the last call from every verdict; true when there was none.
    pub is_awake: Box<dyn Fn() -> bool + Send>,
}

/// The scheduler of all deadlines. One task owns it.
pub struct DeadlineScheduler {
    registry: Arc<Registry>,
    sites: Arc<Sites>,
    sinks: Sinks,
    deadlines: Deadlines<u64>,
    tracked: HashMap<u64, Tracked>,
    counts: HashMap<Arc<str>, Site>,
}

/// A connector with a deadline.
struct Tracked {
    entry: Arc<Entry>,
    /// How the site counts it: not at all, or as silent or not.
    counted: Option<bool>,
}

impl DeadlineScheduler {
    /// A scheduler without deadlines.
    pub fn new(registry: Arc<Registry>, sites: Arc<Sites>, sinks: Sinks) -> Self {
        Self {
            registry,
            sites,
            sinks,
            deadlines: Deadlines::default(),
            tracked: HashMap::new(),
            counts: HashMap::new(),
        }
    }

    /// Runs until `stop`.
    pub async fn run(
        mut self,
        mut notices: mpsc::UnboundedReceiver<Notice>,
        mut commands: mpsc::UnboundedReceiver<Command>,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                // Heartbeats come before deadlines: a heartbeat in time is never overtaken by the expiry that it prevents.
                biased;
                () = stop.cancelled() => return,
                Some(Notice { entry, change }) = notices.recv() => self.changed(&entry, change),
                Some(command) = commands.recv() => self.handle(command),
                number = self.deadlines.next() => self.due(number),
            }
        }
    }

    fn now(&self) -> Moment {
        self.registry.clock().now()
    }

    fn due(&mut self, number: u64) {
        // Before the evaluation: after a suspension all deadlines are past, and the silence must not count, because no
        // heartbeat could arrive.
        let awake = (self.sinks.is_awake)();
        let Some(entry) = self.tracked.get(&number).map(|tracked| tracked.entry.clone()) else { return };
        if !awake {
            tracing::debug!(connector = %entry.identity.key, "its deadline is evaluated again after a freeze");
        }
        self.evaluate(&entry);
    }

    /// Evaluates the connector, and sets its next deadline. A change comes back through the channel of the registry.
    fn evaluate(&mut self, entry: &Arc<Entry>) -> Verdict {
        let verdict = self.registry.evaluate(entry, self.now());
        let at = verdict.next_check_at.map(|at| self.registry.clock().instant(at));
        self.deadlines.set(entry.number, at);
        verdict
    }

    fn changed(&mut self, entry: &Arc<Entry>, change: Change) {
        match change {
            Change::Facts => {}
            Change::Backends => {
                (self.sinks.backends)(entry);
                return;
            }
            Change::Deferred => {
                if self.tracked.contains_key(&entry.number) {
                    self.evaluate(entry);
                }
                return;
            }
            Change::Presence { from, to, since } => {
                self.count(entry, to, since);
                if from != to && !has_deadline(to) {
                    self.deadlines.set(entry.number, None);
                } else if self.tracked.contains_key(&entry.number) {
                    self.evaluate(entry);
                }
            }
        }
        (self.sinks.wake)(entry);
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Upsert(entry) => {
                self.tracked.entry(entry.number).or_insert_with(|| Tracked { entry: entry.clone(), counted: None });
                let verdict = self.evaluate(&entry);
                self.add_to_site(&entry, verdict);
            }
            Command::Remove(entry) => self.remove(&entry),
            Command::ListeningMoved => {
                for entry in self.entries() {
                    self.evaluate(&entry);
                    (self.sinks.wake)(&entry);
                }
            }
            Command::TookOver => self.took_over(),
        }
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.tracked.values().map(|tracked| tracked.entry.clone()).collect()
    }

    fn took_over(&mut self) {
        self.counts.clear();
        self.sites.clear();
        for tracked in self.tracked.values_mut() {
            tracked.counted = None;
        }
        let now = self.now();
        let mut silent_together: HashMap<Arc<str>, usize> = HashMap::new();
        for entry in self.entries() {
            let verdict = self.evaluate(&entry);
            self.add_to_site(&entry, verdict);
            if entry.was_mass_silent() && verdict.presence.is_silent() {
                *silent_together.entry(entry.identity.domain.clone()).or_default() += 1;
            }
        }
        // A mass silence that the predecessor declared goes on until this replica sees its end.
        for (domain, silent) in silent_together {
            let Some(site) = self.counts.get_mut(&domain) else { continue };
            let (_, members) = site.counts();
            if 2 * silent >= members {
                site.resume(now);
                self.sites.set(&domain, Some(format!("{silent} of {members}")));
            }
        }
    }

    fn remove(&mut self, entry: &Arc<Entry>) {
        self.deadlines.set(entry.number, None);
        let Some(Tracked { counted: Some(silent), .. }) = self.tracked.remove(&entry.number) else { return };
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

    /// Adds a member to its site in its present state, which is not a change.
    fn add_to_site(&mut self, entry: &Arc<Entry>, verdict: Verdict) {
        let now = self.now();
        let Some(tracked) = self.tracked.get_mut(&entry.number) else { return };
        if tracked.counted.is_some() || verdict.presence == Presence::NeverSeen {
            return;
        }
        let silent = verdict.presence.is_silent();
        let just_turned = verdict.presence == Presence::Late && verdict.since + entry.timing().late > now;
        let site = self.counts.entry(entry.identity.domain.clone()).or_default();
        tracked.counted = Some(silent);
        let mut change = site.add(silent && !just_turned, now);
        if just_turned {
            change = site.turned_silent(entry.number, verdict.since, entry.timing().late, now);
        }
        self.site_changed(entry.identity.domain.clone(), entry, change);
    }

    fn count(&mut self, entry: &Arc<Entry>, to: Presence, since: Moment) {
        let now = self.now();
        let Some(tracked) = self.tracked.get_mut(&entry.number) else { return };
        if to == Presence::NeverSeen {
            return;
        }
        let silent = to.is_silent();
        let site = self.counts.entry(entry.identity.domain.clone()).or_default();
        let change = match tracked.counted.replace(silent) {
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
                tracing::warn!(site = %domain, silent, members, "mass silence: the path to the operator is suspected");
                let at = self.registry.clock().read().wall;
                let event = Event {
                    kind: EventType::Warning,
                    reason: Cause::MassSilence.as_str(),
                    action: "Judge",
                    note: format!(
                        "{counts} connectors of site {domain} fell silent together: suspect what they share, and the path to vigie first"
                    ),
                    at,
                    occurrence: format!("MassSilence/{domain}/{at}"),
                };
                self.sites.set(&domain, Some(counts));
                let _ = self.sinks.events.send(SiteEvent { namespace: entry.identity.key.namespace.clone(), event });
            }
            SiteChange::Ended => {
                tracing::info!(site = %domain, silent, members, "mass silence is over");
                self.sites.set(&domain, None);
            }
        }
        // The reason of every silent member changes with the mass silence.
        for tracked in self
            .tracked
            .values()
            .filter(|tracked| tracked.counted == Some(true) && tracked.entry.identity.domain == domain)
        {
            (self.sinks.wake)(&tracked.entry);
        }
    }
}

/// Whether a connector changes its presence by time alone.
fn has_deadline(presence: Presence) -> bool {
    !matches!(presence, Presence::Offline | Presence::NeverSeen)
}

#[cfg(test)]
mod tests;
