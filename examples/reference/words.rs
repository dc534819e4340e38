//! The closed sets of words in conditions, states and remedies.

use anyhow::Context;
use schemars::{JsonSchema, schema_for};
use vigie::api::{
    AttemptOutcome, AttemptPhase, BackendState, Cause, ConditionType, ConnectorState, Denial, ErrorClass, Phase, Reason,
};

use crate::{cell, section_name};

/// Each word of a set, in its order, with its meaning.
pub(crate) fn meanings<W: JsonSchema>() -> anyhow::Result<Vec<(String, String)>> {
    let schema = schema_for!(W);
    let words = schema.get("oneOf").and_then(|words| words.as_array()).context("a set of words has no list")?;
    let word = |word: &serde_json::Value| {
        let name = word["const"].as_str().context("a word has no name")?;
        let meaning = word["description"].as_str().with_context(|| format!("{name} has no meaning"))?;
        Ok((name.to_owned(), meaning.split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    words.iter().map(word).collect()
}

/// Renders the page about the words.
pub(crate) fn page() -> anyhow::Result<String> {
    let mut page = INTRODUCTION.to_owned();
    plain::<ConditionType>(&mut page, "Conditions", "The types, on both kinds.", "condition")?;
    plain::<ConnectorState>(&mut page, "States of a Connector", STATE, "state")?;
    plain::<BackendState>(&mut page, "States of a MonitoredBackend", STATE, "state")?;
    reasons(&mut page)?;
    let asked = "The reason of `Remediating` while a wanted remedy is not taken, in the order in which they are asked. What to \
                 do about each, and which a person's request passes: [remedies](../remediation.md#denials).";
    plain::<Denial>(&mut page, "Denials", asked, "denial")?;
    let how = "How a probe failed: the reason of `Available` False, `errorClass` in `status.vantages`, and a label of the metrics.";
    plain::<ErrorClass>(&mut page, "Error classes", how, "error class")?;
    plain::<Phase>(&mut page, "Phases of a probe", "How far it got: `phase` in `status.vantages`.", "phase")?;
    plain::<AttemptPhase>(&mut page, "Phases of an attempt", "`status.remediation.current.phase`.", "phase")?;
    let ended = "`status.remediation.history[].outcome`; what to do: [remedies](../remediation.md#an-attempt).";
    plain::<AttemptOutcome>(&mut page, "Outcomes of an attempt", ended, "outcome")?;
    Ok(page)
}

const INTRODUCTION: &str = "# Conditions, reasons and states

The words that vigie uses. Each set is closed: status, events, metrics and the command line have these words and no others.
The [cause](causes.md) of a bad state comes with an advice.
";

const STATE: &str = "`status.state`: derived from the conditions, for display.";

fn plain<W: JsonSchema>(page: &mut String, title: &str, about: &str, word: &str) -> anyhow::Result<()> {
    *page += &format!("\n## {title}\n\n{about}\n\n| {word} | what it means |\n|---|---|\n");
    for (name, meaning) in meanings::<W>()? {
        *page += &format!("| `{name}` | {} |\n", cell(&meaning));
    }
    Ok(())
}

/// The reasons, each with a link to its details.
fn reasons(page: &mut String) -> anyhow::Result<()> {
    *page += "\n## Reasons\n\nOf all conditions.\n\n| reason | what it means | more |\n|---|---|---|\n";
    for (name, meaning) in meanings::<Reason>()? {
        let mut more = Vec::new();
        if name.parse::<Cause>().is_ok() {
            more.push(format!("[cause](causes.md#{})", section_name(&name)));
        }
        if name.parse::<ErrorClass>().is_ok() {
            more.push("[error class](#error-classes)".to_owned());
        }
        if name.parse::<Denial>().is_ok() {
            more.push("[denial](../remediation.md#denials)".to_owned());
        }
        *page += &format!("| `{name}` | {} | {} |\n", cell(&meaning), more.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_condition_reason_or_denial_is_without_an_entry() {
        let page = page().unwrap();
        for reason in Reason::ALL {
            assert!(page.contains(&format!("| `{reason}` | ")), "{reason} is missing");
        }
        let (_, denials) = page.split_once("## Denials").unwrap();
        for denial in Denial::ALL {
            assert!(denials.contains(&format!("| `{denial}` | ")), "{denial} is missing");
        }
    }

    #[test]
    fn what_to_do_about_each_denial_stands_in_the_page_about_remedies() {
        let remedies = include_str!("../../docs/remediation.md");
        for denial in Denial::ALL {
            assert!(remedies.contains(&format!("| `{denial}` ")), "docs/remediation.md says nothing of {denial}");
        }
    }
}
