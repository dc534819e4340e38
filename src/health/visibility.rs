//! Decides whether the operator's probes can be trusted: when many backends become unreachable together, without a byte
//! from any of them, the cause is the operator's own network and not theirs (`docs/design/probes-and-diagnosis.md`,
//! `ProbeBlind`). Pure.
//!
//! Namespaces are counted first, and each counts once: a tenant must not make the outage of a stranger unknown.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::time::Moment;

/// The fewest unreachable backends; fewer are outages of their own.
const MIN_UNREACHABLE: usize = 5;
/// The fewest hosts that they are on; one dead host is an outage.
const MIN_HOSTS: usize = 3;
/// The part of the backends of a namespace, and of the namespaces, in percent, that they must exceed.
const MORE_THAN_PERCENT: usize = 60;
/// The longest time for which a verdict is held back while visibility is suspect, whatever the intervals are.
const MAX_HOLD: Duration = Duration::from_secs(60);

/// The namespaces that something is true of; `None` means all of them.
pub type Namespaces = Option<BTreeSet<Arc<str>>>;

/// Whether probes can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// They can.
    Normal,
    /// Of the backends probed since the first became unreachable, too many did; the others have not had their turn yet.
    /// No verdict on a backend of these namespaces before this moment.
    Suspect(Moment, BTreeSet<Arc<str>>),
    /// They cannot, for this reason, in these namespaces.
    Lost(String, Namespaces),
}

/// The last probe of one backend.
#[derive(Clone, Debug)]
pub struct LastProbe {
    /// The namespace of the backend.
    pub namespace: Arc<str>,
    /// The host that was dialled.
    pub host: Arc<str>,
    /// The time between two probes of it.
    pub interval: Duration,
    /// When the probe was started.
    pub probed_at: Moment,
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
    /// Namespaces in which visibility was lost, and too many backends are still unreachable.
    lost: BTreeSet<Arc<str>>,
    /// When visibility recovered last, in single namespaces and everywhere.
    recovered_in: HashMap<Arc<str>, Moment>,
    recovered_at: Option<Moment>,
}

/// How many backends of a namespace are unreachable, and on how many hosts.
#[derive(Debug, Default)]
struct Dark<'a> {
    backends: usize,
    hosts: HashSet<&'a str>,
}

