//! Judges the liveness of a connector by one pure function; nothing else decides it (`docs/design/liveness.md`).

use std::time::Duration;

use crate::api::Reason;
use crate::time::Moment;

/// The effective heartbeat settings of one connector. `interval < late < offline` holds for everything that the API
/// server admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The time between two heartbeats.
    pub interval: Duration,
    /// Silence from which it is Late.
    pub late: Duration,
    /// Silence from which it is Offline.
    pub offline: Duration,
}

/// Why the operator may have missed heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Gap {
    /// The process did not run, did not lead, or was frozen.
    #[default]
    Restarted,
    /// The process ran and could not be reached.
    Unreachable,
}

/// Whether the operator can receive heartbeats, and since when without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Listening {
    /// The end of the last gap; `None` while no heartbeat can be received.
    pub since: Option<Moment>,
    /// The kind of the last gap.
    pub gap: Gap,
}

/// The verdict on a connector's heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Presence {
    /// No authenticated heartbeat was ever received.
    #[default]
    NeverSeen,
    /// A heartbeat was received within the last `lateAfterSeconds` of listening.
    Online,
    /// Silent for `lateAfterSeconds` while the operator listened.
    Late,
    /// The last heartbeat is older than `offlineAfterSeconds`, and the operator has not listened for so long: the connector
    /// may be alive or not.
    Unknown,
    /// Silent for `offlineAfterSeconds` while the operator listened.
    Offline,
}

impl Presence {
    /// Whether it counts as silent in a mass silence.
    pub fn is_silent(self) -> bool {
        matches!(self, Self::Late | Self::Offline)
    }
}

/// The previous verdict: the last one of this process, or the one that a former leader wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PreviousVerdict {
    /// The presence that was established.
    pub presence: Presence,
    /// The beginning of that presence.
    pub since: Moment,
}

/// The input of the judgement of one connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The last authenticated heartbeat.
    pub last_contact: Option<Moment>,
    /// The previous verdict.
    pub previous: PreviousVerdict,
    /// Whether heartbeats can be received.
    pub listening: Listening,
}

/// The verdict on one connector, and when silence alone can change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The presence that follows.
    pub presence: Presence,
    /// The beginning of the presence: the deadline itself, not when it was noticed.
    pub since: Moment,
    /// The reason of the condition `Online`, without regard to mass silence.
    pub reason: Reason,
    /// The next moment at which silence alone changes the verdict.
    pub next_check_at: Option<Moment>,
}

/// Judges one connector's contact at `now`.
///
/// Silence counts only while the operator listened: the deadlines run from the last contact or from the end of the last
/// gap, whichever is later. A verdict from before a gap stays valid only as far as the evidence reaches: an Offline
/// without a heartbeat since then stays; an Online whose last contact is older than `offlineAfterSeconds` becomes Unknown
/// until a heartbeat is received or the deadline passes.
pub fn judge(timing: &Timing, known: &Known, now: Moment) -> Verdict {
    let Known { last_contact, previous, listening } = *known;
    let Some(contact) = last_contact else {
        let since = if previous.presence == Presence::NeverSeen { previous.since } else { now };
        return Verdict { presence: Presence::NeverSeen, since, reason: Reason::NeverSeen, next_check_at: None };
    };
    let vouched_until = contact + timing.offline;
    let heard_from = listening.since.map(|since| since.max(contact));
    let late_at = heard_from.map(|from| from + timing.late);
    let offline_at = heard_from.map(|from| from + timing.offline);
    let reached = |at: Option<Moment>| at.is_some_and(|at| now >= at);
    // The previous verdict stands only while no heartbeat was received since.
    let unheard_since = contact <= previous.since;
    let stood = |presence| previous.presence == presence && unheard_since;

    let presence = if now >= vouched_until {
        if reached(offline_at) || stood(Presence::Offline) { Presence::Offline } else { Presence::Unknown }
    } else if reached(late_at) || (now >= contact + timing.late && (stood(Presence::Late) || stood(Presence::Offline)))
    {
        Presence::Late
    } else {
        Presence::Online
    };
    let next_check_at = match presence {
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
    let since = if previous.presence == presence { previous.since } else { crossed_at.min(now).max(previous.since) };
    Verdict { presence, since, reason: reason(presence, listening.gap), next_check_at }
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

/// The heartbeat interval that a response asks for, in whole seconds, at least 1: `interval` itself under normal load. It
/// is stretched when heartbeats arrive faster than the process is sized for (`load` > 1), and then spread by `hash`, so
/// that stretched clients do not align.
///
/// Never more than `max(interval, min(offline / 3, late - 10 s))`, so that a client that obeys never becomes Late. `load`
/// is the observed rate of heartbeats divided by the rate that the process is sized for.
pub fn next_heartbeat(timing: &Timing, load: f64, hash: u64) -> u32 {
    let most = (timing.offline / 3).min(timing.late.saturating_sub(Duration::from_secs(10))).max(timing.interval);
    let spread = 1.0 + (hash % 1000) as f64 / 10_000.0;
    let wanted = if load > 1.0 { timing.interval.as_secs_f64() * load * spread } else { timing.interval.as_secs_f64() };
    wanted.clamp(1.0, most.as_secs_f64().max(1.0)) as u32
}

/// The heartbeat interval that an agent is asked for while an incident is open that it may be asked to end, in whole
/// seconds: an action reaches it within this time.
pub fn next_during_incident(timing: &Timing) -> u32 {
    const DURING_INCIDENT: u32 = 5;
    u32::try_from(timing.interval.as_secs()).unwrap_or(u32::MAX).clamp(1, DURING_INCIDENT)
}

#[cfg(test)]
mod tests;
