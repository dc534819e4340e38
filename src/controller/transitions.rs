//! Entering a state, and its event: the same for every kind. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::api::{
    Cause, Condition, ConditionType, Diagnosis, MAX_TRANSITIONS, MicroTime, RemediationStatus, Transition,
};
use crate::cluster::events::{Event, EventType};
use crate::remediation::attempt::StepResult;

/// The entry into a state.
pub struct Entered<'a> {
    /// The name of the state before; `None` for a new object.
    pub from: Option<&'static str>,
    /// The name of the state.
    pub to: &'static str,
    /// Since when the object is in this state.
    pub since: Timestamp,
    /// Why the object is in this state.
    pub diagnosis: Option<&'a Diagnosis>,
}

/// Records the entry into another state in a status: sets `state_since`, and inserts a transition before the older ones.
/// Returns when the change became due; `None` when the state is the same.
pub fn enter(
    state_since: &mut Option<MicroTime>,
    transitions: &mut Vec<Transition>,
    entered: &Entered<'_>,
    now: Timestamp,
) -> Option<Timestamp> {
    let Entered { from, to, since, diagnosis } = *entered;
    if from == Some(to) {
        return None;
    }
    // Never before the previous transition: two clocks may have written them. A time ahead of this clock does not count.
    let before = state_since.as_ref().map_or(since, |before| before.0.min(now));
    let since = whole_microseconds(since.max(before));
    *state_since = Some(MicroTime(since));
    let transition = Transition {
        from: from.map(str::to_owned),
        to: to.to_owned(),
        cause: diagnosis.map(|diagnosis| diagnosis.cause),
        time: MicroTime(since),
    };
    transitions.insert(0, transition);
    transitions.truncate(MAX_TRANSITIONS);
    Some(since)
}

/// The time as a `MicroTime` will be read back: the event may be published again from there, and must be the same.
fn whole_microseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// The event of a transition to `to`, from the stored status: the same note and the same occurrence after a restart of the
/// operator, so that a second publication creates no second event. `bad` is the diagnosis of a bad state, `well` is the
/// note of a recovery.
pub fn event(latest: &Transition, to: &'static str, bad: Option<&Diagnosis>, well: impl FnOnce() -> String) -> Event {
    let (kind, note) = match bad {
        Some(Diagnosis { cause, message, advice, .. }) => (EventType::Warning, format!("{cause}: {message}. {advice}")),
        None => (EventType::Normal, well()),
    };
    Event { kind, reason: to, action: "Judge", note, at: latest.time.0, occurrence: format!("{to}/{}", latest.time.0) }
}

/// The outage that the newest transition, one to `well`, ended: `5m 3s (Down, CrashLoop)`. Its duration counts from its
/// first transition, and its name is the `worst` state in it; states in `mild` do not count. `None` without an outage.
pub fn ended(transitions: &[Transition], well: &str, worst: &str, mild: &[&str]) -> Option<String> {
    let (latest, before) = transitions.split_first()?;
    let outage = before.iter().take_while(|before| before.to != well);
    let outage: Vec<&Transition> = outage.filter(|before| !mild.contains(&before.to.as_str())).collect();
    let first = outage.last()?;
    let named = outage.iter().rfind(|before| before.to == worst).unwrap_or(first);
    let lasted = latest.time.0.duration_since(first.time.0).max(SignedDuration::ZERO);
    let lasted = SignedDuration::from_secs(lasted.as_secs());
    let cause = named.cause.map(|cause: Cause| format!(", {cause}")).unwrap_or_default();
    Some(format!("{lasted:#} ({}{cause})", named.to))
}

/// Clears the sentences for people in a status: the text of an error may vary with each try, and alone is no change that
/// has to be written at once.
pub fn clear_words(
    conditions: &mut [Condition],
    diagnosis: Option<&mut Diagnosis>,
    remediation: Option<&mut RemediationStatus>,
) {
    conditions.iter_mut().for_each(|condition| condition.message.clear());
    if let Some(diagnosis) = diagnosis {
        diagnosis.message.clear();
        diagnosis.advice.clear();
        diagnosis.evidence.clear();
        for other in &mut diagnosis.alternatives {
            other.message.clear();
        }
    }
    if let Some(denial) = remediation.and_then(|remediation| remediation.last_denial.as_mut()) {
        denial.message.clear();
    }
}

/// Replaces the `Remediating` condition by that of a remediation step.
pub fn set_remediating(conditions: &mut [Condition], remedy: &StepResult) {
    for known in conditions.iter_mut().filter(|known| known.type_ == ConditionType::Remediating.as_str()) {
        let generation = known.observed_generation.unwrap_or_default();
        *known = remedy.condition.clone().into_condition(ConditionType::Remediating, generation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn to(state: &str, cause: Option<Cause>, second: i64) -> Transition {
        Transition { from: None, to: state.to_owned(), cause, time: MicroTime(at(second)) }
    }

    #[test]
    fn a_state_is_entered_once_in_order_and_as_it_will_be_read_back() {
        let (mut since, mut transitions) = (None, Vec::new());
        let mut go = |from, to, since_then: Timestamp, now| {
            enter(&mut since, &mut transitions, &Entered { from, to, since: since_then, diagnosis: None }, now)
        };
        let fraction = Timestamp::new(1_800_000_005, 123_456_789).unwrap();
        assert_eq!(go(None, "Up", fraction, at(6)), Timestamp::new(1_800_000_005, 123_456_000).ok());
        assert_eq!(go(Some("Up"), "Up", at(7), at(7)), None);
        assert_eq!(go(Some("Up"), "Down", at(3), at(8)), Timestamp::new(1_800_000_005, 123_456_000).ok(), "not before");
        for second in 0..2 * i64::try_from(MAX_TRANSITIONS).unwrap() {
            go(Some("Down"), "Up", at(10 + second), at(10 + second));
        }
        // A clock that was an hour ahead does not hold ours back.
        since = Some(MicroTime(at(3_600)));
        let entered = Entered { from: Some("Up"), to: "Down", since: at(99), diagnosis: None };
        assert_eq!(enter(&mut since, &mut transitions, &entered, at(100)), Some(at(100)));
        assert_eq!(transitions.len(), MAX_TRANSITIONS);
    }

    #[test]
    fn what_ended_lasted_from_its_beginning_and_is_called_by_its_worst() {
        let ended = |transitions: &[Transition]| ended(transitions, "Online", "Offline", &["Late", "Pending"]);
        let (expired, revoked) = (Some(Cause::HeartbeatExpired), Some(Cause::TokenRevoked));
        let online = |second| to("Online", None, second);
        assert_eq!(ended(&[]), None);
        assert_eq!(ended(&[online(9)]), None);
        assert_eq!(ended(&[online(9), to("Late", None, 5), online(1)]), None, "Late alone is nothing to end");
        let all = [online(305), to("Offline", expired, 65), to("Late", None, 20), to("Unknown", None, 5), online(1)];
        assert_eq!(ended(&all).as_deref(), Some("5m (Offline, HeartbeatExpired)"));
        let twice = [online(60), to("Offline", revoked, 40), to("Unknown", None, 30), to("Offline", expired, 0)];
        assert_eq!(ended(&twice).as_deref(), Some("1m (Offline, HeartbeatExpired)"), "by the first of its kind");
        assert_eq!(ended(&[online(9), to("Unknown", None, 5)]).as_deref(), Some("4s (Unknown)"));
    }
}
