//! Compact forms of the data that is kept for each connector: there may be 100,000 of them.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::interner::SharedInterner;
use super::payload::ReportedCheck;
use crate::api::{CheckOutcome, CheckType, Severity};
use crate::health::checks::CheckInput;
use crate::health::liveness::Timing;

/// A connector's [`Timing`] in whole seconds, the unit of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seconds {
    interval: u32,
    late: u32,
    offline: u32,
}

impl Seconds {
    pub(super) fn of(timing: Timing) -> Self {
        let Timing { interval, late, offline } = timing;
        // The API admits at most a day.
        let seconds = |of: Duration| u32::try_from(of.as_secs()).unwrap_or(u32::MAX);
        Self { interval: seconds(interval), late: seconds(late), offline: seconds(offline) }
    }

    pub(super) fn timing(self) -> Timing {
        let Self { interval, late, offline } = self;
        let seconds = |of: u32| Duration::from_secs(of.into());
        Timing { interval: seconds(interval), late: seconds(late), offline: seconds(offline) }
    }
}

/// The severity of each known type of check, as the spec of a connector sets it: 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Severities([Severity; CheckType::ALL.len()]);

impl Severities {
    pub(super) fn of(severity: impl Fn(&str) -> Severity) -> Self {
        Self(std::array::from_fn(|index| severity(CheckType::ALL[index].as_str())))
    }

    /// The severity of `type_`; the spec cannot name an unknown type, which is critical.
    pub(super) fn get(&self, type_: &str) -> Severity {
        let index = CheckType::ALL.iter().position(|known| known.as_str() == type_);
        index.map_or(Severity::Critical, |index| self.0[index])
    }
}

impl Default for Severities {
    fn default() -> Self {
        Self(std::array::from_fn(|index| CheckType::ALL[index].default_severity()))
    }
}

/// A UUID, which most identities are, or another text. The UUID takes 16 bytes instead of 16 and a text of 36.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CompactId {
    Uuid([u8; 16]),
    Text(Box<str>),
}

impl CompactId {
    /// Whether it is the same text.
    pub(super) fn is(&self, text: &str) -> bool {
        match self {
            Self::Uuid(bytes) => uuid(text).as_ref() == Some(bytes),
            Self::Text(known) => **known == *text,
        }
    }
}

impl From<&str> for CompactId {
    fn from(text: &str) -> Self {
        uuid(text).map_or_else(|| Self::Text(text.into()), Self::Uuid)
    }
}

impl fmt::Display for CompactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match self {
            Self::Uuid(bytes) => bytes,
            Self::Text(text) => return f.write_str(text),
        };
        for (at, byte) in bytes.iter().enumerate() {
            let hyphen = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{hyphen}{byte:02x}")?;
        }
        Ok(())
    }
}

/// The bytes of a UUID in its usual form: lower-case digits, and hyphens between its five groups.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    if [8, 13, 18, 23].iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let digit = |at: usize| match text[at] {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 16];
    for (at, byte) in bytes.iter_mut().enumerate() {
        let hyphens = [4, 6, 8, 10].iter().filter(|first| at >= **first).count();
        let first = 2 * at + hyphens;
        *byte = digit(first)? << 4 | digit(first + 1)?;
    }
    Some(bytes)
}

/// The checks that a sender reported: 16 bytes, and 16 more for each check while one has a message.
///
/// The outcomes are those of many connectors, and so are most messages: each stands in memory once.
#[derive(Clone, Debug)]
pub(super) struct Checks {
    outcomes: Arc<Outcomes>,
    messages: Option<Box<Messages>>,
}

type Outcomes = Box<[Outcome]>;

/// One for each outcome.
type Messages = Box<[Option<Arc<str>>]>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Outcome {
    type_: TypeName,
    status: CheckOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum TypeName {
    Known(CheckType),
    Other(Box<str>),
}

static OUTCOMES: LazyLock<SharedInterner<Outcomes>> = LazyLock::new(SharedInterner::default);
static MESSAGES: LazyLock<SharedInterner<str>> = LazyLock::new(SharedInterner::default);

impl Checks {
    pub(super) fn of(reported: &[ReportedCheck]) -> Self {
        let outcomes: Outcomes = reported.iter().map(Outcome::of).collect();
        let message = |check: &ReportedCheck| {
            let message = check.message.as_deref()?;
            Some(MESSAGES.share(message, || message.into()))
        };
        let has_messages = reported.iter().any(|check| check.message.is_some());
        Self {
            outcomes: OUTCOMES.share(&outcomes, || Arc::new(outcomes.clone())),
            messages: has_messages.then(|| Box::new(reported.iter().map(message).collect())),
        }
    }

    /// Whether a check of this type is among them.
    pub(super) fn has(&self, type_: &str) -> bool {
        self.outcomes.iter().any(|check| check.name() == type_)
    }

    /// The same for the judgement, without a copy.
    pub(super) fn reports(&self) -> impl Iterator<Item = CheckInput<'_>> {
        self.outcomes.iter().enumerate().map(move |(at, check)| CheckInput {
            type_: check.name(),
            outcome: check.status,
            message: self.message(at),
        })
    }

    fn message(&self, at: usize) -> Option<&str> {
        self.messages.as_deref()?.get(at)?.as_deref()
    }

    /// Whether these are the `reported` checks, messages included.
    pub(super) fn is(&self, reported: &[ReportedCheck]) -> bool {
        self.has_outcomes_of(reported)
            && reported.iter().enumerate().all(|(at, new)| self.message(at) == new.message.as_deref())
    }

    /// Whether these are the `reported` checks, messages ignored.
    pub(super) fn has_outcomes_of(&self, reported: &[ReportedCheck]) -> bool {
        self.outcomes.len() == reported.len()
            && self
                .outcomes
                .iter()
                .zip(reported)
                .all(|(known, new)| known.status == new.status && known.name() == new.type_)
    }
}

