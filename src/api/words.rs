//! The closed sets of words. They are enums here and become strings at the edge only.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Defines an enum whose variants are written as their names, in JSON, in logs and in metrics alike.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every word of the set, in its order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word as it is written.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|w| w.as_str() == word)
                    .ok_or_else(|| format!("{word:?} is no {}", stringify!($name)))
            }
        }
    };
}
pub(crate) use words;

words! {
    /// The state of a connector: derived from its conditions, for display.
    ConnectorState {
        /// Never heard.
        Pending,
        /// Heard in time.
        Online,
        /// Silent past `lateAfterSeconds`.
        Late,
        /// Heard, but a critical check fails.
        Degraded,
        /// Silent past `offlineAfterSeconds`.
        Offline,
        /// We could not have known.
        Unknown,
    }
}

words! {
    /// The types of conditions that vigie writes on a Connector.
    ConditionType {
        /// All that matters is well.
        Ready,
        /// The spec can be acted upon.
        Accepted,
        /// A usable token Secret exists.
        Provisioned,
        /// An authenticated beat was heard in time.
        Online,
        /// The checks that the agent reports pass.
        Healthy,
        /// A remedy is under way.
        Remediating,
        /// Nothing more will happen until the spec changes (kstatus).
        Stalled,
    }
}

words! {
    /// Why a condition has its status.
    Reason {
        /// Ready: everything is well.
        Ready,
        /// Accepted.
        Accepted,
        /// The spec cannot be acted upon.
        InvalidSpec,
        /// An older Connector has this `connectorID`.
        DuplicateConnectorID,
        /// `workloadRef` names nothing.
        WorkloadNotFound,
        /// A Secret that the spec names does not exist, or lacks the key.
        SecretNotFound,
        /// The stored status cannot be read.
        UnreadableStatus,
        /// A usable token Secret exists.
        Provisioned,
        /// The Secret's name is taken by one that is not ours.
        TokenSecretConflict,
        /// The Secret holds no usable token.
        TokenSecretInvalid,
        /// A beat was heard in time.
        HeartbeatReceived,
        /// Silent past `lateAfterSeconds`.
        HeartbeatLate,
        /// Silent past `offlineAfterSeconds`.
        HeartbeatExpired,
        /// Silent together with most of its site.
        MassSilence,
        /// Never heard.
        NeverSeen,
        /// We were not listening: a restart or a failover of ours.
        ObserverRestarted,
        /// We cannot be reached.
        ObserverUnreachable,
        /// Every reported check passes.
        ChecksPassed,
        /// Only warnings fail.
        Warnings,
        /// The connector's process does not run.
        ProcessDown,
        /// The WireGuard interface is missing or down.
        WireGuardDown,
        /// The last WireGuard handshake is too old.
        HandshakeStale,
        /// A route to the overlay is missing.
        RouteMissing,
        /// The kernel does not forward packets.
        IPForwardingOff,
        /// The NAT rules are missing.
        NATRulesMissing,
        /// The agent cannot reach its control plane.
        ControlPlaneUnreachable,
        /// The sender's clock is off.
        ClockSkew,
        /// A critical check of a type that this version does not know fails.
        CheckFailed,
        /// The agent reports no checks.
        NotReported,
        /// What was reported is as old as the last beat.
        Stale,
        /// A remedy is under way.
        RestartInProgress,
        /// No remedy is wanted.
        Idle,
        /// Remedies come with a later version.
        NotYetSupported,
    }
}

words! {
    /// The named reason for a bad state.
    Cause {
        /// Never heard.
        NeverSeen,
        /// Silent past its deadline.
        HeartbeatExpired,
        /// Silent past `lateAfterSeconds`.
        HeartbeatLate,
        /// Silent together with most of its site.
        MassSilence,
        /// We were not listening.
        ObserverRestarted,
        /// We cannot be reached.
        ObserverUnreachable,
        /// It beats with a token that was retired.
        TokenRevoked,
        /// The token Secret is not ours, or gone.
        TokenSecretConflict,
        /// The token Secret holds no usable token.
        TokenSecretInvalid,
        /// An older Connector has this `connectorID`.
        DuplicateConnectorID,
        /// Two hosts beat with one token.
        DuplicateInstance,
        /// The spec cannot be acted upon.
        InvalidSpec,
        /// `workloadRef` names nothing.
        WorkloadNotFound,
        /// A Secret that the spec names does not exist.
        SecretNotFound,
        /// The stored status cannot be read.
        UnreadableStatus,
        /// The connector's process does not run.
        ProcessDown,
        /// The WireGuard interface is missing or down.
        WireGuardDown,
        /// The last WireGuard handshake is too old.
        HandshakeStale,
        /// A route to the overlay is missing.
        RouteMissing,
        /// The kernel does not forward packets.
        IPForwardingOff,
        /// The NAT rules are missing.
        NATRulesMissing,
        /// The agent cannot reach its control plane.
        ControlPlaneUnreachable,
        /// The sender's clock is off.
        ClockSkew,
        /// A critical check of a type that this version does not know fails.
        CheckFailed,
    }
}

words! {
    /// How sure a diagnosis is. `Possible` is never acted upon.
    Confidence {
        /// A guess.
        Possible,
        /// Most of the evidence is there.
        Likely,
        /// The evidence is complete.
        Certain,
    }
}

words! {
    /// Whether a restart can cure the cause.
    RestartHelps {
        /// It cannot.
        No,
        /// It may; not again for the same cause when it did not.
        Once,
        /// It can, up to `maxAttempts`.
        Yes,
    }
}

words! {
    /// The outcome of one check.
    CheckOutcome {
        /// As it should be.
        Pass,
        /// Not as it should be, and it does not matter much.
        Warn,
        /// Not as it should be.
        Fail,
        /// The agent could not tell.
        Unknown,
    }
}
