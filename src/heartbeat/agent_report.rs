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

/// The facts of a report change at most once in an interval, after this many changes at once: a sender that alternates
/// between two reports would cause a write with each heartbeat. A first report, and each of the seven known checks that
/// fails after another, are such changes.
const CHANGES_AT_ONCE: u32 = 8;

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

/// A report that changes the facts too often to be shown at once.
#[derive(Clone, Debug)]
struct Deferred {
    report: AgentReport,
    checks: Checks,
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
    fn of(beat: &Beat<'_>, from: IpAddr, clock_skew_seconds: Option<i64>) -> Self {
        let text = |of: Option<&str>| of.map(Into::into);
        Self {
            version: text(beat.version.as_deref()),
            hostname: text(beat.hostname.as_deref()),
            boot_id: text(beat.boot_id.as_deref()),
            pod_uid: text(beat.pod_uid.as_deref()),
            address: Some(from),
            clock_skew_seconds,
        }
    }
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
    /// When [`CHANGES_AT_ONCE`] changes are allowed again.
    changes_full_at: Moment,
    /// The latest report, while it waits for that.
    deferred: Option<Box<Deferred>>,
}

impl AgentState {
    /// Takes over the state of a former entry of the same connector, except for what the spec and the status give.
    pub(super) fn inherit(&mut self, before: &Self) {
        let (severities, is_stored_degraded) = (self.severities, self.is_stored_degraded);
        *self = Self { severities, is_stored_degraded, ..before.clone() };
    }

