//! The reports of one sender about itself: the connector, or the agent that beats beside it.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::compact::Checks;
use super::instances::{Freshness, Instances};
use super::payload::Beat;
use super::stored_report::StoredReport;
use crate::schedule::BurstLimit;
use crate::time::Moment;

/// The facts of a report change at most once in an interval, after this many changes at once: a sender that alternates
/// between two reports would cause a write with each heartbeat. A first report, and each of the seven known checks that
/// fails after another, are such changes.
pub(super) const CHANGES_AT_ONCE: u32 = 8;

/// A clock that differs by more than this many seconds is skewed (`docs/design/api.md`, `checks[]`).
const SKEW_TOLERATED: i64 = 30;

/// The latest report of a sender about itself.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AgentReport {
    /// The sender's version.
    pub version: Option<Box<str>>,
    /// The name of the sender's host.
    pub hostname: Option<Box<str>>,
    /// Changes with each start of the sender.
    pub boot_id: Option<Box<str>>,
    /// The UID of the sender's pod.
    pub pod_uid: Option<Box<str>>,
    /// The source address of its heartbeats.
    pub address: Option<IpAddr>,
    /// The sender's clock minus the operator's, in whole seconds.
    pub clock_skew_seconds: Option<i64>,
    /// Its last heartbeat had no boot id.
    pub is_unnamed: bool,
}

/// A report that changes the facts too often to be shown at once. Checks that it does not mention are unchanged.
#[derive(Clone, Debug)]
struct Deferred {
    report: StoredReport,
    checks: Option<Checks>,
}

/// When a report is shown in the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Now.
    Immediately,
    /// With the next write for another reason.
    WithNextWrite,
    /// Once the facts may change again, unless another report comes before.
    Later,
}

impl AgentReport {
    /// The report in a heartbeat. A fact that it does not mention stays as it is known.
    fn of(beat: &Beat<'_>, from: IpAddr, skew: Option<i64>, known: Option<&StoredReport>) -> Self {
        let said = Self {
            version: beat.version.as_deref().map(Into::into),
            hostname: beat.hostname.as_deref().map(Into::into),
            boot_id: beat.boot_id.as_deref().map(Into::into),
            pod_uid: beat.pod_uid.as_deref().map(Into::into),
            address: Some(from),
            clock_skew_seconds: skew,
            is_unnamed: beat.boot_id.is_none(),
        };
        match known {
            Some(known) => said.or(&known.report()),
            None => said,
        }
    }

    /// The facts of this report, and those of `other` that it lacks.
    pub(super) fn or(&self, other: &Self) -> Self {
        let text = |one: &Option<Box<str>>, other: &Option<Box<str>>| one.as_ref().or(other.as_ref()).cloned();
        Self {
            version: text(&self.version, &other.version),
            hostname: text(&self.hostname, &other.hostname),
            boot_id: text(&self.boot_id, &other.boot_id),
            pod_uid: text(&self.pod_uid, &other.pod_uid),
            address: self.address.or(other.address),
            clock_skew_seconds: self.clock_skew_seconds.or(other.clock_skew_seconds),
            is_unnamed: self.is_unnamed,
        }
    }
}

/// Everything that one sender reported to this process.
#[derive(Clone, Debug, Default)]
pub(super) struct Sender {
    /// `None` until this process has accepted a heartbeat of this sender.
    pub(super) report: Option<Box<StoredReport>>,
    /// `None` until this process has received checks of this sender.
    pub(super) checks: Option<Checks>,
    /// `None` for senders without a boot id.
    pub(super) instances: Option<Box<Instances>>,
    /// The latest report, while it waits for the limit of changes.
    deferred: Option<Box<Deferred>>,
}

impl Sender {
    /// Forgets the reports: another leader has written newer ones to the status.
    pub(super) fn forget_reports(&mut self) {
        (self.report, self.checks, self.deferred) = (None, None, None);
    }

    /// Records the boot id and the sequence number; true when this is the latest report of a single instance.
    ///
    /// With duplicate instances the first agent report is kept; otherwise every heartbeat would change the status.
    pub(super) fn is_latest(
        &mut self,
        beat: &Beat<'_>,
        from: IpAddr,
        (interval, now): (Duration, Moment),
        visible: &mut bool,
    ) -> bool {
        let had_duplicate = self.is_duplicate(interval, now);
        let freshness = self.record_instance(beat, from, interval, now);
        let has_duplicate = self.is_duplicate(interval, now);
        *visible |= had_duplicate != has_duplicate;
        freshness == Freshness::Fresh && !has_duplicate
    }

