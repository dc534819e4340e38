//! Small forms of what is kept for each connector: there may be a hundred thousand of them.

use std::time::Duration;

use super::payload::ReportedCheck;
use crate::api::{CheckOutcome, CheckType};
use crate::health::liveness::Timing;

/// A connector's [`Timing`] in whole seconds, as the API has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seconds {
    interval: u32,
    late: u32,
    offline: u32,
}

impl Seconds {
    pub(super) fn of(timing: Timing) -> Self {
        let Timing { interval, late, offline } = timing;
        // A day is the most that the API admits.
        let seconds = |of: Duration| u32::try_from(of.as_secs()).unwrap_or(u32::MAX);
        Self { interval: seconds(interval), late: seconds(late), offline: seconds(offline) }
    }

    pub(super) fn timing(self) -> Timing {
        let Self { interval, late, offline } = self;
        let seconds = |of: u32| Duration::from_secs(of.into());
        Timing { interval: seconds(interval), late: seconds(late), offline: seconds(offline) }
    }
}

/// What an agent reported: 16 bytes for a check of a known type without a message, which is what a healthy one is.
#[derive(Clone, Debug)]
pub(super) struct Checks(Box<[Check]>);

#[derive(Clone, Debug)]
struct Check {
    /// `None` = the name stands in `words`.
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
    pub(super) fn of(said: &[ReportedCheck]) -> Self {
        Self(said.iter().map(Check::of).collect())
    }

    pub(super) fn to_vec(&self) -> Vec<ReportedCheck> {
        self.0.iter().map(Check::to_reported).collect()
    }

    /// Whether this is what was `said`, messages and all.
    pub(super) fn is(&self, said: &[ReportedCheck]) -> bool {
        self.has_outcomes_of(said)
            && self.0.iter().zip(said).all(|(known, said)| known.message() == said.message.as_deref())
    }

    /// Whether this is what was `said`, messages left aside.
    pub(super) fn has_outcomes_of(&self, said: &[ReportedCheck]) -> bool {
        self.0.len() == said.len()
            && self.0.iter().zip(said).all(|(known, said)| known.status == said.status && known.name() == said.type_)
    }
}

impl Check {
    fn of(said: &ReportedCheck) -> Self {
        let ReportedCheck { type_, status, message } = said;
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

    fn to_reported(&self) -> ReportedCheck {
        ReportedCheck { type_: self.name().to_owned(), status: self.status, message: self.message().map(str::to_owned) }
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
    fn checks_come_back_as_they_were_said_of_known_types_and_of_others() {
        let said = [
            check("NATRules", CheckOutcome::Pass, None),
            check("Process", CheckOutcome::Fail, Some("not running")),
            check("FromTheFuture", CheckOutcome::Warn, None),
            check("Another", CheckOutcome::Unknown, Some("why")),
        ];
        assert_eq!(Checks::of(&said).to_vec(), said);
        assert_eq!(Checks::of(&[]).to_vec(), []);
    }

    #[test]
    fn a_message_is_a_difference_and_no_difference_in_outcome() {
        let said = [check("Process", CheckOutcome::Warn, Some("7 s")), check("Own", CheckOutcome::Pass, None)];
        let kept = Checks::of(&said);
        assert!(kept.is(&said) && kept.has_outcomes_of(&said));
        let mut other = said.clone();
        other[0].message = Some("8 s".to_owned());
        assert!(!kept.is(&other) && kept.has_outcomes_of(&other));
        other[0] = check("Process", CheckOutcome::Fail, Some("7 s"));
        assert!(!kept.is(&other) && !kept.has_outcomes_of(&other));
        other = [said[1].clone(), said[0].clone()];
        assert!(!kept.has_outcomes_of(&other));
        assert!(!kept.has_outcomes_of(&said[..1]));
    }

    #[test]
    fn a_healthy_check_of_a_known_type_takes_sixteen_bytes() {
        assert_eq!(size_of::<Check>(), 16);
    }
}
