//! The role of this replica in the election, and the permit that every write requires.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;

use crate::time::Moment;

/// The role of this replica in the election.
///
/// It is written as one of three words: the admin port and `vigie get` show `Unconfirmed` as `Uncertain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Role {
    /// Another replica holds the Lease, or this replica never held it.
    #[default]
    Follower,
    /// This replica holds the Lease and renewed it in time.
    Leader,
    /// This replica held the Lease, could not renew it in time, and has not seen another holder: it accepts heartbeats
    /// and writes nothing. Lasts as long as the outage.
    Uncertain,
    /// The process was frozen while it was leader or uncertain, and has not read the Lease since: another replica may
    /// lead. It neither accepts heartbeats nor writes.
    #[serde(skip)]
    Unconfirmed,
}

impl Role {
    /// The word that the admin port writes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Follower => "Follower",
            Self::Leader => "Leader",
            Self::Uncertain | Self::Unconfirmed => "Uncertain",
        }
    }

    /// Whether a replica in this role accepts heartbeats: a leader, and an uncertain one, so that an outage of the API
    /// server does not stop monitoring. Not after a freeze before the Lease was read, because another replica may accept
    /// them now.
    pub const fn accepts_heartbeats(self) -> bool {
        matches!(self, Self::Leader | Self::Uncertain)
    }

    /// The role after the process did not run for a while, until the Lease has been read.
    pub const fn after_freeze(self) -> Self {
        if self.accepts_heartbeats() { Self::Unconfirmed } else { self }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The state of the election, as this process knows it.
///
/// Read it from the channel each time: an earlier copy has an old `write_until`. The channel *notifies* of every change
/// except that of `write_until`, which moves with every renewal.
#[derive(Clone, Debug)]
pub struct Leadership {
    /// The role of this replica.
    pub role: Role,
    /// The identity of the holder of the Lease, when known.
    pub holder: Option<String>,
    /// How many times this process acquired the Lease; 0 = never. While it stays the same, no other replica has led.
    pub epoch: u64,
    /// When this epoch began; `None` for a follower.
    pub acquired_at: Option<Moment>,
    /// End of the time to write, counted from before the last renewal was sent; before the end of the term.
    pub write_until: Moment,
    /// This process gave the leadership back for good, because it ends.
    pub resigned: bool,
}

impl Leadership {
    /// The state in which every process begins: it has not led.
    pub fn follower() -> Self {
        Self {
            role: Role::Follower,
            holder: None,
            epoch: 0,
            acquired_at: None,
            write_until: Moment::default(),
            resigned: false,
        }
    }

    /// The permit to write, for a leader whose time to write is not over.
    pub fn permit(&self, now: Moment) -> Option<WritePermit> {
        let permit = WritePermit { epoch: self.epoch, write_until: self.write_until };
        (self.role == Role::Leader && permit.is_current(now)).then_some(permit)
    }

    /// Whether this replica accepts heartbeats: see [`Role::accepts_heartbeats`].
    pub fn accepts_heartbeats(&self) -> bool {
        self.role.accepts_heartbeats()
    }
}

/// The permit to write, valid for a few seconds. Only [`Leadership::permit`] makes one, so code without a leadership
/// cannot call a function that writes.
#[derive(Clone, Debug)]
pub struct WritePermit {
    epoch: u64,
    write_until: Moment,
}

impl WritePermit {
    /// Whether it is still valid. Check it right before a request is sent; a request that is sent late fails on its
    /// resourceVersion.
    pub fn is_current(&self, now: Moment) -> bool {
        now < self.write_until
    }

    /// The [`Leadership::epoch`] in which it was given.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// Whether the pod of this process has the label by which the heartbeat Service finds the leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LabelState {
    /// This replica does not lead, or does not know its pod.
    #[default]
    NotWanted,
    /// It leads, and its pod had the label when it was last looked at.
    Set,
    /// It leads, and its pod has no label, so no heartbeat arrives by the Service. The log has the reason.
    Missing,
}

/// The state of the label, as the attempts to set it found it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct LeaderLabel(Arc<Mutex<LabelState>>);

impl LeaderLabel {
    /// The current state.
    pub fn get(&self) -> LabelState {
        *self.0.lock()
    }

    /// Stores what an attempt found.
    pub fn set(&self, state: LabelState) {
        *self.0.lock() = state;
    }

    /// The pods could not be read. A label that was set is still there.
    pub fn not_seen(&self) {
        let mut state = self.0.lock();
        if *state != LabelState::Set {
            *state = LabelState::Missing;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn in_role(role: Role) -> Leadership {
        Leadership {
            role,
            holder: Some("me".to_owned()),
            epoch: 3,
            acquired_at: Some(seconds(1)),
            write_until: seconds(10),
            resigned: false,
        }
    }

    #[test]
    fn only_a_confirmed_leader_in_time_gets_a_permit() {
        let permit = in_role(Role::Leader).permit(seconds(9)).unwrap();
        assert_eq!(permit.epoch(), 3);
        assert!(permit.is_current(seconds(9)));
        assert!(!permit.is_current(seconds(10)));
        assert!(in_role(Role::Leader).permit(seconds(10)).is_none());
        for role in [Role::Unconfirmed, Role::Uncertain, Role::Follower] {
            assert!(in_role(role).permit(seconds(9)).is_none(), "{role:?}");
        }
    }

    #[test]
    fn heartbeats_are_accepted_through_an_outage_but_not_after_a_freeze() {
        assert!(in_role(Role::Leader).accepts_heartbeats());
        assert!(in_role(Role::Uncertain).accepts_heartbeats());
        assert!(!in_role(Role::Follower).accepts_heartbeats());
        assert!(!in_role(Role::Unconfirmed).accepts_heartbeats());
        assert!(!Leadership::follower().accepts_heartbeats());
    }

    #[test]
    fn an_unconfirmed_replica_is_shown_as_an_uncertain_one() {
        let words = [Role::Follower, Role::Leader, Role::Uncertain, Role::Unconfirmed].map(Role::as_str);
        assert_eq!(words, ["Follower", "Leader", "Uncertain", "Uncertain"]);
        let read = words.map(|word| serde_json::from_str::<Role>(&format!("{word:?}")).unwrap());
        assert_eq!(read, [Role::Follower, Role::Leader, Role::Uncertain, Role::Uncertain]);
        assert!(serde_json::from_str::<Role>("\"Unconfirmed\"").is_err());
    }
}
