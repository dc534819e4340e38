//! The state of leadership in this process, and the permit without which no write can be sent.

use crate::time::Moment;

/// Where we stand.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// We hold the Lease, and renewed it in time.
    Leader,
    /// We held the Lease, could not renew it in time, and have seen nobody else hold it: beats are heard, nothing is
    /// written. Lasts as long as the outage does.
    Uncertain,
    /// Another holds the Lease, or we never did.
    Follower,
}

/// What we know of the leadership.
///
/// Ask the channel for it each time: a copy kept from earlier has an old `write_until`. The channel *notifies* of
/// every change but that of `write_until`, which moves with every renewal.
#[derive(Clone, Debug)]
pub struct Leadership {
    /// Where we stand.
    pub standing: Standing,
    /// Who holds the Lease, when known.
    pub holder: Option<String>,
    /// How many times we acquired the Lease; 0 means never. The same number means that nobody else led in between.
    pub epoch: u64,
    /// When this epoch began; `None` for a follower.
    pub acquired_at: Option<Moment>,
    /// Until when we may write, counted from before the last renewal was sent; before the end of the term.
    pub write_until: Moment,
    /// False from a detected freeze until the Lease has been read once.
    pub confirmed: bool,
    /// We gave the leadership back, for good: this process ends.
    pub resigned: bool,
}

impl Leadership {
    /// How every process begins: it has not led.
    pub fn follower() -> Self {
        Self {
            standing: Standing::Follower,
            holder: None,
            epoch: 0,
            acquired_at: None,
            write_until: Moment::default(),
            confirmed: true,
            resigned: false,
        }
    }

    /// Leave to write, if we are a confirmed leader and the time to write is not over.
    pub fn permit(&self, now: Moment) -> Option<Permit> {
        let permit = Permit { epoch: self.epoch, write_until: self.write_until };
        (self.standing == Standing::Leader && self.confirmed && permit.is_current(now)).then_some(permit)
    }

    /// Whether beats are heard: by a leader, and by an uncertain one, so that an outage of the API server does not
    /// make us deaf; but not after a freeze before the Lease was read, because another may hear them now.
    pub fn hears(&self) -> bool {
        matches!(self.standing, Standing::Leader | Standing::Uncertain) && self.confirmed
    }
}

/// Leave to write, for a few seconds. Only [`Leadership::permit`] gives one, so a write by a follower cannot be typed.
#[derive(Clone, Debug)]
pub struct Permit {
    epoch: u64,
    write_until: Moment,
}

impl Permit {
    /// Whether it still holds. Ask right before sending; what is sent late all the same fails on its resourceVersion.
    pub fn is_current(&self, now: Moment) -> bool {
        now < self.write_until
    }

    /// The [`Leadership::epoch`] in which it was given.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn leading() -> Leadership {
        Leadership {
            standing: Standing::Leader,
            holder: Some("me".to_owned()),
            epoch: 3,
            acquired_at: Some(seconds(1)),
            write_until: seconds(10),
            confirmed: true,
            resigned: false,
        }
    }

    #[test]
    fn only_a_confirmed_leader_in_time_gets_a_permit() {
        let permit = leading().permit(seconds(9)).unwrap();
        assert_eq!(permit.epoch(), 3);
        assert!(permit.is_current(seconds(9)));
        assert!(!permit.is_current(seconds(10)));
        assert!(leading().permit(seconds(10)).is_none());
        assert!(Leadership { confirmed: false, ..leading() }.permit(seconds(9)).is_none());
        assert!(Leadership { standing: Standing::Uncertain, ..leading() }.permit(seconds(9)).is_none());
        assert!(Leadership { standing: Standing::Follower, ..leading() }.permit(seconds(9)).is_none());
    }

    #[test]
    fn beats_are_heard_through_an_outage_but_not_after_a_freeze() {
        assert!(leading().hears());
        assert!(Leadership { standing: Standing::Uncertain, ..leading() }.hears());
        assert!(!Leadership { standing: Standing::Follower, ..leading() }.hears());
        assert!(!Leadership { confirmed: false, ..leading() }.hears());
        assert!(!Leadership { standing: Standing::Uncertain, confirmed: false, ..leading() }.hears());
        assert!(!Leadership::follower().hears());
    }
}
