//! Decides whether the operator's probes can be trusted: when many backends become unreachable together, without a byte
//! from any of them, the cause is the operator's own network and not theirs (`docs/design/probes-and-diagnosis.md`,
//! `ProbeBlind`). Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::time::Moment;

/// The fewest unreachable backends; fewer are outages of their own.
const MIN_UNREACHABLE: usize = 5;
/// The fewest hosts that they are on; one dead host is an outage.
const MIN_HOSTS: usize = 3;
/// The part of all backends, in percent, that they must exceed.
const MORE_THAN_PERCENT: usize = 60;
/// The longest time for which a verdict is held back while visibility is suspect, whatever the intervals are.
const MAX_HOLD: Duration = Duration::from_secs(60);

/// Whether probes can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// They can.
    Normal,
    /// Of the backends probed since the first became unreachable, too many did; the others have not had their turn yet.
    /// No verdict before this moment.
    Suspect(Moment),
    /// They cannot, for this reason.
    Lost(String),
}

/// The last probe of one backend.
#[derive(Debug)]
struct LastProbe {
    host: Arc<str>,
    interval: Duration,
    probed_at: Moment,
}

/// A backend whose last probe failed in resolve or connect without a byte from the far side.
#[derive(Debug)]
struct Unreachable {
    member: LastProbe,
    since: Moment,
}

/// The last probe of each backend of the fleet.
#[derive(Debug, Default)]
pub struct Fleet {
    reachable: HashMap<u64, LastProbe>,
    /// Kept apart, because only these are examined after each probe.
    unreachable: HashMap<u64, Unreachable>,
    /// Visibility was lost, and too many backends are still unreachable.
    lost: bool,
    /// When visibility recovered last.
    recovered_at: Option<Moment>,
}

impl Fleet {
    /// Records a probe of backend `number` on `host`, started at `at`. `unreachable`: it failed in resolve or connect
    /// without a byte from the far side.
    pub fn record_probe(&mut self, number: u64, host: &Arc<str>, interval: Duration, unreachable: bool, at: Moment) {
        let member = LastProbe { host: host.clone(), interval, probed_at: at };
        self.reachable.remove(&number);
        let before = self.unreachable.remove(&number).filter(|before| before.member.host == *host);
        if unreachable {
            let since = before.map_or(at, |before| before.since);
            self.unreachable.insert(number, Unreachable { member, since });
        } else {
            self.reachable.insert(number, member);
        }
    }

    /// Removes backend `number`: it was deleted, or is no longer probed.
    pub fn remove(&mut self, number: u64) {
        self.reachable.remove(&number);
        self.unreachable.remove(&number);
    }

    /// Whether the last probe of backend `number` found it unreachable.
    pub fn is_unreachable(&self, number: u64) -> bool {
        self.unreachable.contains_key(&number)
    }

    /// Records that visibility recovered. Unreachable backends are judged by a probe made from now on, and by no earlier
    /// one.
    pub fn recovered(&mut self, now: Moment) {
        self.recovered_at = Some(now);
    }

    /// Whether backend `number` was unreachable while visibility was lost, and has not been probed since it recovered.
    pub fn awaits_probe(&self, number: u64) -> bool {
        let probed_at = self.unreachable.get(&number).map(|unreachable| unreachable.member.probed_at);
        self.recovered_at.zip(probed_at).is_some_and(|(recovered, probed)| probed < recovered)
    }

    /// Whether any backend is unreachable.
    pub fn has_unreachable(&self) -> bool {
        !self.unreachable.is_empty()
    }

    fn len(&self) -> usize {
        self.reachable.len() + self.unreachable.len()
    }

    /// Judges. `connectivity_failure` is the result of the operator's own check: the API server, or DNS, does not answer
    /// it.
    pub fn visibility(&mut self, connectivity_failure: Option<&str>, now: Moment) -> Visibility {
        if let Some(failure) = connectivity_failure {
            return Visibility::Lost(failure.to_owned());
        }
        if self.lost {
            // It stays lost until enough backends are reachable again, however long that takes.
            self.lost = is_most(self.unreachable.len(), self.len());
            let unreachable: Vec<&Unreachable> = self.unreachable.values().collect();
            return if self.lost { Visibility::Lost(self.message(&unreachable)) } else { Visibility::Normal };
        }
        let Some(visibility) = self.judge_recent(now) else { return Visibility::Normal };
        if matches!(visibility, Visibility::Lost(_)) {
            self.lost = true;
        }
        visibility
    }

    /// Judges by the backends that became unreachable within their last interval; older ones are known outages.
    fn judge_recent(&self, now: Moment) -> Option<Visibility> {
        let is_recent = |one: &&Unreachable| now.since(one.since) <= one.member.interval.max(MAX_HOLD);
        let recent: Vec<&Unreachable> = self.unreachable.values().filter(is_recent).collect();
        let first = recent.iter().map(|one| one.since).min()?;
        let longest = recent.iter().map(|one| one.member.interval).max()?;
        // Together means within one interval, and the time that a probe may take to fail.
        let together: Vec<&Unreachable> = recent.into_iter().filter(|one| one.since <= first + longest * 2).collect();
        if together.len() < MIN_UNREACHABLE || hosts(&together) < MIN_HOSTS {
            return None;
        }
        if is_most(together.len(), self.len()) {
            return Some(Visibility::Lost(self.message(&together)));
        }
        let members = self.reachable.values().chain(self.unreachable.values().map(|one| &one.member));
        let probed = members.filter(|member| member.probed_at >= first).count();
        let until = first + longest.min(MAX_HOLD);
        (is_most(together.len(), probed) && now < until).then_some(Visibility::Suspect(until))
    }

