//! The steps of a person with a diagnosis: read the message, and run the commands.

use std::time::Duration;

use serde_json::Value;

use crate::support::process::Ran;
use crate::support::{World, seconds, text};

/// Timeout for the start of a JVM, on a machine where several start at once.
pub(crate) const STARTED: Duration = seconds(240);

pub(crate) fn message(of: &Value) -> &str {
    text(of, "/status/diagnosis/message")
}

pub(crate) fn advice(of: &Value) -> &str {
    text(of, "/status/diagnosis/advice")
}

/// Fails unless each of `words` is in `told`.
#[track_caller]
pub(crate) fn says(told: &str, words: &[&str]) {
    for word in words {
        assert!(told.contains(word), "{word:?} is missing in {told:?}");
    }
}

/// Waits until a backend is in this state, for this cause, and each of these words is in the message or the advice.
pub(crate) async fn explained(world: &World, name: &str, state: &str, cause: &str, says: &[&str]) -> Value {
    let wanted = |found: &Value| {
        let told = format!("{}\n{}", message(found), advice(found));
        text(found, "/status/state") == state
            && text(found, "/status/diagnosis/cause") == cause
            && says.iter().all(|word| told.contains(word))
    };
    world.sees_backend(STARTED, name, &format!("{state} {cause}, saying {says:?}"), wanted).await
}

/// Fails if the text blames a party between prober and backend: message, advice, evidence, alternatives, conditions.
#[track_caller]
pub(crate) fn blames_nobody_between(told: &str) {
    let told = told.to_lowercase();
    let words = [
        "firewall",
        "security group",
        "blockedfor",
        "rejectedfor",
        "blockedbynetworkpolicy",
        "networkpolicy",
        "dropped",
    ];
    for word in words {
        assert!(!told.contains(word), "{word:?} in {told}");
    }
}

/// Runs a command line with kubectl, as the administrator.
#[track_caller]
pub(crate) fn kubectl(world: &World, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    world.cluster.kubectl(&words).ok()
}

/// Follows the advice: runs the first kubectl command in it, unchanged.
#[track_caller]
pub(crate) fn obey(world: &World, backend: &Value) {
    let advice = advice(backend);
    let command = advice.split('`').find(|part| part.starts_with("kubectl "));
    kubectl(world, command.unwrap_or_else(|| panic!("no command in {advice:?}")));
}

/// `vigie diagnose backend NAME`.
pub(crate) fn diagnose(world: &World, name: &str) -> Ran {
    world.vigie(&["diagnose", "backend", name, "-n", &world.ns])
}

/// The commands under RUN NEXT.
pub(crate) fn next(out: &str) -> Vec<String> {
    let lines = out.lines().skip_while(|line| *line != "RUN NEXT").skip(1);
    lines.take_while(|line| !line.is_empty()).map(|line| line.trim().to_owned()).collect()
}