impl Fleet {
    /// Records a probe of backend `number`. `unreachable`: it failed in resolve or connect without a packet from the far
    /// side.
    pub fn record_probe(&mut self, number: u64, probe: LastProbe, unreachable: bool) {
        self.reachable.remove(&number);
        let before = self.unreachable.remove(&number).filter(|before| before.member.host == probe.host);
        if unreachable {
            let since = before.map_or(probe.probed_at, |before| before.since);
            self.unreachable.insert(number, Unreachable { member: probe, since });
        } else {
            self.reachable.insert(number, probe);
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

    /// Records that visibility recovered in `namespaces`. Unreachable backends are judged by a probe made from now on, and
    /// by no earlier one.
    pub fn recovered(&mut self, namespaces: Namespaces, now: Moment) {
        match namespaces {
            None => self.recovered_at = Some(now),
            Some(namespaces) => self.recovered_in.extend(namespaces.into_iter().map(|namespace| (namespace, now))),
        }
    }

    /// Whether backend `number` was unreachable while visibility was lost, and has not been probed since it recovered.
    pub fn awaits_probe(&self, number: u64) -> bool {
        let Some(Unreachable { member, .. }) = self.unreachable.get(&number) else { return false };
        let recovered = self.recovered_in.get(&member.namespace).copied().max(self.recovered_at);
        recovered.is_some_and(|recovered| member.probed_at < recovered)
    }

    /// Whether any backend is unreachable.
    pub fn has_unreachable(&self) -> bool {
        !self.unreachable.is_empty()
    }

    fn members(&self) -> impl Iterator<Item = &LastProbe> {
        self.reachable.values().chain(self.unreachable.values().map(|one| &one.member))
    }

    /// Judges. `connectivity_failure` is the result of the operator's own check: the API server, or DNS, does not answer
    /// it.
    pub fn visibility(&mut self, connectivity_failure: Option<&str>, now: Moment) -> Visibility {
        if let Some(failure) = connectivity_failure {
            return Visibility::Lost(failure.to_owned(), None);
        }
        // It stays lost until enough backends are reachable again, however long that takes.
        let all = counts(self.members());
        let unreachable: Vec<&Unreachable> = self.unreachable.values().collect();
        let (dark, is_majority) = dark_namespaces(&unreachable, &all);
        let still = self.lost.iter().filter(|namespace| dark.contains_key(namespace.as_ref()) && is_majority);
        let mut lost: BTreeSet<Arc<str>> = still.cloned().collect();
        let recent = self.recent(now);
        lost.extend(blind(&recent, &all));
        let visibility = if lost.is_empty() {
            self.suspect(&recent, now)
        } else {
            Visibility::Lost(self.message(&lost), Some(lost.clone()))
        };
        self.lost = lost;
        visibility
    }

    /// The backends that became unreachable together, within their last interval; older ones are known outages.
    fn recent(&self, now: Moment) -> Vec<&Unreachable> {
        let is_recent = |one: &&Unreachable| now.since(one.since) <= one.member.interval.max(MAX_HOLD);
        let recent: Vec<&Unreachable> = self.unreachable.values().filter(is_recent).collect();
        let Some((first, longest)) = span(&recent) else { return recent };
        // Together means within one interval, and the time that a probe may take to fail.
        recent.into_iter().filter(|one| one.since <= first + longest * 2).collect()
    }

    /// Judges by the backends alone that were probed since the first became unreachable.
    fn suspect(&self, recent: &[&Unreachable], now: Moment) -> Visibility {
        let Some((first, longest)) = span(recent) else { return Visibility::Normal };
        let until = first + longest.min(MAX_HOLD);
        let probed = counts(self.members().filter(|member| member.probed_at >= first));
        let suspect = blind(recent, &probed);
        match now < until && !suspect.is_empty() {
            true => Visibility::Suspect(until, suspect),
            false => Visibility::Normal,
        }
    }

    fn message(&self, lost: &BTreeSet<Arc<str>>) -> String {
        let unreachable = self.unreachable.values().filter(|one| lost.contains(&one.member.namespace));
        let hosts: Vec<&Arc<str>> = unreachable.map(|one| &one.member.host).collect();
        format!(
            "{} of {} backends on {} hosts cannot be connected to, without a byte from any of them",
            hosts.len(),
            self.members().filter(|member| lost.contains(&member.namespace)).count(),
            hosts.iter().collect::<HashSet<_>>().len()
        )
    }
}

fn is_most(part: usize, all: usize) -> bool {
    part * 100 > all * MORE_THAN_PERCENT
}

/// The time at which the first of them became unreachable, and the longest of their intervals.
fn span(recent: &[&Unreachable]) -> Option<(Moment, Duration)> {
    let first = recent.iter().map(|one| one.since).min()?;
    Some((first, recent.iter().map(|one| one.member.interval).max()?))
}

fn counts<'a>(members: impl Iterator<Item = &'a LastProbe>) -> HashMap<&'a str, usize> {
    let mut counts = HashMap::new();
    members.for_each(|member| *counts.entry(&*member.namespace).or_default() += 1);
    counts
}

/// The namespaces of which most backends are unreachable, and whether they are most of the namespaces in `all`.
///
/// One of them is left out on both sides: a single tenant must not turn a part into the majority. In a fleet of one
/// namespace its own backends decide.
fn dark_namespaces<'a>(
    unreachable: &[&'a Unreachable],
    all: &HashMap<&str, usize>,
) -> (BTreeMap<&'a str, Dark<'a>>, bool) {
    let mut dark: BTreeMap<&str, Dark<'_>> = BTreeMap::new();
    for one in unreachable {
        let namespace = dark.entry(&one.member.namespace).or_default();
        namespace.backends += 1;
        namespace.hosts.insert(&one.member.host);
    }
    dark.retain(|namespace, dark| is_most(dark.backends, all.get(namespace).copied().unwrap_or_default()));
    let left_out = usize::from(dark.len() > 1);
    let is_majority = is_most(dark.len() - left_out, all.len().saturating_sub(left_out));
    (dark, is_majority)
}

