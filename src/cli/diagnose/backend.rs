//! `vigie diagnose backend`: probes, adds the vantages that the operator wrote last, and diagnoses as the operator does.

use std::sync::Arc;

use anyhow::{Context, bail};
use futures::future::join_all;
use jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::{Client, ResourceExt as _};
use serde_json::Value;

use super::args::{BackendArgs, Format};
use super::report::{Report, cause_word};
use super::text::ago;
use super::vantages::{self, NetworkPosition, VantageView};
use super::{ExitHealth, saved};
use crate::api::{BackendState, Cause, MonitoredBackend, MonitoredBackendStatus};
use crate::cli::output;
use crate::cluster::{PersonalClient, ask, connect_person};
use crate::diagnosis::evidence::{Evidence, History, Lookup, Vantage};
use crate::diagnosis::gather::{
    PrometheusSource, Question, gather, is_in_cluster, needs_actuator, nothing_to_dial, pod_probes, probe_actuator,
    vantage,
};
use crate::diagnosis::rules::diagnose as diagnose_evidence;
use crate::monitor::credentials::credential;
use crate::monitor::target::{ProbeTarget, ResolveError, Resolved, of_url, resolve};
use crate::probe::{Policy, Prober, Request};

/// The lines of each log that `--logs` reads.
const LOG_LINES: u32 = 50;

pub(super) async fn diagnose(args: BackendArgs) -> anyhow::Result<ExitHealth> {
    let (evidence, views, operator) = match &args.from {
        Some(file) => {
            let evidence = saved::read(file)?;
            let views = saved_views(&evidence);
            let when = format!("(this was seen {})", ago(evidence.gathered_at, Timestamp::now()));
            (evidence, views, Some(when))
        }
        None => Examination::begin(&args).await?.run().await,
    };
    // Ages in saved evidence are relative to the time at which it was gathered.
    let now = if args.from.is_some() { evidence.gathered_at } else { Timestamp::now() };
    let report = Report { evidence: &evidence, views: &views, operator };
    let text = match args.output {
        Format::Text => report.text(now),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&report.json())?),
    };
    if let Some(file) = &args.evidence {
        saved::write(file, &evidence)?;
    }
    if args.evidence.as_deref().is_some_and(saved::is_standard) {
        eprint!("{text}");
    } else {
        output::print(&text)?;
    }
    Ok(report.health())
}

/// The vantages of saved evidence: all of them count.
pub(super) fn saved_views(evidence: &Evidence) -> Vec<VantageView> {
    let view = |vantage: &Vantage| VantageView { from: "saved", vantage: vantage.clone(), counts: true };
    evidence.vantages.iter().map(view).collect()
}

/// One examination of a backend in a cluster.
struct Examination<'a> {
    args: &'a BackendArgs,
    client: Client,
    backend: MonitoredBackend,
    prober: Prober,
    position: NetworkPosition,
    /// What could not be read, in addition to the gaps in the evidence.
    missing: Vec<String>,
}

impl<'a> Examination<'a> {
    async fn begin(args: &'a BackendArgs) -> anyhow::Result<Self> {
        let PersonalClient { client, default_namespace, is_of_pod: in_cluster, .. } =
            connect_person(&args.connection).await?;
        let namespace = args.namespace.clone().unwrap_or(default_namespace);
        let name = args.name.as_deref().context("a name is needed")?;
        let (backend, missing) = read(&client, &namespace, name).await?;
        let policy = Policy::of_a_person(args.allow_network.clone(), args.deny_network.clone());
        let position = NetworkPosition { in_cluster, reached: args.allow_network.clone() };
        Ok(Self { args, client, backend, prober: Prober::new(policy), position, missing })
    }

