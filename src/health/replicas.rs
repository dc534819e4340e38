//! Counts the failures of each replica of a backend for itself: a probe that passes on one pod says nothing about
//! another. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::availability::{Availability, Limits, ProbeHistory, Sample};
use crate::time::Moment;

/// The probes of one replica at its own address.
#[derive(Clone, Debug)]
struct Replica {
    /// A pod of the same name at another address is another replica.
    address: Option<IpAddr>,
    history: ProbeHistory,
    passed_at: Option<Moment>,
}

/// The replicas of one backend, by the names of their vantages.
#[derive(Clone, Debug, Default)]
pub struct Replicas(BTreeMap<String, Replica>);

impl Replicas {
    /// Records one probe of the replica `name` at `address`.
    pub fn record(&mut self, name: &str, address: Option<IpAddr>, sample: Sample, limits: &Limits) {
        let fresh = || Replica { address, history: ProbeHistory::new(sample.at), passed_at: None };
        let replica = self.0.entry(name.to_owned()).or_insert_with(fresh);
        if replica.address != address {
            *replica = fresh();
        }
        replica.history.record(sample, limits);
        if sample.passed {
            replica.passed_at = replica.passed_at.max(Some(sample.at + sample.took));
        }
    }

    /// Forgets the replicas that are not among `names`.
    pub fn keep<'a>(&mut self, names: impl Iterator<Item = &'a str> + Clone) {
        self.0.retain(|known, _| names.clone().any(|name| name == known));
    }

    /// Forgets all replicas.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether as many probes of the replica `name` failed in a row as make a backend Down, and it has not recovered.
    pub fn is_bad(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|replica| replica.history.availability() == Availability::Down)
    }

    /// The end of the last probe of the replica `name` that passed.
    pub fn passed_at(&self, name: &str) -> Option<Moment> {
        self.0.get(name)?.passed_at
    }

    /// Whether any replica fails: each is probed until all of them pass.
    pub fn any_fails(&self) -> bool {
        self.0.values().any(|replica| replica.history.failing_since().is_some())
    }

    /// How long after the start of the last probe the next one is due, while the failure of a replica is confirmed.
    pub fn confirm_in(&self, limits: &Limits) -> Option<Duration> {
        self.0.values().filter_map(|replica| replica.history.confirm_in(limits)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { interval: Duration::from_secs(16), failure_threshold: 3, success_threshold: 2, slow_above: None };

    fn sample(second: i64, passed: bool) -> Sample {
        let at = Moment::from_micros(second * 1_000_000);
        Sample { at, passed, took: Duration::from_secs(1) }
    }

    fn address(last: u8) -> Option<IpAddr> {
        Some([192, 0, 2, last].into())
    }

    #[test]
    fn the_failures_of_one_are_counted_while_the_others_pass() {
        let mut replicas = Replicas::default();
        for (second, bad, soon) in [(1, false, true), (2, false, true), (3, true, false), (4, true, false)] {
            replicas.record("pod/web-1", address(1), sample(second, true), &LIMITS);
            replicas.record("pod/web-2", address(2), sample(second, false), &LIMITS);
            assert_eq!((replicas.is_bad("pod/web-2"), replicas.is_bad("pod/web-1")), (bad, false), "at {second}");
            assert_eq!(replicas.confirm_in(&LIMITS), soon.then_some(Duration::from_secs(4)), "at {second}");
            assert!(replicas.any_fails());
        }
        assert_eq!(replicas.passed_at("pod/web-1"), Some(Moment::from_micros(5_000_000)));
        assert_eq!(replicas.passed_at("pod/web-2"), None);
        replicas.record("pod/web-2", address(2), sample(5, true), &LIMITS);
        assert!(replicas.is_bad("pod/web-2") && replicas.any_fails(), "one success is no recovery");
        replicas.record("pod/web-2", address(2), sample(6, true), &LIMITS);
        assert!(!replicas.is_bad("pod/web-2") && !replicas.any_fails());
    }

    #[test]
    fn one_failure_that_does_not_come_again_is_none() {
        let mut replicas = Replicas::default();
        for (second, passed) in [(1, true), (2, false), (3, false), (4, true), (5, false)] {
            replicas.record("pod/web-1", address(1), sample(second, passed), &LIMITS);
            assert!(!replicas.is_bad("pod/web-1"));
        }
    }

    #[test]
    fn a_replica_that_was_replaced_or_is_gone_leaves_no_failures_to_its_successor() {
        let mut replicas = Replicas::default();
        for second in 1..4 {
            replicas.record("pod/web-0", address(1), sample(second, false), &LIMITS);
            replicas.record("pod/web-1", address(2), sample(second, false), &LIMITS);
        }
        replicas.record("pod/web-0", address(7), sample(4, false), &LIMITS);
        assert!(!replicas.is_bad("pod/web-0"), "another pod, of the same StatefulSet");
        replicas.keep(["pod/web-0"].into_iter());
        assert!(!replicas.is_bad("pod/web-1"));
        replicas.clear();
        assert!(!replicas.any_fails());
    }
}
