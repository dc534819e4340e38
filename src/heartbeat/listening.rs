//! Whether heartbeats can reach this process, and since when: the only code that moves `listeningSince`
//! (`docs/design/liveness.md`, clock rule 3).

use std::time::Duration;

use parking_lot::RwLock;

use super::entry::Entry;
use crate::health::liveness::{Gap, Listening};
use crate::leadership::Role;
use crate::schedule::frozen_for;
use crate::time::Moment;

/// While the canary fails, the path counts as open for this time after any connector's heartbeat: three default
/// intervals. A shorter time would treat the pause between two heartbeats of a small fleet as a gap.
const RECENTLY_HEARD: Duration = Duration::from_secs(90);

/// The conditions of listening. Each is set by the component that observes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Inputs {
    /// The role of this replica in the election.
    pub role: Role,
    /// Whether the stores have been filled once.
    pub synced: bool,
    /// Whether the heartbeat port is open.
    pub port_open: bool,
    /// Whether this pod is among the endpoints of the heartbeat Service; `None` when that is not watched.
    pub behind_service: Option<bool>,
    /// Since when the canary fails.
    pub canary_failing_since: Option<Moment>,
    /// When the last heartbeat of any connector was accepted.
    pub last_heartbeat_at: Option<Moment>,
    /// How many watches of Leases fail.
    pub broken_lease_watches: u32,
}

/// Derives the listening state from the inputs.
#[derive(Debug, Default)]
pub struct ListeningState {
    state: RwLock<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    inputs: Inputs,
    listening: Listening,
    /// The same for Leases, whose renewals arrive through the API server.
    watching: Listening,
    /// The last moment at which the process is known to have run; `None` before the first tick.
    last_tick: Option<Moment>,
}

impl State {
    /// `listening` as it may be used at `now`. A verdict may come before the first tick after a freeze: the silence
    /// during the freeze must not count for it either.
    fn at(&self, listening: Listening, now: Moment) -> Listening {
        match self.last_tick.and_then(|tick| frozen_for(tick, now)) {
            Some(_) => restarted(listening, now),
            None => listening,
        }
    }
}

/// A new beginning of listening at `now`, if this replica listens.
fn restarted(listening: Listening, now: Moment) -> Listening {
    match listening.since {
        Some(_) => Listening { since: Some(now), gap: Gap::Restarted },
        None => listening,
    }
}

impl ListeningState {
    /// Whether heartbeats can arrive, and since when.
    pub fn listening(&self, now: Moment) -> Listening {
        let state = self.state.read();
        state.at(state.listening, now)
    }

    /// Whether heartbeats of this connector can arrive, and since when.
    pub fn listening_to(&self, entry: &Entry, now: Moment) -> Listening {
        let state = self.state.read();
        state.at(if entry.identity.lease.is_some() { state.watching } else { state.listening }, now)
    }

    /// The current inputs.
    pub fn inputs(&self) -> Inputs {
        self.state.read().inputs
    }

    /// The inputs as they may be used at `now`: between a freeze and the first tick after it, the role is unconfirmed.
    pub fn inputs_at(&self, now: Moment) -> Inputs {
        let state = self.state.read();
        match state.last_tick.and_then(|tick| frozen_for(tick, now)) {
            Some(_) => Inputs { role: state.inputs.role.after_freeze(), ..state.inputs },
            None => state.inputs,
        }
    }

    /// Changes inputs; true when this changed `listeningSince`, that of heartbeats or that of Leases.
    pub fn update(&self, now: Moment, change: impl FnOnce(&mut Inputs)) -> bool {
        let mut state = self.state.write();
        change(&mut state.inputs);
        let next = next_listening(&state.inputs, state.listening, now);
        let watching = next_watching(&state.inputs, state.watching, now);
        let moved = next.since != state.listening.since || watching.since != state.watching.since;
        (state.listening, state.watching) = (next, watching);
        moved
    }

    /// Records that the process runs at `now`. Returns for how long it did not run before, if that was a freeze: then
    /// listening begins again, so that silence in that time does not count, and a role that accepts heartbeats is
    /// unconfirmed until the Lease has been read. Each freeze is returned to one caller only.
    pub fn tick(&self, now: Moment) -> Option<Duration> {
        let mut state = self.state.write();
        let froze = state.last_tick.replace(now).and_then(|last| frozen_for(last, now))?;
        state.listening = restarted(state.listening, now);
        state.watching = restarted(state.watching, now);
        state.inputs.role = state.inputs.role.after_freeze();
        let inputs = state.inputs;
        state.listening = next_listening(&inputs, state.listening, now);
        state.watching = next_watching(&inputs, state.watching, now);
        Some(froze)
    }
}

