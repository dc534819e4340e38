//! Looks into a backend: gathers the evidence, and keeps what is to be made of it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kube::ResourceExt as _;
use tokio::time::timeout;

use super::context::Context;
use super::registry::{Backend, Findings, Live, limits};
use super::target;
use crate::api::{ConditionValue, MonitoredBackend};
use crate::diagnosis::evidence::{Evidence, History, Vantage};
use crate::diagnosis::gather::{
    Question, Source, gather, needs_actuator, own_pod, pod_probes, probe_actuator, vantage,
};
use crate::diagnosis::rules::{Conclusion, conclude, diagnose};
use crate::health::availability::Availability;
use crate::probe::Request;
use crate::time::Moment;

/// How long the cluster and Prometheus may take to answer one look. What a look has not brought by its end is left out of
/// this verdict.
const READ_TIMEOUT: Duration = Duration::from_secs(8);
/// Between two looks at one that is not well: the first ones are close together, for much becomes clear in the first
/// minute (a pod that crashes has to crash first).
const WAITS: [u64; 4] = [5, 10, 20, 40];
/// Between two looks otherwise: also at one that is well, where there is a workload or a Prometheus to look at.
const STEADY: Duration = Duration::from_secs(60);

/// Looks into `backend` when that is due, and wakes its reconcile when there is something new to say; `changed` says
/// that there is already.
pub async fn look(context: &Arc<Context>, backend: &Arc<Backend>, changed: bool) {
    let now = context.clock.now();
    let mut is_news = changed;
    if backend.with(|live| live.look_at.is_some_and(|at| at <= now) && !is_blip_so_far(live)) {
        let findings = match timeout(patience(backend), investigate(context, backend)).await {
            Ok(findings) => Some(findings),
            Err(_) => {
                tracing::warn!(backend = %backend.key, "looking into it took too long; it is judged by its probes alone for now");
                None
            }
        };
        is_news |= keep(context, backend, findings, now);
    }
    if is_news {
        context.trigger.wake(&backend.key);
    }
}

/// How long one look at `backend` may take. One that is silent lets each of our probes of it run into its timeout, and
/// asking its actuator takes two of them: that must not be what keeps a hang from being explained.
fn patience(backend: &Backend) -> Duration {
    READ_TIMEOUT + 2 * backend.object().spec.probe.timeout()
}

/// A failure that is not confirmed: what evidence says of it would be told before there is a verdict, and what fails once
/// may be nothing.
fn is_blip_so_far(live: &Live) -> bool {
    live.record.is_confirming() && live.record.availability() == Availability::Up
}

/// Keeps what was found, and says whether it is something new.
fn keep(context: &Context, backend: &Backend, found: Option<Findings>, now: Moment) -> bool {
    let needs_looks = |object: &MonitoredBackend| {
        object.spec.workload_ref.is_some() || object.spec.prometheus.is_some() || context.prometheus_url.is_some()
    };
    backend.with(|live| {
        let is_troubled = |found: &Findings| found.diagnosis.is_some();
        let before = live.findings.as_ref().map(|(known, _)| known.clone());
        let troubled = found.as_ref().or(before.as_deref()).is_some_and(is_troubled);
        // What only evidence tells begins with the first look that tells it.
        if troubled && before.as_deref().is_some_and(|before| !is_troubled(before)) {
            live.looks = 0;
        }
        let is_well = live.record.availability() == Availability::Up && live.refused.is_none() && !troubled;
        let wait = match WAITS.get(live.looks as usize) {
            Some(seconds) if !is_well => Some(Duration::from_secs(*seconds)),
            _ if !is_well || needs_looks(&live.object) => Some(STEADY),
            _ => None,
        };
        live.looks = live.looks.saturating_add(1);
        live.look_at = wait.map(|wait| now + wait);
        let Some(mut found) = found else { return false };
        if live.record.is_confirming() {
            // One failure is no verdict, neither on the backend nor on its page.
            found.metrics_exposed = before.as_ref().and_then(|known| known.metrics_exposed.clone());
        }
        // A scrape that passed is no news to anybody but who waits for it, and that one looks himself.
        let steady = |found: &Findings| Findings { scrape: None, ..found.clone() };
        let differs = before.is_none_or(|before| steady(&before) != steady(&found));
        live.findings = Some((Arc::new(found), now));
        differs
    })
}

async fn investigate(context: &Arc<Context>, backend: &Arc<Backend>) -> Findings {
    let object = backend.object();
    let evidence = evidence(context, backend, &object).await;
    let conclusions = conclude(&evidence);
    let said = |of: Option<Conclusion>| of.map(|of| ConditionValue::new(of.status, of.reason, of.message));
    Findings {
        diagnosis: diagnose(&evidence),
        metrics_exposed: said(conclusions.metrics_exposed),
        scraped: said(conclusions.scraped),
        workload_healthy: said(conclusions.workload_healthy),
        scrape: crate::controller::backend::remediation_input::scrape(&evidence),
    }
}

