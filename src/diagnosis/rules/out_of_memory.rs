//! Containers that the kernel killed for memory (OOMKilled), and processes that ended at a limit of their own.

use std::sync::LazyLock;

use regex::Regex;

use super::Finding;
use super::containers::{affected, how_many, is_killed_for_memory, is_out_of_memory, state, whose};
use super::queries::{ended, ends, suspects, unfinished_rollout, waiting};
use crate::api::{Cause, Confidence};
use crate::diagnosis::evidence::{Container, Ended, Evidence, Pod};

pub(super) fn out_of_memory(e: &Evidence) -> Option<Finding> {
    let Some((pod, container, end)) = killed(e) else { return killed_at_start(e).or_else(|| own_limit_reached(e)) };
    let count = how_many(e, affected(e, |_, end| is_out_of_memory(end)));
    let message = format!("{} was killed for memory (OOMKilled, exit {}){count}", whose(pod, container), end.exit_code);
    let finding = finding(container, message).fact(state(pod, container, end)).facts(unfinished_rollout(e));
    Some(if is_killed_for_memory(end) {
        finding
    } else {
        // The kernel killed a process in the container, but not its first one.
        let code = end.exit_code;
        finding.at_most(Confidence::Likely).fact(format!("exit {code}: its first process was not killed for memory"))
    })
}

/// The first container that was killed for memory, those whose first process was killed before the others, and init
/// containers last.
fn killed(e: &Evidence) -> Option<(&Pod, &Container, &Ended)> {
    let mut all: Vec<(&Pod, &Container, &Ended)> = ends(e);
    for pod in suspects(e) {
        let ended = |c| Some((pod, c, ended(e, c)?));
        all.extend(pod.init.iter().filter(|init| !init.ready).filter_map(ended));
    }
    all.retain(|(.., end)| is_out_of_memory(end));
    all.iter().find(|(.., end)| is_killed_for_memory(end)).or(all.first()).copied()
}

/// The runtime says that a container was killed for memory before its command ran.
fn killed_at_start(e: &Evidence) -> Option<Finding> {
    let is_killed = |c: &&Container| {
        let said = c.waiting.as_ref().map(|(_, said)| said.as_str());
        let said = said.or_else(|| ended(e, c)?.message.as_deref());
        waiting(c) != Some("CrashLoopBackOff") && said.is_some_and(|said| said.contains("init was OOM-killed"))
    };
    let all = suspects(e).into_iter().flat_map(|pod| pod.init.iter().chain(&pod.containers).map(move |c| (pod, c)));
    let (pod, container) = all.into_iter().find(|(_, c)| is_killed(c))?;
    let message = format!("{} was killed for memory before its command ran", whose(pod, container));
    let fact = format!("{}: the runtime says that its init was OOM-killed", whose(pod, container));
    Some(finding(container, message).at_most(Confidence::Likely).fact(fact).facts(unfinished_rollout(e)))
}

/// A process ended because its own heap was full, below the container's limit: the kernel killed nothing.
fn own_limit_reached(e: &Evidence) -> Option<Finding> {
    static HEAP: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?m)java\.lang\.OutOfMemoryError: (?:Java heap space|GC overhead limit exceeded|Metaspace|Compressed class space|Direct buffer memory)|Cannot reserve \d+ bytes of direct buffer memory|JavaScript heap out of memory|^fatal error: runtime: (?:out of memory|cannot allocate memory)|^MemoryError\b|System\.OutOfMemoryException",
        )
        .expect("a constant pattern")
    });
    let full = |(_, container, end): &(&Pod, &Container, &Ended)| {
        let message = end.message.as_deref().filter(|message| !message.trim().is_empty());
        let said = message.or(container.log_tail.as_deref());
        end.exit_code != 0 && said.is_some_and(|said| HEAP.is_match(said))
    };
    let (pod, container, end) = ends(e).into_iter().find(full)?;
    let limit = match &container.memory_limit {
        Some(limit) => format!("resources.limits.memory of container {} (now {limit})", container.name),
        None => "the memory of its node".to_owned(),
    };
    let finding = Finding::new(
        Cause::OutOfMemory,
        format!(
            "{} ended by itself (exit {}): it ran out of its own heap, not of the container's memory",
            whose(pod, container),
            end.exit_code
        ),
        format!(
            "Raise its heap within {limit}: -XX:MaxRAMPercentage or -Xmx, -XX:MaxMetaspaceSize, --max-old-space-size of Node.js, GOMEMLIMIT; or find what fills it (a heap dump: -XX:+HeapDumpOnOutOfMemoryError). The kubelet restarts it by itself"
        ),
    );
    // Its last words may hold an error that it survived.
    Some(finding.at_most(Confidence::Likely).fact(state(pod, container, end)).facts(unfinished_rollout(e)))
}

fn finding(container: &Container, message: String) -> Finding {
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
    Finding::new(
        Cause::OutOfMemory,
        format!("{message}; {limit}"),
        format!(
            "{raise}, or lower what it takes (for a JVM -XX:MaxRAMPercentage or -Xmx). The kubelet restarts it; another restart only delays the next kill"
        ),
    )
}
