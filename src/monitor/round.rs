//! One round of probes of a backend: resolve the target, probe it, record the result, investigate.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;

use super::context::Monitor;
use super::entry::Backend;
use super::live::Round;
use super::request::actuator_request;
use super::target::{ProbeTarget, ResolveError, Resolved, resolve};
use super::{connectivity, investigate};
use crate::api::{ErrorClass, Phase, Reason};
use crate::diagnosis::evidence::Vantage;
use crate::diagnosis::gather::{nothing_to_dial, vantage};
use crate::health::visibility::LastProbe;
use crate::probe::Outcome;
use crate::probe::actuator::read;
use crate::time::{Moment, Now};

/// How long resolved addresses of pods stay valid.
const FLEETING_TTL: Duration = Duration::from_secs(15);
/// How long any other resolved target stays valid. A Secret that it names may change meanwhile.
const STEADY_TTL: Duration = Duration::from_secs(60);
/// The longest that a round waits for a lookup while a previous result is known.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);
/// How long objects that contradict each other may do so before the target is refused.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The shortest time for which a round waits for its permits.
const MIN_PERMIT_WAIT: Duration = Duration::from_secs(1);

/// The start of a probe, and its outcome.
type Probed = (Moment, Outcome);

/// Runs one round that was due at `due`. Returns when the next one is due.
pub(super) async fn run(monitor: &Arc<Monitor>, backend: &Arc<Backend>, due: Moment) -> Moment {
    let regular = monitor.next_turn(backend);
    let Some(resolved) = resolved(monitor, backend).await else { return regular };
    let window = regular.since(monitor.parts.clock.now());
    let Some(probed) = probe_all(monitor, backend, &resolved, due, window.max(MIN_PERMIT_WAIT)).await else {
        // Without a permit nothing was probed: the window is missed, and that says nothing about the backend.
        monitor.parts.metrics.missed_window();
        return regular;
    };
    let started_at = probed.iter().map(|(at, _)| *at).min().unwrap_or(due);
    record_results(monitor, backend, &resolved, probed).await;
    let confirm_in = backend.with(|live| live.confirm_in());
    confirm_in.map_or(regular, |after| (started_at + after).min(regular))
}

/// The resolved target, looked up again when the last result has expired. `None` when there is nothing to probe, which
/// the status says.
async fn resolved(monitor: &Arc<Monitor>, backend: &Arc<Backend>) -> Option<Arc<Resolved>> {
    let now = monitor.parts.clock.now();
    let known = backend.with(|live| live.resolved.clone());
    if let Some((resolved, at)) = &known {
        let ttl = if resolved.is_fleeting { FLEETING_TTL } else { STEADY_TTL };
        let fails = backend.with(|live| live.confirm_in().is_some());
        if now.since(*at) < ttl && !(fails && resolved.is_fleeting) {
            return Some(resolved.clone());
        }
    }
    let object = backend.object();
    let lookup = async {
        let _place = monitor.lookups.acquire(&backend.key.namespace, false).await;
        Box::pin(resolve(&monitor.parts.client, &object)).await
    };
    // Without a previous result there is nothing to probe meanwhile: `Duration::MAX` means no timeout.
    let wait = if known.is_some() { LOOKUP_TIMEOUT } else { Duration::MAX };
    let late = || ResolveError::Failed("the API server takes too long".to_owned());
    match timeout(wait, lookup).await.unwrap_or_else(|_| Err(late())) {
        Ok(resolved) => Some(accepted(monitor, backend, resolved, now)),
        Err(ResolveError::Refused(reason, message)) => {
            refused(monitor, backend, reason, message).await;
            None
        }
        Err(ResolveError::Unverified(message)) => {
            unverified(monitor, backend, message, now).await;
            None
        }
        // The lookup failed: the round probes the previous result.
        Err(ResolveError::Failed(why)) => {
            tracing::debug!(backend = %backend.key, why, "its target could not be looked up");
            let is_news = backend.with(|live| live.unresolved.replace(why.clone()) != Some(why));
            if known.is_none() && is_news {
                monitor.wake(backend);
            }
            known.map(|(resolved, _)| resolved)
        }
    }
}

