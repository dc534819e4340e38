//! Is it the backends, or is it us? Many that go dark together, without a byte from any of them, are no outage of
//! theirs (probes-and-diagnosis.md, `ProbeBlind`). Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::time::Moment;

/// So many must be dark; fewer are outages of their own.
const LEAST_DARK: usize = 5;
/// On so many hosts; one dead host is an outage.
const LEAST_HOSTS: usize = 3;
/// And more than this part of all, in percent.
const MORE_THAN_PERCENT: usize = 60;
/// How long a verdict is held back at most while it looks as if we were going blind, whatever the intervals are.
const HELD_AT_MOST: Duration = Duration::from_secs(60);

/// Whether we see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// We do.
    Normal,
    /// Of those that were probed since the first went dark, too many did; the others have not had their turn yet. No
    /// verdict before this moment.
    Suspect(Moment),
    /// We do not, and why.
    Lost(String),
}

#[derive(Debug)]
struct Member {
    host: Arc<str>,
    interval: Duration,
    probed_at: Moment,
}

/// One that is dark.
#[derive(Debug)]
struct Failing {
    member: Member,
    since: Moment,
}

/// What is known of the whole fleet's last probes.
#[derive(Debug, Default)]
pub struct Fleet {
    light: HashMap<u64, Member>,
    /// Apart from the others, for these alone are looked at after each probe.
    dark: HashMap<u64, Failing>,
    /// We went blind, and have not seen enough since.
    blind: bool,
    /// When we saw again.
    opened_at: Option<Moment>,
}

impl Fleet {
    /// A probe of backend `number` on `host`, started at `at`. It is `dark` when it failed in resolve or connect without
    /// a byte from the far side.
    pub fn probed(&mut self, number: u64, host: &Arc<str>, interval: Duration, dark: bool, at: Moment) {
        let member = Member { host: host.clone(), interval, probed_at: at };
        self.light.remove(&number);
        let before = self.dark.remove(&number).filter(|before| before.member.host == *host);
        if dark {
            self.dark.insert(number, Failing { member, since: before.map_or(at, |before| before.since) });
        } else {
            self.light.insert(number, member);
        }
    }

    /// Backend `number` is gone, or not probed any more.
    pub fn left(&mut self, number: u64) {
        self.light.remove(&number);
        self.dark.remove(&number);
    }

    /// Whether backend `number` is one of those that we are blind for.
    pub fn is_unreachable(&self, number: u64) -> bool {
        self.dark.contains_key(&number)
    }

    /// We see again. What was dark before is judged by a probe that we make now, and by no earlier one.
    pub fn opened(&mut self, now: Moment) {
        self.opened_at = Some(now);
    }

    /// Whether backend `number` was dark while we were blind, and has not been probed since.
    pub fn is_unseen(&self, number: u64) -> bool {
        let probed_at = self.dark.get(&number).map(|dark| dark.member.probed_at);
        self.opened_at.zip(probed_at).is_some_and(|(opened, probed)| probed < opened)
    }

    /// Whether any is dark.
    pub fn is_any_dark(&self) -> bool {
        !self.dark.is_empty()
    }

    fn len(&self) -> usize {
        self.light.len() + self.dark.len()
    }

    /// Judges. `own_failure` is what our own check says: the API server, or DNS, does not answer us.
    pub fn sight(&mut self, own_failure: Option<&str>, now: Moment) -> Visibility {
        if let Some(failure) = own_failure {
            return Visibility::Lost(failure.to_owned());
        }
        if self.blind {
            // It lasts until enough are seen again, however long that takes.
            self.blind = is_most(self.dark.len(), self.len());
            let dark: Vec<&Failing> = self.dark.values().collect();
            return if self.blind { Visibility::Lost(self.said(&dark)) } else { Visibility::Normal };
        }
        let Some(sight) = self.turned(now) else { return Visibility::Normal };
        if matches!(sight, Visibility::Lost(_)) {
            self.blind = true;
        }
        sight
    }

    /// What those say that went dark within their last interval; older ones are outages that we know of.
    fn turned(&self, now: Moment) -> Option<Visibility> {
        let is_recent = |dark: &&Failing| now.since(dark.since) <= dark.member.interval.max(HELD_AT_MOST);
        let recent: Vec<&Failing> = self.dark.values().filter(is_recent).collect();
        let first = recent.iter().map(|dark| dark.since).min()?;
        let longest = recent.iter().map(|dark| dark.member.interval).max()?;
        // Together means within one interval, and the time that a probe may take to fail.
        let together: Vec<&Failing> = recent.into_iter().filter(|dark| dark.since <= first + longest * 2).collect();
        if together.len() < LEAST_DARK || hosts(&together) < LEAST_HOSTS {
            return None;
        }
        if is_most(together.len(), self.len()) {
            return Some(Visibility::Lost(self.said(&together)));
        }
        let members = self.light.values().chain(self.dark.values().map(|dark| &dark.member));
        let probed = members.filter(|member| member.probed_at >= first).count();
        let until = first + longest.min(HELD_AT_MOST);
        (is_most(together.len(), probed) && now < until).then_some(Visibility::Suspect(until))
    }

