//! Containers that the kernel killed for memory (OOMKilled).

use super::Finding;
use super::containers::{affected, how_many, is_out_of_memory, state, whose};
use super::queries::{ends, unfinished_rollout};
use crate::api::Cause;
use crate::diagnosis::evidence::Evidence;

pub(super) fn out_of_memory(e: &Evidence) -> Option<Finding> {
    let (pod, container, end) = ends(e).into_iter().find(|(.., end)| is_out_of_memory(end))?;
    let (limit, raise) = match &container.memory_limit {
        Some(limit) => (
            format!("its limit is {limit}"),
            format!("Raise resources.limits.memory of container {} (now {limit})", container.name),
        ),
        None => (
            "it has no limit of its own: the node ran out".to_owned(),
            format!("Give container {} a memory request that it needs, or a node with more memory", container.name),
        ),
    };
    let count = how_many(e, affected(e, |_, end| is_out_of_memory(end)));
    Some(
        Finding::new(
            Cause::OutOfMemory,
            format!("{} was killed for memory (OOMKilled, exit 137){count}; {limit}", whose(pod, container)),
            format!("{raise}, or lower what it takes (for a JVM -XX:MaxRAMPercentage or -Xmx). The kubelet restarts it; another restart only delays the next kill"),
        )
        .fact(state(pod, container, end))
        .facts(unfinished_rollout(e)),
    )
}