    async fn run(mut self) -> (Evidence, Vec<VantageView>, Option<String>) {
        let now = Timestamp::now();
        let interval = i64::from(self.backend.spec.probe.interval_seconds);
        let status = self.backend.status.clone().unwrap_or_default();
        let mut theirs = vantages::of_operator(&status, interval, now);
        let prometheus = self.prometheus().await;
        let mut question = Question::about(&self.backend, prometheus, now);
        question.log_lines = self.args.logs.then_some(LOG_LINES);
        let pods_port = question.pods_port.clone();
        let prepared = self.prepared(&mut question.known).await;
        let own = match &prepared {
            Some(prepared) => {
                let probes = prepared.targets.iter().map(|target| (target.name.clone(), target.request.clone()));
                let nothing = prepared.nothing.iter().map(|why| nothing_to_dial(why.clone(), now));
                self.probe(probes).await.into_iter().chain(nothing).collect()
            }
            None => Vec::new(),
        };
        let known = |vantage: &Vantage| own.iter().any(|own| own.name == vantage.name);
        let (about_own, rest): (Vec<_>, Vec<_>) = theirs.drain(..).partition(known);
        let mut views = vantages::views(own, about_own, &self.position);
        question.known.vantages = counted(&views);
        question.known.agent = vantages::agent_of_operator(&status);
        question.known.history = history(&self.backend, &status, &views, now);
        let mut evidence = gather(self.client.clone(), &self.prober, question, now).await;
        let mut more = Vec::new();
        if let Some(like) = prepared.as_ref().and_then(|prepared| prepared.targets.first()) {
            let probes = pod_probes(&evidence, pods_port.as_deref(), &like.elsewhere).into_iter();
            let is_new = |name: &str| !views.iter().any(|view| view.vantage.name == name);
            more = self.probe(probes.filter(|(name, _)| is_new(name))).await;
            more.extend(self.probe_actuator(&mut evidence, like, now).await);
        }
        views.extend(vantages::views(more, rest, &self.position));
        evidence.vantages = counted(&views);
        if prepared.is_some() && evidence.vantages.is_empty() {
            self.missing.push(format!(
                "{} is not dialled from here, for its address is the cluster's own and this runs outside (when a way leads \
                 there, say so with --allow-network), and the operator has not probed it lately",
                evidence.subject.url
            ));
        }
        evidence.missing.extend(self.missing);
        let ours = diagnose_evidence(&evidence).map(|diagnosis| diagnosis.cause);
        (evidence, views, Some(operator(&status, ours, interval, now)))
    }

    /// Resolves the targets as the operator does. A failure becomes part of `known`.
    async fn prepared(&mut self, known: &mut Evidence) -> Option<Resolved> {
        match resolve(&self.client, &self.backend).await {
            Ok(prepared) => Some(prepared),
            Err(ResolveError::Refused(reason, message)) => {
                known.refused = Some((reason, message));
                None
            }
            Err(ResolveError::Unverified(why) | ResolveError::Failed(why)) => {
                self.missing.push(why);
                None
            }
        }
    }

    /// Reads the actuator, when that can explain a failure and the target is dialled from here.
    async fn probe_actuator(&self, evidence: &mut Evidence, like: &ProbeTarget, now: Timestamp) -> Vec<Vantage> {
        if !needs_actuator(evidence) || !self.position.dials(&like.request.target) {
            return Vec::new();
        }
        let spec = self.backend.spec.probe.actuator.as_ref();
        let mut near = evidence.clone();
        if let Lookup::Found(pods) = &mut near.pods {
            pods.iter_mut().for_each(|pod| pod.addresses.retain(|address| self.position.reaches(*address)));
        }
        let seen = probe_actuator(&self.prober, spec, &near, (&like.request, &like.elsewhere), now).await;
        evidence.actuator = seen.actuator;
        seen.vantages
    }

    async fn probe(&self, requests: impl Iterator<Item = (String, Request)>) -> Vec<Vantage> {
        let dialled = requests.filter(|(_, request)| self.position.dials(&request.target));
        let seen = dialled.map(async |(name, request)| {
            let outcome = self.prober.probe(&request).await;
            vantage(&name, &request, &outcome, Timestamp::now())
        });
        join_all(seen).await
    }

    /// The Prometheus to query, when it is reachable from here.
    async fn prometheus(&mut self) -> Option<PrometheusSource> {
        let spec = self.backend.spec.prometheus.as_ref();
        let given = self.args.prometheus_url.clone();
        let is_given = given.is_some();
        let url = given.or_else(|| spec?.url.clone())?;
        if !self.position.in_cluster && is_in_cluster(&url) {
            self.missing.push(format!(
                "Prometheus at {url} has that name in the cluster alone: forward its port, and name it with --prometheus-url"
            ));
            return None;
        }
        let mut bearer_token = None;
        if let Some(from) = spec.and_then(|spec| spec.bearer_token_secret_ref.as_ref()) {
            let namespace = self.backend.namespace().unwrap_or_default();
            let host = of_url(&url).ok()?;
            match credential(&self.client, &namespace, from, (&host.host, host.port)).await {
                Ok(token) => bearer_token = Some(token),
                Err(error) => self.missing.push(error.into_message()),
            }
        }
        Some(PrometheusSource {
            url,
            job: spec.and_then(|spec| spec.job.clone()),
            instance: spec.and_then(|spec| spec.instance.clone()),
            bearer_token,
            is_administrators: is_given,
            is_looked_up_anywhere: true,
            cache: Arc::default(),
        })
    }
}

