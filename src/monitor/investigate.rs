//! Investigates a backend: gathers evidence, applies the rules, and stores the findings.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::SignedDuration;
use kube::ResourceExt as _;
use tokio::time::timeout;

use super::context::Monitor;
use super::credentials::credential;
use super::entry::Backend;
use super::findings::{Findings, LastScrape};
use super::live::{Live, STEADY_WAIT, is_replica, limits};
use super::target::{ProbeTarget, of_url};
use crate::api::MonitoredBackend;
use crate::diagnosis::evidence::{Evidence, History, Lookup, Vantage};
use crate::diagnosis::gather::{
    PrometheusSource, Question, gather, is_same_service, needs_actuator, own_pod, pod_probes, probe_actuator, vantage,
};
use crate::diagnosis::rules::{conclude, diagnose};
use crate::health::availability::Availability;
use crate::probe::Request;
use crate::time::Moment;

/// The time that the cluster and Prometheus have to answer one investigation. Evidence that has not arrived by then is
/// left out.
const READ_TIMEOUT: Duration = Duration::from_secs(8);
/// Seconds between the first investigations of an unhealthy backend. They are close together, because much becomes clear
/// in the first minute: a pod that crashes has to crash first.
const FIRST_WAITS: [u64; 4] = [5, 10, 20, 40];

/// Investigates `backend` if that is due. Wakes its reconcile when the findings changed, or when `changed`: the caller
/// has recorded a change already.
pub(super) async fn investigate_if_due(monitor: &Arc<Monitor>, backend: &Arc<Backend>, changed: bool) {
    // Read each time: the look at the replicas makes an investigation due at its own end.
    let is_due = |live: &Live| {
        let is_time = live.investigate_at.is_some_and(|at| at <= monitor.parts.clock.now());
        is_time && (!is_unconfirmed(live) || any_is_bad(live))
    };
    let mut changed = changed;
    if !backend.with(|live| is_due(live)) && backend.with(|live| awaits_replicas(live)) {
        within_limit(backend, confirm_replicas(monitor, backend)).await;
    }
    if backend.with(|live| is_due(live)) {
        let now = monitor.parts.clock.now();
        let findings = within_limit(backend, investigate(monitor, backend)).await;
        changed |= store(monitor, backend, findings, now);
    }
    if changed {
        monitor.wake(backend);
    }
}

async fn within_limit<T>(backend: &Backend, work: impl Future<Output = T>) -> Option<T> {
    let done = timeout(time_limit(backend), work).await.ok();
    if done.is_none() {
        tracing::warn!(backend = %backend.key, "the investigation took too long; the backend is judged by its probes alone for now");
    }
    done
}

/// The time limit of one investigation. A silent backend lets each probe of it run into its timeout, and its actuator
/// takes two of them: there must be time for that, or a hang could not be explained.
fn time_limit(backend: &Backend) -> Duration {
    READ_TIMEOUT + 2 * backend.object().spec.probe.timeout()
}

/// Whether a backend that is Up, or one of its replicas, fails and the failure is not confirmed: findings would be
/// published before the verdict, and a single failure may mean nothing.
fn is_unconfirmed(live: &Live) -> bool {
    live.confirm_in().is_some() && live.record.availability() == Availability::Up
}

/// Whether a replica is known to be bad, whatever the target as a whole does.
fn any_is_bad(live: &Live) -> bool {
    live.vantages.iter().chain(&live.investigated).any(|one| one.confirmed == Some(true))
}

/// Whether the failure of a target that leads to several pods is being confirmed: it may be one of them that fails, and
/// the next probe of the target meets another one.
fn awaits_replicas(live: &Live) -> bool {
    let spec = &live.object.spec;
    let has_pods = spec.workload_ref.is_some() || spec.target.service.is_some();
    has_pods && live.confirm_in().is_some() && !live.vantages.iter().any(is_replica) && live.refused.is_none()
}

