//! The report on a backend.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::ExitHealth;
use super::commands::commands;
use super::text::{ago, columns, harmless, indented, list, section};
use super::vantages::VantageView;
use crate::api::{BackendState, Cause, Diagnosis, RestartHelps, Truth};
use crate::diagnosis::evidence::{Evidence, Lookup, Prometheus};
use crate::diagnosis::rules::{agent_in_words, as_read_in_a_report, conclude, diagnose};

/// The lines of a log or of a termination message that are shown.
const MOST_LINES: usize = 30;

/// The report on a backend.
pub(super) struct Report<'a> {
    pub(super) evidence: &'a Evidence,
    /// The vantages, own ones and the operator's.
    pub(super) views: &'a [VantageView],
    /// The operator's last status, as a sentence.
    pub(super) operator: Option<String>,
}

impl Report<'_> {
    /// The diagnosis; unlike the operator's, it may be made without any vantage that counts.
    fn diagnosis(&self) -> Option<Diagnosis> {
        let diagnosis = diagnose(self.evidence)?;
        let advice = as_read_in_a_report(&diagnosis.advice, &self.evidence.subject);
        Some(Diagnosis { advice, ..diagnosis })
    }

    pub(super) fn health(&self) -> ExitHealth {
        match state(self.evidence) {
            BackendState::Up => ExitHealth::Well,
            _ => ExitHealth::Unwell,
        }
    }

    pub(super) fn json(&self) -> Value {
        let subject = &self.evidence.subject;
        let diagnosis = self.diagnosis();
        let views =
            self.views.iter().map(|view| json!({"from": view.from, "counts": view.counts, "vantage": view.vantage}));
        json!({
            "namespace": subject.namespace,
            "name": subject.name,
            "target": subject.url,
            "state": state(self.evidence),
            "diagnosis": diagnosis,
            "vantages": views.collect::<Vec<_>>(),
            "agent": self.evidence.agent.as_ref().and_then(|agent| agent.view.as_ref()),
            "missing": missing(self.evidence),
            "commands": self.commands(diagnosis.as_ref()),
            "operator": self.operator,
        })
    }

    pub(super) fn text(&self, now: Timestamp) -> String {
        let diagnosis = self.diagnosis();
        let evidence = self.evidence;
        let mut text = headline(evidence, diagnosis.as_ref());
        if let Some(operator) = &self.operator {
            text.push_str(&format!("{operator}\n"));
        }
        text.push_str(&section("SEEN", &self.table(now)));
        text.push_str(&section("IN THE CLUSTER", &cluster(evidence)));
        text.push_str(&section("ON ITS HOST", &on_its_host(evidence)));
        if let Some(diagnosis) = &diagnosis {
            text.push_str(&section("EVIDENCE", &list(&diagnosis.evidence)));
            let others = diagnosis.alternatives.iter();
            let others: Vec<_> =
                others.map(|one| format!("{} ({}): {}", one.cause, one.confidence, one.message)).collect();
            text.push_str(&section("IT COULD ALSO BE", &list(&others)));
        }
        text.push_str(&section("NOT SEEN", &list(&missing(evidence))));
        text.push_str(&section("LAST WORDS (the backend's own)", &last_words(evidence)));
        let commands = self.commands(diagnosis.as_ref()).join("\n");
        text.push_str(&section("RUN NEXT", &indented(&commands, "  ")));
        text
    }

    fn commands(&self, diagnosis: Option<&Diagnosis>) -> Vec<String> {
        diagnosis.map(|diagnosis| commands(self.evidence, diagnosis.cause)).unwrap_or_default()
    }

    /// The vantages as a table; those that the diagnosis does not use are in brackets.
    fn table(&self, now: Timestamp) -> String {
        let mut rows = Vec::new();
        let mut details = Vec::new();
        for VantageView { from, vantage, counts } in self.views {
            let name = if *counts { vantage.name.clone() } else { format!("({})", vantage.name) };
            let result = match (vantage.ok, vantage.error_class, vantage.phase) {
                (true, ..) => "passes".to_owned(),
                (false, Some(class), Some(phase)) => format!("{class} in {phase}"),
                (false, class, _) => class.map_or("fails", |class| class.as_str()).to_owned(),
            };
            let took = format!("{} ms", vantage.milliseconds);
            let when =
                if now.duration_since(vantage.at).as_secs() > 30 { ago(vantage.at, now) } else { "now".to_owned() };
            rows.push(vec![name, (*from).to_owned(), result, took, when, harmless(&vantage.message)]);
            if let Some(detail) = &vantage.detail {
                details.push(format!("{}: {}", vantage.name, harmless(detail).replace('\n', " ")));
            }
        }
        columns(&rows, "  ") + &indented(&details.join("\n"), "  it said, at ")
    }
}

