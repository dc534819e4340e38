//! What the agent of one connector reports about itself, and how often.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::actions::{Action, Restart};
use super::compact::{Checks, Severities};
use super::instances::{Freshness, Instances};
use super::payload::Beat;
use crate::health::checks;
use crate::time::Moment;

/// A connector that sends more than this many times its own rate over a minute is asked to slow down; its heartbeats
/// still count.
const TOO_OFTEN: u32 = 10;

/// A clock that differs by more than this many seconds is skewed (`docs/design/api.md`, `checks[]`).
const SKEW_TOLERATED: i64 = 30;

/// The latest report of an agent about itself.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AgentReport {
    /// The agent's version.
    pub version: Option<Box<str>>,
    /// The name of the agent's host.
    pub hostname: Option<Box<str>>,
    /// Changes with each start of the agent.
    pub boot_id: Option<Box<str>>,
    /// The UID of the agent's pod.
    pub pod_uid: Option<Box<str>>,
    /// The source address of its heartbeats.
    pub address: Option<IpAddr>,
    /// The agent's clock minus the operator's, in whole seconds.
    pub clock_skew_seconds: Option<i64>,
}

/// The number of heartbeats in the last minute.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    began: Moment,
    beats: u32,
}

/// Everything that one agent reported to this process.
#[derive(Clone, Debug, Default)]
pub(super) struct AgentState {
    /// `None` until this process has accepted a heartbeat, as `checks`.
    pub(super) report: Option<Box<AgentReport>>,
    pub(super) checks: Option<Checks>,
    pub(super) severities: Severities,
    /// Whether the stored status, judged by `severities`, is that of a degraded connector. Counts until this process has
    /// accepted a heartbeat.
    pub(super) is_stored_degraded: bool,
    /// `None` for agents that send no boot id.
    pub(super) instances: Option<Box<Instances>>,
    /// `None` for agents that were never asked to restart anything.
    pub(super) restart: Option<Box<Restart>>,
    rate: Rate,
}

impl AgentState {
    /// Takes over the state of a former entry of the same connector, except for what the spec and the status give.
    pub(super) fn inherit(&mut self, before: &Self) {
        let (severities, is_stored_degraded) = (self.severities, self.is_stored_degraded);
        *self = Self { severities, is_stored_degraded, ..before.clone() };
    }

    /// Forgets the reports: another leader has written newer ones to the status.
    pub(super) fn forget_reports(&mut self) {
        (self.report, self.checks, self.restart) = (None, None, None);
    }

    /// Records the boot id and the sequence number; true when this is the latest report of a single instance.
    ///
    /// With duplicate instances the first agent report is kept; otherwise every heartbeat would change the status.
    pub(super) fn is_latest(&mut self, beat: &Beat<'_>, interval: Duration, now: Moment, visible: &mut bool) -> bool {
        let had_duplicate = self.is_duplicate(interval, now);
        let freshness = match &beat.boot_id {
            Some(boot) => self.instances.get_or_insert_default().record(boot, beat.sequence, interval, now),
            None => Freshness::Fresh,
        };
        let has_duplicate = self.is_duplicate(interval, now);
        *visible |= had_duplicate != has_duplicate;
        freshness == Freshness::Fresh && !has_duplicate
    }

    fn is_duplicate(&self, interval: Duration, now: Moment) -> bool {
        self.instances.as_deref().is_some_and(|instances| instances.duplicate_since(interval, now).is_some())
    }

    /// Stores a report; true when it should be shown now rather than with the next checkpoint. The address and the exact
    /// skew wait: behind a NAT with several addresses every heartbeat would cost a write.
    pub(super) fn store_report(&mut self, beat: &Beat<'_>, from: IpAddr, wall: impl FnOnce() -> Timestamp) -> bool {
        let mut visible = false;
        let report = self.report.get_or_insert_with(|| {
            visible = true;
            Box::default()
        });
        let AgentReport { version, hostname, boot_id, pod_uid, address, clock_skew_seconds } = &mut **report;
        visible |= replace(version, beat.version.as_deref());
        visible |= replace(hostname, beat.hostname.as_deref());
        visible |= replace(boot_id, beat.boot_id.as_deref());
        visible |= replace(pod_uid, beat.pod_uid.as_deref());
        *address = Some(from);
        if let Some(sent_at) = beat.sent_at {
            let skew = sent_at.duration_since(wall()).as_secs();
            visible |= is_skewed(*clock_skew_seconds) != is_skewed(Some(skew));
            *clock_skew_seconds = Some(skew);
        }
        let reported = beat.checks.as_deref().unwrap_or_default();
        if !self.checks.as_ref().is_some_and(|known| known.is(reported)) {
            // A message may count seconds, so a new message alone is shown with the next write.
            visible |= !self.checks.as_ref().is_some_and(|known| known.has_outcomes_of(reported));
            self.checks = Some(Checks::of(reported));
        }
        visible
    }

    /// Whether a critical check fails, by the same judgement and from the same reports as the status. Allocates nothing.
    pub(super) fn is_degraded(&self) -> bool {
        let Some(checks) = &self.checks else { return self.is_stored_degraded };
        let skew = self.report.as_deref().and_then(|report| report.clock_skew_seconds);
        checks::is_degraded(|type_| self.severities.get(type_), checks.reports(), is_skewed(skew))
    }

    /// The action for the answer to a heartbeat; `is_first` becomes true when it is handed out for the first time.
    pub(super) fn hand_out(&mut self, now: Moment, is_first: &mut bool) -> Option<Arc<Action>> {
        let is_degraded = self.is_degraded();
        let (action, first) = self.restart.as_mut()?.hand_out(is_degraded, now)?;
        *is_first |= first;
        Some(action)
    }

    /// Counts a heartbeat; above the limit, gives the seconds that are left of the minute.
    pub(super) fn exceeds_rate(&mut self, interval: Duration, now: Moment) -> Option<u32> {
        const MINUTE: Duration = Duration::from_secs(60);
        if now.since(self.rate.began) >= MINUTE {
            self.rate = Rate { began: now, beats: 0 };
        }
        self.rate.beats = self.rate.beats.saturating_add(1);
        let expected = (60 / interval.as_secs().max(1)).max(1) as u32;
        let left = MINUTE.saturating_sub(now.since(self.rate.began)).as_secs() as u32;
        (self.rate.beats > expected.saturating_mul(TOO_OFTEN)).then_some(left.max(1))
    }
}

/// Whether a clock that differs by this many seconds deserves a warning.
pub fn is_skewed(seconds: Option<i64>) -> bool {
    seconds.is_some_and(|seconds| seconds.abs() > SKEW_TOLERATED)
}

fn replace(known: &mut Option<Box<str>>, reported: Option<&str>) -> bool {
    let differs = known.as_deref() != reported;
    if differs {
        *known = reported.map(Into::into);
    }
    differs
}