/// The namespaces of `unreachable` whose backends are not to be judged. For each, its own backends count, and every other
/// namespace once.
fn blind(unreachable: &[&Unreachable], all: &HashMap<&str, usize>) -> BTreeSet<Arc<str>> {
    let (dark, is_majority) = dark_namespaces(unreachable, all);
    if !is_majority {
        return BTreeSet::new();
    }
    let others = dark.len().saturating_sub(1);
    let is_enough = |of: &Dark<'_>| of.backends + others >= MIN_UNREACHABLE && of.hosts.len() + others >= MIN_HOSTS;
    dark.iter().filter(|(_, of)| is_enough(of)).map(|(namespace, _)| Arc::from(*namespace)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(15);

    fn at(seconds: i64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn probe(namespace: &str, host: &str, second: i64) -> LastProbe {
        LastProbe { namespace: namespace.into(), host: host.into(), interval: INTERVAL, probed_at: at(second) }
    }

    fn shop(host: &str, second: i64) -> LastProbe {
        probe("shop", host, second)
    }

    fn is_lost(visibility: &Visibility) -> bool {
        matches!(visibility, Visibility::Lost(..))
    }

    /// `unreachable` of `all` backends become unreachable at 100 s, the others were reached at 95 s; spread over `hosts`.
    fn fleet(all: u64, unreachable: u64, hosts: u64) -> Fleet {
        let mut fleet = Fleet::default();
        for number in 0..all {
            let host = format!("host-{}", number % hosts);
            fleet.record_probe(number, shop(&host, 85), false);
            let second = if number < unreachable { 100 } else { 95 };
            fleet.record_probe(number, shop(&host, second), number < unreachable);
        }
        fleet
    }

    #[test]
    fn the_floors_are_five_on_three_hosts_and_more_than_sixty_percent() {
        let is_lost = |mut fleet: Fleet| is_lost(&fleet.visibility(None, at(101)));
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
        assert_eq!(fleet.visibility(None, at(104)), Visibility::Suspect(at(115), ["shop".into()].into()));
        assert_eq!(
            fleet.visibility(None, at(115)),
            Visibility::Normal,
            "the others were reached, or are no longer unreachable"
        );
        for number in 5..10 {
            fleet.record_probe(number, shop(&format!("host-{number}"), 103), false);
        }
        assert_eq!(fleet.visibility(None, at(104)), Visibility::Normal, "five of ten that were probed since");
    }

    #[test]
    fn blindness_lasts_until_enough_are_seen_again_and_names_the_figures() {
        let mut fleet = fleet(10, 9, 5);
        let Visibility::Lost(message, _) = fleet.visibility(None, at(101)) else { panic!("not lost") };
        assert_eq!(message, "9 of 10 backends on 5 hosts cannot be connected to, without a byte from any of them");
        assert!(is_lost(&fleet.visibility(None, at(4000))), "an hour later");
        for number in 0..3 {
            fleet.record_probe(number, shop(&format!("host-{}", number % 5), 4001), false);
        }
        assert_eq!(fleet.visibility(None, at(4001)), Visibility::Normal, "six of ten");
        assert_eq!(fleet.visibility(None, at(4002)), Visibility::Normal, "what is left is old: outages");
    }

    #[test]
    fn when_our_own_check_fails_we_are_blind_whatever_the_fleet_says() {
        let mut fleet = fleet(1, 1, 1);
        assert_eq!(
            fleet.visibility(Some("dns does not answer"), at(101)),
            Visibility::Lost("dns does not answer".to_owned(), None)
        );
        assert_eq!(fleet.visibility(None, at(101)), Visibility::Normal);
    }

    #[test]
    fn what_was_dark_while_we_were_blind_is_judged_by_a_probe_of_our_own_eyes() {
        let mut fleet = fleet(10, 9, 5);
        assert!(is_lost(&fleet.visibility(None, at(101))));
        assert!(!fleet.awaits_probe(0), "not recovered yet");
        fleet.recovered(Some(["bank".into()].into()), at(200));
        assert!(!fleet.awaits_probe(0), "in another namespace");
        fleet.recovered(Some(["shop".into()].into()), at(200));
        assert!(fleet.awaits_probe(0) && !fleet.awaits_probe(9), "the last one was always reachable");
        fleet.record_probe(0, shop("host-0", 199), true);
        assert!(fleet.awaits_probe(0), "that one began while visibility was lost");
        fleet.record_probe(0, shop("host-0", 200), true);
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
        fleet.record_probe(5, shop("elsewhere", 140), true);
        assert!(fleet.is_unreachable(5));
    }

    /// Adds `unreachable` of `all` backends of `namespace`, each on a host of its own, as [`fleet`] does.
    fn add(fleet: &mut Fleet, namespace: &str, all: u64, unreachable: u64) {
        let first = u64::try_from(fleet.members().count()).unwrap();
        for number in 0..all {
            let is_dark = number < unreachable;
            let host = format!("{namespace}-{number}");
            fleet.record_probe(first + number, probe(namespace, &host, if is_dark { 100 } else { 95 }), is_dark);
        }
    }

    fn blind_in(namespaces: &[(&str, u64, u64)]) -> Vec<String> {
        let mut fleet = Fleet::default();
        namespaces.iter().for_each(|(namespace, all, unreachable)| add(&mut fleet, namespace, *all, *unreachable));
        match fleet.visibility(None, at(116)) {
            Visibility::Lost(_, lost) => lost.unwrap().iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn one_tenant_makes_no_stranger_unknown_however_many_of_its_backends_are_dark() {
        let nowhere: &[String] = &[];
        assert_eq!(blind_in(&[("greedy", 100, 100), ("shop", 1, 1), ("bank", 9, 0)]), nowhere);
        assert_eq!(blind_in(&[("greedy", 100, 100), ("shop", 6, 6), ("bank", 1, 0)]), nowhere, "an outage of all");
        assert_eq!(blind_in(&[("greedy", 100, 100), ("shop", 1, 0)]), nowhere);
        assert_eq!(blind_in(&[("greedy", 100, 100), ("shop", 1, 1)]), ["greedy"], "it decides for itself alone");
        assert_eq!(blind_in(&[("greedy", 100, 100), ("shop", 3, 1), ("bank", 2, 2), ("mail", 4, 1)]), nowhere);
    }

    #[test]
    fn when_most_namespaces_are_dark_together_each_of_them_counts_the_others_once() {
        let five: Vec<_> = ["a", "b", "c", "d", "e"].map(|namespace| (namespace, 1, 1)).into();
        assert_eq!(blind_in(&five), ["a", "b", "c", "d", "e"]);
        assert_eq!(blind_in(&five[1..]), <[String; 0]>::default(), "four are outages");
        let mixed = [("a", 9, 8), ("b", 2, 2), ("c", 3, 2), ("d", 5, 4), ("e", 4, 1)];
        assert_eq!(blind_in(&mixed), ["a", "b", "c", "d"], "of the last one, three of four are seen");
    }

    #[test]
    fn a_namespace_that_sees_again_is_judged_while_the_others_are_still_blind() {
        let mut fleet = Fleet::default();
        ["a", "b", "c", "d", "e", "f"].iter().for_each(|namespace| add(&mut fleet, namespace, 1, 1));
        let lost = |fleet: &mut Fleet, second| match fleet.visibility(None, at(second)) {
            Visibility::Lost(_, lost) => lost.unwrap().len(),
            _ => 0,
        };
        assert_eq!(lost(&mut fleet, 101), 6);
        fleet.record_probe(0, probe("a", "a-0", 1000), false);
        assert_eq!(lost(&mut fleet, 1000), 5);
        fleet.record_probe(1, probe("b", "b-0", 1000), false);
        fleet.record_probe(2, probe("c", "c-0", 1000), false);
        assert_eq!(lost(&mut fleet, 1000), 0, "half of them");
    }
}