/// Probes each pod behind the target once and counts the results. Makes an investigation due when one of them is bad.
async fn confirm_replicas(monitor: &Arc<Monitor>, backend: &Arc<Backend>) {
    let object = backend.object();
    let question = Question::about(&object, None, monitor.parts.clock.read().wall);
    let pods_port = question.pods_port.clone();
    let Some(like) = elsewhere(backend) else { return };
    let evidence = {
        let _place = monitor.investigations.acquire(&backend.key.namespace, true).await;
        gather(monitor.parts.client.clone(), &monitor.prober, question, monitor.parts.clock.read().wall).await
    };
    let seen = probe_pods(monitor, backend, &evidence, pods_port.as_deref(), &like).await;
    backend.with(|live| {
        live.investigated = seen;
        if any_is_bad(live) {
            live.investigate_from(monitor.parts.clock.now());
        }
    });
}

/// The request for the pods behind the target, and for their actuators.
fn elsewhere(backend: &Backend) -> Option<Request> {
    backend
        .with(|live| live.resolved.as_ref().and_then(|(resolved, _)| Some(resolved.targets.first()?.elsewhere.clone())))
}

/// Stores the findings and plans the next investigation. Returns whether the findings changed.
fn store(monitor: &Monitor, backend: &Backend, found: Option<Findings>, now: Moment) -> bool {
    let needs_regular = |object: &MonitoredBackend| {
        object.spec.workload_ref.is_some() || object.spec.prometheus.is_some() || monitor.prometheus_url.is_some()
    };
    backend.with(|live| {
        let has_diagnosis = |found: &Findings| found.diagnosis.is_some();
        let before = live.findings.as_ref().map(|(known, _)| known.clone());
        let with_diagnosis = found.as_ref().or(before.as_deref()).is_some_and(has_diagnosis);
        // A problem that only evidence shows begins with the first investigation that finds it.
        if with_diagnosis && before.as_deref().is_some_and(|before| !has_diagnosis(before)) {
            live.investigations = 0;
        }
        let is_healthy = live.record.availability() == Availability::Up && live.refused.is_none() && !with_diagnosis;
        let wait = match FIRST_WAITS.get(live.investigations as usize) {
            Some(seconds) if !is_healthy => Some(Duration::from_secs(*seconds)),
            _ if !is_healthy || live.replicas.any_fails() || needs_regular(&live.object) => Some(STEADY_WAIT),
            _ => None,
        };
        live.investigations = live.investigations.saturating_add(1);
        live.investigate_at = wait.map(|wait| now + wait);
        let Some(mut found) = found else { return false };
        if live.record.is_confirming() {
            // A single failure is no verdict, neither on the backend nor on its metrics page.
            found.metrics_exposed = before.as_ref().and_then(|known| known.metrics_exposed.clone());
        }
        // A passing scrape is not a change: the verification step polls it itself.
        let steady = |found: &Findings| Findings { last_scrape: None, ..found.clone() };
        let differs = before.is_none_or(|before| steady(&before) != steady(&found));
        live.findings = Some((Arc::new(found), now));
        differs
    })
}

async fn investigate(monitor: &Arc<Monitor>, backend: &Arc<Backend>) -> Findings {
    let object = backend.object();
    let evidence = evidence(monitor, backend, &object).await;
    let conditions = conclude(&evidence);
    Findings {
        diagnosis: diagnose(&evidence),
        metrics_exposed: conditions.metrics_exposed,
        scraped: conditions.scraped,
        workload_healthy: conditions.workload_healthy,
        last_scrape: last_scrape(&evidence),
    }
}