impl Outcome {
    fn of(reported: &ReportedCheck) -> Self {
        let ReportedCheck { type_, status, .. } = reported;
        let known = type_.parse().map(TypeName::Known);
        Self { type_: known.unwrap_or_else(|_| TypeName::Other(type_.as_str().into())), status: *status }
    }

    fn name(&self) -> &str {
        match &self.type_ {
            TypeName::Known(type_) => type_.as_str(),
            TypeName::Other(name) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(type_: &str, status: CheckOutcome, message: Option<&str>) -> ReportedCheck {
        ReportedCheck { type_: type_.to_owned(), status, message: message.map(str::to_owned) }
    }

    #[test]
    fn timing_comes_back_as_it_was() {
        let timing = Timing {
            interval: Duration::from_secs(5),
            late: Duration::from_secs(43_200),
            offline: Duration::from_secs(86_400),
        };
        assert_eq!(Seconds::of(timing).timing(), timing);
    }

    #[test]
    fn checks_come_back_as_they_were_reported_of_known_types_and_of_others() {
        let reported = [
            check("NATRules", CheckOutcome::Pass, None),
            check("Process", CheckOutcome::Fail, Some("not running")),
            check("FromTheFuture", CheckOutcome::Warn, None),
            check("Another", CheckOutcome::Unknown, Some("why")),
        ];
        let kept = Checks::of(&reported);
        let back: Vec<_> = kept.reports().map(|kept| check(kept.type_, kept.outcome, kept.message)).collect();
        assert_eq!(back, reported);
        assert!(kept.has("NATRules") && kept.has("Another") && !kept.has("OverlayRoute"));
        assert_eq!(Checks::of(&[]).reports().count(), 0);
    }

    #[test]
    fn a_message_is_a_difference_and_no_difference_in_outcome() {
        let reported = [check("Process", CheckOutcome::Warn, Some("7 s")), check("Own", CheckOutcome::Pass, None)];
        let kept = Checks::of(&reported);
        assert!(kept.is(&reported) && kept.has_outcomes_of(&reported));
        let mut other = reported.clone();
        other[0].message = Some("8 s".to_owned());
        assert!(!kept.is(&other) && kept.has_outcomes_of(&other));
        other[0] = check("Process", CheckOutcome::Fail, Some("7 s"));
        assert!(!kept.is(&other) && !kept.has_outcomes_of(&other));
        other = [reported[1].clone(), reported[0].clone()];
        assert!(!kept.has_outcomes_of(&other));
        assert!(!kept.has_outcomes_of(&reported[..1]));
    }

    #[test]
    fn severities_are_those_of_the_spec_and_an_unknown_type_is_critical() {
        let of = |type_: &str| if type_ == "ClockSkew" { Severity::Critical } else { Severity::Ignore };
        let severities = Severities::of(of);
        for type_ in CheckType::ALL {
            assert_eq!(severities.get(type_.as_str()), of(type_.as_str()), "{type_}");
            assert_eq!(Severities::default().get(type_.as_str()), type_.default_severity(), "{type_}");
        }
        assert_eq!(severities.get("FromTheFuture"), Severity::Critical);
        assert_eq!(size_of::<Severities>(), 8);
    }

    #[test]
    fn connectors_with_the_same_outcomes_and_messages_have_one_copy_of_them() {
        let reported = [
            check("Process", CheckOutcome::Pass, Some("gateway.service is active")),
            check("FromTheFuture", CheckOutcome::Warn, None),
        ];
        let (one, other) = (Checks::of(&reported), Checks::of(&reported));
        assert!(Arc::ptr_eq(&one.outcomes, &other.outcomes));
        let message = |of: &Checks| of.messages.as_ref().and_then(|messages| messages[0].clone()).unwrap();
        assert!(Arc::ptr_eq(&message(&one), &message(&other)));
        let mut slower = reported.clone();
        slower[0].message = Some("gateway.service is activating".to_owned());
        let slower = Checks::of(&slower);
        assert!(Arc::ptr_eq(&one.outcomes, &slower.outcomes) && !Arc::ptr_eq(&message(&one), &message(&slower)));
        assert_eq!(size_of::<Option<Checks>>(), 16);
    }

    #[test]
    fn an_id_comes_back_as_it_was_whether_or_not_it_is_a_uuid() {
        let uuid = "0123abcd-4567-89ef-0000-fedcba987654";
        assert!(matches!(CompactId::from(uuid), CompactId::Uuid(_)));
        for text in [
            uuid,
            "",
            "boot-7",
            "0123ABCD-4567-89ef-0000-fedcba987654",
            "0123abcd-4567-89ef-0000-fedcba98765",
            "0123abcd-4567-89ef-0000-fedcba98765g",
            "0123abcd04567-89ef-0000-fedcba987654",
            "0123abcd-4567-89ef-0000-fedcba9876é",
        ] {
            let id = CompactId::from(text);
            assert_eq!((id.to_string(), id.is(text)), (text.to_owned(), true));
            assert!(!id.is("0123abcd-4567-89ef-0000-fedcba987655") && !id.is("another"));
        }
        assert_eq!(size_of::<Option<CompactId>>(), 24);
    }
}
