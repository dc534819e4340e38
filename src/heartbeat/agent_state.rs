//! What the senders of one connector report, taken together, and how often they send.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::agent_report::{AgentReport, Sender, Shown, is_skewed};
use super::agent_side::AgentSide;
use super::compact::{Checks, Severities};
use super::payload::{Beat, ReportedCheck};
use super::stored_report::StoredReport;
use crate::health::checks::{self, CheckInput};
use crate::health::liveness::Presence;
use crate::schedule::BurstLimit;
use crate::time::Moment;

/// A connector that sends more than this many times its own rate over a minute is asked to slow down; its heartbeats
/// still count.
const TOO_OFTEN: u32 = 10;

/// The heartbeats a minute, before that factor, that a connector with an agent has at least: the agent beats every five
/// seconds during an incident.
const LEAST_WITH_AGENT: u32 = 3;

/// The number of heartbeats in the last minute.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    /// When the minute began, in seconds since this process started.
    began: u32,
    beats: u32,
}

/// Everything that was reported about one connector to this process.
#[derive(Clone, Debug, Default)]
pub(super) struct AgentState {
    /// The reports of the connector itself.
    pub(super) own: Sender,
    pub(super) severities: Severities,
    /// Whether the checks in the stored status, judged by `severities`, are those of a degraded connector. Counts until this
    /// process has received checks.
    pub(super) is_stored_degraded: bool,
    /// Whether the clock is skewed by the stored status. Counts until this process has received a time.
    pub(super) is_stored_skewed: bool,
    /// `None` for a connector without an agent.
    pub(super) side: Option<Box<AgentSide>>,
    rate: Rate,
    changes: BurstLimit,
}

impl AgentState {
    /// Takes over the state of a former entry of the same connector, except for what the spec and the status give.
    pub(super) fn inherit(&mut self, before: &Self) {
        let Self { severities, is_stored_degraded, is_stored_skewed, .. } = *self;
        let config = self.side.take().and_then(|side| side.config);
        *self = Self { severities, is_stored_degraded, is_stored_skewed, ..before.clone() };
        if config.is_some() || self.side.is_some() {
            self.side.get_or_insert_default().config = config;
        }
    }

    /// Forgets the reports: another leader has written newer ones to the status.
    pub(super) fn forget_reports(&mut self) {
        self.own.forget_reports();
        if let Some(side) = &mut self.side {
            side.forget_reports();
        }
    }

    /// The sender of a heartbeat. The side of the agent exists when a heartbeat is the agent's.
    fn sender(&mut self, is_of_agent: bool) -> (&mut Sender, &mut BurstLimit) {
        match &mut self.side {
            Some(side) if is_of_agent => (&mut side.sender, &mut self.changes),
            _ => (&mut self.own, &mut self.changes),
        }
    }

    /// Records the boot id and the sequence number; true when this is the latest report of a single instance. The connector
    /// and its agent are two senders by design.
    pub(super) fn is_latest(
        &mut self,
        beat: &Beat<'_>,
        from: IpAddr,
        at: (Duration, Moment),
        visible: &mut bool,
    ) -> bool {
        self.sender(beat.is_of_agent()).0.is_latest(beat, from, at, visible)
    }

    /// Stores the report in a heartbeat.
    pub(super) fn store_report(
        &mut self,
        beat: &Beat<'_>,
        from: IpAddr,
        at: (Duration, Moment),
        wall: impl FnOnce() -> Timestamp,
    ) -> Shown {
        let (sender, changes) = self.sender(beat.is_of_agent());
        sender.store_report(beat, from, at, changes, wall)
    }

    /// Stores the deferred reports if the facts may change again; true when one was stored.
    pub(super) fn store_deferred(&mut self, interval: Duration, now: Moment) -> bool {
        let mut stored = self.own.store_deferred(&mut self.changes, interval, now);
        if let Some(side) = &mut self.side {
            stored |= side.sender.store_deferred(&mut self.changes, interval, now);
        }
        stored
    }

    /// When a deferred report can be stored.
    pub(super) fn deferred_until(&self, interval: Duration) -> Option<Moment> {
        let own = self.own.deferred_until(self.changes, interval);
        own.or_else(|| self.side.as_ref()?.sender.deferred_until(self.changes, interval))
    }

