//! The one judgement of reported checks: which failures are critical, and in which order they are listed.

use super::liveness::Presence;
use crate::api::{Cause, CheckOutcome, CheckType, ConnectorState, Reason, Severity, Truth};

/// One check as an agent reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckInput<'a> {
    /// Its type. An unknown type is kept as it was sent.
    pub type_: &'a str,
    /// The outcome that was reported.
    pub outcome: CheckOutcome,
    /// The agent's message about it.
    pub message: Option<&'a str>,
}

/// A check that does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedCheck {
    /// The check's type.
    pub type_: String,
    /// The cause of a diagnosis that it leads to.
    pub cause: Cause,
    /// The condition's reason when it is critical.
    pub reason: Reason,
    /// Whether it makes the connector Degraded.
    pub critical: bool,
    /// Its outcome, which is not Pass.
    pub outcome: CheckOutcome,
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
    pub faults: Vec<FailedCheck>,
}

impl std::fmt::Display for FailedCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{}: {message}", self.type_),
            None => f.write_str(&self.type_),
        }
    }
}

impl Health {
    /// Whether a critical check fails.
    pub fn is_degraded(&self) -> bool {
        self.truth == Truth::False
    }
}

/// Judges the reports. `severity` gives the severity of a type; `skewed`: the sender's clock is off by more than 30 s, as
/// the operator measured it.
pub fn judge(severity: impl Fn(&str) -> Severity, reports: &[CheckInput<'_>], skewed: bool) -> Health {
    let mut faults: Vec<FailedCheck> = problems(severity, reports.iter().copied(), skewed)
        .map(|(report, critical)| fault(&report, critical))
        .collect();
    faults.sort_by_key(|fault| (!fault.critical, rank(&fault.type_)));
    let (truth, reason) = match faults.first() {
        Some(worst) if worst.critical => (Truth::False, worst.reason),
        Some(_) => (Truth::True, Reason::Warnings),
        None if reports.is_empty() => (Truth::Unknown, Reason::NotReported),
        None => (Truth::True, Reason::ChecksPassed),
    };
    Health { truth, reason, faults }
}

/// Whether a critical check fails. The same judgement as [`judge`] without the list of faults: it allocates nothing, so
/// the answer to every heartbeat can use it.
pub fn is_degraded<'a>(
    severity: impl Fn(&str) -> Severity,
    reports: impl Iterator<Item = CheckInput<'a>>,
    skewed: bool,
) -> bool {
    problems(severity, reports, skewed).any(|(_, critical)| critical)
}

/// The state of a connector, in its status and in the answer to its heartbeat alike. First match: Pending > Unknown >
/// Offline > Late > Degraded > Online (`docs/design/api.md`).
pub const fn state(presence: Presence, is_degraded: bool) -> ConnectorState {
    match presence {
        Presence::NeverSeen => ConnectorState::Pending,
        Presence::Unknown => ConnectorState::Unknown,
        Presence::Offline => ConnectorState::Offline,
        Presence::Late => ConnectorState::Late,
        Presence::Online if is_degraded => ConnectorState::Degraded,
        Presence::Online => ConnectorState::Online,
    }
}

/// The reports that count as problems, each with whether it is critical.
fn problems<'a>(
    severity: impl Fn(&str) -> Severity,
    reports: impl Iterator<Item = CheckInput<'a>>,
    skewed: bool,
) -> impl Iterator<Item = (CheckInput<'a>, bool)> {
    let own = skewed.then_some(CheckInput {
        type_: CheckType::ClockSkew.as_str(),
        outcome: CheckOutcome::Fail,
        message: Some("the sender's clock differs from ours by more than 30 s"),
    });
    // The operator measures the skew; an agent cannot measure its own clock, so its report of it is ignored.
    let reported = reports.filter(|report| report.type_ != CheckType::ClockSkew.as_str());
    reported.chain(own).filter_map(move |report| {
        if report.outcome == CheckOutcome::Pass {
            return None;
        }
        match severity(report.type_) {
            Severity::Ignore => None,
            severity => Some((report, report.outcome == CheckOutcome::Fail && severity == Severity::Critical)),
        }
    })
}

fn fault(report: &CheckInput<'_>, critical: bool) -> FailedCheck {
    let (cause, reason) = words(report.type_);
    let CheckInput { type_, outcome, message } = *report;
    FailedCheck { type_: type_.to_owned(), cause, reason, critical, outcome, message: message.map(str::to_owned) }
}

fn rank(type_: &str) -> usize {
    // The order of the enum is the order of consequence: without a process there is no interface, without an interface
    // no handshake.
    CheckType::ALL.iter().position(|known| known.as_str() == type_).unwrap_or(CheckType::ALL.len())
}

/// The cause that a failing check of this type leads to.
pub fn cause_of(type_: CheckType) -> Cause {
    words(type_.as_str()).0
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

    fn report(type_: &str, outcome: CheckOutcome) -> CheckInput<'_> {
        CheckInput { type_, outcome, message: None }
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
    fn both_forms_of_the_judgement_agree() {
        let outcomes = [CheckOutcome::Pass, CheckOutcome::Warn, CheckOutcome::Fail, CheckOutcome::Unknown];
        let types = CheckType::ALL.iter().map(|type_| type_.as_str()).chain(["FromTheFuture"]);
        for (type_, outcome) in types.flat_map(|type_| outcomes.map(|outcome| (type_, outcome))) {
            let reports = [report("NATRules", CheckOutcome::Pass), report(type_, outcome)];
            for severity in Severity::ALL.iter().copied() {
                for skewed in [false, true] {
                    let whole = judge(|_| severity, &reports, skewed).is_degraded();
                    let short = is_degraded(|_| severity, reports.iter().copied(), skewed);
                    assert_eq!(short, whole, "{type_} {outcome} {severity} {skewed}");
                }
            }
        }
    }

    #[test]
    fn an_agents_word_on_its_own_clock_is_not_taken() {
        let reports = [report("ClockSkew", CheckOutcome::Fail)];
        assert_eq!(judge(default, &reports, false).reason, Reason::ChecksPassed);
    }
}
