//! Whether the API server kept the status that it was sent. Pure.
//!
//! Under a definition (CRD) that is older than the operator the API server drops the fields that it does not know, without
//! an error, and the operator forgets what it has just done. A restart or a token that follows from such a status would be
//! repeated at each reconcile, so nothing is acted upon that was not kept.

use serde_json::Value;

use crate::api::{Condition, ConditionType, Reason, Truth, clip, condition};

/// Fields of the token that say what happened: a token is made once without them, too.
const FACTS_OF_TOKEN: [&str; 4] = [
    "status.token.heldGeneration",
    "status.token.issuedTime",
    "status.token.lastRejectedTime",
    "status.token.secretName",
];

/// At most this many fields are named.
const MAX_FIELDS: usize = 6;

/// At most this many lost fields are sent again; a status has fewer.
const MAX_SENT: usize = 64;

/// A field name of a hostile answer is cut after this many characters.
const MAX_FIELD: usize = 120;

/// The fields of a status that the API server did not keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotKept {
    /// They are missing in its answer.
    dropped: Vec<String>,
    /// They have other values in its answer.
    changed: Vec<String>,
    /// What was sent, by JSON pointers into the status; of a list, all of it.
    sent: Vec<(String, Value)>,
    has_remediation: bool,
    has_token: bool,
    has_facts: bool,
}

/// Where a comparison is.
#[derive(Clone)]
struct Place<'a> {
    /// For people: `status.token.hashes.sha256`.
    path: String,
    pointer: String,
    /// The outermost list around it, as it was sent.
    list: Option<(String, &'a Value)>,
}

impl NotKept {
    /// Compares two whole objects: as it was sent, and as the API server answered. `None` when the status is the same.
    pub fn between(sent: &Value, answered: &Value) -> Option<Self> {
        let mut found = Self::default();
        let status = Place { path: "status".to_owned(), pointer: String::new(), list: None };
        found.compare(&status, &sent["status"], &answered["status"]);
        (!found.dropped.is_empty() || !found.changed.is_empty()).then_some(found)
    }

    fn compare<'a>(&mut self, at: &Place<'a>, sent: &'a Value, answered: &Value) {
        match (sent, answered) {
            (Value::Object(sent), Value::Object(answered)) => {
                for name in sent.keys().chain(answered.keys().filter(|name| !sent.contains_key(*name))) {
                    let below = Place {
                        path: format!("{}.{name}", at.path),
                        pointer: format!("{}/{}", at.pointer, name.replace('~', "~0").replace('/', "~1")),
                        list: at.list.clone(),
                    };
                    let of = |object: &'a serde_json::Map<String, Value>| object.get(name).unwrap_or(&Value::Null);
                    self.compare(&below, of(sent), answered.get(name).unwrap_or(&Value::Null));
                }
            }
            (Value::Array(all), Value::Array(answered)) if all.len() == answered.len() => {
                let list = at.list.clone().unwrap_or_else(|| (at.pointer.clone(), sent));
                let below = Place { list: Some(list), ..at.clone() };
                for (sent, answered) in all.iter().zip(answered) {
                    self.compare(&below, sent, answered);
                }
            }
            _ if sent == answered || is_empty(sent) && is_empty(answered) => {}
            _ => self.note(at, sent, is_absent(answered)),
        }
    }

    fn note(&mut self, at: &Place<'_>, sent: &Value, is_dropped: bool) {
        let is_remediation = at.path.starts_with("status.remediation");
        let is_token = at.path.starts_with("status.token");
        self.has_remediation |= is_remediation;
        self.has_token |= is_token && !FACTS_OF_TOKEN.contains(&&*at.path);
        self.has_facts |= !is_remediation && !is_token;
        let fields = if is_dropped { &mut self.dropped } else { &mut self.changed };
        let path = clip(&*at.path, MAX_FIELD);
        if fields.len() < MAX_FIELDS && !fields.contains(&path) {
            fields.push(path);
        }
        let (pointer, sent) = at.list.clone().unwrap_or_else(|| (at.pointer.clone(), sent));
        if is_dropped && self.sent.len() < MAX_SENT && !self.sent.iter().any(|(known, _)| *known == pointer) {
            self.sent.push((pointer, sent.clone()));
        }
    }

    /// Puts what was dropped into `status`, the JSON of a status that was decided from the stored one: whether the API
    /// server keeps it by now can only be seen by sending it again. A field that has another value by now keeps it.
    pub fn restore(&self, status: &mut Value) {
        for (pointer, sent) in &self.sent {
            let Some((parent, name)) = pointer.rsplit_once('/') else { continue };
            let Some(Value::Object(parent)) = status.pointer_mut(parent) else { continue };
            let known = parent.entry(name.replace("~1", "/").replace("~0", "~")).or_insert(Value::Null);
            let is_same_list =
                known.as_array().zip(sent.as_array()).is_some_and(|(one, other)| one.len() == other.len());
            if is_empty(known) || is_unset(known) || is_same_list {
                known.clone_from(sent);
            }
        }
    }

    /// The loss that is left after `sent`, a whole object, was kept: what was not in it has not been shown to be kept.
    pub fn after_kept(mut self, sent: &Value) -> Option<Self> {
        let status = &sent["status"];
        let is_shown = |(pointer, lost): &(String, Value)| {
            let parent = pointer.rsplit_once('/').and_then(|(parent, _)| status.pointer(parent));
            // Without the object around it the field has no meaning any more.
            parent.is_none_or(is_empty)
                || status.pointer(pointer).is_some_and(|value| match (value, lost) {
                    (Value::Array(value), Value::Array(lost)) => value == lost || value.len() != lost.len(),
                    _ => !is_empty(value) && !is_unset(value),
                })
        };
        self.sent.retain(|lost| !is_shown(lost));
        (!self.sent.is_empty()).then_some(self)
    }

    /// Whether an attempt or a request that was written may be acted upon.
    pub fn has_remediation(&self) -> bool {
        self.has_remediation
    }

    /// Whether the token that was written may be delivered.
    pub fn has_token(&self) -> bool {
        self.has_token
    }

    /// Whether an event that follows from the status could follow from it again.
    pub fn has_events(&self) -> bool {
        self.has_remediation || self.has_token || self.has_facts
    }

    /// Whether `next` differs from `current` in the token or the remediation, and the API server keeps that part: such a
    /// status is written without delay, because what follows from it happens once.
    pub fn is_news(&self, current: &Value, next: &Value) -> bool {
        let restored = |status: &Value| {
            let mut status = status.clone();
            self.restore(&mut status);
            status
        };
        let (current, next) = (restored(current), restored(next));
        let differs = |part: &str| current.get(part) != next.get(part);
        !self.has_token && differs("token") || !self.has_remediation && differs("remediation")
    }

    /// What is wrong, and what to do.
    pub fn message(&self) -> String {
        let mut sentences = Vec::new();
        if !self.dropped.is_empty() {
            sentences.push(format!(
                "the definitions (CRDs) in this cluster are older than this operator: the API server dropped {} from a \
                 status that was written; update them: vigie crd | kubectl apply -f -",
                self.dropped.join(", ")
            ));
        }
        if !self.changed.is_empty() {
            sentences.push(format!(
                "another program changed {} on the way to the API server, an admission webhook or policy for example: \
                 exclude the status of vigie's objects from it",
                self.changed.join(", ")
            ));
        }
        let until = match (self.has_remediation, self.has_token) {
            (true, true) => "until then nothing that was lost is acted upon: no restart, no token",
            (true, false) => "until then nothing that was lost is acted upon: no restart",
            (false, true) => "until then nothing that was lost is acted upon: no token",
            (false, false) => "restarts and tokens do not depend on it",
        };
        sentences.push(until.to_owned());
        sentences.join("; ")
    }

    /// The condition `Stalled` that says so.
    fn condition(&self, generation: i64) -> Condition {
        condition(ConditionType::Stalled, Truth::True, Reason::StatusNotKept, self.message(), generation)
    }
}

