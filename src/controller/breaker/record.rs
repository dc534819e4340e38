//! What the breaker's ConfigMap says, and what is written to it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::cluster::events::{Event, Kind};
use crate::remediation::Breaker;

/// The ConfigMap's name, in the namespace of our Lease (remediation.md): RBAC on this name says who may reset it.
pub const NAME: &str = "vigie-breaker";
/// Key of the ConfigMap: `Open` or `Closed`.
pub const STATE: &str = "state";
/// Key of the ConfigMap: why it opened last, in a sentence.
pub const REASON: &str = "reason";
/// Key of the ConfigMap: when it opened last, RFC 3339.
pub const OPENED: &str = "openedTime";
/// Key of the ConfigMap: when a person reset it last, RFC 3339.
pub const RESET: &str = "resetTime";
/// Key of the ConfigMap: who reset it last.
pub const RESET_BY: &str = "resetBy";

/// What is older is not told any more: the API server forgets events after an hour, so that a new leader would tell
/// yesterday's as if it were news.
const TOLD_FOR: SignedDuration = SignedDuration::from_hours(1);

/// Whether it is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Remedies may be taken. Also where there is no ConfigMap, or nothing in it: it never opened.
    #[default]
    Closed,
    /// It latched.
    Open,
    /// The ConfigMap says neither: this is what it says.
    Unreadable(String),
}

/// What the ConfigMap says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its resourceVersion; `None` = there is no such ConfigMap.
    pub version: Option<String>,
    /// Its UID.
    pub uid: Option<String>,
    /// Whether it is open.
    pub state: State,
    /// Why it opened last.
    pub reason: Option<String>,
    /// When it opened last.
    pub opened: Option<Timestamp>,
    /// When a person reset it last: what turned unhealthy before that was looked at by that person.
    pub reset: Option<Timestamp>,
    /// Who did.
    pub reset_by: Option<String>,
}

impl Record {
    /// What `map` says. A time that cannot be read counts as not there.
    pub fn of(map: &ConfigMap) -> Self {
        let value =
            |key: &str| map.data.as_ref()?.get(key).map(|text| text.trim().to_owned()).filter(|t| !t.is_empty());
        let time = |key: &str| value(key)?.parse().ok();
        let state = match value(STATE) {
            None => State::Closed,
            Some(word) if word == "Closed" => State::Closed,
            Some(word) if word == "Open" => State::Open,
            Some(word) => State::Unreadable(word.chars().take(64).collect()),
        };
        Self {
            version: map.metadata.resource_version.clone(),
            uid: map.metadata.uid.clone(),
            state,
            reason: value(REASON),
            opened: time(OPENED),
            reset: time(RESET),
            reset_by: value(RESET_BY),
        }
    }

    /// What that means for remedies.
    pub fn breaker(&self) -> Breaker {
        match &self.state {
            State::Closed => Breaker::Closed,
            State::Open => Breaker::Open(self.why()),
            State::Unreadable(word) => Breaker::Unknown(format!(
                "ConfigMap {NAME} says state {word:?}, which is neither Open nor Closed; `vigie breaker reset` closes it"
            )),
        }
    }

    /// Since when it is open, and why.
    pub fn why(&self) -> String {
        let reason = self.reason.as_deref().unwrap_or("no reason is given");
        match self.opened {
            Some(opened) => format!("since {opened}: {reason}"),
            None => reason.to_owned(),
        }
    }

    /// What opens it because of `reason`; `None` when it is open, or says what we do not understand: then it holds
    /// already.
    pub fn opening(&self, namespace: &str, reason: &str, at: Timestamp) -> Option<Write> {
        if self.state != State::Closed {
            return None;
        }
        let at = seconds(at);
        let data = json!({ STATE: "Open", REASON: reason, OPENED: at });
        Some(match &self.version {
            Some(version) => Write::Patch(patch(version, data)),
            None => Write::Create(Box::new(ConfigMap {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    namespace: Some(namespace.to_owned()),
                    labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "vigie".to_owned())])),
                    ..ObjectMeta::default()
                },
                data: Some(BTreeMap::from([
                    (STATE.to_owned(), "Open".to_owned()),
                    (REASON.to_owned(), reason.to_owned()),
                    (OPENED.to_owned(), at),
                ])),
                ..ConfigMap::default()
            })),
        })
    }

    /// The merge patch that resets it in the name of `by`; `None` when it is closed.
    pub fn resetting(&self, by: &str, at: Timestamp) -> Option<Value> {
        let version = self.version.as_deref().filter(|_| self.state != State::Closed)?;
        Some(patch(version, json!({ STATE: "Closed", RESET: seconds(at), RESET_BY: by })))
    }

    /// What there is to tell about it at `now`: the same occurrence each time, so that it is told once.
    pub fn events(&self, now: Timestamp) -> Vec<Event> {
        let is_news = |at: &Timestamp| now.duration_since(*at) <= TOLD_FOR;
        let opened = self.opened.filter(is_news).map(|at| Event {
            kind: Kind::Warning,
            reason: "BreakerOpened",
            action: "HoldRemedies",
            note: format!(
                "the breaker opened: {}; nothing is restarted until a person resets it: vigie breaker reset",
                self.reason.as_deref().unwrap_or("no reason is given")
            ),
            at,
            occurrence: format!("BreakerOpened/{at}"),
        });
        let reset = self.reset.filter(is_news).map(|at| Event {
            kind: Kind::Normal,
            reason: "BreakerReset",
            action: "AllowRemedies",
            note: format!(
                "{} reset the breaker; remedies are taken again",
                self.reset_by.as_deref().unwrap_or("somebody")
            ),
            at,
            occurrence: format!("BreakerReset/{at}"),
        });
        opened.into_iter().chain(reset).collect()
    }

    /// What its events are about.
    pub fn reference(&self, namespace: &str) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("ConfigMap".to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(NAME.to_owned()),
            uid: self.uid.clone(),
            ..ObjectReference::default()
        }
    }
}

/// How it is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// There is none yet.
    Create(Box<ConfigMap>),
    /// A merge patch that fails when somebody wrote since it was read.
    Patch(Value),
}

fn patch(version: &str, data: Value) -> Value {
    json!({ "metadata": { "resourceVersion": version }, "data": data })
}

/// Whole seconds: it is read by people.
fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