/// The state that follows from the evidence, as the operator would derive it.
pub(super) fn state(evidence: &Evidence) -> BackendState {
    if evidence.refused.is_some() {
        return BackendState::Down;
    }
    if evidence.blind.is_some() {
        return BackendState::Unknown;
    }
    // A target of pods, or of a headless Service, has one vantage for each pod.
    let named = |wanted: &str| evidence.vantages.iter().filter(|vantage| vantage.name == wanted).collect::<Vec<_>>();
    let mut targets = named("target");
    if targets.is_empty() {
        targets = evidence.vantages.iter().filter(|vantage| vantage.name.starts_with("pod/")).collect();
    }
    if targets.is_empty() {
        return BackendState::Unknown;
    }
    // Of several targets, one that passes is enough.
    if targets.iter().all(|vantage| !vantage.ok) {
        return BackendState::Down;
    }
    let conclusions = conclude(evidence);
    let parts = [conclusions.metrics_exposed, conclusions.scraped, conclusions.workload_healthy];
    let is_false = parts.into_iter().flatten().any(|part| part.status == Truth::False);
    if is_false || diagnose(evidence).is_some() { BackendState::Degraded } else { BackendState::Up }
}

fn headline(evidence: &Evidence, diagnosis: Option<&Diagnosis>) -> String {
    let subject = &evidence.subject;
    let (name, state) = (format!("{}/{}", subject.namespace, subject.name), state(evidence));
    let Some(diagnosis) = diagnosis else {
        return match state {
            BackendState::Up => format!("{name} is Up: nothing is wrong with {}\n", subject.url),
            _ => format!("{name} is {state}: what could be seen does not tell why\n"),
        };
    };
    let Diagnosis { cause, confidence, message, advice, restart_helps, .. } = diagnosis;
    let confidence = confidence.as_str().to_lowercase();
    let restart = match restart_helps {
        RestartHelps::No => "A restart would not help.",
        RestartHelps::Once => "A restart may help, once.",
        RestartHelps::Yes => "A restart can help.",
    };
    let (message, advice) = (harmless(message), harmless(advice));
    format!("{name} is {state}: {cause} ({confidence})\n  {message}\n  {advice}\n  {restart}\n")
}

/// The gaps in the evidence, one sentence each.
pub(super) fn missing(evidence: &Evidence) -> Vec<String> {
    fn of<T>(lookup: &Lookup<T>) -> Option<String> {
        lookup.missing().map(str::to_owned)
    }
    let lookups = [
        of(&evidence.workload),
        of(&evidence.pods),
        of(&evidence.nodes_not_ready),
        of(&evidence.service),
        of(&evidence.certificate_secret),
        of(&evidence.policies),
        of(&evidence.events),
        of(&evidence.prometheus),
        of(&evidence.actuator),
    ];
    let of_agent = evidence.agent.as_ref().and_then(|agent| agent.missing.clone());
    let mut missing: Vec<String> =
        lookups.into_iter().flatten().chain(of_agent).chain(evidence.missing.clone()).collect();
    let mut seen = std::collections::BTreeSet::new();
    missing.retain(|why| seen.insert(why.clone()));
    missing
}

