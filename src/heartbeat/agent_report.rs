//! What an agent says of itself, and how often.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::compact::Checks;
use super::entry::Inner;
use super::payload::{Beat, ReportedCheck};
use crate::api::{CheckOutcome, CheckType, Severity};
use crate::time::Moment;

/// Above so many times its own rate over a minute, a connector is asked to slow down; its beats still count.
const TOO_OFTEN: u32 = 10;

/// What the agent said about itself, last.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AgentReport {
    /// Its version.
    pub version: Option<Box<str>>,
    /// Its host's name.
    pub hostname: Option<Box<str>>,
    /// Changes with each start of the agent.
    pub boot_id: Option<Box<str>>,
    /// The UID of the pod that it runs in.
    pub pod_uid: Option<Box<str>>,
    /// Where its beats come from.
    pub address: Option<IpAddr>,
    /// Its clock less ours, in whole seconds.
    pub clock_skew_seconds: Option<i64>,
}

/// The beats of the last minute.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    began: Moment,
    beats: u32,
}

impl Inner {
    /// Takes over what the agent said; true when that should be shown now rather than with the next checkpoint. The
    /// address and the skew wait: behind a NAT with several addresses they would cost a write with every beat.
    pub(super) fn learn(&mut self, beat: &Beat<'_>, from: IpAddr, wall: impl FnOnce() -> Timestamp) -> bool {
        let mut visible = false;
        let agent = self.agent.get_or_insert_with(|| {
            visible = true;
            Box::default()
        });
        let AgentReport { version, hostname, boot_id, pod_uid, address, clock_skew_seconds } = &mut **agent;
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
        let checks = beat.checks.as_deref().unwrap_or_default();
        if !self.checks.as_ref().is_some_and(|known| known.is(checks)) {
            // A message may well count seconds: it is kept, and shown with the next write.
            visible |= !self.checks.as_ref().is_some_and(|known| known.has_outcomes_of(checks));
            self.checks = Some(Checks::of(checks));
        }
        visible
    }

    /// Whether a check that this beat reports as failed is a critical one.
    pub(super) fn is_degraded(&self, beat: &Beat<'_>) -> bool {
        let severity = |type_: &str| {
            let known: Option<CheckType> = type_.parse().ok();
            let said = self.severities.iter().find(|(of, _)| Some(*of) == known).map(|(_, severity)| *severity);
            said.or(known.map(CheckType::default_severity)).unwrap_or(Severity::Critical)
        };
        let failed =
            |check: &ReportedCheck| check.status == CheckOutcome::Fail && check.type_ != CheckType::ClockSkew.as_str();
        beat.checks.iter().flatten().any(|check| failed(check) && severity(&check.type_) == Severity::Critical)
    }

    /// Takes note of a beat; when there are too many, gives how many seconds are left of the minute.
    pub(super) fn exceeds_rate(&mut self, now: Moment) -> Option<u32> {
        const MINUTE: Duration = Duration::from_secs(60);
        if now.since(self.rate.began) >= MINUTE {
            self.rate = Rate { began: now, beats: 0 };
        }
        self.rate.beats = self.rate.beats.saturating_add(1);
        let expected = (60 / self.timing.timing().interval.as_secs().max(1)).max(1) as u32;
        let left = MINUTE.saturating_sub(now.since(self.rate.began)).as_secs() as u32;
        (self.rate.beats > expected.saturating_mul(TOO_OFTEN)).then_some(left.max(1))
    }
}

/// Whether a clock that is off by so many seconds deserves a warning: more than 30 (api.md, `checks[]`).
pub fn is_skewed(seconds: Option<i64>) -> bool {
    seconds.is_some_and(|seconds| seconds.abs() > 30)
}

fn replace(known: &mut Option<Box<str>>, said: Option<&str>) -> bool {
    let differs = known.as_deref() != said;
    if differs {
        *known = said.map(Into::into);
    }
    differs
}