    fn said(&self, dark: &[&Failing]) -> String {
        format!(
            "{} of {} backends on {} hosts cannot be connected to, without a byte from any of them",
            dark.len(),
            self.len(),
            hosts(dark)
        )
    }
}

fn is_most(part: usize, all: usize) -> bool {
    part * 100 > all * MORE_THAN_PERCENT
}

fn hosts(of: &[&Failing]) -> usize {
    of.iter().map(|dark| &dark.member.host).collect::<HashSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(15);

    fn at(seconds: i64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    /// `dark` of `all` backends go dark at 100 s, the others were seen at 95 s; spread over `hosts`.
    fn fleet(all: u64, dark: u64, hosts: u64) -> Fleet {
        let mut fleet = Fleet::default();
        for number in 0..all {
            let host: Arc<str> = format!("host-{}", number % hosts).into();
            fleet.probed(number, &host, INTERVAL, false, at(85));
            fleet.probed(number, &host, INTERVAL, number < dark, at(if number < dark { 100 } else { 95 }));
        }
        fleet
    }

    #[test]
    fn the_floors_are_five_on_three_hosts_and_more_than_sixty_percent() {
        let is_blind = |mut fleet: Fleet| matches!(fleet.sight(None, at(101)), Visibility::Lost(_));
        assert!(is_blind(fleet(5, 5, 3)));
        assert!(!is_blind(fleet(4, 4, 4)), "four are outages");
        assert!(!is_blind(fleet(1, 1, 1)), "and so is one of one");
        assert!(!is_blind(fleet(20, 20, 2)), "two hosts");
        assert!(!is_blind(fleet(10, 6, 5)), "sixty percent");
        assert!(is_blind(fleet(10, 7, 5)));
    }

    #[test]
    fn those_that_have_been_dark_for_long_are_outages_and_make_nobody_blind() {
        let mut fleet = fleet(10, 7, 5);
        assert_eq!(fleet.sight(None, at(100 + 61)), Visibility::Normal);
    }

    #[test]
    fn while_the_others_have_not_had_their_turn_it_is_held_back_for_an_interval_at_most() {
        let mut fleet = fleet(100, 5, 50);
        assert_eq!(fleet.sight(None, at(104)), Visibility::Suspect(at(115)));
        assert_eq!(fleet.sight(None, at(115)), Visibility::Normal, "the others were seen, or are not dark");
        for number in 5..10 {
            fleet.probed(number, &format!("host-{number}").into(), INTERVAL, false, at(103));
        }
        assert_eq!(fleet.sight(None, at(104)), Visibility::Normal, "five of ten that were probed since");
    }

    #[test]
    fn blindness_lasts_until_enough_are_seen_again_and_names_the_figures() {
        let mut fleet = fleet(10, 9, 5);
        let Visibility::Lost(said) = fleet.sight(None, at(101)) else { panic!("blind") };
        assert_eq!(said, "9 of 10 backends on 5 hosts cannot be connected to, without a byte from any of them");
        assert!(matches!(fleet.sight(None, at(4000)), Visibility::Lost(_)), "an hour later");
        for number in 0..3 {
            fleet.probed(number, &format!("host-{}", number % 5).into(), INTERVAL, false, at(4001));
        }
        assert_eq!(fleet.sight(None, at(4001)), Visibility::Normal, "six of ten");
        assert_eq!(fleet.sight(None, at(4002)), Visibility::Normal, "what is left is old: outages");
    }

    #[test]
    fn when_our_own_check_fails_we_are_blind_whatever_the_fleet_says() {
        let mut fleet = fleet(1, 1, 1);
        assert_eq!(
            fleet.sight(Some("dns does not answer"), at(101)),
            Visibility::Lost("dns does not answer".to_owned())
        );
        assert_eq!(fleet.sight(None, at(101)), Visibility::Normal);
    }

    #[test]
    fn what_was_dark_while_we_were_blind_is_judged_by_a_probe_of_our_own_eyes() {
        let mut fleet = fleet(10, 9, 5);
        assert!(matches!(fleet.sight(None, at(101)), Visibility::Lost(_)));
        assert!(!fleet.is_unseen(0), "nobody has seen anything yet");
        fleet.opened(at(200));
        assert!(fleet.is_unseen(0) && !fleet.is_unseen(9), "the last one was never dark");
        fleet.probed(0, &"host-0".into(), INTERVAL, true, at(199));
        assert!(fleet.is_unseen(0), "that one began while we were blind");
        fleet.probed(0, &"host-0".into(), INTERVAL, true, at(200));
        assert!(!fleet.is_unseen(0) && fleet.is_unreachable(0));
    }

    #[test]
    fn one_that_leaves_or_moves_to_another_host_is_not_counted_by_its_past() {
        let mut fleet = fleet(6, 6, 3);
        for number in 0..2 {
            fleet.left(number);
        }
        assert_eq!(fleet.sight(None, at(101)), Visibility::Normal);
        assert!(fleet.is_unreachable(5) && !fleet.is_unreachable(0));
        fleet.probed(5, &"elsewhere".into(), INTERVAL, true, at(140));
        assert!(fleet.is_unreachable(5));
    }
}
