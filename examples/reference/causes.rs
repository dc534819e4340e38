//! The causes with their advice, by the diagnosis rules, which run on samples of evidence.
//!
//! `samples.json` holds evidence of backends: a healthy one, and for each sample the difference to it (a JSON merge
//! patch, RFC 7386). It is the evidence of the rules' own tests, one sample for each advice.

use anyhow::{Context, ensure};
use serde_json::Value;
use vigie::api::{Cause, Diagnosis, RestartHelps};
use vigie::diagnosis::evidence::Evidence;
use vigie::diagnosis::rules::diagnose;

use crate::words::meanings;
use crate::{cell, connectors, section_name};

const SAMPLES: &str = include_str!("samples.json");

/// A diagnosis of one sample, and its kind.
pub(crate) struct Entry {
    /// `Connector` or `MonitoredBackend`.
    pub(crate) kind: &'static str,
    /// The result of the rules.
    pub(crate) diagnosis: Diagnosis,
}

/// Renders the page about the causes.
pub(crate) fn page() -> anyhow::Result<String> {
    let (entries, meanings) = (entries()?, meanings::<Cause>()?);
    let mut page = INTRODUCTION.to_owned();
    page += "| cause | what it means | a restart |\n|---|---|---|\n";
    for (cause, meaning) in &meanings {
        let helps = restart(entries.iter().filter(|entry| entry.diagnosis.cause.as_str() == cause));
        page += &format!("| [{cause}](#{}) | {} | {helps} |\n", section_name(cause), cell(meaning));
    }
    for (cause, meaning) in &meanings {
        let of_it: Vec<&Entry> = entries.iter().filter(|entry| entry.diagnosis.cause.as_str() == cause).collect();
        ensure!(!of_it.is_empty(), "no sample gives the cause {cause}: add one to examples/reference");
        page += &format!(
            "\n## {cause}\n\n{meaning}\n\n| of | sure | a restart | for example | advice |\n|---|---|---|---|---|\n"
        );
        for Entry { kind, diagnosis } in of_it {
            let Diagnosis { confidence, message, advice, restart_helps, .. } = diagnosis;
            let helps = helps(*restart_helps);
            page += &format!("| {kind} | {confidence} | {helps} | {} | {} |\n", cell(message), cell(advice));
        }
    }
    Ok(page)
}

const INTRODUCTION: &str = "# Causes

Every state that is not well has one of these causes, in `status.diagnosis`, in the event, in `vigie get`, in
`vigie diagnose` and in the metrics, with an advice. The messages in the tables are those of samples: the backend `web` in
namespace `shop` with a Deployment `web` and its container `app`, the connector `edge-1` in namespace `gateways`. For your
object they contain its own names and figures. Where a cause has several advices, each has its sample.

A **restart** *helps*, *may help once* (not again for the same cause when it did not) or *does not help*; only the first two
are ever [restarted](../remediation.md). **Sure** is Certain when everything that it needs was seen, Likely when most of it
was, and Possible for a guess; what is Possible is not acted upon, and what was not seen is named in `evidence`. A
Connector with a `workloadRef` that is Offline takes the cause of its pods, from ScaledToZero to RolloutStuck, when they
explain it. The causes of backends stand in the order of the rules: the first that matches is the diagnosis, later ones
are its alternatives.

";

/// Every entry: of connectors, then of backends, each in the order of its samples.
pub(crate) fn entries() -> anyhow::Result<Vec<Entry>> {
    let mut entries: Vec<Entry> =
        connectors::diagnoses().into_iter().map(|diagnosis| Entry { kind: "Connector", diagnosis }).collect();
    for (number, evidence) in evidence()?.iter().enumerate() {
        let diagnosis = diagnose(evidence).with_context(|| format!("nothing is wrong with sample {number}"))?;
        entries.push(Entry { kind: "MonitoredBackend", diagnosis });
    }
    // Highest confidence first; otherwise the order of the samples.
    entries.sort_by_key(|entry| (entry.diagnosis.cause, std::cmp::Reverse(entry.diagnosis.confidence)));
    Ok(entries)
}

fn evidence() -> anyhow::Result<Vec<Evidence>> {
    let samples: Value = serde_json::from_str(SAMPLES).context("reading the samples")?;
    let patches = samples["samples"].as_array().context("the samples are no list")?;
    let read = |(number, patch)| {
        let mut evidence = samples["well"].clone();
        merge(&mut evidence, patch);
        serde_json::from_value(evidence).with_context(|| format!("sample {number} is no evidence"))
    };
    patches.iter().enumerate().map(read).collect()
}

/// A merge patch by RFC 7386.
fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(serde_json::Map::new());
    }
    let Some(into) = into.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            into.remove(key);
        } else {
            merge(into.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Whether a restart helps, over all samples of a cause.
fn restart<'a>(entries: impl Iterator<Item = &'a Entry>) -> String {
    let mut answers: Vec<RestartHelps> = entries.map(|entry| entry.diagnosis.restart_helps).collect();
    answers.sort_unstable();
    answers.dedup();
    answers.iter().map(|answer| helps(*answer)).collect::<Vec<_>>().join(", or ")
}

const fn helps(restart: RestartHelps) -> &'static str {
    match restart {
        RestartHelps::No => "does not help",
        RestartHelps::Once => "may help once",
        RestartHelps::Yes => "helps",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cause_is_without_an_entry_and_no_entry_without_advice() {
        let entries = entries().unwrap();
        for cause in Cause::ALL {
            let of_it: Vec<&Entry> = entries.iter().filter(|entry| entry.diagnosis.cause == *cause).collect();
            assert!(!of_it.is_empty(), "{cause} has no entry in docs/reference/causes.md: add a sample");
            for Entry { diagnosis, .. } in of_it {
                assert!(!diagnosis.advice.is_empty() && !diagnosis.message.is_empty(), "{cause} says nothing");
            }
        }
    }

    #[test]
    fn no_two_samples_say_the_same() {
        let entries = entries().unwrap();
        for (at, entry) in entries.iter().enumerate() {
            let content = |entry: &Entry| (entry.kind, entry.diagnosis.clone());
            assert!(!entries[at + 1..].iter().any(|other| content(other) == content(entry)), "{:?}", entry.diagnosis);
        }
    }

    #[test]
    fn a_merge_patch_replaces_removes_and_adds() {
        let mut value = serde_json::json!({"a": {"b": 1, "c": 2}, "d": [1]});
        merge(&mut value, &serde_json::json!({"a": {"b": null, "e": 3}, "d": [2, 3], "f": {"g": 4}}));
        assert_eq!(value, serde_json::json!({"a": {"c": 2, "e": 3}, "d": [2, 3], "f": {"g": 4}}));
    }
}
