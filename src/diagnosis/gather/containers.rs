//! Containers as evidence: their spec and their status.

use k8s_openapi::api::core::v1;

use super::convert::{message, time};
use super::environment;
use super::variables::ConfigMaps;
use crate::diagnosis::evidence::{Container, Ended};

/// The kubelet's own limit for a termination message, in characters (it counts bytes: 4 KiB).
const MAX_TERMINATION_MESSAGE: usize = 4096;

/// The containers of a pod in the order of its spec, each with its status.
pub(super) fn containers(
    specs: &[v1::Container],
    statuses: &[v1::ContainerStatus],
    maps: &ConfigMaps,
) -> Vec<Container> {
    let status = |name: &str| statuses.iter().find(|status| status.name == name);
    specs.iter().map(|spec| container(spec, status(&spec.name), maps)).collect()
}

fn container(spec: &v1::Container, status: Option<&v1::ContainerStatus>, maps: &ConfigMaps) -> Container {
    let state = status.and_then(|status| status.state.clone()).unwrap_or_default();
    let last = status.and_then(|status| status.last_state.clone()).unwrap_or_default();
    let resolved = environment::resolve(spec, maps);
    let limits = spec.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    Container {
        name: spec.name.clone(),
        image: spec.image.clone().unwrap_or_default(),
        ready: status.is_some_and(|status| status.ready),
        started: status.and_then(|status| status.started),
        running_since: state.running.and_then(|running| time(running.started_at.as_ref())),
        waiting: state
            .waiting
            .map(|waiting| (waiting.reason.clone().unwrap_or_default(), message(waiting.message.as_deref()))),
        terminated: state.terminated.map(ended),
        last: last.terminated.map(ended),
        restarts: status.map_or(0, |status| status.restart_count),
        ports: ports(spec),
        environment: resolved.names,
        values: resolved.values,
        value_sources: resolved.sources,
        environment_incomplete: resolved.incomplete,
        memory_limit: limits.and_then(|limits| limits.get("memory")).map(|limit| limit.0.clone()),
        probes: (spec.startup_probe.is_some(), spec.liveness_probe.is_some(), spec.readiness_probe.is_some()),
        startup_budget: spec.startup_probe.as_ref().map(startup_budget),
        is_sidecar: spec.restart_policy.as_deref() == Some("Always"),
        log_tail: None,
    }
}

/// TCP ports only: probes use no others.
fn ports(spec: &v1::Container) -> Vec<(Option<String>, u16)> {
    let tcp = |port: &&v1::ContainerPort| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    let number = |port: &v1::ContainerPort| Some((port.name.clone(), u16::try_from(port.container_port).ok()?));
    spec.ports.iter().flatten().filter(tcp).filter_map(number).collect()
}

/// Seconds that the kubelet allows for a start: its defaults are 0, 10 s and 3 (core/v1, Probe).
fn startup_budget(probe: &v1::Probe) -> u64 {
    let part = |value: Option<i32>, default: u64| value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default);
    let delay = part(probe.initial_delay_seconds, 0);
    delay + part(probe.period_seconds, 10) * part(probe.failure_threshold, 3)
}

fn ended(state: v1::ContainerStateTerminated) -> Ended {
    Ended {
        reason: state.reason.unwrap_or_default(),
        exit_code: state.exit_code,
        began: time(state.started_at.as_ref()),
        ended: time(state.finished_at.as_ref()),
        message: state.message.map(|message| crate::api::clip(message, MAX_TERMINATION_MESSAGE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_numbers_of_a_startup_probe_give_a_budget() {
        let most = u64::from(i32::MAX.unsigned_abs());
        let mut probe = v1::Probe {
            initial_delay_seconds: Some(i32::MAX),
            period_seconds: Some(i32::MAX),
            failure_threshold: Some(i32::MAX),
            ..Default::default()
        };
        assert_eq!(startup_budget(&probe), most + most * most);
        probe.period_seconds = Some(-1);
        assert_eq!(startup_budget(&probe), most + 10 * most);
        assert_eq!(startup_budget(&v1::Probe::default()), 30);
    }
}
