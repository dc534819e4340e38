//! When the next heartbeat is due: pure, with the time and the chance as arguments.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Moment;

/// The interval before the operator has told one.
const FIRST_INTERVAL: Duration = Duration::from_secs(30);
/// The first heartbeat is within this time, so that many agents that start at once do not beat at once.
const FIRST_WITHIN: Duration = Duration::from_secs(3);
/// Least time between two heartbeats that the operator received.
const LEAST_PAUSE: Duration = Duration::from_secs(5);
/// Most heartbeats in a minute: the operator limits a connector to ten times its rate.
const MOST_IN_A_MINUTE: usize = 12;
const MINUTE: Duration = Duration::from_secs(60);
/// Longest wait after a refused token. It never gives up: the right token may come.
const UNAUTHORIZED_CAP: Duration = Duration::from_secs(300);
/// Longest Retry-After that is obeyed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// How a heartbeat failed, as far as the next one depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    /// 401.
    Unauthorized,
    /// The answer says when to come again.
    RetryAfter(Duration),
    /// Anything else.
    Other,
}

/// The schedule of heartbeats.
#[derive(Clone, Debug)]
pub struct Schedule {
    interval: Duration,
    /// When the next one is due without anything new.
    next_at: Moment,
    /// Nothing is sent before it, however urgent.
    earliest: Moment,
    /// The last ones, at most a minute old.
    sent: VecDeque<Moment>,
    failures: u32,
    is_urgent: bool,
}

impl Schedule {
    /// A schedule whose first heartbeat is due within three seconds. `chance` is between 0 and 1, here and below.
    pub fn new(now: Moment, chance: f64) -> Self {
        let next_at = now + FIRST_WITHIN.mul_f64(unit(chance));
        let sent = VecDeque::new();
        Self { interval: FIRST_INTERVAL, next_at, earliest: now, sent, failures: 0, is_urgent: false }
    }

    /// The interval that the operator asked for.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Something changed that the operator must learn at once.
    pub fn hurry(&mut self) {
        self.is_urgent = true;
    }

    /// When the next heartbeat is due.
    pub fn due_at(&self) -> Moment {
        let due = if self.is_urgent { self.earliest } else { self.next_at };
        let is_full = self.sent.len() >= MOST_IN_A_MINUTE;
        let of_minute = self.sent.get(self.sent.len().saturating_sub(MOST_IN_A_MINUTE)).filter(|_| is_full);
        due.max(self.earliest).max(of_minute.map_or(due, |first| *first + MINUTE))
    }

    /// A heartbeat is sent.
    pub fn sent(&mut self, now: Moment) {
        self.sent.retain(|at| now.since(*at) < MINUTE);
        self.sent.push_back(now);
        self.is_urgent = false;
    }

    /// It was received; the operator wants the next one after `interval`.
    pub fn received(&mut self, now: Moment, interval: Duration, chance: f64) {
        self.failures = 0;
        self.interval = interval;
        self.earliest = now + LEAST_PAUSE;
        self.next_at = now + interval.mul_f64(0.95 + 0.1 * unit(chance));
    }

    /// It was not received.
    pub fn failed(&mut self, now: Moment, setback: Setback, chance: f64) {
        let doubled = Duration::from_secs(1 << self.failures.min(12));
        self.failures = self.failures.saturating_add(1);
        let wait = match setback {
            Setback::RetryAfter(wait) => wait.min(LONGEST_RETRY_AFTER),
            Setback::Unauthorized => jittered(doubled.min(UNAUTHORIZED_CAP), chance),
            Setback::Other => jittered(doubled.min(self.interval), chance),
        };
        self.earliest = now + wait;
        self.next_at = self.earliest;
    }
}

/// Full jitter, and a quarter of a second at least: a failure may come at once.
fn jittered(most: Duration, chance: f64) -> Duration {
    most.mul_f64(unit(chance)).max(Duration::from_millis(250))
}

fn unit(chance: f64) -> f64 {
    chance.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    fn heard(interval: u64) -> Schedule {
        let mut schedule = Schedule::new(at(0), 0.0);
        schedule.sent(at(0));
        schedule.received(at(0), Duration::from_secs(interval), 0.5);
        schedule
    }

    #[test]
    fn the_first_is_within_three_seconds_and_the_others_within_five_per_cent_of_the_interval() {
        assert_eq!(Schedule::new(at(1), 0.0).due_at(), at(1));
        assert_eq!(Schedule::new(at(1), 1.0).due_at(), at(4));
        let mut schedule = Schedule::new(at(0), 0.0);
        for (chance, millis) in [(0.0, 95_000), (0.5, 100_000), (1.0, 105_000)] {
            schedule.received(at(0), Duration::from_secs(100), chance);
            assert_eq!(schedule.due_at(), Moment::default() + Duration::from_millis(millis));
        }
    }

    #[test]
    fn a_change_is_told_at_once_and_five_seconds_after_the_last_at_the_earliest() {
        let mut schedule = heard(30);
        assert_eq!(schedule.due_at(), at(30));
        schedule.hurry();
        assert_eq!(schedule.due_at(), at(5));
        schedule.sent(at(7));
        schedule.received(at(8), Duration::from_secs(30), 0.5);
        assert_eq!(schedule.due_at(), at(38), "the change is told");
    }

    #[test]
    fn a_host_that_changes_all_the_time_beats_twelve_times_a_minute() {
        let mut schedule = heard(30);
        let mut sent = vec![0];
        while *sent.last().unwrap() < 300 {
            schedule.hurry();
            let due = schedule.due_at().since(at(0)).as_secs();
            schedule.sent(at(due));
            schedule.received(at(due), Duration::from_secs(30), 0.5);
            sent.push(due);
        }
        for from in 0..240 {
            assert!(sent.iter().filter(|at| (from..from + 60).contains(*at)).count() <= 12, "{sent:?}");
        }
    }

    #[test]
    fn failures_are_tried_again_after_one_two_four_seconds_and_the_interval_at_most() {
        let mut schedule = heard(30);
        let mut waits = Vec::new();
        for _ in 0..7 {
            schedule.failed(at(100), Setback::Other, 1.0);
            waits.push(schedule.due_at().since(at(100)).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        schedule.failed(at(100), Setback::Other, 0.0);
        assert_eq!(schedule.due_at().since(at(100)), Duration::from_millis(250));
        schedule.failed(at(100), Setback::Other, 0.5);
        schedule.hurry();
        assert_eq!(schedule.due_at(), at(115), "a change does not shorten the wait");
        schedule.received(at(200), Duration::from_secs(30), 0.5);
        schedule.failed(at(300), Setback::Other, 1.0);
        assert_eq!(schedule.due_at(), at(301), "it begins anew");
    }

    #[test]
    fn retry_after_wins_and_a_refused_token_is_tried_for_ever() {
        let mut schedule = heard(30);
        schedule.failed(at(0), Setback::RetryAfter(Duration::from_secs(90)), 0.0);
        schedule.hurry();
        assert_eq!(schedule.due_at(), at(90));
        schedule.failed(at(0), Setback::RetryAfter(Duration::from_secs(1 << 40)), 0.0);
        assert_eq!(schedule.due_at(), at(3600));
        for _ in 0..100 {
            schedule.failed(at(1000), Setback::Unauthorized, 1.0);
        }
        assert_eq!(schedule.due_at(), at(1300));
    }
}
