//! The checks of an agent, and their severities.

// The derive of KubeSchema repeats the struct inside a function, where nothing public can be reached.
#![allow(unreachable_pub)]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::words::words;

words! {
    /// The types of checks that an agent reports.
    CheckType {
        /// The connector's process or unit runs.
        Process,
        /// The WireGuard interface exists and is up.
        WireGuardInterface,
        /// The last WireGuard handshake is recent.
        WireGuardHandshake,
        /// The routes to the overlay exist.
        OverlayRoute,
        /// The kernel forwards packets.
        IPForwarding,
        /// The NAT rules exist.
        NATRules,
        /// The agent reaches its control plane.
        ControlPlane,
        /// The sender's clock agrees with ours.
        ClockSkew,
    }
}

words! {
    /// How much a failing check matters.
    Severity {
        /// The connector is not healthy.
        Critical,
        /// It is reported, and the connector stays healthy.
        Warning,
        /// It is shown among the checks, and nowhere else.
        Ignore,
    }
}

impl CheckType {
    /// How much a failure matters when the spec does not say: a skewed clock or an unreachable control plane stops no
    /// traffic, everything else does.
    pub const fn default_severity(self) -> Severity {
        match self {
            Self::ClockSkew | Self::ControlPlane => Severity::Warning,
            Self::Process
            | Self::WireGuardInterface
            | Self::WireGuardHandshake
            | Self::OverlayRoute
            | Self::IPForwarding
            | Self::NATRules => Severity::Critical,
        }
    }
}

/// How one type of check is weighed, and what the agent looks for.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckSpec {
    /// Which check this entry is about.
    #[serde(rename = "type")]
    pub type_: CheckType,
    /// How much its failure matters. Critical: the connector is not healthy. Warning: reported only. Ignore: shown
    /// among the checks, and nowhere else. Default: Warning for ClockSkew and ControlPlane, else Critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // Without `with` the derive uses the enum's description for the field.
    #[schemars(with = "Severity")]
    pub severity: Option<Severity>,
    /// For Process: name of the unit that must run. Default: the one that the agent was installed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255), regex(pattern = r"^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*$"))]
    pub unit: Option<String>,
    /// For the WireGuard checks and OverlayRoute: name of the network interface, at most 15 characters. Default: wg0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15), regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    pub interface_name: Option<String>,
    /// For OverlayRoute and NATRules: the networks behind the tunnel, in CIDR notation. Default: 100.64.0.0/10.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "overlayCIDRs")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 49)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(network, isCIDR(network))")
            .message("spec.checks[].overlayCIDRs must be networks in CIDR notation, for example 100.64.0.0/10"),
    )]
    pub overlay_cidrs: Vec<String>,
    /// For WireGuardHandshake: how many seconds old the last handshake may be, 30 to 86400. Default: 210. A WireGuard
    /// tunnel that is well renews its session after 120 seconds at the earliest, and 185 plus PersistentKeepalive at the
    /// latest. Below that a handshake that is too old fails only when the peer leaves packets unanswered, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30, max = 86400))]
    pub max_handshake_age_seconds: Option<i32>,
}

impl CheckSpec {
    /// How much a failure of this check matters.
    pub fn effective_severity(&self) -> Severity {
        self.severity.unwrap_or(self.type_.default_severity())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_check_weighs_what_the_spec_says_else_what_its_type_says() {
        let weigh = |check: serde_json::Value| serde_json::from_value::<CheckSpec>(check).unwrap().effective_severity();
        assert_eq!(weigh(json!({"type": "NATRules", "severity": "Ignore"})), Severity::Ignore);
        assert_eq!(weigh(json!({"type": "ClockSkew", "severity": "Critical"})), Severity::Critical);
        let mild: Vec<_> =
            CheckType::ALL.iter().filter(|type_| weigh(json!({"type": type_})) == Severity::Warning).collect();
        assert_eq!(mild, [&CheckType::ControlPlane, &CheckType::ClockSkew]);
        assert_eq!(weigh(json!({"type": "Process"})), Severity::Critical);
    }
}
