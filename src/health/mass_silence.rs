//! Mass silence of a site: when most connectors of a site fall silent at once, the path to the operator is suspected and
//! not each of them. Pure.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::time::Moment;

/// The fewest connectors that fall silent together in a mass silence (`docs/design/liveness.md`, clock rule 8).
const MIN_SILENT: usize = 3;

/// The counts of the connectors of one failure domain. Each change of a member's presence updates them, so a verdict
/// costs the same for three connectors and for a hundred thousand.
#[derive(Debug, Default)]
pub struct Site {
    members: usize,
    silent: usize,
    /// The members that turned silent recently, and until when that counts as "together".
    recent: HashMap<u64, Moment>,
    /// The same, ordered by expiry.
    expiries: BTreeSet<(Moment, u64)>,
    /// The beginning of the mass silence.
    since: Option<Moment>,
}

/// The effect of a member's change on its site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteChange {
    /// Neither began nor ended.
    None,
    /// Mass silence began.
    Began,
    /// Mass silence ended.
    Ended,
}

impl Site {
    /// The number of silent members, and of all members.
    pub fn counts(&self) -> (usize, usize) {
        (self.silent, self.members)
    }

    /// The beginning of the mass silence; `None` when there is none.
    pub fn mass_silence_since(&self) -> Option<Moment> {
        self.since
    }

    /// Continues a mass silence that a former leader established.
    pub fn resume(&mut self, now: Moment) {
        self.since = Some(now);
    }

    /// Whether the site has no member left.
    pub fn is_empty(&self) -> bool {
        self.members == 0
    }

    /// Counts a member from now on. The caller adds a connector with its first heartbeat. A member that is `silent`
    /// already does not count as one that falls silent now.
    pub fn add(&mut self, silent: bool, now: Moment) -> SiteChange {
        self.members += 1;
        self.silent += usize::from(silent);
        self.evaluate(now)
    }

    /// Removes the member `id`.
    pub fn remove(&mut self, id: u64, silent: bool, now: Moment) -> SiteChange {
        self.members = self.members.saturating_sub(1);
        self.silent = self.silent.saturating_sub(usize::from(silent));
        self.drop_recent(id);
        self.evaluate(now)
    }

    /// Records that the member `id` turned silent at `at`. For `within`, its `lateAfterSeconds`, it counts as silent
    /// "at once" with others.
    pub fn turned_silent(&mut self, id: u64, at: Moment, within: Duration, now: Moment) -> SiteChange {
        self.silent += 1;
        self.drop_recent(id);
        self.recent.insert(id, at + within);
        self.expiries.insert((at + within, id));
        self.evaluate(now)
    }

    /// Records that the silent member `id` was heard again.
    pub fn heard(&mut self, id: u64, now: Moment) -> SiteChange {
        self.silent = self.silent.saturating_sub(1);
        self.drop_recent(id);
        self.evaluate(now)
    }

    fn drop_recent(&mut self, id: u64) {
        if let Some(until) = self.recent.remove(&id) {
            self.expiries.remove(&(until, id));
        }
    }

    fn evaluate(&mut self, now: Moment) -> SiteChange {
        while let Some(&(until, id)) = self.expiries.first()
            && until <= now
        {
            self.expiries.pop_first();
            self.recent.remove(&id);
        }
        let together = self.recent.len();
        match self.since {
            None if together >= MIN_SILENT && 2 * together > self.members => {
                self.since = Some(now);
                SiteChange::Began
            }
            Some(_) if 2 * self.silent < self.members || self.silent == 0 => {
                self.since = None;
                SiteChange::Ended
            }
            _ => SiteChange::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_secs(90);

    fn at(seconds: i64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn site(members: usize) -> Site {
        let mut site = Site::default();
        for _ in 0..members {
            assert_eq!(site.add(false, at(0)), SiteChange::None);
        }
        site
    }

    #[test]
    fn three_of_five_falling_silent_together_is_mass_silence() {
        let mut site = site(5);
        assert_eq!(site.turned_silent(1, at(100), LATE, at(100)), SiteChange::None);
        assert_eq!(site.turned_silent(2, at(101), LATE, at(101)), SiteChange::None);
        assert_eq!(site.turned_silent(3, at(102), LATE, at(102)), SiteChange::Began);
        assert_eq!(site.mass_silence_since(), Some(at(102)));
        assert_eq!(site.turned_silent(4, at(103), LATE, at(103)), SiteChange::None, "it begins once");
    }

    #[test]
    fn two_connectors_and_half_a_site_are_ordinary_failures() {
        let mut two = site(2);
        two.turned_silent(1, at(1), LATE, at(1));
        assert_eq!(two.turned_silent(2, at(1), LATE, at(1)), SiteChange::None);
        let mut half = site(6);
        for id in 0..3 {
            assert_eq!(half.turned_silent(id, at(1), LATE, at(1)), SiteChange::None);
        }
    }

    #[test]
    fn connectors_dying_one_after_the_other_are_no_mass_silence() {
        let mut site = site(4);
        for hour in 1..=4 {
            assert_eq!(site.turned_silent(hour as u64, at(hour * 3600), LATE, at(hour * 3600)), SiteChange::None);
        }
    }

    #[test]
    fn one_that_comes_and_goes_counts_once() {
        let mut site = site(4);
        for second in 1..=5 {
            assert_eq!(site.turned_silent(1, at(second), LATE, at(second)), SiteChange::None);
            assert_eq!(site.heard(1, at(second)), SiteChange::None);
        }
        site.turned_silent(1, at(10), LATE, at(10));
        assert_eq!(site.turned_silent(2, at(10), LATE, at(10)), SiteChange::None);
        assert_eq!(site.counts(), (2, 4));
    }

    #[test]
    fn it_lasts_until_fewer_than_half_are_silent() {
        let mut site = site(4);
        for id in 0..4 {
            site.turned_silent(id, at(10), LATE, at(10));
        }
        assert!(site.mass_silence_since().is_some());
        assert_eq!(site.heard(0, at(5000)), SiteChange::None);
        assert_eq!(site.heard(1, at(5000)), SiteChange::None, "half is not fewer than half");
        assert_eq!(site.heard(2, at(5001)), SiteChange::Ended);
    }

    #[test]
    fn members_that_leave_take_their_silence_along() {
        let mut site = site(3);
        for id in 0..3 {
            site.turned_silent(id, at(10), LATE, at(10));
        }
        site.remove(0, true, at(11));
        site.remove(1, true, at(11));
        assert_eq!(site.remove(2, true, at(11)), SiteChange::Ended);
        assert!(site.is_empty());
        assert_eq!(site.counts(), (0, 0));
    }
}
