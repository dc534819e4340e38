//! Diagnosis of a backend: the ordered list of rules.

use crate::api::{Cause, Diagnosis, MAX_ALTERNATIVES, RestartHelps};
use crate::diagnosis::evidence::Evidence;

mod agent;
mod agent_crash;
mod agent_reach;
pub mod conditions;
mod config_missing;
mod container_start;
mod containers;
mod crash_loop;
mod crash_loop_database;
mod dns_tls;
mod ended_pods;
mod finding;
mod health;
mod host;
mod image_pull;
mod metrics_endpoint;
mod metrics_page;
mod out_of_memory;
mod probe_kill;
mod process;
mod prometheus;
mod prometheus_own;
mod queries;
mod response;
mod rollout;
mod scheduling;
mod scrape_error;
mod service;
mod settings;
mod spec;
#[cfg(test)]
mod tests;
mod text;
mod timeouts;
mod unexpected;
mod unexplained;
mod wrong_path;

pub use agent::{agent_in_words, agent_log_command};
pub use conditions::{BackendConditions, conclude};
pub use finding::Finding;
pub use text::as_read_in_a_report;

/// A pure function that returns a finding if the evidence matches.
pub type Rule = fn(&Evidence) -> Option<Finding>;

/// The order is the specification: the first that matches is the diagnosis, the others are its alternatives.
pub const RULES: &[(Cause, Rule)] = &[
    // Without working probes nothing can be judged.
    (Cause::ProbeBlind, spec::probe_blind),
    // Nothing can be judged before the spec is understood, and its target may be dialled.
    (Cause::InvalidTarget, spec::invalid_target),
    (Cause::TargetDenied, spec::target_denied),
    (Cause::SecretNotFound, spec::secret_not_found),
    (Cause::WorkloadNotFound, spec::workload_not_found),
    (Cause::UnreadableStatus, spec::unreadable_status),
    // Pods that do not run explain all later failures: first pods that are not meant to run, then the steps of a pod's
    // life in their order, so that a step is blamed only after the earlier ones succeeded.
    (Cause::ScaledToZero, rollout::scaled_to_zero),
    (Cause::NodeLost, scheduling::node_lost),
    (Cause::Unschedulable, scheduling::unschedulable),
    (Cause::ImagePullFailed, image_pull::image_pull_failed),
    (Cause::ConfigMissing, config_missing::config_missing),
    (Cause::ContainerCannotStart, container_start::container_cannot_start),
    (Cause::InitContainerFailing, container_start::init_container_failing),
    // Containers that ran and ended: the word of the kernel and of the process beats a guess from an exit code.
    // Configuration beats the database, because a process without configuration names both.
    // Outside the cluster the agent on the host says so.
    (Cause::OutOfMemory, |e| out_of_memory::out_of_memory(e).or_else(|| agent_crash::out_of_memory(e))),
    (Cause::CrashLoopConfig, |e| crash_loop::crash_loop_config(e).or_else(|| agent_crash::crash_loop_config(e))),
    (Cause::CrashLoopDatabase, |e| {
        crash_loop_database::crash_loop_database(e).or_else(|| agent_crash::crash_loop_database(e))
    }),
    (Cause::CrashLoopKilledByLiveness, probe_kill::crash_loop_killed_by_liveness),
    (Cause::ExitedCleanly, crash_loop::exited_cleanly),
    (Cause::CrashLoop, |e| crash_loop::crash_loop(e).or_else(|| agent_crash::crash_loop(e))),
    // No pod has a reason of its own: then the rollout, and the comparison of the replicas.
    (Cause::RolloutInProgress, rollout::rollout_in_progress),
    (Cause::RolloutStuck, rollout::rollout_stuck),
    (Cause::OneReplicaBad, rollout::one_replica_bad),
    (Cause::BadSinceRollout, rollout::bad_since_rollout),
    // Outside a cluster the local agent takes the kubelet's part: what it says to be gone does not come back by itself.
    (Cause::ContainerStopped, agent::container_stopped),
    (Cause::ProcessStopped, agent::process_stopped),
    (Cause::ContainerAbsent, agent::container_absent),
    // One observation does not explain an intermittent failure.
    (Cause::Flapping, rollout::flapping),
    (Cause::RestartingLocally, agent_crash::restarting_locally),
    // The path from the Service to its pods: an address without endpoints refuses, whatever the process does.
    (Cause::ServiceSelectsNothing, service::service_selects_nothing),
    (Cause::ServicePortMismatch, service::service_port_mismatch),
    (Cause::NoReadyEndpoints, service::no_ready_endpoints),
    // Refused by the host of the process: it listens elsewhere, not yet, or never did. Never a firewall.
    (Cause::BoundToLoopback, |e| agent_reach::bound_to_loopback(e).or_else(|| process::bound_to_loopback(e))),
    (Cause::WrongPort, |e| process::wrong_port(e).or_else(|| agent_reach::wrong_port(e))),
    (Cause::StillStarting, |e| process::still_starting(e).or_else(|| agent::still_starting(e))),
    (Cause::NeverStartedListening, |e| {
        process::never_started_listening(e).or_else(|| agent_reach::never_started_listening(e))
    }),
    // It answers on its host: then the path to it is the fault, and no restart cures a path.
    (Cause::BlockedBeforeHost, agent_reach::blocked_before_host),
    // Outside the cluster nothing more is known of the process.
    (Cause::NothingListens, host::nothing_listens),
    // It answers and reports the fault itself: faults of dependencies before its own, because a restart spreads the
    // former.
    (Cause::DependencyDown, health::dependency_down),
    (Cause::DiskFull, health::disk_full),
    (Cause::LivenessBroken, health::liveness_broken),
    (Cause::OutOfService, health::out_of_service),
    (Cause::HealthUnknown, health::health_unknown),
    // No answer, compared with a second probe: a part of it is dead, all of it hangs, or one page is slow.
    (Cause::MainPortDead, |e| process::main_port_dead(e).or_else(|| agent_reach::stopped_listening(e))),
    (Cause::Hung, timeouts::hung),
    (Cause::HostSilent, host::host_silent),
    (Cause::SlowMetrics, timeouts::slow_metrics),
    // The metrics page answers 404: a setting that is known beats one that is known to be missing, and that beats
    // another path.
    (Cause::EndpointDisabled, metrics_endpoint::endpoint_disabled),
    (Cause::EndpointNotExposed, metrics_endpoint::endpoint_not_exposed),
    (Cause::RegistryMissing, metrics_endpoint::registry_missing),
    (Cause::WrongPath, wrong_path::wrong_path),
    // An unexpected answer: by its status, then by its content.
    (Cause::AuthenticationRequired, response::authentication_required),
    (Cause::NotMetrics, response::not_metrics),
    (Cause::MalformedMetrics, response::malformed_metrics),
    (Cause::TooLarge, response::too_large),
    (Cause::MetricMissing, response::metric_missing),
    (Cause::ServerError, response::server_error),
    (Cause::RateLimited, response::rate_limited),
    // vigie's probe passes: the fault is between Prometheus and the backend. A wrong address before a blocked path, a
    // NetworkPolicy that can be named before a firewall that cannot, a drop before a refusal, a missing target, and
    // faults of Prometheus itself last.
    (Cause::StaleTarget, prometheus::stale_target),
    (Cause::BlockedByNetworkPolicy, prometheus::blocked_by_network_policy),
    (Cause::BlockedForPrometheus, prometheus::blocked_for_prometheus),
    (Cause::RejectedForPrometheus, prometheus::rejected_for_prometheus),
    (Cause::NotScraped, prometheus::not_scraped),
    (Cause::NotYetScraped, prometheus::not_yet_scraped),
    (Cause::PrometheusCannotScrape, prometheus_own::prometheus_cannot_scrape),
    (Cause::PrometheusDown, prometheus::prometheus_down),
    // Names and certificates: no rule above matches their failures.
    (Cause::DNSNotFound, dns_tls::dns_not_found),
    (Cause::DNSBroken, dns_tls::dns_broken),
    (Cause::CertificateExpired, dns_tls::certificate_expired),
    (Cause::CertificateUntrusted, dns_tls::certificate_untrusted),
    (Cause::CertificateWrongName, dns_tls::certificate_wrong_name),
    (Cause::SchemeMismatch, dns_tls::scheme_mismatch),
    (Cause::ClientCertificateRequired, dns_tls::client_certificate_required),
    // Last of TLS: each of the above is a known reason for it.
    (Cause::TLSHandshakeFailed, dns_tls::tls_handshake_failed),
    // It answers, and no rule above knows the answer: its status and its form are told, with what they mean.
    (Cause::UnexpectedAnswer, unexpected::unexpected_answer),
    // No failure: the backend is only slow, or only new.
    (Cause::Slow, unexplained::slow),
    (Cause::NotProbed, spec::not_probed),
];

