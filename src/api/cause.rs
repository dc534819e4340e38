//! Causes: the named reasons for a bad state, the same words in status, metrics, events and on the command line.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::words::words;

/// The list of causes, in five groups. Calls the macro `$next` with the tokens `$before`, followed by the list; `reasons!`
/// (reason.rs) takes part of it over.
macro_rules! causes {
    ($next:ident! $($before:tt)*) => {
        $next! { $($before)* [
            // Of connectors; those that are reasons have a place and a meaning of their own there.
            {
                /// Never heard.
                NeverSeen,
                /// Silent past its deadline.
                HeartbeatExpired,
                /// Silent past `lateAfterSeconds`.
                HeartbeatLate,
                /// Silent past its deadline, while its agent is heard.
                ConnectorSilent,
                /// Silent past its deadline; its agent alone sent its heartbeats, and said that it stops.
                AgentStopped,
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
            }
            // Of the checks that an agent reports.
            {
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
            // Of backends, in the order of the rules.
            {
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
                /// No node takes its pods, or keeps them.
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
                /// Its liveness or its startup probe kills it.
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
                /// Its container is stopped, says the local agent.
                ContainerStopped,
                /// Its process is stopped, says the local agent.
                ProcessStopped,
                /// Its container does not exist on its host, says the local agent.
                ContainerAbsent,
                /// It alternates.
                Flapping,
                /// It ended, and its host starts it again, says the local agent.
                RestartingLocally,
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
                /// It answers on its host, says the local agent, and not from here.
                BlockedBeforeHost,
                /// Its host, outside the cluster, refuses: nothing accepts connections on the port.
                NothingListens,
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
                /// Its host, outside the cluster, does not answer at all.
                HostSilent,
                /// Only its metrics page is too slow.
                SlowMetrics,
                /// The metrics endpoint is disabled.
                EndpointDisabled,
                /// The metrics endpoint is not exposed.
                EndpointNotExposed,
                /// The metrics registry is not on its class path.
                RegistryMissing,
                /// The requested page is under another path.
                WrongPath,
                /// It wants credentials.
                AuthenticationRequired,
                /// The response is no metrics page.
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
                /// Prometheus fails before it reaches the backend: its host, its credentials or its proxy.
                PrometheusCannotScrape,
                /// Prometheus is down, or cannot be asked.
                PrometheusDown,
            }
            // Also an error class.
            {
                /// Its name does not exist.
                DNSNotFound,
            }
            // The other causes of backends.
            {
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
                /// The TLS handshake fails: versions, ciphers, or a name.
                TLSHandshakeFailed,
                /// It answers in a way that the probe does not expect.
                UnexpectedAnswer,
                /// It answers more slowly than it should.
                Slow,
                /// Never probed.
                NotProbed,
                /// Nothing known fits what was seen.
                Unexplained,
            }
        ] }
    };
}
pub(crate) use causes;

causes! { words!
    /// The named reason for a bad state.
    Cause
}
