//! Judges the checks that an agent reports: the severity of each failure, and their order. Pure.

use crate::api::{Cause, CheckOutcome, CheckType, Reason, Severity, Truth};

/// One check as an agent reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report<'a> {
    /// Its type. An unknown type is kept as it was sent.
    pub type_: &'a str,
    /// The outcome that was reported.
    pub outcome: CheckOutcome,
    /// The agent's message about it.
    pub message: Option<&'a str>,
}

/// A check that does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The check's type.
    pub type_: String,
    /// The cause of a diagnosis that it leads to.
    pub cause: Cause,
    /// The condition's reason when it is critical.
    pub reason: Reason,
    /// Whether it makes the connector Degraded.
    pub critical: bool,
    /// The agent's message about it.
    pub message: Option<String>,
}

/// The verdict of all checks together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The status of the condition `Healthy`.
    pub truth: Truth,
    /// The reason of the condition `Healthy`.
    pub reason: Reason,
    /// The checks that do not pass, the gravest first.
    pub faults: Vec<Fault>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{}: {message}", self.type_),
            None => f.write_str(&self.type_),
        }
    }
}

/// Judges the reported checks. `severity` gives the severity of a failing check by its type; `skewed`: the operator
/// measured that the sender's clock is off by more than 30 s.
pub fn judge(severity: impl Fn(&str) -> Severity, reports: &[Report<'_>], skewed: bool) -> Health {
    let own = skewed.then_some(Report {
        type_: CheckType::ClockSkew.as_str(),
        outcome: CheckOutcome::Fail,
        message: Some("the sender's clock differs from ours by more than 30 s"),
    });
    // The operator measures the skew; an agent's report on its own clock is no measurement and is ignored.
    let reported = reports.iter().copied().filter(|report| report.type_ != CheckType::ClockSkew.as_str());
    let mut faults: Vec<Fault> =
        reported.chain(own).filter_map(|report| fault(severity(report.type_), &report)).collect();
    faults.sort_by_key(|fault| (!fault.critical, rank(&fault.type_)));
    let (truth, reason) = match faults.first() {
        Some(worst) if worst.critical => (Truth::False, worst.reason),
        Some(_) => (Truth::True, Reason::Warnings),
        None if reports.is_empty() => (Truth::Unknown, Reason::NotReported),
        None => (Truth::True, Reason::ChecksPassed),
    };
    Health { truth, reason, faults }
}

fn fault(severity: Severity, report: &Report<'_>) -> Option<Fault> {
    if report.outcome == CheckOutcome::Pass || severity == Severity::Ignore {
        return None;
    }
    let (cause, reason) = words(report.type_);
    let critical = report.outcome == CheckOutcome::Fail && severity == Severity::Critical;
    Some(Fault { type_: report.type_.to_owned(), cause, reason, critical, message: report.message.map(str::to_owned) })
}

fn rank(type_: &str) -> usize {
    // The order of the enum is the order of consequence: without a process there is no interface, without an interface
    // no handshake.
    CheckType::ALL.iter().position(|known| known.as_str() == type_).unwrap_or(CheckType::ALL.len())
}

fn words(type_: &str) -> (Cause, Reason) {
    match type_.parse() {
        Ok(CheckType::Process) => (Cause::ProcessDown, Reason::ProcessDown),
        Ok(CheckType::WireGuardInterface) => (Cause::WireGuardDown, Reason::WireGuardDown),
        Ok(CheckType::WireGuardHandshake) => (Cause::HandshakeStale, Reason::HandshakeStale),
        Ok(CheckType::OverlayRoute) => (Cause::RouteMissing, Reason::RouteMissing),
        Ok(CheckType::IPForwarding) => (Cause::IPForwardingOff, Reason::IPForwardingOff),
        Ok(CheckType::NATRules) => (Cause::NATRulesMissing, Reason::NATRulesMissing),
        Ok(CheckType::ControlPlane) => (Cause::ControlPlaneUnreachable, Reason::ControlPlaneUnreachable),
        Ok(CheckType::ClockSkew) => (Cause::ClockSkew, Reason::ClockSkew),
        Err(_) => (Cause::CheckFailed, Reason::CheckFailed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(type_: &str, outcome: CheckOutcome) -> Report<'_> {
        Report { type_, outcome, message: None }
    }

    fn default(type_: &str) -> Severity {
        type_.parse().map_or(Severity::Critical, CheckType::default_severity)
    }

    #[test]
    fn a_founding_beat_reports_nothing_and_that_is_not_unhealthy() {
        let health = judge(default, &[], false);
        assert_eq!((health.truth, health.reason), (Truth::Unknown, Reason::NotReported));
    }

    #[test]
    fn passing_checks_are_healthy() {
        let health =
            judge(default, &[report("Process", CheckOutcome::Pass), report("Future", CheckOutcome::Pass)], false);
        assert_eq!((health.truth, health.reason), (Truth::True, Reason::ChecksPassed));
    }

    #[test]
    fn the_gravest_failure_is_named_first() {
        let reports = [
            report("ControlPlane", CheckOutcome::Fail),
            report("NATRules", CheckOutcome::Fail),
            report("WireGuardInterface", CheckOutcome::Fail),
        ];
        let health = judge(default, &reports, true);
        assert_eq!((health.truth, health.reason), (Truth::False, Reason::WireGuardDown));
        let order: Vec<_> = health.faults.iter().map(|fault| fault.cause).collect();
        assert_eq!(
            order,
            [Cause::WireGuardDown, Cause::NATRulesMissing, Cause::ControlPlaneUnreachable, Cause::ClockSkew]
        );
    }

    #[test]
    fn warnings_do_not_make_it_unhealthy() {
        for reports in [
            vec![report("ControlPlane", CheckOutcome::Fail)],
            vec![report("Process", CheckOutcome::Warn)],
            vec![report("Process", CheckOutcome::Unknown)],
        ] {
            let health = judge(default, &reports, false);
            assert_eq!((health.truth, health.reason), (Truth::True, Reason::Warnings), "{reports:?}");
        }
        assert_eq!(judge(default, &[], true).reason, Reason::Warnings);
    }

    #[test]
    fn a_failure_of_a_type_that_we_do_not_know_is_told_under_its_own_name() {
        let health = judge(default, &[report("FromTheFuture", CheckOutcome::Fail)], false);
        assert_eq!((health.truth, health.reason), (Truth::False, Reason::CheckFailed));
        assert_eq!(health.faults[0].type_, "FromTheFuture");
    }

    #[test]
    fn the_spec_decides_what_matters() {
        let reports = [report("IPForwarding", CheckOutcome::Fail)];
        assert_eq!(judge(|_| Severity::Warning, &reports, false).reason, Reason::Warnings);
        assert_eq!(judge(|_| Severity::Ignore, &reports, false).reason, Reason::ChecksPassed);
        assert_eq!(judge(|_| Severity::Critical, &[], true).truth, Truth::False);
    }

    #[test]
    fn an_agents_word_on_its_own_clock_is_not_taken() {
        let reports = [report("ClockSkew", CheckOutcome::Fail)];
        assert_eq!(judge(default, &reports, false).reason, Reason::ChecksPassed);
    }
}