    /// The report of the connector itself, completed by that of its agent; `None` until this process has accepted a
    /// heartbeat of either.
    pub(super) fn report(&self) -> Option<AgentReport> {
        let of_agent = self.side.as_ref().and_then(|side| side.sender.report.as_deref());
        match (self.own.report.as_deref(), of_agent) {
            (Some(own), Some(of_agent)) => Some(own.report().or(&of_agent.report())),
            (own, of_agent) => own.or(of_agent).map(StoredReport::report),
        }
    }

    /// Since when two instances of one sender beat in turn, and until when that is remembered.
    pub(super) fn duplicate(&self, interval: Duration, now: Moment) -> Option<(Moment, Moment)> {
        let senders = [Some(&self.own), self.side.as_deref().map(|side| &side.sender)];
        let instances = senders.into_iter().flatten().filter_map(|sender| sender.instances.as_deref());
        instances.filter_map(|of| of.duplicate(interval, now)).min_by_key(|(since, _)| *since)
    }

    /// The skew of the host's clock.
    fn skew(&self) -> Option<i64> {
        let of = |sender: &Sender| sender.report.as_deref()?.clock_skew_seconds();
        of(&self.own).or_else(|| of(&self.side.as_ref()?.sender))
    }

    /// Whether the agent was heard, and is silent: its checks are no longer known.
    fn is_agent_silent(&self) -> bool {
        self.side.as_ref().is_some_and(|side| side.contacts.agent_before.presence == Presence::Offline)
    }

    fn agent_checks(&self) -> Option<&Checks> {
        self.side.as_ref()?.sender.checks.as_ref().filter(|_| !self.is_agent_silent())
    }

    /// Whether this process knows the checks; else those of the stored status stand.
    fn knows_checks(&self) -> bool {
        self.own.checks.is_some() || self.agent_checks().is_some() || self.is_agent_silent()
    }

    /// The checks of both senders. Of a type that both report, the agent's is taken: it looks from outside.
    fn reports(&self) -> impl Iterator<Item = CheckInput<'_>> {
        let of_agent = self.agent_checks();
        let own = self.own.checks.iter().flat_map(Checks::reports);
        let own = own.filter(move |own| !of_agent.is_some_and(|checks| checks.has(own.type_)));
        of_agent.into_iter().flat_map(Checks::reports).chain(own)
    }

    /// The checks of both senders; `None` while this process knows none.
    pub(super) fn checks(&self) -> Option<Vec<ReportedCheck>> {
        let copy = |check: CheckInput<'_>| ReportedCheck {
            type_: check.type_.to_owned(),
            status: check.outcome,
            message: check.message.map(str::to_owned),
        };
        self.knows_checks().then(|| self.reports().map(copy).collect())
    }

    /// Whether a critical check fails, or the connector is silent while its agent is heard: by the same judgement and from
    /// the same reports as the status. Allocates nothing.
    pub(super) fn is_degraded(&self) -> bool {
        if self.side.as_ref().is_some_and(|side| side.contacts.is_connector_silent()) {
            return true;
        }
        let is_skewed = self.skew().map_or(self.is_stored_skewed, |skew| is_skewed(Some(skew)));
        let is_stored = !self.knows_checks() && self.is_stored_degraded;
        is_stored || checks::is_degraded(|type_| self.severities.get(type_), self.reports(), is_skewed)
    }

    /// Counts a heartbeat; above the limit, gives the seconds that are left of the minute.
    pub(super) fn exceeds_rate(&mut self, interval: Duration, now: Moment) -> Option<u32> {
        const MINUTE: u32 = 60;
        let now = u32::try_from(now.since(Moment::default()).as_secs()).unwrap_or(u32::MAX);
        if now.saturating_sub(self.rate.began) >= MINUTE {
            self.rate = Rate { began: now, beats: 0 };
        }
        self.rate.beats = self.rate.beats.saturating_add(1);
        let least = if self.side.is_some() { LEAST_WITH_AGENT } else { 1 };
        let expected = (60 / interval.as_secs().max(1)).max(least.into()) as u32;
        let left = MINUTE.saturating_sub(now.saturating_sub(self.rate.began));
        (self.rate.beats > expected.saturating_mul(TOO_OFTEN)).then_some(left.max(1))
    }
}

#[cfg(test)]
mod tests;