    fn message(&self, unreachable: &[&Unreachable]) -> String {
        format!(
            "{} of {} backends on {} hosts cannot be connected to, without a byte from any of them",
            unreachable.len(),
            self.len(),
            hosts(unreachable)
        )
    }
}

fn is_most(part: usize, all: usize) -> bool {
    part * 100 > all * MORE_THAN_PERCENT
}

fn hosts(of: &[&Unreachable]) -> usize {
    of.iter().map(|one| &one.member.host).collect::<HashSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(15);

    fn at(seconds: i64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    /// `unreachable` of `all` backends become unreachable at 100 s, the others were reached at 95 s; spread over `hosts`.
    fn fleet(all: u64, unreachable: u64, hosts: u64) -> Fleet {
        let mut fleet = Fleet::default();
        for number in 0..all {
            let host: Arc<str> = format!("host-{}", number % hosts).into();
            fleet.record_probe(number, &host, INTERVAL, false, at(85));
            fleet.record_probe(
                number,
                &host,
                INTERVAL,
                number < unreachable,
                at(if number < unreachable { 100 } else { 95 }),
            );
        }
        fleet
    }

    #[test]
    fn the_floors_are_five_on_three_hosts_and_more_than_sixty_percent() {
        let is_lost = |mut fleet: Fleet| matches!(fleet.visibility(None, at(101)), Visibility::Lost(_));
        assert!(is_lost(fleet(5, 5, 3)));
        assert!(!is_lost(fleet(4, 4, 4)), "four are outages");
        assert!(!is_lost(fleet(1, 1, 1)), "and so is one of one");
        assert!(!is_lost(fleet(20, 20, 2)), "two hosts");
        assert!(!is_lost(fleet(10, 6, 5)), "sixty percent");
        assert!(is_lost(fleet(10, 7, 5)));
    }

    #[test]
    fn those_that_have_been_dark_for_long_are_outages_and_make_nobody_blind() {
        let mut fleet = fleet(10, 7, 5);
        assert_eq!(fleet.visibility(None, at(100 + 61)), Visibility::Normal);
    }

    #[test]
    fn while_the_others_have_not_had_their_turn_it_is_held_back_for_an_interval_at_most() {
        let mut fleet = fleet(100, 5, 50);
        assert_eq!(fleet.visibility(None, at(104)), Visibility::Suspect(at(115)));
        assert_eq!(
            fleet.visibility(None, at(115)),
            Visibility::Normal,
            "the others were reached, or are no longer unreachable"
        );
        for number in 5..10 {
            fleet.record_probe(number, &format!("host-{number}").into(), INTERVAL, false, at(103));
        }
        assert_eq!(fleet.visibility(None, at(104)), Visibility::Normal, "five of ten that were probed since");
    }

    #[test]
    fn blindness_lasts_until_enough_are_seen_again_and_names_the_figures() {
        let mut fleet = fleet(10, 9, 5);
        let Visibility::Lost(message) = fleet.visibility(None, at(101)) else { panic!("not lost") };
        assert_eq!(message, "9 of 10 backends on 5 hosts cannot be connected to, without a byte from any of them");
        assert!(matches!(fleet.visibility(None, at(4000)), Visibility::Lost(_)), "an hour later");
        for number in 0..3 {
            fleet.record_probe(number, &format!("host-{}", number % 5).into(), INTERVAL, false, at(4001));
        }
        assert_eq!(fleet.visibility(None, at(4001)), Visibility::Normal, "six of ten");
        assert_eq!(fleet.visibility(None, at(4002)), Visibility::Normal, "what is left is old: outages");
    }

    #[test]
    fn when_our_own_check_fails_we_are_blind_whatever_the_fleet_says() {
        let mut fleet = fleet(1, 1, 1);
        assert_eq!(
            fleet.visibility(Some("dns does not answer"), at(101)),
            Visibility::Lost("dns does not answer".to_owned())
        );
        assert_eq!(fleet.visibility(None, at(101)), Visibility::Normal);
    }

    #[test]
    fn what_was_dark_while_we_were_blind_is_judged_by_a_probe_of_our_own_eyes() {
        let mut fleet = fleet(10, 9, 5);
        assert!(matches!(fleet.visibility(None, at(101)), Visibility::Lost(_)));
        assert!(!fleet.awaits_probe(0), "not recovered yet");
        fleet.recovered(at(200));
        assert!(fleet.awaits_probe(0) && !fleet.awaits_probe(9), "the last one was always reachable");
        fleet.record_probe(0, &"host-0".into(), INTERVAL, true, at(199));
        assert!(fleet.awaits_probe(0), "that one began while visibility was lost");
        fleet.record_probe(0, &"host-0".into(), INTERVAL, true, at(200));
        assert!(!fleet.awaits_probe(0) && fleet.is_unreachable(0));
    }

    #[test]
    fn one_that_leaves_or_moves_to_another_host_is_not_counted_by_its_past() {
        let mut fleet = fleet(6, 6, 3);
        for number in 0..2 {
            fleet.remove(number);
        }
        assert_eq!(fleet.visibility(None, at(101)), Visibility::Normal);
        assert!(fleet.is_unreachable(5) && !fleet.is_unreachable(0));
        fleet.record_probe(5, &"elsewhere".into(), INTERVAL, true, at(140));
        assert!(fleet.is_unreachable(5));
    }
}
