//! Why a condition has its status.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::words::words;
use super::{Cause, Denial, ErrorClass};

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
        // Why a remedy is not taken: those words of `Denial` that are no others.
        /// The spec has no `remediation`, or the operator runs with remedies off.
        RemediationOff,
        /// `paused`, or its namespace is.
        Paused,
        /// It was never healthy, so there is nothing to restore.
        NeverHealthy,
        /// Another controller owns the workload and would revert us.
        ManagedByController,
        /// The Deployment is paused.
        WorkloadPaused,
        /// The workload's update strategy is `OnDelete`.
        UpdateStrategyOnDelete,
        /// Somebody else restarted it a moment ago.
        RecentlyRestartedByOthers,
        /// A restart cannot cure this cause.
        RestartCannotHelp,
        /// A restart did not cure this cause the last time.
        AlreadyTried,
        /// The diagnosis is only `Possible`.
        LowConfidence,
        /// Everything inside the workload is healthy.
        PodsHealthy,
        /// Which of the pods it is, is not known.
        PodUnknown,
        /// The agent is silent.
        AgentUnreachable,
        /// Not yet unhealthy for `unhealthyForSeconds`.
        NotLongEnough,
        /// The backoff after the last attempt runs.
        CoolingDown,
        /// `maxAttempts` are used up.
        GaveUp,
        /// Another object's attempt on the same workload runs.
        WorkloadShared,
        /// The breaker is open until a person resets it.
        BreakerOpen,
        /// Too much of the site is unhealthy.
        SiteBrake,
        /// Enough remedies are in flight.
        TooManyInFlight,
        /// The pod's disruption budget forbids its eviction.
        DisruptionBudgetExhausted,
        /// All else would have allowed it; the mode is `Suggest`.
        SuggestOnly,
        // What an older version has left in a status.
        /// The version that wrote it takes no remedies.
        NotYetSupported,
        // Of backends.
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
        // How a probe failed: the words of `ErrorClass`.
        /// The host answered that nothing listens there.
        Refused,
        /// No answer to the attempts to connect.
        ConnectTimeout,
        /// The connection ended before any byte.
        Reset,
        /// No route to the address.
        Unreachable,
        /// The name does not exist.
        DNSNotFound,
        /// The name could not be resolved.
        DNSFailure,
        /// The name was not resolved in time.
        DNSTimeout,
        /// The TLS handshake failed, for a reason of its own.
        TLSHandshake,
        /// The certificate has expired, or is not valid yet.
        TLSExpired,
        /// The certificate is not signed by an authority that is trusted.
        TLSUnknownAuthority,
        /// The certificate is for another name.
        TLSNameMismatch,
        /// The far side does not speak TLS.
        NotTLS,
        /// The far side does not speak HTTP, or speaks it on a TLS port.
        NotHTTP,
        /// The status of the answer is not an expected one.
        HTTPStatus,
        /// Connected, and no byte in time.
        FirstByteTimeout,
        /// The answer began, and did not end in time.
        BodyTimeout,
        /// The answer is larger than the limit.
        BodyTooLarge,
        /// Too many redirects.
        RedirectLimit,
        /// The content type is not a supported one.
        ContentType,
        /// The metrics page cannot be parsed, or exceeds a limit of samples.
        Exposition,
        /// The metrics page lacks a required metric.
        MissingMetric,
        /// The body does not match what was asked for, or matches what must not be.
        Assertion,
        /// The gRPC health service says anything but SERVING.
        GRPCStatus,
        /// The address may not be dialled.
        Denied,
        /// Our own fault.
        Internal,
        // What was found to be the cause: those words of `Cause` that conditions of backends carry.
        /// We cannot see: most targets fail together, or our own check does.
        ProbeBlind,
        /// The target names something that does not exist.
        InvalidTarget,
        /// The target's address may not be dialled.
        TargetDenied,
        /// The workload is scaled to zero.
        ScaledToZero,
        /// The node of its pods is gone.
        NodeLost,
        /// No node takes its pods.
        Unschedulable,
        /// An image cannot be pulled.
        ImagePullFailed,
        /// A ConfigMap, a Secret or a key in it is missing.
        ConfigMissing,
        /// A container cannot be created or started.
        ContainerCannotStart,
        /// An init container fails.
        InitContainerFailing,
        /// Killed for memory.
        OutOfMemory,
        /// It crashes at start because of its configuration.
        CrashLoopConfig,
        /// It crashes at start because of its database.
        CrashLoopDatabase,
        /// Its liveness probe kills it.
        CrashLoopKilledByLiveness,
        /// It ended by itself, without an error.
        ExitedCleanly,
        /// It crashes again and again.
        CrashLoop,
        /// A rollout is under way.
        RolloutInProgress,
        /// A rollout does not get on.
        RolloutStuck,
        /// Some replicas fail, others pass.
        OneReplicaBad,
        /// All fail since a new template.
        BadSinceRollout,
        /// It alternates.
        Flapping,
        /// Its container is stopped, says the local agent.
        ContainerStopped,
        /// Its process is stopped, says the local agent.
        ProcessStopped,
        /// The Service selects no pod.
        ServiceSelectsNothing,
        /// The Service names a port that its pods do not have.
        ServicePortMismatch,
        /// No pod behind the Service is ready.
        NoReadyEndpoints,
        /// It listens on loopback only.
        BoundToLoopback,
        /// It listens on another port.
        WrongPort,
        /// It is still starting.
        StillStarting,
        /// It runs, and never began to listen.
        NeverStartedListening,
        /// Something that it depends on is down.
        DependencyDown,
        /// Its disk is full.
        DiskFull,
        /// It says itself that only a restart helps.
        LivenessBroken,
        /// It refuses traffic on purpose.
        OutOfService,
        /// It does not know how it is.
        HealthUnknown,
        /// Its management port answers, its main port does not.
        MainPortDead,
        /// It accepts connections and answers nothing.
        Hung,
        /// Only its metrics page is too slow.
        SlowMetrics,
        /// The metrics endpoint is disabled.
        EndpointDisabled,
        /// The metrics endpoint is not exposed.
        EndpointNotExposed,
        /// The metrics registry is not on its class path.
        RegistryMissing,
        /// What is asked for is under another path.
        WrongPath,
        /// It wants credentials.
        AuthenticationRequired,
        /// What answers is no metrics page.
        NotMetrics,
        /// The metrics page cannot be parsed.
        MalformedMetrics,
        /// The answer exceeds a limit.
        TooLarge,
        /// The metrics page lacks a required metric.
        MetricMissing,
        /// It answers with an error of its own.
        ServerError,
        /// It is asked too often.
        RateLimited,
        /// Prometheus scrapes an address that is no longer the backend's.
        StaleTarget,
        /// A NetworkPolicy admits no such peer.
        BlockedByNetworkPolicy,
        /// Packets from Prometheus are dropped.
        BlockedForPrometheus,
        /// Connections from Prometheus are rejected.
        RejectedForPrometheus,
        /// Prometheus does not scrape it.
        NotScraped,
        /// Prometheus has not scraped it yet.
        NotYetScraped,
        /// Prometheus is down, or cannot be asked.
        PrometheusDown,
        /// Its name cannot be resolved.
        DNSBroken,
        /// Its certificate has expired.
        CertificateExpired,
        /// Its certificate is not trusted.
        CertificateUntrusted,
        /// Its certificate is for another name.
        CertificateWrongName,
        /// One side speaks TLS, the other does not.
        SchemeMismatch,
        /// It wants a client certificate.
        ClientCertificateRequired,
        /// It answers more slowly than it should.
        Slow,
        /// Never probed.
        NotProbed,
        /// Nothing known fits what was seen.
        Unexplained,
    }
}

impl From<ErrorClass> for Reason {
    fn from(class: ErrorClass) -> Self {
        class.as_str().parse().expect("every error class is a reason: a test holds the two together")
    }
}

/// A denial as the reason of `Remediating`.
impl From<Denial> for Reason {
    fn from(denial: Denial) -> Self {
        denial.as_str().parse().expect("every denial is a reason: a test holds the two together")
    }
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