async fn evidence(monitor: &Arc<Monitor>, backend: &Arc<Backend>, object: &MonitoredBackend) -> Evidence {
    let now = monitor.parts.clock.read();
    let (prometheus, without_token) = match prometheus(monitor, object).await {
        Ok(source) => (source, None),
        Err(why) => (None, Some(why)),
    };
    let mut question = Question::about(object, prometheus, now.wall);
    let pods_port = question.pods_port.clone();
    let target = backend.with(|live| {
        let known = &mut question.known;
        known.refused = live.refused.clone();
        known.vantages = live.vantages.clone();
        known.agent = live.agent.as_ref().map(|agent| agent.evidence.clone());
        let limits = limits(&live.object);
        let millis = |of: Duration| u64::try_from(of.as_millis()).unwrap_or(u64::MAX);
        known.history = History {
            bad_since: live.record.failing_since().map(|at| now.stamp(at)),
            last_healthy: live.passed_at.map(|at| now.stamp(at)),
            flapping: live
                .record
                .flapping(now.moment, &limits)
                .map(|(turns, window)| (u32::try_from(turns).unwrap_or(u32::MAX), window.as_secs())),
            slow: live
                .record
                .is_slow()
                .then(|| (millis(live.latency.unwrap_or_default()), millis(limits.slow_above.unwrap_or_default()))),
        };
        live.resolved.as_ref().and_then(|(resolved, _)| Some(resolved.targets.first()?.clone()))
    });
    if let Some((namespace, name)) = &monitor.pod {
        question.us = own_pod(monitor.parts.client.clone(), namespace, name).await.into_iter().collect();
    }
    let is_bad = question.known.refused.is_some()
        || question.known.vantages.iter().any(|vantage| !vantage.ok)
        || backend.with(|live| live.replicas.any_fails());
    let mut evidence = {
        let _place = monitor.investigations.acquire(&backend.key.namespace, false).await;
        gather(monitor.parts.client.clone(), &monitor.prober, question, now.wall).await
    };
    if let Some(why) = without_token {
        evidence.prometheus = Lookup::Failed(why);
    }
    if let (true, Some(target)) = (is_bad, target) {
        let seen = probe_pods_and_actuator(monitor, backend, &mut evidence, pods_port.as_deref(), &target).await;
        backend.with(|live| live.investigated = seen);
    } else {
        backend.with(|live| live.investigated.clear());
    }
    evidence
}

/// Adds the evidence of further probes: each pod at its own address, and the actuator. Returns their vantages.
async fn probe_pods_and_actuator(
    monitor: &Arc<Monitor>,
    backend: &Backend,
    evidence: &mut Evidence,
    pods_port: Option<&str>,
    target: &ProbeTarget,
) -> Vec<Vantage> {
    let object = backend.object();
    let actuator = object.spec.probe.actuator.as_ref();
    let wall = monitor.parts.clock.read().wall;
    let ask_actuator = async |known: &Evidence| match needs_actuator(known) {
        true => {
            Some(probe_actuator(&monitor.prober, actuator, known, (&target.request, &target.elsewhere), wall).await)
        }
        false => None,
    };
    // Concurrently: with a silent backend both run into their timeouts.
    let (mut seen, mut reading) =
        tokio::join!(probe_pods(monitor, backend, evidence, pods_port, &target.elsewhere), ask_actuator(evidence));
    evidence.vantages.extend(seen.clone());
    if reading.is_none() {
        // The answers of its pods may be the first sign that something is wrong.
        reading = ask_actuator(evidence).await;
    }
    if let Some(reading) = reading {
        evidence.actuator = reading.actuator;
        let is_new = |one: &Vantage| evidence.vantages.iter().all(|known| known.name != one.name);
        let new_vantages: Vec<Vantage> = reading.vantages.into_iter().filter(is_new).collect();
        evidence.vantages.extend(new_vantages.clone());
        seen.extend(new_vantages);
    }
    seen
}

