//! Content of the breaker's ConfigMap, and the writes to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::cluster::events::{Event, EventType};
use crate::remediation::Breaker;
use crate::remediation::fleet::{Scope, Trip};

/// Name of the ConfigMap, in the namespace of the operator's Lease (docs/design/remediation.md). RBAC on this name controls
/// resets.
pub const NAME: &str = "vigie-breaker";
/// Key of the ConfigMap: `Open` or `Closed`.
pub const STATE: &str = "state";
/// Key of the ConfigMap: reason of the last opening, a sentence.
pub const REASON: &str = "reason";
/// Key of the ConfigMap: the namespaces for which the breaker is open, separated by commas; absent when it is open for all.
pub const NAMESPACES: &str = "namespaces";
/// Key of the ConfigMap: time of the last opening, RFC 3339.
pub const OPENED: &str = "openedTime";
/// Key of the ConfigMap: time of the last reset by a person, RFC 3339.
pub const RESET: &str = "resetTime";
/// Key of the ConfigMap: the person of the last reset.
pub const RESET_BY: &str = "resetBy";

/// Older events are not published: the API server deletes events after an hour, so a new leader would publish old ones as
/// new.
const MAX_EVENT_AGE: SignedDuration = SignedDuration::from_hours(1);

/// State in the ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Remedies may be taken. Also without a ConfigMap, or with an empty one: the breaker never opened.
    #[default]
    Closed,
    /// Nothing is restarted until a person resets the breaker.
    Open,
    /// Another value: the value.
    Unreadable(String),
}

/// Content of the ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BreakerRecord {
    /// `metadata.resourceVersion`; `None`: the ConfigMap does not exist.
    pub version: Option<String>,
    /// `metadata.uid`.
    pub uid: Option<String>,
    /// State of the breaker.
    pub state: State,
    /// Reason of the last opening.
    pub reason: Option<String>,
    /// The namespaces of the last opening.
    pub scope: Scope,
    /// Time of the last opening.
    pub opened: Option<Timestamp>,
    /// Time of the last reset by a person, who has then dealt with what turned unhealthy before.
    pub reset: Option<Timestamp>,
    /// The person of the last reset.
    pub reset_by: Option<String>,
}

impl BreakerRecord {
    /// The content of `map`. A time that cannot be parsed counts as absent.
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
            scope: value(NAMESPACES).map(|list| list.split(',').map(|one| Arc::from(one.trim())).collect()),
            opened: time(OPENED),
            reset: time(RESET),
            reset_by: value(RESET_BY),
        }
    }

    /// The state of the breaker, for the policy.
    pub fn breaker(&self) -> Breaker {
        match &self.state {
            State::Closed => Breaker::Closed,
            State::Open => Breaker::Open(self.reason_since()),
            State::Unreadable(word) => Breaker::Unknown(format!(
                "ConfigMap {NAME} says state {word:?}, which is neither Open nor Closed; `vigie breaker reset` closes it"
            )),
        }
    }

    /// Time and reason of the opening, in a sentence.
    pub fn reason_since(&self) -> String {
        let reason = self.reason.as_deref().unwrap_or("no reason is given");
        match self.opened {
            Some(opened) => format!("since {opened}: {reason}"),
            None => reason.to_owned(),
        }
    }

    /// Where nothing is restarted, unless that is everywhere.
    fn place(&self) -> String {
        let Some(scope) = &self.scope else { return String::new() };
        format!(" in {}", scope.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(", "))
    }

    /// The write that opens the breaker because of `trip`; `None` when it is open for all or for the same namespaces, or its
    /// state is unreadable: remedies are held back already.
    pub fn open_write(&self, namespace: &str, trip: &Trip, at: Timestamp) -> Option<RecordWrite> {
        let is_wider = self.state == State::Open && self.scope.is_some() && self.scope != trip.scope;
        if self.state != State::Closed && !is_wider {
            return None;
        }
        let (at, reason) = (seconds(at), &trip.reason);
        let namespaces =
            trip.scope.as_ref().map(|scope| scope.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(","));
        let mut data = json!({ STATE: "Open", REASON: reason, OPENED: at });
        if namespaces.is_some() || self.scope.is_some() {
            data[NAMESPACES] = json!(namespaces);
        }
        Some(match &self.version {
            Some(version) => RecordWrite::Patch(patch(version, data)),
            None => RecordWrite::Create(Box::new(ConfigMap {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    namespace: Some(namespace.to_owned()),
                    labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "vigie".to_owned())])),
                    ..ObjectMeta::default()
                },
                data: Some(
                    [("Open".to_owned(), STATE), (reason.clone(), REASON), (at, OPENED)]
                        .into_iter()
                        .chain(namespaces.map(|list| (list, NAMESPACES)))
                        .map(|(value, key)| (key.to_owned(), value))
                        .collect(),
                ),
                ..ConfigMap::default()
            })),
        })
    }

    /// The merge patch that resets the breaker in the name of `by`; `None` when it is closed.
    pub fn reset_patch(&self, by: &str, at: Timestamp) -> Option<Value> {
        let version = self.version.as_deref().filter(|_| self.state != State::Closed)?;
        let mut data = json!({ STATE: "Closed", RESET: seconds(at), RESET_BY: by });
        if self.scope.is_some() {
            data[NAMESPACES] = Value::Null;
        }
        Some(patch(version, data))
    }

    /// The events to publish at `now`: the same occurrences each time, so that each is published once.
    pub fn events(&self, now: Timestamp) -> Vec<Event> {
        let is_news = |at: &Timestamp| now.duration_since(*at) <= MAX_EVENT_AGE;
        let opened = self.opened.filter(is_news).map(|at| Event {
            kind: EventType::Warning,
            reason: "BreakerOpened",
            action: "HoldRemedies",
            note: format!(
                "the breaker opened: {}; nothing is restarted{} until a person resets it: vigie breaker reset",
                self.reason.as_deref().unwrap_or("no reason is given"),
                self.place()
            ),
            at,
            occurrence: format!("BreakerOpened/{at}"),
        });
        let reset = self.reset.filter(is_news).map(|at| Event {
            kind: EventType::Normal,
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

    /// Reference to the ConfigMap, which the events regard.
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

/// A write to the ConfigMap.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordWrite {
    /// Creates the ConfigMap.
    Create(Box<ConfigMap>),
    /// A merge patch that fails when the ConfigMap was changed after the read.
    Patch(Value),
}

fn patch(version: &str, data: Value) -> Value {
    json!({ "metadata": { "resourceVersion": version }, "data": data })
}

/// Whole seconds, because people read it.
fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
