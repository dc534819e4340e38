//! `vigie diagnose connector`: the operator's status, evidence from the cluster, and commands for a test by hand.
//!
//! Only the operator knows whether heartbeats arrive, so the report begins with whether an operator runs.

use anyhow::{Context, bail};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, DynamicObject};
use serde_json::{Value, json};

use super::ExitHealth;
use super::args::{ConnectorArgs, Format};
use super::report::{cluster, missing};
use super::text::{ago, columns, harmless, indented, list, section};
use super::token::{TokenFindings, token};
use crate::api::{AgentPaused, AgentStatus, Connector, ConnectorState, ConnectorStatus, Diagnosis, StopReason};
use crate::cli::get::resource;
use crate::cli::output;
use crate::cli::token::TokenSource;
use crate::cluster::{PersonalClient, ask, connect_person};
use crate::diagnosis::connector::stop_text;
use crate::diagnosis::evidence::{Evidence, Lookup, Subject};
use crate::diagnosis::gather::{Question, gather, lookup};
use crate::probe::{Policy, Prober};

/// The age of the Lease of a running operator, at most: twice its term.
const LEASE_TERM_SECONDS: i64 = 30;

pub(super) async fn diagnose(args: ConnectorArgs) -> anyhow::Result<ExitHealth> {
    let PersonalClient { client, default_namespace, .. } = connect_person(&args.connection).await?;
    let namespace = args.namespace.clone().unwrap_or(default_namespace);
    let (connector, object) = read(&client, &namespace, &args.name).await?;
    let now = Timestamp::now();
    let source = TokenSource::of(&object, &args.name);
    let secret = match source.secret() {
        Some((secret, _)) => lookup::<Secret>(&client, &namespace, secret).await,
        None => Lookup::NotLooked,
    };
    let lease = lookup::<Lease>(&client, &args.operator_namespace, &args.lease_name).await;
    let status = connector.status.clone().unwrap_or_default();
    let uid = connector.metadata.uid.clone().unwrap_or_default();
    let token = token(&source, &secret, &status.token.clone().unwrap_or_default(), &uid, now);
    let subject = Subject {
        namespace: namespace.clone(),
        name: args.name.clone(),
        workload: connector.spec.workload_ref.clone(),
        ..Default::default()
    };
    let prober = Prober::new(Policy::default());
    let workload = gather(client, &prober, Question::about_workload(subject, now), now).await;
    let lease_name = format!("{}/{}", args.operator_namespace, args.lease_name);
    let view = ConnectorReport {
        connector: &connector,
        status,
        token,
        operator: operator(&lease, &lease_name, now),
        workload,
    };
    output::print(&match args.output {
        Format::Text => view.text(now),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&view.json(now))?),
    })?;
    Ok(view.health(now))
}

async fn read(client: &Client, namespace: &str, name: &str) -> anyhow::Result<(Connector, Value)> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource());
    let found = ask(&format!("reading the connector {namespace}/{name}"), api.get_opt(name)).await?;
    let Some(found) = found else {
        bail!("there is no connector {name:?} in namespace {namespace:?}");
    };
    let json = serde_json::to_value(found)?;
    let connector = serde_json::from_value(json.clone()).with_context(|| {
        format!("{namespace}/{name} was written by a version of vigie that this one does not understand")
    })?;
    Ok((connector, json))
}

/// Whether an operator runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operator {
    /// Whether it renews its Lease; `None` when the Lease could not be read.
    pub(super) runs: Option<bool>,
    pub(super) line: String,
}

fn operator(lease: &Lookup<Lease>, name: &str, now: Timestamp) -> Operator {
    let renewed = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
    match lease {
        Lookup::Found(lease) => match renewed(lease) {
            Some(at) if now.duration_since(at).as_secs() <= LEASE_TERM_SECONDS => {
                Operator { runs: Some(true), line: format!("runs: it renewed its Lease {name} {}", ago(at, now)) }
            }
            Some(at) => {
                let line = format!("does not run: its Lease {name} was renewed last {}", ago(at, now));
                Operator { runs: Some(false), line }
            }
            None => Operator { runs: Some(false), line: format!("does not run: nobody holds its Lease {name}") },
        },
        Lookup::Absent => Operator {
            runs: None,
            line: format!("there is no Lease {name}; --operator-namespace and --lease-name say where it is"),
        },
        other => Operator { runs: None, line: other.missing().unwrap_or_default().to_owned() },
    }
}