/// Keeps a target that was resolved at `now`.
fn accepted(monitor: &Monitor, backend: &Backend, resolved: Resolved, now: Moment) -> Arc<Resolved> {
    let resolved = Arc::new(resolved);
    let was_refused = backend.with(|live| {
        live.resolved = Some((resolved.clone(), now));
        (live.unresolved, live.unverified_since) = (None, None);
        live.refused.take_if(|(reason, _)| *reason != Reason::TargetDenied).is_some()
    });
    if was_refused {
        monitor.wake(backend);
    }
    resolved
}

/// Nothing is dialled while the objects of the target contradict each other, and it is refused when that lasts.
async fn unverified(monitor: &Arc<Monitor>, backend: &Arc<Backend>, message: String, now: Moment) {
    let since = backend.with(|live| {
        (live.resolved, live.unresolved) = (None, Some(message.clone()));
        *live.unverified_since.get_or_insert(now)
    });
    if now.since(since) >= SETTLE_TIMEOUT {
        refused(monitor, backend, Reason::TargetDenied, message).await;
    } else {
        monitor.wake(backend);
    }
}

/// The target is refused: nothing is dialled, and the investigation says why.
async fn refused(monitor: &Arc<Monitor>, backend: &Arc<Backend>, reason: Reason, message: String) {
    refuse(monitor, backend, reason, message);
    backend.with(|live| live.resolved = None);
    // It is no longer probed, so it is no witness of what the operator can see.
    monitor.self_check.remove(backend);
    Box::pin(investigate::investigate_if_due(monitor, backend, false)).await;
    monitor.wake(backend);
}

/// Records why the target cannot be probed. A new reason makes an investigation due.
fn refuse(monitor: &Monitor, backend: &Backend, reason: Reason, message: String) {
    let refused = Some((reason, message));
    let now = monitor.parts.clock.now();
    backend.with(|live| {
        if live.refused != refused {
            live.refused = refused;
            live.investigate_from(now);
        }
    });
}

/// Probes every target, each with a permit of its own. `None` when one of them got no permit within `wait`. A probe that
/// was started ends by its own timeout, which may be as long as the interval: a hang is a failure, not a missed window.
async fn probe_all(
    monitor: &Monitor,
    backend: &Backend,
    resolved: &Resolved,
    due: Moment,
    wait: Duration,
) -> Option<Vec<Probed>> {
    let is_suspect = backend.with(|live| live.record.last().is_some_and(|last| !last.passed));
    let probed = join_all(resolved.targets.iter().map(async |target: &ProbeTarget| {
        let permit = monitor.permits.acquire(&backend.key.namespace, &target.host, is_suspect);
        let _permit = timeout(wait, permit).await.ok()?;
        let started_at = monitor.parts.clock.now();
        monitor.parts.metrics.probe_started(started_at.since(due));
        // Boxed, as everything large here: many rounds wait for a permit, few hold one.
        Some((started_at, Box::pin(monitor.prober.probe(&target.request)).await))
    }));
    probed.await.into_iter().collect()
}

/// Records the results of a round, and investigates when that is due.
async fn record_results(monitor: &Arc<Monitor>, backend: &Arc<Backend>, resolved: &Resolved, probed: Vec<Probed>) {
    for failure in probed.iter().filter_map(|(_, outcome)| outcome.result.as_ref().err()) {
        monitor.parts.metrics.probe_failed(failure.class, failure.phase);
    }
    let was_denied = match denied(&probed) {
        Some(message) => {
            refuse(monitor, backend, Reason::TargetDenied, message);
            false
        }
        None => backend.with(|live| live.refused.take_if(|(reason, _)| *reason == Reason::TargetDenied)).is_some(),
    };
    let health = Box::pin(health(monitor, backend, resolved)).await;
    let now = monitor.parts.clock.read();
    let mut round = summarize(resolved, &probed, now);
    if let Some((vantage, passed)) = health {
        round.passed &= passed;
        round.vantages.push(vantage);
    }
    let unreachable = !round.passed && probed.iter().all(|(_, outcome)| is_unreachable(outcome));
    let probed_at = round.started_at;
    let (changed, interval) = backend.with(|live| {
        let changed = live.record_round(round, now);
        (changed, live.object.spec.probe.interval())
    });
    let was_blind = monitor.self_check.blind_for(backend).is_some();
    match resolved.targets.first() {
        Some(ProbeTarget { host, .. }) => {
            let probe = LastProbe { namespace: backend.key.namespace.clone(), host: host.clone(), interval, probed_at };
            monitor.self_check.record_round(backend, probe, unreachable);
        }
        // Nothing was dialled, which says nothing about what the operator can see.
        None => monitor.self_check.remove(backend),
    }
    Box::pin(connectivity::publish_visibility(monitor)).await;
    if was_denied || was_blind != monitor.self_check.blind_for(backend).is_some() {
        // The reconcile publishes that it cannot, or can again, be judged, whatever its own record says.
        monitor.wake(backend);
    }
    Box::pin(investigate::investigate_if_due(monitor, backend, changed)).await;
}