/// One line for each object that was found.
pub(super) fn cluster(evidence: &Evidence) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |what: String, seen: String| rows.push(vec![what, seen]);
    let subject = &evidence.subject;
    if let (Some(reference), Some(seen)) = (&subject.workload, evidence.workload.found()) {
        let stuck = if seen.deadline_exceeded { ", its rollout is stuck" } else { "" };
        let counts = format!("{} of {} ready, {} updated{stuck}", seen.ready, seen.wanted, seen.updated);
        row(format!("{} {}", reference.kind, reference.name), counts);
    }
    if let Some(seen) = evidence.service.found() {
        let (ready, not_ready) = seen.endpoints;
        let selected = seen.selected.map(|count| format!(", its selector selects {count} pods")).unwrap_or_default();
        row(format!("Service {}", seen.name), format!("{ready} endpoints ready, {not_ready} not{selected}"));
    }
    for pod in evidence.living_pods().chain(evidence.newest_ended_pods()).take(10) {
        let waiting = pod.init.iter().chain(&pod.containers).find_map(|one| one.waiting.as_ref());
        let why = waiting.map(|(reason, _)| reason).or(pod.reason.as_ref());
        let why = why.map(|why| format!(", {}", harmless(why))).unwrap_or_default();
        let restarts: i32 = pod.containers.iter().map(|container| container.restarts).sum();
        let ready = if pod.ready { "ready" } else { "not ready" };
        row(format!("Pod {}", pod.name), format!("{}, {ready}{why}, {restarts} restarts", pod.phase));
    }
    for policy in evidence.policies.found().into_iter().flatten().filter(|policy| policy.ingress) {
        let admits = |known: Option<bool>, whom: &str| match known {
            Some(true) => format!("admits {whom}"),
            Some(false) => format!("does not admit {whom}"),
            None => format!("whether it admits {whom} is not known"),
        };
        row(format!("NetworkPolicy {}", policy.name), admits(policy.admits_prometheus, "Prometheus"));
    }
    if let Some(seen) = evidence.prometheus.found() {
        prometheus(seen).into_iter().for_each(|seen| row("Prometheus".to_owned(), seen));
    }
    columns(&rows, "  ")
}

/// The unit behind it, as the agent on its host sees it.
fn on_its_host(evidence: &Evidence) -> String {
    let Some(view) = evidence.agent.as_ref().and_then(|agent| agent.view.as_ref()) else { return String::new() };
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |what: &str, seen: String| rows.push(vec![what.to_owned(), harmless(&seen).replace('\n', " ")]);
    row("unit", agent_in_words(view));
    if let Some(probe) = &view.probe {
        let class = probe.error_class.map_or("fails", |class| class.as_str());
        let status = probe.status.map(|status| format!(", status {status}")).unwrap_or_default();
        row("probed there", format!("{}{status}", if probe.ok { "passes" } else { class }));
    }
    let mut all = |what: &str, entries: &[String]| {
        if !entries.is_empty() {
            row(what, entries.join(", "));
        }
    };
    all("listens on", &view.listens);
    all("published", &view.published);
    let set = view.environment.iter().flatten().map(|set| match &set.value {
        Some(value) => format!("{}={value}", set.name),
        None => format!("{} (not read)", set.name),
    });
    let set: Vec<String> = set.collect();
    all("environment", &set);
    all("said last", view.words.as_slice());
    all("agent says", view.message.as_slice());
    columns(&rows, "  ")
}

fn prometheus(seen: &Prometheus) -> Vec<String> {
    let entry = |target: &crate::diagnosis::evidence::ScrapeTarget, note: &str| {
        let error = if target.last_error.is_empty() { String::new() } else { format!(": {}", target.last_error) };
        harmless(&format!("{} is {}{note}{error}", target.url, target.health)).replace('\n', " ")
    };
    if seen.targets.is_empty() && seen.stale.is_empty() {
        let why = if seen.dropped { "drops it by relabelling" } else { "does not have it among its targets" };
        return vec![why.to_owned()];
    }
    let stale = seen.stale.iter().map(|target| entry(target, " (not the backend's address)"));
    seen.targets.iter().map(|target| entry(target, "")).chain(stale).take(5).collect()
}

/// The termination messages of crashed containers, and the ends of their logs where they were read.
fn last_words(evidence: &Evidence) -> String {
    let mut text = String::new();
    for pod in evidence.living_pods().chain(evidence.newest_ended_pods()) {
        for container in pod.init.iter().chain(&pod.containers) {
            let ended = container.terminated.as_ref().or(container.last.as_ref());
            let words = container.log_tail.as_ref().or_else(|| ended.and_then(|ended| ended.message.as_ref()));
            let Some(words) = words.filter(|words| !words.trim().is_empty()) else { continue };
            let words = harmless(words);
            let lines: Vec<&str> = words.lines().filter(|line| !line.trim().is_empty()).collect();
            let tail = lines[lines.len().saturating_sub(MOST_LINES)..].join("\n");
            text.push_str(&format!("  {} {}:\n{}", pod.name, container.name, indented(&tail, "    | ")));
            // Replicas often have the same message.
            return text;
        }
    }
    text
}

/// The cause, as the status intervals it.
pub(super) fn cause_word(cause: Option<Cause>) -> String {
    cause.map_or_else(String::new, |cause| format!(", {cause}"))
}