/// All findings, in the order of the rules; none when nothing is wrong.
pub fn findings(evidence: &Evidence) -> Vec<Finding> {
    let mut findings: Vec<Finding> = RULES.iter().filter_map(|(_, rule)| rule(evidence)).collect();
    if findings.is_empty() {
        // `Unexplained` applies only if no rule matches.
        findings.extend(unexplained::unexplained(evidence));
    }
    // Whatever rule matches: a restart spreads the outage of a dependency, and ignores the reason of a refusal.
    if health::forbids_restart(evidence) {
        findings.iter_mut().for_each(|finding| finding.restart_helps = RestartHelps::No);
    }
    if let Some(first) = findings.first_mut() {
        first.evidence.extend(evidence.missing.iter().map(|why| format!("not seen: {why}")));
    }
    findings.into_iter().map(Finding::bounded).collect()
}

/// The diagnosis, or `None` when nothing is wrong.
pub fn diagnose(evidence: &Evidence) -> Option<Diagnosis> {
    let mut findings = findings(evidence).into_iter();
    let first = findings.next()?;
    let alternatives = findings.take(MAX_ALTERNATIVES).map(|other| other.as_alternative()).collect();
    Some(first.into_diagnosis(alternatives))
}

/// The diagnosis from the rules about pods and rollouts alone, for any kind of workload. `None` when the pods explain
/// nothing.
pub fn diagnose_pods(evidence: &Evidence) -> Option<Diagnosis> {
    let pods = RULES.iter().skip_while(|(cause, _)| *cause != Cause::ScaledToZero);
    let mut pods = pods.take_while(|(cause, _)| *cause != Cause::OneReplicaBad);
    pods.find_map(|(_, rule)| rule(evidence)).map(|found| found.bounded().into_diagnosis(Vec::new()))
}

/// Whether the rule of one of these causes matches.
fn matches_any(evidence: &Evidence, causes: &[Cause]) -> bool {
    RULES.iter().any(|(cause, rule)| causes.contains(cause) && rule(evidence).is_some())
}

/// Whether a rule from `ScaledToZero` up to, but without, `until` matches.
fn is_explained_before(evidence: &Evidence, until: Cause) -> bool {
    let pods = RULES.iter().skip_while(|(cause, _)| *cause != Cause::ScaledToZero);
    pods.take_while(|(cause, _)| *cause != until).any(|(_, rule)| rule(evidence).is_some())
}