    /// Forgets the reports: another leader has written newer ones to the status.
    pub(super) fn forget_reports(&mut self) {
        (self.report, self.checks, self.restart, self.deferred) = (None, None, None, None);
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
        let earlier = known.filter(|known| known.boot_id.is_none()).and_then(|known| known.address);
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

    fn is_duplicate(&self, interval: Duration, now: Moment) -> bool {
        self.instances.as_deref().is_some_and(|instances| instances.duplicate_since(interval, now).is_some())
    }

    /// Stores a report. The address and the exact skew are shown with the next write: behind a NAT with several addresses
    /// every heartbeat would cost a write. A report that changes the facts too often is deferred.
    pub(super) fn store_report(
        &mut self,
        beat: &Beat<'_>,
        from: IpAddr,
        (interval, now): (Duration, Moment),
        wall: impl FnOnce() -> Timestamp,
    ) -> Shown {
        let skew = beat.sent_at.map(|sent_at| sent_at.duration_since(wall()).as_secs());
        let is_change = self.changes_facts(beat, skew);
        let reported = beat.checks.as_deref().unwrap_or_default();
        if is_change && !self.may_change(interval, now) {
            let known_skew = self.report.as_deref().and_then(|known| known.clock_skew_seconds);
            let report = AgentReport::of(beat, from, skew.or(known_skew));
            self.deferred = Some(Box::new(Deferred { report, checks: Checks::of(reported) }));
            return Shown::Later;
        }
        self.deferred = None;
        let report = self.report.get_or_insert_default();
        if is_change {
            **report = AgentReport::of(beat, from, skew.or(report.clock_skew_seconds));
        } else {
            report.address = Some(from);
            report.clock_skew_seconds = skew.or(report.clock_skew_seconds);
        }
        // A message may count seconds, so a new message alone is shown with the next write.
        if !self.checks.as_ref().is_some_and(|known| known.is(reported)) {
            self.checks = Some(Checks::of(reported));
        }
        if is_change { Shown::Immediately } else { Shown::WithNextWrite }
    }

    /// Stores the deferred report if the facts may change again; true when it did.
    pub(super) fn store_deferred(&mut self, interval: Duration, now: Moment) -> bool {
        if self.deferred.is_none() || !self.may_change(interval, now) {
            return false;
        }
        let Some(deferred) = self.deferred.take() else { return false };
        (self.report, self.checks) = (Some(Box::new(deferred.report)), Some(deferred.checks));
        true
    }

    /// When the deferred report can be stored.
    pub(super) fn deferred_until(&self, interval: Duration) -> Option<Moment> {
        self.deferred.as_ref().map(|_| self.changes_full_at - interval * (CHANGES_AT_ONCE - 1))
    }

    /// Whether a report differs in what is shown at once.
    fn changes_facts(&self, beat: &Beat<'_>, skew: Option<i64>) -> bool {
        let Some(known) = self.report.as_deref() else { return true };
        let reported = beat.checks.as_deref().unwrap_or_default();
        known.version.as_deref() != beat.version.as_deref()
            || known.hostname.as_deref() != beat.hostname.as_deref()
            || known.boot_id.as_deref() != beat.boot_id.as_deref()
            || known.pod_uid.as_deref() != beat.pod_uid.as_deref()
            || skew.is_some_and(|skew| is_skewed(known.clock_skew_seconds) != is_skewed(Some(skew)))
            || !self.checks.as_ref().is_some_and(|checks| checks.has_outcomes_of(reported))
    }

    /// Counts a change of the facts, if one is allowed now (the generic cell rate algorithm).
    fn may_change(&mut self, interval: Duration, now: Moment) -> bool {
        let is_allowed = self.changes_full_at.since(now) <= interval * (CHANGES_AT_ONCE - 1);
        if is_allowed {
            self.changes_full_at = self.changes_full_at.max(now) + interval;
        }
        is_allowed
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

/// The identity of a sender without a boot id. A boot id has no blank.
fn without_boot_id(address: IpAddr) -> String {
    format!("without boot id {address}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::payload::parse;

    const INTERVAL: Duration = Duration::from_secs(30);

    /// A heartbeat at this second from the host `192.0.2.<host>`.
    fn receive(state: &mut AgentState, second: i64, host: u8, report: &str) -> bool {
        let body = format!(r#"{{"connector_id": "edge/paris", "token": "t"{report}}}"#);
        let beat = parse(body.as_bytes(), None).unwrap();
        let (from, at) = (IpAddr::from([192, 0, 2, host]), (INTERVAL, Moment::from_micros(second * 1_000_000)));
        let mut visible = false;
        if state.is_latest(&beat, from, at, &mut visible) {
            visible |= state.store_report(&beat, from, at, || Timestamp::UNIX_EPOCH) == Shown::Immediately;
        }
        visible
    }

    #[test]
    fn facts_that_alternate_change_once_in_an_interval_after_a_few() {
        let reports = |i: i64| match i % 4 {
            0 => r#","hostname": "a""#,
            1 => r#","checks": [{"type": "Process", "status": "Fail"}]"#,
            2 => "",
            _ => r#","version": "1.0.0", "hostname": "b""#,
        };
        let mut state = AgentState::default();
        // Ten minutes, four heartbeats a second.
        let changes = (0..2400).filter(|i| receive(&mut state, i / 4, 1, reports(*i))).count();
        assert!((20..=28).contains(&changes), "{changes}");
        let mut calm = AgentState::default();
        assert!(receive(&mut calm, 0, 1, reports(0)));
        assert!(!receive(&mut calm, 30, 1, reports(0)));
        assert!(receive(&mut calm, 31, 1, reports(1)) && receive(&mut calm, 32, 1, reports(0)), "a few at once");
    }

    #[test]
    fn the_last_of_too_many_changes_is_stored_when_the_facts_may_change_again() {
        let failing = |check: i64| format!(r#","checks": [{{"type": "Check{check}", "status": "Fail"}}]"#);
        let mut state = AgentState::default();
        let at_once = i64::from(CHANGES_AT_ONCE);
        for check in 0..at_once {
            assert!(receive(&mut state, 0, 1, &failing(check)));
        }
        assert_eq!(state.deferred_until(INTERVAL), None);
        assert!(!receive(&mut state, 0, 1, &failing(at_once)) && !receive(&mut state, 1, 1, &failing(at_once + 1)));
        let until = state.deferred_until(INTERVAL).unwrap();
        assert_eq!(until, Moment::default() + INTERVAL, "the next change is allowed an interval after those at once");
        assert!(!state.store_deferred(INTERVAL, until - Duration::from_micros(1)));
        assert!(state.is_degraded() && state.checks.as_ref().unwrap().to_vec()[0].type_.ends_with('7'));
        assert!(state.store_deferred(INTERVAL, until));
        assert!(state.checks.as_ref().unwrap().to_vec()[0].type_.ends_with('9'), "the last one, not the one before");
        assert!(!state.store_deferred(INTERVAL, until + INTERVAL), "once");
        assert_eq!(state.deferred_until(INTERVAL), None);
        // A report that agrees with the stored one again leaves nothing to store.
        assert!(!receive(&mut state, 30, 1, &failing(0)) && state.deferred_until(INTERVAL).is_some());
        assert!(!receive(&mut state, 31, 1, &failing(at_once + 1)) && state.deferred_until(INTERVAL).is_none());
    }

    #[test]
    fn a_second_host_is_noticed_with_and_without_boot_ids() {
        let boot = r#","boot_id": "a""#;
        let is_noticed = |beats: &[(i64, u8, &str)]| {
            let mut state = AgentState::default();
            for (second, host, report) in beats {
                receive(&mut state, *second, *host, report);
            }
            state.is_duplicate(INTERVAL, Moment::from_micros(beats.last().unwrap().0 * 1_000_000))
        };
        assert!(
            is_noticed(&[(0, 1, boot), (10, 2, ""), (30, 1, boot), (40, 2, ""), (60, 1, boot)]),
            "a thief without one"
        );
        assert!(is_noticed(&[(0, 2, ""), (10, 1, boot), (30, 2, ""), (40, 1, boot), (60, 2, "")]), "and the other way");
        assert!(is_noticed(&[(0, 1, ""), (10, 2, ""), (30, 1, ""), (40, 2, "")]), "neither has one");
        // One sender with two addresses sends no more often for that.
        assert!(!is_noticed(&[(0, 1, ""), (30, 2, ""), (60, 1, ""), (90, 2, ""), (120, 1, ""), (150, 2, "")]));
        assert!(!is_noticed(&[(0, 1, boot), (30, 2, boot), (31, 1, boot), (32, 2, boot), (33, 1, boot)]), "a NAT");
        assert!(!is_noticed(&[(0, 1, ""), (30, 1, ""), (31, 2, ""), (61, 2, ""), (91, 2, "")]), "it moved");
    }
}