/// Whether a reported name can stand in a command.
fn is_host_name(name: &str) -> bool {
    !name.starts_with('-') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

/// The report on a connector.
pub(super) struct ConnectorReport<'a> {
    pub(super) connector: &'a Connector,
    pub(super) status: ConnectorStatus,
    pub(super) token: TokenFindings,
    pub(super) operator: Operator,
    /// The evidence about its workload.
    pub(super) workload: Evidence,
}

impl ConnectorReport<'_> {
    /// The state, and why it differs from the status, when it does: without an operator the status does not change.
    pub(super) fn state(&self, now: Timestamp) -> (ConnectorState, Option<String>) {
        let written = self.status.state.unwrap_or(ConnectorState::Pending);
        let offline_after = i64::from(self.connector.spec.heartbeat.effective().offline_after_seconds);
        let last = self.status.last_contact();
        let is_heard = matches!(written, ConnectorState::Online | ConnectorState::Late | ConnectorState::Degraded);
        let is_old = last.is_some_and(|last| now.duration_since(last).as_secs() > offline_after);
        if self.operator.runs == Some(false) && is_heard && is_old {
            let doubt = format!("its status says {written}, and no operator runs that would have turned it");
            return (ConnectorState::Unknown, Some(doubt));
        }
        (written, None)
    }

    pub(super) fn health(&self, now: Timestamp) -> ExitHealth {
        let is_online = self.state(now).0 == ConnectorState::Online;
        if is_online && self.status.diagnosis.is_none() && !self.token.is_wrong {
            ExitHealth::Well
        } else {
            ExitHealth::Unwell
        }
    }

    pub(super) fn json(&self, now: Timestamp) -> Value {
        let subject = &self.workload.subject;
        let (state, doubt) = self.state(now);
        json!({
            "namespace": subject.namespace,
            "name": subject.name,
            "connectorID": self.id(),
            "state": state,
            "doubt": doubt,
            "diagnosis": self.status.diagnosis,
            "lastHeartbeatTime": self.status.last_heartbeat_time,
            "agent": self.status.agent,
            "checks": self.status.checks,
            "token": self.token.lines,
            "operator": self.operator.line,
            "workload": self.workload.workload,
            "pods": self.workload.pods,
            "missing": missing(&self.workload),
            "commands": self.commands(),
        })
    }

    pub(super) fn text(&self, now: Timestamp) -> String {
        let subject = &self.workload.subject;
        let (state, doubt) = self.state(now);
        let mut text = format!("{}/{} is {state}", subject.namespace, subject.name);
        match (&doubt, &self.status.diagnosis) {
            (Some(doubt), _) => text.push_str(&format!(": {doubt}\n")),
            (None, Some(diagnosis)) => text.push_str(&in_words(diagnosis)),
            (None, None) => text.push('\n'),
        }
        text.push_str(&section("HEARD", &self.heard(now)));
        text.push_str(&section("TOKEN", &list(&self.token.lines)));
        text.push_str(&section("OPERATOR", &list([&self.operator.line])));
        text.push_str(&section("IN THE CLUSTER", &cluster(&self.workload)));
        if let Some(diagnosis) = &self.status.diagnosis {
            text.push_str(&section("EVIDENCE", &list(&diagnosis.evidence)));
            let others = diagnosis.alternatives.iter();
            let others: Vec<_> =
                others.map(|one| format!("{} ({}): {}", one.cause, one.confidence, one.message)).collect();
            text.push_str(&section("IT COULD ALSO BE", &list(&others)));
        }
        text.push_str(&section("NOT SEEN", &list(&missing(&self.workload))));
        let commands = self.commands();
        text.push_str(&section("RUN NEXT", &indented(&commands.join("\n"), "  ")));
        text
    }

    fn id(&self) -> String {
        self.status.connector_id.clone().unwrap_or_else(|| self.connector.effective_id())
    }

    fn heard(&self, now: Timestamp) -> String {
        let limits = self.connector.spec.heartbeat.effective();
        let mut rows = Vec::new();
        let mut row = |what: &str, seen: String| rows.push(vec![what.to_owned(), harmless(&seen).replace('\n', " ")]);
        let last = self.status.last_heartbeat_time.as_ref().map(|time| time.0);
        row("last heartbeat", last.map_or("never".to_owned(), |at| format!("{at}, {}", ago(at, now))));
        row(
            "limits",
            format!("late after {} s, offline after {} s", limits.late_after_seconds, limits.offline_after_seconds),
        );
        row("connector_id", self.id());
        if let Some(agent) = &self.status.agent {
            let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "?".to_owned());
            let who = format!("{} on {} from {}", part(&agent.version), part(&agent.hostname), part(&agent.address));
            row("agent", who);
            self.agent_rows(agent, now, &mut row);
        }
        for check in &self.status.checks {
            let said = check.message.as_ref().map(|said| format!(": {said}")).unwrap_or_default();
            row(&harmless(&check.type_), format!("{}{said}", check.status));
        }
        columns(&rows, "  ")
    }

    /// The agent's own contact, and what it says about its host.
    fn agent_rows(&self, agent: &AgentStatus, now: Timestamp, row: &mut impl FnMut(&str, String)) {
        let Some(seen) = &agent.last_seen_time else { return };
        row("agent heard", format!("{}, {}", seen.0, ago(seen.0, now)));
        if !agent.is_connector_heard() {
            row("connector", "never heard itself: its agent beats for it".to_owned());
        }
        if let Some(AgentPaused { by, reason, until }) = &agent.paused {
            let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
            let until = until.as_ref().map(|until| format!(" until {}", until.0)).unwrap_or_default();
            let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            row("restarts", format!("paused on its host{by}{until}{reason}"));
        }
        if let Some(reason) = &agent.stopping {
            row("last words", stop_text(StopReason::of(reason)).to_owned());
        }
    }

    /// The agent's own log of the connector's unit.
    fn agent_log(&self) -> Option<String> {
        let agent = self.status.agent.as_ref().filter(|agent| agent.last_seen_time.is_some())?;
        let host = agent.hostname.as_deref().filter(|host| is_host_name(host)).unwrap_or("HOST");
        let of_agent = self.connector.spec.agent_ref.as_ref().and_then(|agent| agent.unit.as_deref());
        Some(format!("ssh {host} vigie agent logs {}", of_agent.unwrap_or("TARGET")))
    }

    /// Commands, the test by hand first.
    fn commands(&self) -> Vec<String> {
        let Subject { namespace: ns, name, .. } = &self.workload.subject;
        let mut commands = Vec::new();
        match &self.connector.spec.heartbeat.lease_name {
            Some(lease) => commands.push(format!("kubectl -n {ns} get lease {lease} -o yaml")),
            None => commands.extend(self.by_hand(ns, name)),
        }
        commands.push(format!("vigie get {name} -n {ns} -o yaml"));
        if let Some(pod) = self.workload.first_pod() {
            commands.push(format!("kubectl -n {ns} describe pod {}", pod.name));
            commands.push(format!("kubectl -n {ns} logs {} --tail=50", pod.name));
        }
        commands.extend(self.agent_log());
        if let Some(unit) = self.connector.spec.agent_ref.as_ref().and_then(|agent| agent.unit.as_ref()) {
            commands.push(format!("journalctl -u {unit} -n 50   # on its host"));
        }
        commands
    }

    /// A heartbeat with `dry_run`, which counts as no contact, to be sent from the connector's host. The token is passed by a
    /// pipe, because all users of the host can read arguments.
    fn by_hand(&self, ns: &str, name: &str) -> Vec<String> {
        let url = self.token.url.clone().unwrap_or_else(|| "http://VIGIE:8080".to_owned());
        let url = url.trim_end_matches('/');
        let body = json!({"connector_id": self.id(), "dry_run": true});
        vec![
            format!("curl -sS {url}/api/health   # from its host: does it reach vigie at all?"),
            format!(
                "(printf 'Authorization: Bearer '; vigie token show {name} -n {ns}) | curl -sS -H @- \
                 -H 'Content-Type: application/json' -d '{body}' {url}/api/connector/heartbeat"
            ),
        ]
    }
}

fn in_words(diagnosis: &Diagnosis) -> String {
    let Diagnosis { cause, confidence, message, advice, .. } = diagnosis;
    let confidence = confidence.as_str().to_lowercase();
    format!(": {cause} ({confidence})\n  {}\n  {}\n", harmless(message), harmless(advice))
}
