//! Compact forms of the data that is kept for each connector: there may be 100,000 of them.

use std::time::Duration;

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

/// The checks that an agent reported: 16 bytes for a check of a known type without a message, as a healthy one is.
#[derive(Clone, Debug)]
pub(super) struct Checks(Box<[StoredCheck]>);

#[derive(Clone, Debug)]
struct StoredCheck {
    /// `None` = the name is in `words`.
    type_: Option<CheckType>,
    status: CheckOutcome,
    words: Option<Box<Words>>,
}

#[derive(Clone, Debug)]
struct Words {
    type_: Option<Box<str>>,
    message: Option<Box<str>>,
}

impl Checks {
    pub(super) fn of(reported: &[ReportedCheck]) -> Self {
        Self(reported.iter().map(StoredCheck::of).collect())
    }

    /// Whether a check of this type is among them.
    pub(super) fn has(&self, type_: &str) -> bool {
        self.0.iter().any(|check| check.name() == type_)
    }

    /// The same for the judgement, without a copy.
    pub(super) fn reports(&self) -> impl Iterator<Item = CheckInput<'_>> {
        self.0.iter().map(|check| CheckInput { type_: check.name(), outcome: check.status, message: check.message() })
    }

    /// Whether these are the `reported` checks, messages included.
    pub(super) fn is(&self, reported: &[ReportedCheck]) -> bool {
        self.has_outcomes_of(reported)
            && self.0.iter().zip(reported).all(|(known, new)| known.message() == new.message.as_deref())
    }

    /// Whether these are the `reported` checks, messages ignored.
    pub(super) fn has_outcomes_of(&self, reported: &[ReportedCheck]) -> bool {
        self.0.len() == reported.len()
            && self.0.iter().zip(reported).all(|(known, new)| known.status == new.status && known.name() == new.type_)
    }
}

impl StoredCheck {
    fn of(reported: &ReportedCheck) -> Self {
        let ReportedCheck { type_, status, message } = reported;
        let known: Option<CheckType> = type_.parse().ok();
        let name = known.is_none().then(|| type_.as_str().into());
        let words = match (name, message.as_deref()) {
            (None, None) => None,
            (type_, message) => Some(Box::new(Words { type_, message: message.map(Into::into) })),
        };
        Self { type_: known, status: *status, words }
    }

    fn name(&self) -> &str {
        match self.type_ {
            Some(type_) => type_.as_str(),
            None => self.words.as_ref().and_then(|words| words.type_.as_deref()).unwrap_or_default(),
        }
    }

    fn message(&self) -> Option<&str> {
        self.words.as_ref()?.message.as_deref()
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
    fn a_healthy_check_of_a_known_type_takes_sixteen_bytes() {
        assert_eq!(size_of::<StoredCheck>(), 16);
    }
}
