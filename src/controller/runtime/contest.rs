//! Notices another program that writes the status of the same object, such as a second operator with another Lease. Pure.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::num::NonZeroU64;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::cluster::events::{Event, EventType};
use crate::time::Moment;

/// This many writes of another program within [`WINDOW`] are a contest. One alone may be a person's.
const FOREIGN_WRITES: u8 = 3;

/// The longest time between two of these writes: each of two operators writes a checkpoint a minute.
const WINDOW: Duration = Duration::from_secs(150);

/// How long nothing is written after the last write of the other program: longer than the pause between two checkpoints, so
/// that an operator that holds back keeps holding back while the other one writes.
const HOLD: Duration = Duration::from_secs(90);

/// Two operators that hold back at the same time do not go on at the same time.
const MAX_JITTER: Duration = Duration::from_secs(60);

/// The status of one object as this process knows it, and the writes of others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Contest {
    /// The hash of the status that was seen or written last; `None` when it is not known.
    status: Option<NonZeroU64>,
    writes: u8,
    last: Moment,
}

impl Contest {
    /// Notes the status of an object that this process wrote; `None` when it is not known whether a write was applied.
    pub fn note_own(&mut self, status: Option<&Value>) {
        self.status = status.map(hash);
    }

    /// Notes the status of an object that is newer than the last write of this process; returns whether another program
    /// wrote it.
    pub fn note_seen(&mut self, status: &Value, now: Moment) -> bool {
        let is_foreign = self.status.replace(hash(status)).is_some_and(|known| Some(known) != self.status);
        if is_foreign {
            let is_in_time = self.writes > 0 && now.since(self.last) <= WINDOW;
            self.writes = if is_in_time { self.writes.saturating_add(1) } else { 1 };
            self.last = now;
        }
        is_foreign
    }

    /// Until when nothing is to be written. `knows_less`: the other program has heard of the object since this process has,
    /// so the first of its writes is enough. `jitter` is between 0 and 1.
    pub fn held_until(&self, knows_less: bool, jitter: f64) -> Option<Moment> {
        let is_contest = self.writes >= FOREIGN_WRITES || self.writes > 0 && knows_less;
        is_contest.then(|| self.last + HOLD + MAX_JITTER.mul_f64(jitter))
    }
}

fn hash(status: &Value) -> NonZeroU64 {
    let mut hasher = DefaultHasher::new();
    status.to_string().hash(&mut hasher);
    NonZeroU64::MIN | hasher.finish()
}

/// The event about a contest: the same occurrence for both operators, and at most one an hour.
pub fn event(at: Timestamp) -> Event {
    Event {
        kind: EventType::Warning,
        reason: "AnotherWriter",
        action: "HoldBack",
        note: "another program writes the status of this object, a second vigie with another Lease perhaps: let one \
               installation watch this namespace (--namespace), or give both the same Lease (--lease-name, \
               --lease-namespace). An operator that knows less about the object writes nothing meanwhile"
            .to_owned(),
        at,
        occurrence: format!("AnotherWriter/{}", at.as_second() / 3600),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Moment {
        Moment::from_micros(second * 1_000_000)
    }

    #[test]
    fn own_writes_and_the_first_sight_are_no_contest_and_a_persons_write_neither() {
        let mut contest = Contest::default();
        assert!(!contest.note_seen(&json!({ "state": "Online" }), at(0)));
        contest.note_own(Some(&json!({ "state": "Late" })));
        assert!(!contest.note_seen(&json!({ "state": "Late" }), at(1)));
        // It may be the own write whose answer was lost.
        contest.note_own(None);
        assert!(!contest.note_seen(&json!({ "state": "Offline" }), at(2)));
        assert!(contest.note_seen(&json!({ "state": "Edited" }), at(3)));
        assert_eq!(contest.held_until(false, 0.0), None);
        for second in [1000, 2000, 3000] {
            assert!(contest.note_seen(&json!({ "restored": second }), at(second)));
            assert_eq!(contest.held_until(false, 0.0), None);
        }
    }

    #[test]
    fn writes_of_another_program_in_a_row_are_a_contest_and_one_that_knows_more_is_at_once() {
        let mut contest = Contest::default();
        let mut until = Vec::new();
        for second in [0, 60, 120, 180] {
            contest.note_seen(&json!({ "time": second }), at(second));
            until.push((contest.held_until(false, 0.0), contest.held_until(true, 1.0)));
        }
        let held = |second| Some(at(second));
        let wanted = [(None, None), (None, held(60 + 150)), (None, held(120 + 150)), (held(180 + 90), held(180 + 150))];
        assert_eq!(until, wanted);
    }
}
