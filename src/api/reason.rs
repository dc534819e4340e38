//! The reasons of conditions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cause::causes;
use super::remediation::denials;
use super::words::{error_classes, words};
use super::{Cause, Denial, ErrorClass};

/// Defines [`Reason`] from its own words and from the lists of denials, error classes and causes. A word of several lists is
/// one variant, so that reasons of equal words are equal.
macro_rules! reasons {
    (
        [$own:tt $reported:tt $observed:tt]
        [$($denials:tt $also_causes:tt)+]
        [$errors:tt]
        [$connectors:tt $checks:tt $backends:tt $also_errors:tt $more_backends:tt]
    ) => {
        words! {
            /// Why a condition has its status.
            Reason $own $checks $reported $($denials)+ $observed $errors $backends $more_backends
        }

        same_words! { Denial $($denials $also_causes)+ }
        same_words! { ErrorClass $errors }
    };
}

/// Converts each word of a set to the same word of [`Reason`].
macro_rules! same_words {
    ($set:ident $({ $($(#[$doc:meta])* $word:ident),* $(,)? })+) => {
        impl From<$set> for Reason {
            fn from(word: $set) -> Self {
                match word { $($($set::$word => Self::$word,)*)+ }
            }
        }
    };
}

denials! { error_classes! causes! reasons!
    [
        {
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
            /// `agentRef` names no Connector.
            AgentNotFound,
            /// A Secret that the spec names does not exist, or lacks the key.
            SecretNotFound,
            /// The stored status cannot be read.
            UnreadableStatus,
            /// The API server did not keep the status that was written: its definitions are older than the operator.
            StatusNotKept,
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
            /// Silent past its deadline, while its agent is heard.
            ConnectorSilent,
        }
        {
            /// The agent reports no checks.
            NotReported,
            /// The report is as old as the last beat.
            Stale,
            /// A remedy is under way.
            RestartInProgress,
            /// No remedy is wanted.
            Idle,
        }
        // NotYetSupported is written by older versions only; the other words are about backends.
        {
            /// The version that wrote it takes no remedies.
            NotYetSupported,
            /// Our probe passes.
            ProbePassed,
            /// Our probe passes, with a certificate that expires soon.
            CertificateExpiring,
            /// The metrics page can be scraped.
            Exposed,
            /// Prometheus scrapes it, and gets samples.
            TargetUp,
            /// Prometheus cannot be asked.
            PrometheusUnreachable,
            /// The pods are ready.
            PodsReady,
            /// We may not read what we would have to.
            EvidenceForbidden,
        }
    ]
}

/// A cause as the reason of a backend's condition; one that no condition of a backend carries becomes `Unexplained`.
impl From<Cause> for Reason {
    fn from(cause: Cause) -> Self {
        cause.as_str().parse().unwrap_or(Self::Unexplained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_class_denial_and_cause_of_a_backend_is_a_reason_by_the_same_word() {
        for class in ErrorClass::ALL {
            assert_eq!(Reason::from(*class).as_str(), class.as_str());
        }
        for denial in Denial::ALL {
            assert_eq!(Reason::from(*denial).as_str(), denial.as_str());
        }
        for cause in Cause::ALL.iter().filter(|cause| **cause >= Cause::ProbeBlind) {
            assert_eq!(Reason::from(*cause).as_str(), cause.as_str());
        }
    }
}
