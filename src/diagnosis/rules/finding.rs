//! What a rule says when it matches.

use crate::api::{Alternative, Cause, Confidence, Diagnosis, MAX_EVIDENCE, MAX_MESSAGE, RestartHelps, clip};
use crate::diagnosis::evidence::Lookup;

/// An explanation that fits what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The named reason.
    pub cause: Cause,
    /// How complete the evidence for it is.
    pub confidence: Confidence,
    /// What was seen.
    pub message: String,
    /// What to do about it.
    pub advice: String,
    /// Whether a restart can cure it.
    pub restart_helps: RestartHelps,
    /// The facts that speak for it, the strongest first; then what was not seen.
    pub evidence: Vec<String>,
}

impl Finding {
    /// A finding for which everything was seen, and that no restart cures.
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

    /// It is not surer than this.
    pub(super) fn at_most(mut self, confidence: Confidence) -> Self {
        self.confidence = self.confidence.min(confidence);
        self
    }

    /// A restart may cure it.
    pub(super) fn restart_once(mut self) -> Self {
        self.restart_helps = RestartHelps::Once;
        self
    }

    /// A fact that speaks for it.
    pub(super) fn fact(mut self, fact: impl Into<String>) -> Self {
        self.evidence.push(fact.into());
        self
    }

    /// Facts that speak for it.
    pub(super) fn facts(mut self, facts: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(facts);
        self
    }

    /// What it would need, and could not be read: remediation.md wants no act on such a finding, so it is Possible.
    pub(super) fn needs<T>(self, lookup: &Lookup<T>) -> Self {
        match lookup.missing() {
            Some(why) => self.at_most(Confidence::Possible).fact(format!("not seen: {why}")),
            None => self,
        }
    }

    /// What would have made it Certain, and was not seen.
    pub(super) fn lacking(self, what: impl std::fmt::Display) -> Self {
        self.at_most(Confidence::Likely).fact(format!("not seen: {what}"))
    }

    /// It with all its texts cut to what a status holds.
    pub(super) fn bounded(mut self) -> Self {
        self.message = clip(self.message, MAX_MESSAGE);
        self.advice = clip(self.advice, MAX_MESSAGE);
        self.evidence.truncate(MAX_EVIDENCE);
        self.evidence = self.evidence.into_iter().map(|fact| clip(fact, MAX_MESSAGE)).collect();
        self
    }

    /// As an explanation that lost.
    pub(super) fn as_alternative(&self) -> Alternative {
        Alternative { cause: self.cause, confidence: self.confidence, message: self.message.clone() }
    }

    /// As the diagnosis; since when is for who compares it with the one before.
    pub(super) fn into_diagnosis(self, alternatives: Vec<Alternative>) -> Diagnosis {
        let Self { cause, confidence, message, advice, restart_helps, evidence } = self;
        Diagnosis { cause, confidence, since: None, message, advice, restart_helps, evidence, alternatives }
    }
}
