//! What is said of a backend, read as the person on call reads it.

use std::time::Duration;

use serde_json::Value;

use crate::support::{World, seconds, text};

/// For what takes a JVM's start, on a machine where several start at once.
pub(crate) const STARTED: Duration = seconds(240);

/// Waits until a backend is in this state, for this cause, and message or advice have all of these words.
pub(crate) async fn explained(world: &World, name: &str, state: &str, cause: &str, says: &[&str]) -> Value {
    let wanted = |found: &Value| {
        let diagnosis = &found["status"]["diagnosis"];
        let told = format!("{}\n{}", text(diagnosis, "/message"), text(diagnosis, "/advice"));
        text(found, "/status/state") == state
            && text(diagnosis, "/cause") == cause
            && says.iter().all(|word| told.contains(word))
    };
    world.sees_backend(STARTED, name, &format!("{state} {cause}, saying {says:?}"), wanted).await
}

/// Does what the advice says: runs the first kubectl command in it, as it stands there.
#[track_caller]
pub(crate) fn obey(world: &World, backend: &Value) {
    let advice = text(backend, "/status/diagnosis/advice");
    let command = advice.split('`').find_map(|part| part.strip_prefix("kubectl "));
    let command = command.unwrap_or_else(|| panic!("no command in {advice:?}"));
    world.cluster.kubectl(&command.split(' ').collect::<Vec<_>>()).ok();
}
