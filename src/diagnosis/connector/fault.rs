//! A check that does not pass, in words.

use super::finding;
use crate::api::{Cause, CheckOutcome, Confidence, Diagnosis, RestartHelps};
use crate::health::checks::FailedCheck;

pub(super) fn fault_finding(fault: &FailedCheck) -> Option<Diagnosis> {
    let (what, advice, restart_helps) = known_fault(fault.cause).unwrap_or((
        "a check of a type that this version does not know is not passing",
        "read what the agent says about it; a newer vigie may know more",
        RestartHelps::No,
    ));
    let said = fault.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
    // It does not fail, so what is said of a failure is not true of it.
    let other = match fault.outcome {
        CheckOutcome::Warn => Some(("warns", "nothing fails yet: do on its host what the check says")),
        CheckOutcome::Unknown => Some(("could not be made", "look on its host: `vigie agent check`")),
        CheckOutcome::Pass | CheckOutcome::Fail => None,
    };
    if let Some((how, advice)) = other {
        let message = format!("the {} check {how}{said}", fault.type_);
        return finding(fault.cause, Confidence::Certain, message, advice.to_owned(), RestartHelps::No);
    }
    finding(
        fault.cause,
        Confidence::Certain,
        format!("{what} ({} check{said})", fault.type_),
        advice.to_owned(),
        restart_helps,
    )
}

/// Meaning of a failing check, advice, and whether a restart can help. An agent prints the same words on its host.
pub fn known_fault(cause: Cause) -> Option<(&'static str, &'static str, RestartHelps)> {
    Some(match cause {
        Cause::ProcessDown => (
            "its process does not run",
            "start it on its host and read why it stopped (journalctl -u UNIT)",
            RestartHelps::Yes,
        ),
        Cause::WireGuardDown => (
            "its WireGuard interface is missing or down",
            "bring the interface up (wg-quick up, or restart the connector's unit)",
            RestartHelps::Yes,
        ),
        Cause::HandshakeStale => (
            "its last WireGuard handshake is too old",
            "check the peer's endpoint and that UDP to it is not filtered (wg show)",
            RestartHelps::Once,
        ),
        Cause::RouteMissing => (
            "a route to the overlay is missing",
            "restart the connector's unit, which sets the routes up, then look for what removes them (ip route)",
            RestartHelps::Once,
        ),
        Cause::IPForwardingOff => (
            "the kernel does not forward packets",
            "run `sysctl -w net.ipv4.ip_forward=1` on its host, and make it permanent",
            RestartHelps::Once,
        ),
        Cause::NATRulesMissing => (
            "the NAT rules are missing",
            "restart the connector's unit, which sets the rules up, then look for what flushes them (nft list ruleset)",
            RestartHelps::Once,
        ),
        Cause::ControlPlaneUnreachable => (
            "its agent cannot reach the control plane",
            "check the host's way out: DNS, proxy, firewall",
            RestartHelps::No,
        ),
        Cause::ClockSkew => (
            "its clock differs from ours by more than 30 s",
            "start time synchronisation on the host (chronyc tracking); liveness goes by our clock and is not affected",
            RestartHelps::No,
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Reason;

    #[test]
    fn only_a_check_that_fails_is_said_to_fail() {
        for (outcome, message, restart_helps) in [
            (CheckOutcome::Fail, "its process does not run (Process check: a.service)", RestartHelps::Yes),
            (CheckOutcome::Warn, "the Process check warns: a.service", RestartHelps::No),
            (CheckOutcome::Unknown, "the Process check could not be made: a.service", RestartHelps::No),
        ] {
            let found = fault_finding(&FailedCheck {
                type_: "Process".to_owned(),
                cause: Cause::ProcessDown,
                reason: Reason::ProcessDown,
                critical: outcome == CheckOutcome::Fail,
                outcome,
                message: Some("a.service".to_owned()),
            });
            let found = found.expect("each has a diagnosis");
            assert_eq!((found.message.as_str(), found.restart_helps), (message, restart_helps));
        }
    }
}