async fn evidence(context: &Arc<Context>, backend: &Arc<Backend>, object: &MonitoredBackend) -> Evidence {
    let now = context.clock.read();
    let prometheus = prometheus(context, object).await;
    let mut question = Question::about(object, prometheus, now.wall);
    let pods_port = question.pods_port.clone();
    let request = backend.with(|live| {
        let known = &mut question.known;
        known.refused = live.refused.clone();
        known.vantages = live.vantages.clone();
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
        live.prepared.as_ref().and_then(|(prepared, _)| Some(prepared.aims.first()?.request.clone()))
    });
    if let Some((namespace, name)) = &context.pod {
        question.us = own_pod(context.client.clone(), namespace, name).await.into_iter().collect();
    }
    let is_bad = question.known.refused.is_some() || question.known.vantages.iter().any(|vantage| !vantage.ok);
    let mut evidence = {
        let _place = context.looks.acquire().await;
        gather(context.client.clone(), &context.prober, question, now.wall).await
    };
    if let (true, Some(request)) = (is_bad, request) {
        let seen = ask_closer(context, object, &mut evidence, pods_port.as_deref(), &request).await;
        backend.with(|live| live.beside = seen);
    } else {
        backend.with(|live| live.beside.clear());
    }
    evidence
}

/// Adds what only the backend itself can tell: each pod at its own address, and the actuator. Gives what was seen so.
async fn ask_closer(
    context: &Arc<Context>,
    object: &MonitoredBackend,
    evidence: &mut Evidence,
    pods_port: Option<&str>,
    request: &Request,
) -> Vec<Vantage> {
    let actuator = object.spec.probe.actuator.as_ref();
    let wall = context.clock.read().wall;
    let ask = async |known: &Evidence| match needs_actuator(known) {
        true => Some(probe_actuator(&context.prober, actuator, known, request, wall).await),
        false => None,
    };
    // Side by side: a silent backend has both run into their timeouts.
    let (mut seen, mut more) = tokio::join!(pods(context, evidence, pods_port, request), ask(evidence));
    evidence.vantages.extend(seen.clone());
    if more.is_none() {
        // What its pods answer may be the first that is wrong.
        more = ask(evidence).await;
    }
    if let Some(more) = more {
        evidence.actuator = more.actuator;
        let is_new = |one: &Vantage| evidence.vantages.iter().all(|known| known.name != one.name);
        let more: Vec<Vantage> = more.vantages.into_iter().filter(is_new).collect();
        evidence.vantages.extend(more.clone());
        seen.extend(more);
    }
    seen
}

/// Each pod by its own address, unless that is what the target is anyway.
async fn pods(context: &Arc<Context>, evidence: &Evidence, pods_port: Option<&str>, request: &Request) -> Vec<Vantage> {
    let known: Vec<&str> = evidence.vantages.iter().map(|vantage| vantage.name.as_str()).collect();
    let probes = pod_probes(evidence, pods_port, request);
    let probes = probes.into_iter().filter(|(name, _)| !known.contains(&name.as_str()));
    join_all(probes.map(async |(name, request)| {
        let host: Arc<str> = request.target.address.map_or_else(String::new, |address| address.to_string()).into();
        let _place = context.places.take(&host, true).await;
        let outcome = context.prober.probe(&request).await;
        vantage(&name, &request, &outcome, context.clock.read().wall)
    }))
    .await
}

/// The Prometheus that is to be asked about `object`.
async fn prometheus(context: &Context, object: &MonitoredBackend) -> Option<Source> {
    let spec = object.spec.prometheus.as_ref();
    let own = spec.and_then(|spec| spec.url.clone());
    let is_administrators = own.is_none();
    let url = own.or_else(|| context.prometheus_url.clone())?;
    let bearer_token = match spec.and_then(|spec| spec.bearer_token_secret_ref.as_ref()) {
        // A tenant's token goes to the tenant's Prometheus, and to no other.
        Some(from) if !is_administrators => {
            let namespace = object.namespace().unwrap_or_default();
            target::credential(&context.client, &namespace, from).await.ok()
        }
        _ => None,
    };
    Some(Source {
        url,
        job: spec.and_then(|spec| spec.job.clone()),
        instance: spec.and_then(|spec| spec.instance.clone()),
        bearer_token,
        is_administrators,
        cache: context.servers.clone(),
    })
}