/// Adds `Stalled` to assessed conditions while the API server does not keep the status. A spec that cannot be acted upon
/// stands first.
pub fn add_stalled(not_kept: Option<&NotKept>, conditions: &mut Vec<Condition>, generation: Option<i64>) {
    let Some(not_kept) = not_kept else { return };
    if !conditions.iter().any(|known| known.type_ == ConditionType::Stalled.as_str()) {
        conditions.push(not_kept.condition(generation.unwrap_or(0)));
    }
}

/// The API server leaves out nothing that is empty; serde may.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A number that the operator reads where the field is absent.
fn is_unset(value: &Value) -> bool {
    value.as_i64().is_some_and(|number| number <= 0)
}

/// Whether an answer, read with the defaults of the operator, may have come without the field.
fn is_absent(answered: &Value) -> bool {
    is_empty(answered) || is_unset(answered) || matches!(answered.as_str(), Some("" | "None"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn between(sent: Value, answered: Value) -> Option<NotKept> {
        NotKept::between(&json!({ "status": sent }), &json!({ "status": answered }))
    }

    #[test]
    fn what_the_server_may_add_or_leave_out_is_no_loss() {
        for (sent, answered) in [
            (json!({ "a": 1, "b": [{ "c": "x" }] }), json!({ "a": 1, "b": [{ "c": "x" }] })),
            (json!({ "a": null, "b": [], "c": {} }), json!({})),
            (json!({}), json!({ "a": null, "b": [] })),
        ] {
            assert_eq!(between(sent, answered), None);
        }
    }

    #[test]
    fn a_field_that_was_dropped_or_changed_is_named_wherever_it_is() {
        let dropped = between(
            json!({ "state": "Up", "remediation": { "observedRestartRequest": "t", "current": { "id": "a" } } }),
            json!({ "state": "Up", "remediation": { "current": { "id": "a" } } }),
        )
        .unwrap();
        assert!(dropped.has_remediation() && !dropped.has_token());
        let message = dropped.message();
        assert!(message.contains("older than this operator") && message.contains("vigie crd | kubectl apply -f -"));
        assert!(message.contains("status.remediation.observedRestartRequest") && !message.contains("webhook"));

        let whole = between(json!({ "token": { "generation": 1 } }), json!({})).unwrap();
        assert!(whole.has_token() && whole.message().contains("dropped status.token from"));
        let item = between(
            json!({ "token": { "hashes": [{ "a": 1, "b": 2 }] } }),
            json!({ "token": { "hashes": [{ "a": 1 }] } }),
        );
        assert!(item.is_some_and(|item| item.message().contains("status.token.hashes.b")));
        let shorter = between(json!({ "token": { "hashes": [1, 2] } }), json!({ "token": { "hashes": [1] } })).unwrap();
        assert!(shorter.has_token() && shorter.message().contains("another program changed status.token.hashes"));
        let added = between(json!({ "remediation": {} }), json!({ "remediation": { "restarts": 4 } })).unwrap();
        assert!(added.has_remediation() && added.message().contains("changed status.remediation"), "{added:?}");
    }

    #[test]
    fn what_was_dropped_is_sent_again_and_only_that_shows_that_it_is_kept() {
        let sent = json!({ "remediation": { "observedRestartRequest": "t1", "current": { "id": "a" } }, "list": [{ "a": 1, "b": 2 }] });
        let stored = json!({ "remediation": { "current": { "id": "a" } }, "list": [{ "a": 1 }] });
        let lost = between(sent.clone(), stored.clone()).unwrap();
        let after = lost.clone().after_kept(&json!({ "status": stored }));
        assert_eq!(after.as_ref(), Some(&lost), "it proves nothing");
        let mut again = stored.clone();
        lost.restore(&mut again);
        assert_eq!(again, sent);
        assert_eq!(lost.clone().after_kept(&json!({ "status": again })), None);
        // What was decided since has precedence, and the rest is not forced upon another form.
        let mut newer = json!({ "remediation": { "observedRestartRequest": "t2" }, "list": [{ "a": 1 }, { "a": 2 }] });
        let before = newer.clone();
        lost.restore(&mut newer);
        assert_eq!(newer, before);
        let whole = between(json!({ "remediation": { "current": 1 } }), json!({})).unwrap();
        let mut empty = json!({ "remediation": {} });
        whole.restore(&mut empty);
        assert_eq!(empty, json!({ "remediation": { "current": 1 } }));
    }

    #[test]
    fn only_what_a_lost_field_protects_is_withheld() {
        for (field, withholds) in [
            ("heldGeneration", false),
            ("issuedTime", false),
            ("observedRotationGeneration", true),
            ("observedRevokeRequest", true),
            ("hashes", true),
        ] {
            let lost = between(json!({ "token": { field: 1 } }), json!({ "token": {} })).unwrap();
            assert_eq!((lost.has_token(), lost.has_events(), lost.has_remediation()), (withholds, withholds, false));
            assert_eq!(lost.message().contains("no token"), withholds, "{field}");
        }
        let fact = between(json!({ "agent": { "address": "a" } }), json!({})).unwrap();
        assert!(fact.has_events() && !fact.has_token() && !fact.has_remediation());
    }

    #[test]
    fn a_dropped_number_that_is_read_as_its_default_was_dropped() {
        let sent = json!({ "token": { "observedRotationGeneration": 1 } });
        let stored = json!({ "token": { "observedRotationGeneration": 0 } });
        let lost = between(sent.clone(), stored.clone()).unwrap();
        assert!(lost.message().contains("older than this operator") && !lost.message().contains("webhook"));
        let mut again = stored;
        lost.restore(&mut again);
        assert_eq!(again, sent);
    }

    #[test]
    fn a_token_is_news_while_only_a_fact_is_lost() {
        let status = |generation: i64| json!({ "token": { "generation": generation } });
        let lost = between(json!({ "token": { "heldGeneration": 1 } }), json!({ "token": {} })).unwrap();
        assert!(lost.is_news(&status(1), &status(2)));
        assert!(!lost.is_news(&status(1), &json!({ "token": { "generation": 1, "heldGeneration": 1 } })));
        let hashes = between(json!({ "token": { "hashes": [1] } }), json!({ "token": {} })).unwrap();
        assert!(!hashes.is_news(&status(1), &status(2)));
    }

    #[test]
    fn many_lost_fields_make_a_bounded_message() {
        let many: serde_json::Map<String, Value> =
            (0..1000).map(|i| (format!("{i}{}", "x".repeat(500)), json!(1))).collect();
        let lost = between(Value::Object(many), json!({})).unwrap();
        assert!(lost.message().chars().count() < 1500);
    }

    #[test]
    fn a_refused_spec_keeps_its_own_stalled() {
        let lost = between(json!({ "a": 1 }), json!({})).unwrap();
        let mut conditions = vec![condition(ConditionType::Stalled, Truth::True, Reason::InvalidSpec, "", 1)];
        add_stalled(Some(&lost), &mut conditions, Some(1));
        assert_eq!((conditions.len(), conditions[0].reason.as_str()), (1, "InvalidSpec"));
        conditions.clear();
        add_stalled(Some(&lost), &mut conditions, Some(3));
        assert_eq!((conditions[0].reason.as_str(), conditions[0].observed_generation), ("StatusNotKept", Some(3)));
    }
}
