//! The types that both kinds share, and the limits of their fields.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::words::words;
use super::{Cause, Confidence, RestartHelps};

/// The longest message, advice or piece of evidence that a status holds, in characters.
pub const MAX_MESSAGE: usize = 1024;
/// The longest single word (a cause, a state, an identity), in characters.
pub const MAX_WORD: usize = 63;
/// The longest name of another object, in characters: the limit of a DNS subdomain.
pub const MAX_NAME: usize = 253;
/// The longest type of a check, in characters: the limit of a heartbeat's field.
pub const MAX_CHECK_TYPE: usize = 64;
/// How many checks a status keeps: twice the types of this version, plus room for newer agents.
pub const MAX_CHECKS: usize = 32;
/// How many past changes of state a status keeps.
pub const MAX_TRANSITIONS: usize = 10;
/// How many pieces of evidence a diagnosis keeps.
pub const MAX_EVIDENCE: usize = 16;
/// How many other explanations a diagnosis keeps.
pub const MAX_ALTERNATIVES: usize = 8;

/// Whether a character changes how the text around it is shown, or shows nothing: marks of the direction of writing, which
/// can make a text read as another one, separators of lines, and characters without width. Controls are none of these.
pub fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text as people may read it: U+FFFD replaces every control except line ends and tabs, and every deceptive character.
pub fn printable(text: &str) -> Cow<'_, str> {
    let is_bad = |c: char| (c.is_control() && !matches!(c, '\n' | '\t')) || is_deceptive(c);
    if text.contains(is_bad) { text.replace(is_bad, "\u{fffd}").into() } else { text.into() }
}

/// Cuts `text` to `max` characters; the API server counts `maxLength` in characters, too. U+FFFD replaces its deceptive
/// characters.
///
/// The API server refuses a whole status, and with it a transition, for one text that is one character too long. So every
/// text from outside is cut before it is stored.
pub fn clip(text: impl Into<String>, max: usize) -> String {
    let mut text = text.into();
    if let Some((end, _)) = text.char_indices().nth(max) {
        text.truncate(end);
    }
    if text.contains(is_deceptive) { text.replace(is_deceptive, "\u{fffd}") } else { text }
}

/// The text for one line of at most `max` characters: a space replaces line ends and tabs, U+FFFD other controls and
/// deceptive characters.
pub fn one_line(text: &str, max: usize) -> String {
    let shown = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    clip(text.chars().take(max).map(shown).collect::<String>(), max)
}

/// The schema of a word from a set that grows with versions.
///
/// It is no `enum`: an older CRD would refuse every status with a word of a newer operator.
pub(crate) fn open_word(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": MAX_WORD, "pattern": "^[A-Za-z][A-Za-z0-9]*$" })
}

words! {
    /// The kinds of workload that vigie can restart.
    WorkloadKind {
        /// An apps/v1 Deployment.
        Deployment,
        /// An apps/v1 StatefulSet.
        StatefulSet,
        /// An apps/v1 DaemonSet.
        DaemonSet,
    }
}

/// A workload in the object's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// Kind of the workload: Deployment, StatefulSet or DaemonSet, all of apps/v1.
    pub kind: WorkloadKind,
    /// Name of the workload, in the namespace of this object.
    #[schemars(length(min = 1, max = MAX_NAME))]
    pub name: String,
}

/// A local agent that restarts its unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentRef {
    /// Name of the Connector whose agent looks after this backend, in the same namespace. A MonitoredBackend needs it; a
    /// Connector has none, for it is its own agent that restarts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_NAME))]
    pub name: Option<String>,
    /// Name of the unit that the agent restarts: NAME.service, container:NAME or compose:PROJECT:SERVICE. Without it the
    /// agent restarts the unit that its own configuration names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // No leading dash: on the agent's side this becomes an argument of a command.
    #[schemars(length(max = 255), regex(pattern = r"^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*$"))]
    pub unit: Option<String>,
}

/// One key of a Secret in the object's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret, in the namespace of this object.
    #[schemars(length(min = 1, max = MAX_NAME))]
    pub name: String,
    /// Key within the Secret's data.
    #[schemars(length(min = 1, max = MAX_NAME), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// A pause of remedies, and the person who answers for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Paused {
    /// Who paused it: a person or a team that can be asked.
    #[schemars(length(min = 1, max = MAX_NAME))]
    pub by: String,
    /// Why it is paused, in a sentence.
    #[schemars(length(min = 1, max = MAX_MESSAGE))]
    pub reason: String,
    /// When the pause ends by itself. Without it the pause lasts until this block is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// The cause of a bad state, its confidence, and the advice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// The named reason for the bad state, for example HeartbeatExpired or WireGuardDown.
    #[schemars(schema_with = "open_word")]
    pub cause: Cause,
    /// How sure the cause is: Possible, Likely or Certain. Possible is never acted upon.
    pub confidence: Confidence,
    /// Since when this cause has been seen without a break.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<MicroTime>,
    /// The observation, in a sentence.
    #[serde(default)]
    #[schemars(length(max = MAX_MESSAGE))]
    pub message: String,
    /// The advice, in a sentence.
    #[serde(default)]
    #[schemars(length(max = MAX_MESSAGE))]
    pub advice: String,
    /// Whether a restart can cure the cause: Yes, No, or Once (not again for the same cause when it did not).
    pub restart_helps: RestartHelps,
    /// The facts that speak for the cause, the strongest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_EVIDENCE), inner(length(max = MAX_MESSAGE)))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub evidence: Vec<String>,
    /// Other explanations that fit what was seen, the likeliest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_ALTERNATIVES), extend("x-kubernetes-list-type" = "atomic"))]
    pub alternatives: Vec<Alternative>,
}

/// An explanation that matches the evidence and comes after the diagnosis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alternative {
    /// The named reason, as in the diagnosis itself.
    #[schemars(schema_with = "open_word")]
    pub cause: Cause,
    /// How sure it is: Possible, Likely or Certain.
    pub confidence: Confidence,
    /// Why it is possible, in a sentence.
    #[serde(default)]
    #[schemars(length(max = MAX_MESSAGE))]
    pub message: String,
}

/// One change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// The state before; absent for the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_word")]
    pub from: Option<String>,
    /// The state after.
    #[schemars(schema_with = "open_word")]
    pub to: String,
    /// The named reason for a bad state; absent when it is a good one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_word")]
    pub cause: Option<Cause>,
    /// When it changed. A change to Offline is dated at its deadline, not when it was noticed.
    pub time: MicroTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_by_characters_and_never_inside_one() {
        assert_eq!(clip("déjà vu", 4), "déjà");
        assert_eq!(clip("déjà", 4), "déjà");
        assert_eq!(clip("", 4), "");
        assert_eq!(clip("x", 0), "");
    }

    #[test]
    fn a_text_from_outside_reads_as_it_is_written() {
        assert_eq!(clip("ok \u{202e}derb\u{202c}", 64), "ok \u{fffd}derb\u{fffd}");
        assert_eq!(
            printable("a\u{1b}[2J\r\n\tb\u{2066}\u{feff}\u{2028}"),
            "a\u{fffd}[2J\u{fffd}\n\tb\u{fffd}\u{fffd}\u{fffd}"
        );
        for text in ["déjà vu 日本 עברית عربى", "👩\u{200d}💻", "a\nb\tc"] {
            assert_eq!((printable(text), clip(text, 64)), (text.into(), text.to_owned()));
        }
    }
}