/// Reads the object. A status that this version cannot read is left out and reported as missing.
async fn read(client: &Client, namespace: &str, name: &str) -> anyhow::Result<(MonitoredBackend, Vec<String>)> {
    let gvk = kube::api::GroupVersionKind::gvk("vigie.dev", "v1alpha1", "MonitoredBackend");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "monitoredbackends");
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let doing = format!("reading the backend {namespace}/{name}");
    let found = ask(&doing, api.get_opt(name)).await?;
    let Some(found) = found else {
        bail!(
            "there is no backend {name:?} in namespace {namespace:?}, or the cluster knows no monitoredbackends.vigie.dev"
        )
    };
    let mut json = serde_json::to_value(found)?;
    if let Ok(backend) = serde_json::from_value(json.clone()) {
        return Ok((backend, Vec::new()));
    }
    if let Value::Object(members) = &mut json {
        members.remove("status");
    }
    let backend = serde_json::from_value(json)
        .with_context(|| format!("{namespace}/{name} has a spec that this version of vigie does not understand"))?;
    Ok((backend, vec!["its status was written by another version of vigie, and cannot be read".to_owned()]))
}

fn counted(views: &[VantageView]) -> Vec<Vantage> {
    views.iter().filter(|view| view.counts).map(|view| view.vantage.clone()).collect()
}

/// The history, as far as it is in the status.
fn history(
    backend: &MonitoredBackend,
    status: &MonitoredBackendStatus,
    views: &[VantageView],
    now: Timestamp,
) -> History {
    let counted = || views.iter().filter(|view| view.counts).map(|view| &view.vantage);
    let targets = || counted().filter(|seen| seen.name == "target" || seen.name.starts_with("pod/"));
    // Of several targets, one that passes is enough.
    let target = targets().find(|seen| seen.ok).or_else(|| targets().next());
    let fails = target.is_some_and(|target| !target.ok);
    let was_bad = matches!(status.state, Some(BackendState::Down | BackendState::Degraded));
    let since = status.state_since.as_ref().map(|time| time.0);
    let allowed = backend.spec.probe.degraded_latency_milliseconds.and_then(|most| u64::try_from(most).ok());
    let slow = target.zip(allowed).filter(|(target, most)| target.ok && target.milliseconds > *most);
    History {
        bad_since: if was_bad { since } else { fails.then_some(now) },
        last_healthy: last_healthy(status),
        flapping: None,
        slow: slow.map(|(target, most)| (target.milliseconds, most)),
    }
}

/// The time at which it was last healthy. That time is written only together with other changes, so the transition from
/// Up may be later.
pub(super) fn last_healthy(status: &MonitoredBackendStatus) -> Option<Timestamp> {
    let left = status.transitions.first().filter(|last| last.from.as_deref() == Some(BackendState::Up.as_str()));
    status.last_healthy_time.as_ref().map(|time| time.0).max(left.map(|last| last.time.0))
}

/// The state and cause by the operator, and whether it still probes. When its cause is another than `ours`, its message is
/// included, because it may have read what cannot be read from here.
pub(super) fn operator(status: &MonitoredBackendStatus, ours: Option<Cause>, interval: i64, now: Timestamp) -> String {
    let Some(last) = status.last_probe_time.as_ref().map(|time| time.0) else {
        return "(no operator has probed it yet)".to_owned();
    };
    let state = status.state.map_or("nothing", |state| state.as_str());
    let cause = cause_word(status.diagnosis.as_ref().map(|diagnosis| diagnosis.cause));
    let other = status.diagnosis.as_ref().filter(|diagnosis| Some(diagnosis.cause) != ours);
    let other = other.map(|diagnosis| format!(": {}", diagnosis.message)).unwrap_or_default();
    // Checkpoints are written at least every hour.
    let silent = now.duration_since(last).as_secs() > 3_600 + 3 * interval;
    let doubt = if silent { "; it may not be running" } else { "" };
    format!("(the operator says {state}{cause}{other}; its last probe that is written was {}{doubt})", ago(last, now))
}
