//! The commands to run next, with the names of the real objects.

use crate::api::{Cause, WorkloadRef};
use crate::diagnosis::evidence::{Evidence, Pod};
use crate::diagnosis::gather::is_in_cluster;
use crate::diagnosis::rules::agent_log_command;

/// The most commands of a report: more would be a manual.
const MOST: usize = 8;

/// The commands that show more about `cause` or correct it; those closest to the cause first.
pub(super) fn commands(evidence: &Evidence, cause: Cause) -> Vec<String> {
    let mut commands = Vec::new();
    let next = Next { evidence, ns: &evidence.subject.namespace };
    next.about(&mut commands, cause);
    commands.dedup();
    commands.truncate(MOST);
    commands
}

struct Next<'a> {
    evidence: &'a Evidence,
    ns: &'a str,
}

impl Next<'_> {
    fn about(&self, commands: &mut Vec<String>, cause: Cause) {
        if let Some(view) = self.evidence.agent.as_ref().and_then(|agent| agent.view.as_ref()) {
            commands.push(agent_log_command(view));
        }
        match cause {
            Cause::InvalidTarget | Cause::TargetDenied | Cause::SecretNotFound | Cause::UnreadableStatus => {
                commands.push(format!(
                    "kubectl -n {} get monitoredbackend {} -o yaml",
                    self.ns, self.evidence.subject.name
                ));
            }
            Cause::RolloutInProgress
            | Cause::RolloutStuck
            | Cause::BadSinceRollout
            | Cause::ScaledToZero
            | Cause::WorkloadNotFound => self.about_workload(commands, cause),
            Cause::ServiceSelectsNothing | Cause::ServicePortMismatch | Cause::NoReadyEndpoints => {
                self.about_service(commands);
                self.about_pods(commands);
            }
            Cause::EndpointNotExposed
            | Cause::EndpointDisabled
            | Cause::WrongPath
            | Cause::RegistryMissing
            | Cause::WrongPort
            | Cause::BoundToLoopback => {
                self.about_settings(commands);
                self.probe(commands);
            }
            _ => self.about_network(commands, cause),
        }
    }

    /// Causes on the way to the process, and the others.
    fn about_network(&self, commands: &mut Vec<String>, cause: Cause) {
        match cause {
            Cause::BlockedByNetworkPolicy
            | Cause::BlockedForPrometheus
            | Cause::RejectedForPrometheus
            | Cause::StaleTarget
            | Cause::NotScraped
            | Cause::NotYetScraped
            | Cause::PrometheusCannotScrape
            | Cause::PrometheusDown => {
                self.about_prometheus(commands);
            }
            Cause::NothingListens => {
                commands.push(format!("ssh {} ss -ltnp   # what listens there", quoted(&self.evidence.subject.host)));
                self.probe(commands);
            }
            Cause::HostSilent => {
                commands.push(format!("ping -c 3 {}", quoted(&self.evidence.subject.host)));
                self.probe(commands);
            }
            Cause::DNSNotFound | Cause::DNSBroken => commands.push(format!("nslookup {}", self.evidence.subject.host)),
            Cause::CertificateExpired
            | Cause::CertificateUntrusted
            | Cause::CertificateWrongName
            | Cause::SchemeMismatch
            | Cause::ClientCertificateRequired
            | Cause::TLSHandshakeFailed => self.about_tls(commands),
            _ => {
                self.about_pods(commands);
                self.probe(commands);
            }
        }
    }

    fn workload(&self) -> Option<String> {
        let WorkloadRef { kind, name } = self.evidence.subject.workload.as_ref()?;
        Some(format!("{}/{name}", kind.as_str().to_lowercase()))
    }

    fn about_workload(&self, commands: &mut Vec<String>, cause: Cause) {
        let ns = self.ns;
        let Some(workload) = self.workload() else { return };
        match cause {
            Cause::WorkloadNotFound => {
                commands.push(format!("kubectl -n {ns} get deployments,statefulsets,daemonsets"))
            }
            Cause::ScaledToZero => {
                commands.push(format!("kubectl -n {ns} get {workload} -o wide"));
                commands.push(format!("kubectl -n {ns} scale {workload} --replicas=1"));
            }
            _ => {
                commands.push(format!("kubectl -n {ns} rollout status {workload}"));
                commands.push(format!("kubectl -n {ns} rollout history {workload}"));
            }
        }
        self.about_pods(commands);
        // Last, because it deletes the pods with their termination messages.
        if matches!(cause, Cause::RolloutStuck | Cause::BadSinceRollout) {
            commands.push(format!("kubectl -n {ns} rollout undo {workload}"));
        }
    }

    fn about_pods(&self, commands: &mut Vec<String>) {
        let ns = self.ns;
        // Unhealthy pods first.
        let Some(pod) = self.evidence.first_pod() else {
            if let Some(workload) = self.workload() {
                commands.push(format!("kubectl -n {ns} describe {workload}"));
            }
            return;
        };
        commands.push(format!("kubectl -n {ns} describe pod {}", pod.name));
        if let Some(logs) = logs(pod) {
            commands.push(format!("kubectl -n {ns} logs {} {logs}", pod.name));
        }
    }

    fn about_service(&self, commands: &mut Vec<String>) {
        let ns = self.ns;
        let Some((service, _)) = &self.evidence.subject.service else { return };
        commands.push(format!("kubectl -n {ns} describe service {service}"));
        commands.push(format!("kubectl -n {ns} get endpointslices -l kubernetes.io/service-name={service} -o wide"));
        commands.push(format!("kubectl -n {ns} get pods --show-labels"));
    }

    fn about_settings(&self, commands: &mut Vec<String>) {
        let ns = self.ns;
        if let Some(workload) = self.workload() {
            commands.push(format!("kubectl -n {ns} set env {workload} --list"));
        }
        let pods = self.evidence.living_pods();
        let mut sources = pods.flat_map(|pod| &pod.containers).flat_map(|container| container.value_sources.values());
        let map = sources.find_map(|source| source.strip_prefix("ConfigMap ")?.split(',').next());
        commands.extend(map.map(|map| format!("kubectl -n {ns} get configmap {map} -o yaml")));
    }

    fn about_prometheus(&self, commands: &mut Vec<String>) {
        let ns = self.ns;
        let barring = self.evidence.policies.found().into_iter().flatten();
        for policy in barring.filter(|policy| policy.ingress && policy.admits_prometheus != Some(true)) {
            commands.push(format!("kubectl -n {ns} describe networkpolicy {}", policy.name));
        }
        let scraped = self.evidence.prometheus.found().and_then(|seen| seen.targets.first().or(seen.stale.first()));
        if let Some(target) = scraped {
            commands.push(format!("vigie probe {}   # on the host of Prometheus", quoted(&target.url)));
        }
        if let Some(url) = &self.evidence.subject.prometheus_url {
            commands.push(format!(
                "curl -sS {}",
                quoted(&format!("{}/api/v1/targets?state=any", url.trim_end_matches('/')))
            ));
        }
    }

    fn about_tls(&self, commands: &mut Vec<String>) {
        let subject = &self.evidence.subject;
        let host = if subject.host.contains(':') { format!("[{}]", subject.host) } else { subject.host.clone() };
        commands.push(format!(
            "openssl s_client -connect {host}:{} -servername {} </dev/null | openssl x509 -noout -subject -issuer -dates",
            subject.port, subject.host
        ));
        if let Some(secret) = self.evidence.certificate_secret.found() {
            commands.push(format!("kubectl -n {} describe secret {}", self.ns, secret.name));
        }
        self.probe(commands);
    }

    fn probe(&self, commands: &mut Vec<String>) {
        let subject = &self.evidence.subject;
        // A target of pods has no host, and the name of a Service resolves only in the cluster.
        if !subject.host.is_empty() {
            let place = if is_in_cluster(&subject.url) { "   # inside the cluster" } else { "" };
            commands.push(format!("vigie probe {}{place}", quoted(&subject.url)));
        }
    }
}

/// The arguments of `kubectl logs` for this pod: the log of the container that ended, or of the one that is not ready.
fn logs(pod: &Pod) -> Option<String> {
    let all = || pod.init.iter().chain(&pod.containers);
    let crashed =
        all().find(|container| container.last.is_some() && !container.ready && container.terminated.is_none());
    let ran = all().filter(|container| container.running_since.is_some() || container.terminated.is_some());
    let name = |name: &str| format!("-c {name}");
    match crashed {
        Some(container) => Some(format!("{} --previous --tail=50", name(&container.name))),
        None => {
            ran.min_by_key(|container| container.ready).map(|container| format!("{} --tail=50", name(&container.name)))
        }
    }
}

/// Quotes a word for a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