/// Probes each pod at its own address, unless the target is that address already, and counts the results for each pod.
async fn probe_pods(
    monitor: &Arc<Monitor>,
    backend: &Backend,
    evidence: &Evidence,
    pods_port: Option<&str>,
    request: &Request,
) -> Vec<Vantage> {
    let known: Vec<&str> = evidence.vantages.iter().map(|vantage| vantage.name.as_str()).collect();
    let probes = pod_probes(evidence, pods_port, request);
    let probes: Vec<_> = probes.into_iter().filter(|(name, _)| !known.contains(&name.as_str())).collect();
    let started_at = monitor.parts.clock.now();
    let seen = probes.iter().map(async |(name, request)| {
        let host: Arc<str> = request.target.address.map_or_else(String::new, |address| address.to_string()).into();
        let _permit = monitor.permits.acquire(&backend.key.namespace, &host, true).await;
        let outcome = monitor.prober.probe(request).await;
        vantage(name, request, &outcome, monitor.parts.clock.read().wall)
    });
    let mut seen = join_all(seen).await;
    if !seen.is_empty() {
        backend.with(|live| {
            live.replicas.keep(seen.iter().map(|one| one.name.as_str()));
            live.count_replicas(&mut seen, started_at, monitor.parts.clock.read());
            let passes = live.record.last().is_some_and(|last| last.passed);
            if passes && seen.iter().all(|one| !one.ok) {
                // The pods answer through the target: only their own addresses do not lead to them from here.
                live.replicas.clear();
                seen.iter_mut().for_each(|one| one.confirmed = Some(false));
            }
        });
    }
    seen
}

/// The Prometheus to ask about `object`: that of its spec, or the one of the operator's flags.
///
/// # Errors
/// Its token cannot be had, or its URL is none that a token is sent to: without the token Prometheus would only answer that
/// it wants one. The text names the field.
async fn prometheus(monitor: &Monitor, object: &MonitoredBackend) -> Result<Option<PrometheusSource>, String> {
    let spec = object.spec.prometheus.as_ref();
    let own = spec.and_then(|spec| spec.url.clone());
    let is_administrators = own.is_none();
    let Some(url) = own.or_else(|| monitor.prometheus_url.clone()) else { return Ok(None) };
    let bearer_token = match spec.and_then(|spec| spec.bearer_token_secret_ref.as_ref()) {
        // A tenant's token is sent to the tenant's Prometheus and to no other.
        Some(from) if !is_administrators => {
            let namespace = object.namespace().unwrap_or_default();
            // The URL is not printed: it may hold a password.
            let of = of_url(&url).map_err(|why| {
                let why = why.replace("spec.target.url", "it");
                format!("spec.prometheus.url is not asked, and its token is not sent: {why}")
            })?;
            let token = credential(&monitor.parts.client, &namespace, from, (&of.host, of.port)).await;
            Some(token.map_err(|why| format!("spec.prometheus.bearerTokenSecretRef: {}", why.into_message()))?)
        }
        _ => None,
    };
    let administrators = monitor.prometheus_url.as_deref();
    let is_looked_up_anywhere = is_administrators || administrators.is_some_and(|own| is_same_service(own, &url));
    Ok(Some(PrometheusSource {
        is_looked_up_anywhere,
        url,
        job: spec.and_then(|spec| spec.job.clone()),
        instance: spec.and_then(|spec| spec.instance.clone()),
        bearer_token,
        is_administrators,
        cache: monitor.servers.clone(),
    }))
}

/// The last scrape of Prometheus, for the verification of a restart. A Prometheus that cannot be asked, or does not know
/// the backend, gives a scrape that is not awaited.
fn last_scrape(evidence: &Evidence) -> Option<LastScrape> {
    match &evidence.prometheus {
        Lookup::NotLooked => None,
        Lookup::Forbidden(_) | Lookup::Failed(_) | Lookup::Absent => {
            Some(LastScrape { passed: None, at: None, interval: SignedDuration::ZERO })
        }
        Lookup::Found(seen) => {
            let interval = seen.targets.iter().map(|target| target.interval_milliseconds).max()?;
            Some(LastScrape {
                passed: Some(seen.targets.iter().all(|target| target.health == "up")),
                at: seen.targets.iter().map(|target| target.last_scrape).min().flatten(),
                interval: SignedDuration::from_millis(i64::try_from(interval).unwrap_or(i64::MAX)),
            })
        }
    }
}
