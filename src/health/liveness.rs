//! When is a connector Online? One pure function; nothing else decides (liveness.md).

use std::time::Duration;

use crate::api::Reason;
use crate::time::Moment;

/// The effective heartbeat settings of one connector. `interval < late < offline` holds for everything that the API
/// server admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often it should beat.
    pub interval: Duration,
    /// Silence from which it is Late.
    pub late: Duration,
    /// Silence from which it is Offline.
    pub offline: Duration,
}

/// Why we may have missed beats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Gap {
    /// We were not running, not leading, or frozen.
    #[default]
    Restarted,
    /// We ran, and could not be reached.
    Unreachable,
}

/// Whether we can hear, and since when without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Listening {
    /// `None` while we cannot hear.
    pub since: Option<Moment>,
    /// What the last gap was.
    pub gap: Gap,
}

/// What we can say of a connector's contact with us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Presence {
    /// No authenticated beat, ever.
    #[default]
    NeverSeen,
    /// Heard within `lateAfterSeconds` of listened time.
    Online,
    /// Silent for `lateAfterSeconds` while we listened.
    Late,
    /// Older than `offlineAfterSeconds`, and we did not listen for so long: anything may be true.
    Unknown,
    /// Silent for `offlineAfterSeconds` while we listened.
    Offline,
}

impl Presence {
    /// Whether this is silence that counts for mass silence.
    pub fn is_silent(self) -> bool {
        matches!(self, Self::Late | Self::Offline)
    }
}

/// A presence that was established before, and since when: our own last verdict, or the one a predecessor wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Settled {
    /// What was established.
    pub presence: Presence,
    /// Since when.
    pub since: Moment,
}

/// What is known of one connector's contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The last authenticated beat.
    pub last_contact: Option<Moment>,
    /// What was established before.
    pub settled: Settled,
    /// Whether we can hear.
    pub listening: Listening,
}

/// What follows, since when, and when time alone could change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What we can say.
    pub presence: Presence,
    /// Since when: the deadline itself, not when it was noticed.
    pub since: Moment,
    /// The reason of the `Online` condition, mass silence left aside.
    pub reason: Reason,
    /// The next moment at which silence alone changes the verdict.
    pub look_again_at: Option<Moment>,
}

/// Judges one connector's contact at `now`.
///
/// Silence counts only while we listened: the deadlines run from the last contact or from the end of our last gap,
/// whichever is later. What was established before a gap stands only as far as it can be vouched for: an Offline
/// that nobody contradicted stays; an Online whose last contact has grown older than `offlineAfterSeconds` is
/// Unknown until it is heard or the deadline passes.
pub fn judge(timing: &Timing, known: &Known, now: Moment) -> Verdict {
    let Known { last_contact, settled, listening } = *known;
    let Some(contact) = last_contact else {
        let since = if settled.presence == Presence::NeverSeen { settled.since } else { now };
        return Verdict { presence: Presence::NeverSeen, since, reason: Reason::NeverSeen, look_again_at: None };
    };
    let vouched_until = contact + timing.offline;
    let heard_from = listening.since.map(|since| since.max(contact));
    let late_at = heard_from.map(|from| from + timing.late);
    let offline_at = heard_from.map(|from| from + timing.offline);
    let reached = |at: Option<Moment>| at.is_some_and(|at| now >= at);
    // What was established stands only while no beat has come since.
    let unheard_since = contact <= settled.since;
    let stood = |presence| settled.presence == presence && unheard_since;

    let presence = if now >= vouched_until {
        if reached(offline_at) || stood(Presence::Offline) { Presence::Offline } else { Presence::Unknown }
    } else if reached(late_at) || (now >= contact + timing.late && (stood(Presence::Late) || stood(Presence::Offline)))
    {
        Presence::Late
    } else {
        Presence::Online
    };
    let look_again_at = match presence {
        Presence::Online => Some(late_at.map_or(vouched_until, |at| at.min(vouched_until))),
        Presence::Late => Some(vouched_until),
        Presence::Unknown => offline_at,
        Presence::Offline | Presence::NeverSeen => None,
    };
    let crossed_at = match presence {
        Presence::Offline => offline_at.unwrap_or(vouched_until),
        Presence::Late => late_at.unwrap_or(contact + timing.late),
        Presence::Unknown => vouched_until,
        Presence::Online if !unheard_since => contact,
        Presence::Online | Presence::NeverSeen => now,
    };
    let since = if settled.presence == presence { settled.since } else { crossed_at.min(now).max(settled.since) };
    Verdict { presence, since, reason: reason(presence, listening.gap), look_again_at }
}

/// The reason of the `Online` condition.
pub fn reason(presence: Presence, gap: Gap) -> Reason {
    match (presence, gap) {
        (Presence::NeverSeen, _) => Reason::NeverSeen,
        (Presence::Online, _) => Reason::HeartbeatReceived,
        (Presence::Late, _) => Reason::HeartbeatLate,
        (Presence::Offline, _) => Reason::HeartbeatExpired,
        (Presence::Unknown, Gap::Restarted) => Reason::ObserverRestarted,
        (Presence::Unknown, Gap::Unreachable) => Reason::ObserverUnreachable,
    }
}

/// The beat interval to ask for: `interval` itself while there is room, stretched when beats arrive faster than the
/// process is sized for (`load` > 1), and then spread by `hash` so that stretched clients do not march in step.
///
/// Never more than `max(interval, min(offline / 3, late - 10 s))`, so that obeying it makes nobody Late. `load` is the
/// observed beats per second over the sized ones. Whole seconds, at least 1.
pub fn next_heartbeat(timing: &Timing, load: f64, hash: u64) -> u32 {
    let most = (timing.offline / 3).min(timing.late.saturating_sub(Duration::from_secs(10))).max(timing.interval);
    let spread = 1.0 + (hash % 1000) as f64 / 10_000.0;
    let wanted = if load > 1.0 { timing.interval.as_secs_f64() * load * spread } else { timing.interval.as_secs_f64() };
    wanted.clamp(1.0, most.as_secs_f64().max(1.0)) as u32
}

#[cfg(test)]
mod tests;
