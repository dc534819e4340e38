//! Probes, reads the actuator when the operator would, and diagnoses as the operator does.

use jiff::Timestamp;

use super::args::ProbeArgs;
use crate::api::{BackendState, BackendTarget, Diagnosis, MonitoredBackend, MonitoredBackendSpec, Phase, ProbeSpec};
use crate::cli::Usage;
use crate::diagnosis::evidence::{Evidence, Lookup};
use crate::diagnosis::gather::{Question, actuator, vantage};
use crate::diagnosis::rules::diagnose;
use crate::monitor::request::{Patterns, RequestSecrets, actuator_request, request};
use crate::probe::actuator::{self as spring, Reading};
use crate::probe::{Failure, Outcome, Policy, Prober, Request, Scheme, Target};

/// The results of one call of `vigie probe`.
pub(super) struct ProbeRun {
    pub(super) url: String,
    pub(super) request: Request,
    pub(super) spec: ProbeSpec,
    pub(super) outcome: Outcome,
    /// The reading of the actuator, and whether it counts, because it was requested.
    pub(super) actuator: Option<(Reading, bool)>,
    pub(super) evidence: Evidence,
    pub(super) diagnosis: Option<Diagnosis>,
    pub(super) at: Timestamp,
}

impl ProbeRun {
    /// The failure of the health page, when the page was requested.
    pub(super) fn health_failure(&self) -> Option<Failure> {
        let (reading, _) = self.actuator.as_ref().filter(|(_, counts)| *counts)?;
        reading.verdict().err()
    }

    /// Whether everything that was requested passes.
    pub(super) fn passed(&self) -> bool {
        self.outcome.result.is_ok() && self.health_failure().is_none()
    }

    /// The state of a backend whose probes all have this result.
    pub(super) fn state(&self) -> BackendState {
        let says_it_is_bad = |(reading, _): &(Reading, bool)| reading.health.outcome.result.is_err();
        match (&self.outcome.result, self.health_failure()) {
            (Err(_), _) => BackendState::Down,
            (Ok(()), Some(_)) if self.actuator.as_ref().is_some_and(says_it_is_bad) => BackendState::Down,
            // The page answers 200 with the status UNKNOWN.
            (Ok(()), Some(_)) => BackendState::Degraded,
            (Ok(()), None) if self.evidence.history.slow.is_some() => BackendState::Degraded,
            (Ok(()), None) => BackendState::Up,
        }
    }
}

/// Probes `target` as `spec` says.
///
/// # Errors
/// [`Usage`] when the spec cannot be understood.
pub(super) async fn run(
    args: &ProbeArgs,
    spec: ProbeSpec,
    target: Target,
    secrets: &RequestSecrets,
) -> anyhow::Result<ProbeRun> {
    let patterns = Patterns::compile(&spec.http).await.map_err(Usage)?;
    let request = request(&spec, target, secrets, &patterns);
    let prober = Prober::new(Policy::of_a_person(args.allow_network.clone(), args.deny_network.clone()));
    let outcome = prober.probe(&request).await;
    let actuator = read_actuator(&prober, &request, &spec, &outcome).await;
    let at = Timestamp::now();
    let evidence = evidence(&args.url, &spec, &request, &outcome, actuator.as_ref(), at);
    let diagnosis = diagnose(&evidence);
    Ok(ProbeRun { url: args.url.clone(), request, spec, outcome, actuator, evidence, diagnosis, at })
}

/// The actuator: because it was asked for, or because the probe failed behind a connection and the operator would run.
async fn read_actuator(
    prober: &Prober,
    request: &Request,
    spec: &ProbeSpec,
    outcome: &Outcome,
) -> Option<(Reading, bool)> {
    let is_http = matches!(request.target.scheme, Scheme::Http | Scheme::Https);
    let answers_wrong = outcome.result.as_ref().is_err_and(|failure| failure.phase >= Phase::FirstByte);
    let asked = spec.actuator.is_some();
    if asked || is_http && answers_wrong {
        let actuator = spec.actuator.clone().unwrap_or_default();
        let like = actuator_request(request, &actuator);
        return Some((spring::read(prober, &like, actuator.base_path(), true).await, asked));
    }
    None
}

/// The results as the operator's evidence.
fn evidence(
    url: &str,
    spec: &ProbeSpec,
    request: &Request,
    outcome: &Outcome,
    read: Option<&(Reading, bool)>,
    at: Timestamp,
) -> Evidence {
    let target = BackendTarget { url: Some(url.to_owned()), ..BackendTarget::default() };
    let backend = MonitoredBackendSpec { target, probe: spec.clone(), ..MonitoredBackendSpec::default() };
    // Advice contains commands for the object; there is none, so placeholders mark its name.
    let mut backend = MonitoredBackend::new("NAME", backend);
    backend.metadata.namespace = Some("NAMESPACE".to_owned());
    let mut evidence = Question::about(&backend, None, at).known;
    evidence.vantages.push(vantage("target", request, outcome, at));
    if let Some((reading, counts)) = read {
        if *counts {
            let mut health = reading.health.outcome.clone();
            health.result = reading.verdict();
            evidence.vantages.push(vantage("health", request, &health, at));
        }
        evidence.actuator = Lookup::Found(actuator(reading.clone()));
    }
    let took = u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX);
    let allowed = spec.degraded_latency_milliseconds.and_then(|allowed| u64::try_from(allowed).ok());
    evidence.history.slow = allowed.filter(|allowed| took > *allowed).map(|allowed| (took, allowed));
    evidence
}
