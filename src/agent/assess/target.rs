//! What is remembered about units and containers: since when they are as they are, and how often they were restarted.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Own;
use crate::agent::facts::{ContainerFacts, Facts, Look, TargetFacts, UnitFacts};
use crate::time::{Moment, Now};

/// The time in which restarts are counted for the checks.
const WINDOW: Duration = Duration::from_secs(300);
/// The time in which they are counted for the operator: an application that takes minutes to fail is restarted less often, and
/// Docker waits up to a minute between two starts.
const LONG_WINDOW: Duration = Duration::from_secs(900);
/// So many restarts in that time are a crash loop.
pub(super) const LOOP: u64 = 3;
/// Two times of one change of state, computed by two looks, differ by less than this many seconds.
const SAME_CHANGE: i64 = 3;

/// The memory of one target.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Identifies the unit's or container's run, and its restarts by its host until then.
    run: Option<(String, String, u64)>,
    restarts: VecDeque<(Moment, u64)>,
    /// The last look.
    seen_at: Moment,
    /// When its state changed.
    pub(super) since: Option<Timestamp>,
    /// The wall clock of the last look.
    pub(super) wall: Timestamp,
    /// The directory of its compose project, from when it was there.
    pub(super) directory: Option<String>,
}

/// The memory of all targets.
#[derive(Debug, Default)]
pub(super) struct Targets {
    known: BTreeMap<String, Known>,
    /// How often each probe has failed in a row.
    failures: BTreeMap<String, u32>,
}

impl Targets {
    pub(super) fn update(&mut self, facts: &Facts, own: &Own<'_>, now: Now) {
        self.known.retain(|name, _| facts.targets.contains_key(name));
        for (name, look) in &facts.targets {
            let known = self.known.entry(name.clone()).or_default();
            known.wall = now.wall;
            match look {
                Look::Seen(TargetFacts::Unit(unit)) => known.see_unit(unit, now),
                Look::Seen(TargetFacts::Container(container)) => known.see_container(container, now),
                Look::Seen(TargetFacts::Absent { directory }) => known.see_absent(directory.as_ref()),
                Look::Blind(_) => {}
            }
        }
        self.failures.retain(|url, _| own.probes.contains_key(url));
        for (url, probe) in own.probes {
            let failures = self.failures.entry(url.clone()).or_default();
            *failures = if probe.ok { 0 } else { failures.saturating_add(1) };
        }
    }

    pub(super) fn get(&self, name: &str) -> Known {
        self.known.get(name).cloned().unwrap_or_default()
    }

    /// Whether the last two probes of `url` failed.
    pub(super) fn has_failed(&self, url: &str) -> bool {
        self.failures.get(url).is_some_and(|failures| *failures > 1)
    }
}

impl Known {
    /// How often its host restarted it in the last five minutes, as far as it was seen.
    pub(super) fn recent_restarts(&self) -> u64 {
        let recent = self.restarts.iter().filter(|(at, _)| self.seen_at.since(*at) < WINDOW);
        recent.map(|(_, count)| count).sum()
    }

    /// How often its host restarted it in the last quarter of an hour, as far as it was seen.
    pub(super) fn lately_restarted(&self) -> u64 {
        self.restarts.iter().map(|(_, count)| count).sum()
    }

    fn see_unit(&mut self, unit: &UnitFacts, now: Now) {
        self.see_run("unit", &unit.invocation, unit.restarts, now.moment);
        self.see_since(unit.since_seconds, now.wall);
    }

    fn see_container(&mut self, container: &ContainerFacts, now: Now) {
        let is_new = self.run.as_ref().is_none_or(|(known, ..)| *known != container.id);
        self.see_run(&container.id, &container.started_at, container.restarts, now.moment);
        // Docker waits longer each time, at most a minute, and no time worth seeing once a run lasted for ten seconds: one
        // that is seen waiting at the first look is in its loop already.
        if is_new && container.status == "restarting" && container.restarts >= LOOP {
            self.restarts.push_back((now.moment, LOOP));
        }
        self.see_since(container.since_seconds, now.wall);
        self.directory = container.directory.clone().or(self.directory.take());
    }

    fn see_absent(&mut self, directory: Option<&String>) {
        let directory = directory.cloned().or(self.directory.take());
        *self = Self { directory, wall: self.wall, ..Self::default() };
    }

    fn see_run(&mut self, identity: &str, run: &str, count: u64, now: Moment) {
        let restarts = &mut self.restarts;
        restarts.retain(|(at, _)| now.since(*at) < LONG_WINDOW);
        self.seen_at = now;
        match &self.run {
            Some((known, _, before)) if known == identity && count > *before => {
                restarts.push_back((now, count - before))
            }
            // It was started by hand, or is another one.
            Some((known, last, before)) if known != identity || count < *before || last != run => restarts.clear(),
            _ => {}
        }
        self.run = Some((identity.to_owned(), run.to_owned(), count));
    }

    fn see_since(&mut self, seconds: Option<u64>, wall: Timestamp) {
        let ago = seconds.and_then(|seconds| i64::try_from(seconds).ok()).map(SignedDuration::from_secs);
        let since = ago.and_then(|ago| wall.checked_sub(ago).ok());
        let is_same = |known: Timestamp, since: Timestamp| known.duration_since(since).as_secs().abs() < SAME_CHANGE;
        match (self.since, since) {
            (Some(known), Some(since)) if is_same(known, since) => {}
            _ => self.since = since,
        }
    }
}