/// The next listening state: a gap begins when an input fails, and ends when all are in order again.
fn next_listening(inputs: &Inputs, last: Listening, now: Moment) -> Listening {
    let Inputs { role, synced, port_open, behind_service, canary_failing_since, last_heartbeat_at, .. } = *inputs;
    let running = role.accepts_heartbeats() && synced && port_open;
    let recently_heard =
        |failing_since| last_heartbeat_at.is_some_and(|heard| heard >= failing_since && now < heard + RECENTLY_HEARD);
    let reachable = behind_service != Some(false) && canary_failing_since.is_none_or(recently_heard);
    match (running, reachable, last.since) {
        (true, true, Some(since)) => Listening { since: Some(since), gap: last.gap },
        (true, true, None) => Listening { since: Some(now), gap: last.gap },
        (true, false, _) => Listening { since: None, gap: Gap::Unreachable },
        (false, ..) => Listening { since: None, gap: Gap::Restarted },
    }
}

/// The same for the renewals of Leases. They arrive only through the API server: while it cannot be reached, no renewal
/// arrives, whatever the heartbeat port receives.
fn next_watching(inputs: &Inputs, last: Listening, now: Moment) -> Listening {
    let watching = inputs.role == Role::Leader && inputs.synced && inputs.broken_lease_watches == 0;
    Listening { since: watching.then(|| last.since.unwrap_or(now)), gap: Gap::Restarted }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn listening() -> ListeningState {
        let listening = ListeningState::default();
        listening.update(at(1), |i| i.role = Role::Leader);
        listening.update(at(2), |i| i.synced = true);
        assert_eq!(listening.listening(at(3)).since, None);
        assert!(listening.update(at(3), |i| i.port_open = true));
        assert_eq!(listening.listening(at(3)).since, Some(at(3)));
        listening
    }

    #[test]
    fn we_listen_from_the_moment_at_which_the_last_condition_is_met() {
        listening();
    }

    #[test]
    fn an_outage_of_the_api_server_moves_nothing_and_a_lost_lease_does() {
        let listening = listening();
        listening.update(at(10), |i| i.role = Role::Uncertain);
        listening.update(at(400), |i| i.role = Role::Leader);
        assert_eq!(listening.listening(at(3)).since, Some(at(3)));
        assert!(listening.update(at(401), |i| i.role = Role::Follower));
        assert_eq!(listening.listening(at(3)), Listening { since: None, gap: Gap::Restarted });
        listening.update(at(420), |i| i.role = Role::Leader);
        assert_eq!(listening.listening(at(3)).since, Some(at(420)));
    }

    #[test]
    fn a_freeze_begins_the_listening_again() {
        let listening = listening();
        assert_eq!(listening.tick(at(4)), None);
        assert_eq!(listening.tick(at(100)), Some(Duration::from_secs(96)));
        assert_eq!(listening.inputs().role, Role::Unconfirmed);
        listening.update(at(101), |i| i.role = Role::Leader);
        assert_eq!(listening.listening(at(101)), Listening { since: Some(at(101)), gap: Gap::Restarted });
        assert_eq!(listening.tick(at(102)), None, "a freeze is returned once");
    }

    #[test]
    fn a_verdict_between_a_freeze_and_the_next_tick_counts_no_silence_of_the_freeze() {
        let listening = listening();
        assert_eq!(listening.tick(at(4)), None);
        assert_eq!(listening.listening(at(5)).since, Some(at(3)));
        assert_eq!(listening.listening(at(100)), Listening { since: Some(at(100)), gap: Gap::Restarted });
        assert_eq!(
            (listening.inputs_at(at(5)).role, listening.inputs_at(at(100)).role),
            (Role::Leader, Role::Unconfirmed)
        );
        listening.update(at(100), |i| i.role = Role::Follower);
        assert_eq!(listening.listening(at(101)).since, None, "a replica that does not listen begins nothing");
    }

    #[test]
    fn a_failing_canary_is_a_gap_only_while_nobody_else_is_heard_either() {
        let listening = listening();
        assert!(listening.update(at(50), |i| i.canary_failing_since = Some(at(50))));
        assert_eq!(listening.listening(at(3)), Listening { since: None, gap: Gap::Unreachable });
        assert!(listening.update(at(60), |i| i.last_heartbeat_at = Some(at(60))));
        assert_eq!(listening.listening(at(3)).since, Some(at(60)));
        assert!(!listening.update(at(149), |_| {}));
        assert!(listening.update(at(150), |_| {}), "no heartbeat was accepted for too long");
        assert!(listening.update(at(160), |i| i.canary_failing_since = None));
        assert_eq!(listening.listening(at(3)).since, Some(at(160)));
    }

    #[test]
    fn a_broken_watch_of_leases_is_deafness_to_leases_and_to_nothing_else() {
        let listening = listening();
        assert!(listening.update(at(50), |i| i.broken_lease_watches += 1));
        assert_eq!((listening.state.read().watching.since, listening.listening(at(3)).since), (None, Some(at(3))));
        assert!(listening.update(at(60), |i| i.broken_lease_watches -= 1));
        assert_eq!(listening.state.read().watching.since, Some(at(60)));
    }

    #[test]
    fn a_pod_that_is_not_behind_its_service_does_not_listen() {
        let listening = listening();
        listening.update(at(9), |i| i.behind_service = Some(false));
        assert_eq!(listening.listening(at(3)), Listening { since: None, gap: Gap::Unreachable });
        listening.update(at(12), |i| i.behind_service = Some(true));
        assert_eq!(listening.listening(at(3)).since, Some(at(12)));
    }
}
