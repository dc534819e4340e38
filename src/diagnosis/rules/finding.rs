//! The result of a rule that matches.

use crate::api::{Alternative, Cause, Confidence, Diagnosis, MAX_EVIDENCE, MAX_MESSAGE, RestartHelps, clip};
use crate::diagnosis::evidence::Lookup;

/// An explanation that matches the evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The named reason.
    pub cause: Cause,
    /// How complete its evidence is.
    pub confidence: Confidence,
    /// The message: what was seen.
    pub message: String,
    /// The advice.
    pub advice: String,
    /// Whether a restart can cure it.
    pub restart_helps: RestartHelps,
    /// Supporting facts, the strongest first; then missing evidence.
    pub evidence: Vec<String>,
}

impl Finding {
    /// A finding with complete evidence, which no restart cures.
    pub(super) fn new(cause: Cause, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            cause,
            confidence: Confidence::Certain,
            message: message.into(),
            advice: advice.into(),
            restart_helps: RestartHelps::No,
            evidence: Vec::new(),
        }
    }

    /// Limits the confidence.
    pub(super) fn at_most(mut self, confidence: Confidence) -> Self {
        self.confidence = self.confidence.min(confidence);
        self
    }

    /// Marks that one restart may cure it.
    pub(super) fn restart_once(mut self) -> Self {
        self.restart_helps = RestartHelps::Once;
        self
    }

    /// Adds a supporting fact.
    pub(super) fn fact(mut self, fact: impl Into<String>) -> Self {
        self.evidence.push(fact.into());
        self
    }

    /// Adds supporting facts.
    pub(super) fn facts(mut self, facts: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(facts);
        self
    }

    /// Marks required evidence that could not be read: no remediation may follow from such a finding
    /// (docs/design/remediation.md), so it is Possible.
    pub(super) fn needs<T>(self, lookup: &Lookup<T>) -> Self {
        match lookup.missing() {
            Some(why) => self.at_most(Confidence::Possible).fact(format!("not seen: {why}")),
            None => self,
        }
    }

    /// Marks missing evidence that would have made it Certain.
    pub(super) fn lacking(self, what: impl std::fmt::Display) -> Self {
        self.at_most(Confidence::Likely).fact(format!("not seen: {what}"))
    }

    /// Truncates all texts to the limits of a status.
    pub(super) fn bounded(mut self) -> Self {
        self.message = clip(self.message, MAX_MESSAGE);
        self.advice = clip(self.advice, MAX_MESSAGE);
        self.evidence.truncate(MAX_EVIDENCE);
        self.evidence = self.evidence.into_iter().map(|fact| clip(fact, MAX_MESSAGE)).collect();
        self
    }

    /// The finding as an alternative.
    pub(super) fn as_alternative(&self) -> Alternative {
        Alternative { cause: self.cause, confidence: self.confidence, message: self.message.clone() }
    }

    /// The finding as the diagnosis; the caller sets `since` by comparison with the previous one.
    pub(super) fn into_diagnosis(self, alternatives: Vec<Alternative>) -> Diagnosis {
        let Self { cause, confidence, message, advice, restart_helps, evidence } = self;
        Diagnosis { cause, confidence, since: None, message, advice, restart_helps, evidence, alternatives }
    }
}
