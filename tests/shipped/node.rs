//! Accidents that happen to a pod on its node: to its processes and its network.

use std::process::Command;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use crate::release::cluster;
use crate::support::process::{run, signal};

/// The process of the pod's container, by its pid on the machine.
pub(crate) fn process_of(pod: &Pod) -> u32 {
    let status = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()?.first());
    let id = status.and_then(|status| status.container_id.as_deref()).expect("its container runs");
    let id = id.strip_prefix("containerd://").expect("it runs in containerd");
    let address = cluster().variable("CONTAINERD_ADDRESS");
    let tasks = run(Command::new("ctr").args(["--address", &address, "--namespace", "k8s.io", "tasks", "list"])).ok();
    let line = tasks.lines().find(|line| line.starts_with(id)).unwrap_or_else(|| panic!("no {id} in {tasks}"));
    let pid = line.split_whitespace().nth(1).and_then(|pid| pid.parse().ok());
    pid.unwrap_or_else(|| panic!("no process in {line}"))
}

/// A process that is stopped until this is dropped: a frozen machine.
pub(crate) struct Frozen(u32);

impl Frozen {
    pub(crate) fn of(pod: &Pod) -> Self {
        let pid = process_of(pod);
        signal(pid, "STOP");
        Self(pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // The kubelet may have ended it meanwhile.
        let _ = run(Command::new("sh").args(["-c", &format!("kill -CONT {}", self.0)]));
    }
}

/// A pod whose packets are dropped in both directions until this is dropped: a node's network that is gone. The kubelet
/// is on that node, and its probes still reach the pod.
pub(crate) struct Cut(String);

impl Cut {
    pub(crate) fn of(pod: &Pod) -> Self {
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).expect("it has an address");
        let table = format!("vigie_cut_{}", pod.name_any().replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
        let rules = format!(
            "table inet {table} {{
               chain from {{ type filter hook prerouting priority -350; ip saddr {address} tcp sport != 9090 drop; ip saddr {address} udp sport 0-65535 drop; }}
               chain to {{ type filter hook postrouting priority 350; ip daddr {address} tcp dport != 9090 drop; }}
             }}"
        );
        run(nft().arg(rules)).ok();
        Self(table)
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        let _ = run(nft().args(["delete", "table", "inet", &self.0]));
    }
}

/// Also finds Debian's path, which is not on every user's PATH.
fn nft() -> Command {
    let mut nft = Command::new("nft");
    nft.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    nft
}
