//! Conditions: their values, and the one function that sets them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::shared::{clip, printable};
use super::words::words;
use super::{ConditionType, Reason};

/// How long a condition's message may be, in characters: the limit of Kubernetes' own conditions.
pub const MAX_CONDITION_MESSAGE: usize = 32_768;

words! {
    /// The status of a condition.
    Truth {
        /// The condition holds.
        True,
        /// The condition does not hold.
        False,
        /// It cannot be known.
        Unknown,
    }
}

/// The status, reason and message of a condition that has no type and no generation yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionValue {
    /// The status.
    pub status: Truth,
    /// The reason of the status.
    pub reason: Reason,
    /// The reason in a sentence.
    pub message: String,
}

impl ConditionValue {
    /// A value; [`condition`] clips the message.
    pub fn new(status: Truth, reason: Reason, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }

    /// The value of the condition `type_` in a stored status; `None` if it is not set or has words of another version.
    pub fn stored(conditions: &[Condition], type_: ConditionType) -> Option<Self> {
        let found = get(conditions, type_)?;
        Some(Self::new(found.status.parse().ok()?, found.reason.parse().ok()?, &*found.message))
    }

    /// The condition `type_` with this value; see [`condition`].
    pub fn into_condition(self, type_: ConditionType, generation: i64) -> Condition {
        condition(type_, self.status, self.reason, self.message, generation)
    }
}

/// A condition to be passed to [`set_condition`]; `generation` is the generation of the spec that it was evaluated for.
///
/// Its `lastTransitionTime` is a placeholder that [`set_condition`] replaces.
pub fn condition(
    type_: ConditionType,
    status: Truth,
    reason: Reason,
    message: impl Into<String>,
    generation: i64,
) -> Condition {
    Condition {
        type_: type_.as_str().to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.as_str().to_owned(),
        message: clip(printable(&message.into()), MAX_CONDITION_MESSAGE),
        observed_generation: Some(generation),
        last_transition_time: Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH),
    }
}

/// Inserts `new`, or replaces the condition of its type. Conditions change in no other way.
///
/// `lastTransitionTime` becomes `at` when the status changes, and stays when only the reason, the message or the generation
/// changes. The order is that of [`ConditionType::ALL`], so that an unchanged verdict gives an unchanged status; unknown
/// types keep their order and come last.
pub fn set_condition(conditions: &mut Vec<Condition>, new: Condition, at: Time) {
    match conditions.iter_mut().find(|old| old.type_ == new.type_) {
        Some(old) => {
            let since = if old.status == new.status { old.last_transition_time.clone() } else { at };
            *old = Condition { last_transition_time: since, ..new };
        }
        None => conditions.push(Condition { last_transition_time: at, ..new }),
    }
    conditions.sort_by_key(|condition| position(&condition.type_));
}

/// Finds the condition of this type.
pub fn get(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == type_.as_str())
}

/// Removes the condition of this type.
pub fn remove(conditions: &mut Vec<Condition>, type_: ConditionType) {
    conditions.retain(|condition| condition.type_ != type_.as_str());
}

fn position(type_: &str) -> usize {
    ConditionType::ALL.iter().position(|known| known.as_str() == type_).unwrap_or(ConditionType::ALL.len())
}

/// The pattern of a condition type, from Kubernetes: CamelCase, with an optional domain for types of other programs.
const TYPE_PATTERN: &str =
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";

/// The schema of a list of conditions, with the limits that Kubernetes' own conditions have and the schema of
/// `k8s_openapi` lacks (apimachinery `metav1.Condition`).
pub(crate) fn list_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {
                    "description": "The type of the condition, for example Ready or Online.",
                    "type": "string", "maxLength": 316, "pattern": TYPE_PATTERN,
                },
                "status": {
                    "description": "Whether it is so: True, False or Unknown.",
                    "type": "string", "enum": Truth::ALL,
                },
                "observedGeneration": {
                    "description": "The metadata.generation that the condition was judged by.",
                    "type": "integer", "format": "int64", "minimum": 0,
                },
                "lastTransitionTime": {
                    "description": "When the status last changed from one value to another.",
                    "type": "string", "format": "date-time",
                },
                "reason": {
                    "description": "Why it has this status, as one word.",
                    "type": "string", "minLength": 1, "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "description": "Why it has this status, in a sentence.",
                    "type": "string", "maxLength": MAX_CONDITION_MESSAGE,
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn online(status: Truth, reason: Reason) -> Condition {
        condition(ConditionType::Online, status, reason, "", 1)
    }

    #[test]
    fn the_transition_time_moves_when_the_status_changes_and_only_then() {
        let mut conditions = Vec::new();
        set_condition(&mut conditions, online(Truth::True, Reason::HeartbeatReceived), at(10));
        assert_eq!(conditions[0].last_transition_time, at(10));

        set_condition(&mut conditions, online(Truth::True, Reason::HeartbeatLate), at(20));
        assert_eq!(conditions[0].last_transition_time, at(10));
        assert_eq!(conditions[0].reason, "HeartbeatLate");

        set_condition(&mut conditions, online(Truth::False, Reason::HeartbeatExpired), at(30));
        assert_eq!(conditions[0].last_transition_time, at(30));
        assert_eq!(conditions.len(), 1);
    }

    #[test]
    fn the_order_does_not_depend_on_who_was_first_and_strangers_stay_last() {
        let stranger = |name: &str| Condition {
            type_: name.to_owned(),
            ..condition(ConditionType::Ready, Truth::True, Reason::Ready, "", 1)
        };
        let mut conditions = vec![stranger("Zebra"), stranger("Aardvark")];
        for type_ in ConditionType::ALL.iter().rev() {
            set_condition(&mut conditions, condition(*type_, Truth::True, Reason::Ready, "", 1), at(1));
        }
        let order: Vec<_> = conditions.iter().map(|c| c.type_.as_str()).collect();
        let mut expected: Vec<_> = ConditionType::ALL.iter().map(|t| t.as_str()).collect();
        expected.extend(["Zebra", "Aardvark"]);
        assert_eq!(order, expected);
    }

    #[test]
    fn a_condition_can_be_found_and_taken_away() {
        let mut conditions = Vec::new();
        set_condition(&mut conditions, online(Truth::Unknown, Reason::NeverSeen), at(1));
        assert_eq!(get(&conditions, ConditionType::Online).map(|c| c.status.as_str()), Some("Unknown"));
        assert_eq!(get(&conditions, ConditionType::Ready), None);
        remove(&mut conditions, ConditionType::Ready);
        assert_eq!(conditions.len(), 1);
        remove(&mut conditions, ConditionType::Online);
        assert_eq!(conditions, []);
    }

    #[test]
    fn a_message_never_outgrows_the_schema() {
        let long = "é".repeat(MAX_CONDITION_MESSAGE + 1);
        let cut = condition(ConditionType::Ready, Truth::True, Reason::Ready, long, 1).message;
        assert_eq!(cut.chars().count(), MAX_CONDITION_MESSAGE);
    }
}