/// Reads the actuator's health page, where the spec asks for it. Returns its vantage and whether it passes: UNKNOWN is
/// not a failure, but is not healthy either.
async fn health(monitor: &Monitor, backend: &Backend, resolved: &Resolved) -> Option<(Vantage, bool)> {
    let object = backend.object();
    let actuator = object.spec.probe.actuator.as_ref()?;
    let target = resolved.targets.first()?;
    let has_own_port = actuator.port.is_some_and(|port| port != i32::from(target.request.target.port));
    let request = actuator_request(if has_own_port { &target.elsewhere } else { &target.request }, actuator);
    let _permit = monitor.permits.acquire(&backend.key.namespace, &target.host, false).await;
    let reading = read(&monitor.prober, &request, actuator.base_path(), false).await;
    let status = reading.health.content.as_ref().and_then(|health| health.status.as_deref());
    let is_unknown = reading.health.outcome.result.is_ok() && status == Some("UNKNOWN");
    let mut outcome = reading.health.outcome.clone();
    outcome.result = reading.verdict();
    let passed = outcome.result.is_ok() || is_unknown;
    Some((vantage("health", &request, &outcome, monitor.parts.clock.read().wall), passed))
}

/// The message of the address policy, when it denied every probe.
fn denied(probed: &[Probed]) -> Option<String> {
    let mut first = None;
    for (_, outcome) in probed {
        match &outcome.result {
            Err(failure) if failure.class == ErrorClass::Denied && outcome.seen.address.is_none() => {
                first.get_or_insert_with(|| failure.message.clone());
            }
            _ => return None,
        }
    }
    first
}

/// Whether the probe failed in resolve or connect without a packet from the far side. A refusal and a reset are packets
/// from there: they prove that the operator can see.
fn is_unreachable(outcome: &Outcome) -> bool {
    let failed = outcome.result.as_ref().err();
    let early = failed.is_some_and(|failure| matches!(failure.phase, Phase::Resolve | Phase::Connect));
    let is_no_packet = |class| !matches!(class, ErrorClass::Denied | ErrorClass::Refused | ErrorClass::Reset);
    early && !outcome.seen.any_byte && failed.is_some_and(|failure| is_no_packet(failure.class))
}

/// The probes of all targets as one result: it passes when any of them does. Failures of the others are published by
/// `WorkloadHealthy`. Where there was nothing to dial, it fails.
fn summarize(resolved: &Resolved, probed: &[Probed], now: Now) -> Round {
    let passed = probed.iter().any(|(_, outcome)| outcome.result.is_ok());
    let relevant = probed.iter().filter(|(_, outcome)| outcome.result.is_ok() == passed);
    let vantages = resolved.targets.iter().zip(probed);
    let nothing = resolved.nothing.as_ref().map(|why| nothing_to_dial(why.clone(), now.wall));
    Round {
        started_at: probed.iter().map(|(at, _)| *at).min().unwrap_or(now.moment),
        passed,
        is_certain: nothing.is_some(),
        took: relevant.map(|(_, outcome)| outcome.took).max().unwrap_or_default(),
        vantages: vantages
            .map(|(of, (at, outcome))| vantage(&of.name, &of.request, outcome, now.stamp(*at + outcome.took)))
            .chain(nothing)
            .collect(),
        phases: probed
            .iter()
            .max_by_key(|(_, outcome)| outcome.took)
            .map(|(_, outcome)| outcome.spent.iter().collect())
            .unwrap_or_default(),
        certificate_expires: probed.iter().filter_map(|(_, outcome)| outcome.seen.certificate_expires).min(),
    }
}

#[cfg(test)]
mod tests;
