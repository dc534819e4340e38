//! Judges the host: from facts over time to the checks of a heartbeat, and to what it tells about backends.
//!
//! Pure: time is an argument. What could not be looked at is `Unknown` with the reason, never a failure.

mod attempts;
mod backends;
mod finding;
mod forwarding;
mod handshake;
mod host;
mod nat;
mod process;
mod route;
mod rules;
mod settle;
mod target;
#[cfg(test)]
mod tests;
mod tunnel;
mod words;

use std::collections::BTreeMap;

pub use self::attempts::{Attempt, Attempts};
use self::finding::Finding;
use self::handshake::Peers;
use self::host::Host;
use self::settle::Settled;
use self::target::Targets;
use super::config::{CheckConfig, Config};
use super::facts::Facts;
use crate::api::{BackendReport, CheckOutcome, CheckType, LocalProbe};
use crate::diagnosis::connector::known_fault;
use crate::health::checks::cause_of;
use crate::time::Now;

/// Seconds by which the clock of the host may differ from that of the operator.
const SKEW_TOLERATED: u64 = 30;

/// What the unprivileged half knows by itself.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// The last result of each probe of an endpoint on this host, by its URL.
    pub probes: &'a BTreeMap<String, LocalProbe>,
    /// Its attempts to send heartbeats.
    pub attempts: &'a Attempts,
    /// The clock of the host minus that of the operator, in seconds; `None` before the first answer.
    pub clock_offset_seconds: Option<i64>,
}

/// The verdict of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// Which check.
    pub type_: CheckType,
    /// The verdict.
    pub outcome: CheckOutcome,
    /// The evidence in a sentence, at most 256 characters.
    pub message: String,
    /// What to do, where it does not pass: the operator's words for the same fault.
    pub advice: Option<&'static str>,
}

/// What is told about the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The verdicts, in the order of the configuration.
    pub checks: Vec<CheckReport>,
    /// The backends, in the order of the configuration.
    pub backends: Vec<BackendReport>,
    /// A person stopped the unit of the connector.
    pub stopped_on_purpose: bool,
}

/// What is remembered between two looks.
#[derive(Debug, Default)]
pub struct Assessment {
    targets: Targets,
    peers: Peers,
    settled: BTreeMap<CheckType, Settled>,
}

impl Assessment {
    /// Judges one look. A new verdict counts when a second look confirms it; that of Process counts at once, unless it is
    /// that it could not be looked at, and so does the first verdict of all.
    pub fn update(&mut self, config: &Config, facts: &Facts, own: &Own<'_>, now: Now) -> Report {
        self.targets.update(facts, own, now);
        self.peers.update(facts, now.moment);
        let checks = config.checks.iter().map(|check| self.check(config, check, facts, own, now)).collect();
        self.settled.retain(|type_, _| config.checks.iter().any(|check| check.type_ == *type_));
        let backends = config.backends.iter().map(|backend| backends::report(backend, &self.targets, facts, own));
        let process = config.checks.iter().find(|check| check.type_ == CheckType::Process);
        let unit = process.and_then(|check| check.unit.as_ref()).or(config.unit.as_ref());
        let stopped_on_purpose = unit.is_some_and(|unit| process::was_stopped(unit, facts));
        Report { checks, backends: backends.collect(), stopped_on_purpose }
    }

    fn check(&mut self, config: &Config, check: &CheckConfig, facts: &Facts, own: &Own<'_>, now: Now) -> CheckReport {
        let type_ = check.type_;
        let host = Host { config, check, facts };
        let finding = match type_ {
            CheckType::Process => process::judge(&host, &self.targets, own.probes),
            CheckType::WireGuardInterface => tunnel::judge(&host),
            CheckType::WireGuardHandshake => handshake::judge(&host, &self.peers, now.moment),
            CheckType::OverlayRoute => route::judge(&host),
            CheckType::IPForwarding => forwarding::judge(&host),
            CheckType::NATRules => nat::judge(&host),
            CheckType::ControlPlane => own.attempts.judge(now.moment),
            CheckType::ClockSkew => clock_skew(own.clock_offset_seconds),
        };
        let settled = self.settled.entry(type_).or_default();
        let finding = match (type_, finding.outcome) {
            // What could not be looked at once is not news about the process.
            (CheckType::Process, CheckOutcome::Pass | CheckOutcome::Warn | CheckOutcome::Fail) => settled.tell(finding),
            _ => settled.settle(finding),
        };
        let Finding { outcome, message } = finding;
        let is_bad = matches!(outcome, CheckOutcome::Warn | CheckOutcome::Fail);
        let advice = is_bad.then(|| known_fault(cause_of(type_)).map(|(_, advice, _)| advice)).flatten();
        CheckReport { type_, outcome, message, advice }
    }
}

fn clock_skew(offset: Option<i64>) -> Finding {
    match offset.map(|offset| (offset, offset.unsigned_abs())) {
        None => Finding::unknown("the operator has not answered yet"),
        Some((_, by)) if by <= SKEW_TOLERATED => Finding::pass("the clock agrees with the operator's"),
        Some((offset, by)) => {
            let way = if offset > 0 { "ahead of" } else { "behind" };
            Finding::warn(format!("the clock is {} {way} the operator's", words::duration(by)))
        }
    }
}