    /// Records the instance that sent a heartbeat: its boot id, or without one its address.
    ///
    /// One sender may have several addresses. Two senders that alternate send twice as many heartbeats, so addresses that
    /// alternate count within half the time only.
    fn record_instance(&mut self, beat: &Beat<'_>, from: IpAddr, interval: Duration, now: Moment) -> Freshness {
        let known = self.report.as_deref();
        let earlier = known.filter(|known| known.is_unnamed).and_then(|known| known.address);
        if self.instances.is_none() {
            let is_same = beat.boot_id.is_none() && earlier.is_none_or(|earlier| earlier == from);
            if is_same {
                return Freshness::Fresh;
            }
            if let Some(earlier) = earlier {
                self.instances.get_or_insert_default().record(&without_boot_id(earlier), None, interval, now);
            }
        }
        let instances = self.instances.get_or_insert_default();
        match &beat.boot_id {
            Some(boot) => instances.record(boot, beat.sequence, interval, now),
            None if earlier.is_some() => instances.record(&without_boot_id(from), None, interval / 2, now),
            None => instances.record(&without_boot_id(from), None, interval, now),
        }
    }

    pub(super) fn is_duplicate(&self, interval: Duration, now: Moment) -> bool {
        self.instances.as_deref().is_some_and(|instances| instances.duplicate_since(interval, now).is_some())
    }

    /// Stores a report. The address and the exact skew are shown with the next write: behind a NAT with several addresses
    /// every heartbeat would cost a write. A report that changes the facts too often is deferred.
    pub(super) fn store_report(
        &mut self,
        beat: &Beat<'_>,
        from: IpAddr,
        (interval, now): (Duration, Moment),
        changes: &mut BurstLimit,
        wall: impl FnOnce() -> Timestamp,
    ) -> Shown {
        let skew = beat.sent_at.map(|sent_at| sent_at.duration_since(wall()).as_secs());
        let is_change = self.changes_facts(beat, skew);
        if is_change && !changes.allows(CHANGES_AT_ONCE, interval, now) {
            let report = StoredReport::of(&AgentReport::of(beat, from, skew, self.report.as_deref()));
            self.deferred = Some(Box::new(Deferred { report, checks: beat.checks.as_deref().map(Checks::of) }));
            return Shown::Later;
        }
        self.deferred = None;
        let report = self.report.get_or_insert_default();
        if is_change {
            **report = StoredReport::of(&AgentReport::of(beat, from, skew, Some(report)));
        } else {
            report.address = Some(from);
            if let Some(skew) = skew {
                report.set_clock_skew_seconds(skew);
            }
            report.is_unnamed = beat.boot_id.is_none();
        }
        // A message may count seconds, so a new message alone is shown with the next write.
        if let Some(reported) = beat.checks.as_deref()
            && !self.checks.as_ref().is_some_and(|known| known.is(reported))
        {
            self.checks = Some(Checks::of(reported));
        }
        if is_change { Shown::Immediately } else { Shown::WithNextWrite }
    }

    /// Stores the deferred report if the facts may change again; true when it did.
    pub(super) fn store_deferred(&mut self, changes: &mut BurstLimit, interval: Duration, now: Moment) -> bool {
        if self.deferred.is_none() || !changes.allows(CHANGES_AT_ONCE, interval, now) {
            return false;
        }
        let Some(deferred) = self.deferred.take() else { return false };
        let Deferred { report, checks } = *deferred;
        self.report = Some(Box::new(report));
        self.checks = checks.or(self.checks.take());
        true
    }

    /// When the deferred report can be stored.
    pub(super) fn deferred_until(&self, changes: BurstLimit, interval: Duration) -> Option<Moment> {
        self.deferred.as_ref().map(|_| changes.allowed_at(CHANGES_AT_ONCE, interval))
    }

    /// Whether a report differs in what is shown at once. What it does not mention does not differ.
    fn changes_facts(&self, beat: &Beat<'_>, skew: Option<i64>) -> bool {
        let Some(known) = self.report.as_deref() else { return true };
        let differs = |said: Option<&str>, known: Option<&str>| said.is_some() && said != known;
        differs(beat.version.as_deref(), known.version())
            || differs(beat.hostname.as_deref(), known.hostname())
            || beat.boot_id.as_deref().is_some_and(|boot| !known.has_boot_id(boot))
            || differs(beat.pod_uid.as_deref(), known.pod_uid())
            || skew.is_some_and(|skew| is_skewed(known.clock_skew_seconds()) != is_skewed(Some(skew)))
            || beat
                .checks
                .as_deref()
                .is_some_and(|reported| !self.checks.as_ref().is_some_and(|checks| checks.has_outcomes_of(reported)))
    }
}

/// Whether a clock that differs by this many seconds deserves a warning.
pub fn is_skewed(seconds: Option<i64>) -> bool {
    seconds.is_some_and(|seconds| seconds.abs() > SKEW_TOLERATED)
}

/// The identity of a sender without a boot id. A boot id has no blank.
fn without_boot_id(address: IpAddr) -> String {
    format!("without boot id {address}")
}
