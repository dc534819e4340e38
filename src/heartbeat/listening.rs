//! Whether we can hear, and since when: the one place that moves `listeningSince` (liveness.md, clock rule 3).

use std::time::Duration;

use parking_lot::RwLock;

use super::entry::Entry;
use crate::health::liveness::{Gap, Listening};
use crate::time::Moment;

/// While the canary fails, so long after any connector's beat the path still counts as open: three default
/// intervals. A shorter time would call the pause between two beats of a small fleet a gap.
const HEARD_LATELY: Duration = Duration::from_secs(90);

/// Our part in the election, as far as hearing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Role {
    /// Another leads, or nobody is known to.
    #[default]
    Follower,
    /// We lead.
    Leader,
    /// We led, cannot renew, and have seen nobody else: still listening.
    Uncertain,
    /// We were frozen and have not read the Lease since: another may lead.
    Unconfirmed,
}

/// What hearing depends on. Each is set by the part of the process that knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Inputs {
    /// Our part in the election.
    pub role: Role,
    /// The stores have been filled once.
    pub synced: bool,
    /// The port is open.
    pub port_open: bool,
    /// Whether our pod is behind the heartbeat Service; `None` when that is not asked.
    pub behind_service: Option<bool>,
    /// Since when the canary fails.
    pub canary_failing_since: Option<Moment>,
    /// When any connector was heard last.
    pub anyone_heard_at: Option<Moment>,
    /// How many watches of Leases do not work.
    pub broken_lease_watches: u32,
}

/// Follows the inputs and remembers since when all of them have been in order.
#[derive(Debug, Default)]
pub struct ListeningState {
    state: RwLock<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    inputs: Inputs,
    listening: Listening,
    /// The same for Leases, which are heard through the API server.
    watching: Listening,
}

impl ListeningState {
    /// Whether we can hear beats, and since when.
    pub fn listening(&self) -> Listening {
        self.state.read().listening
    }

    /// Whether we can hear this connector, and since when.
    pub fn listening_to(&self, entry: &Entry) -> Listening {
        let state = self.state.read();
        if entry.identity.lease.is_some() { state.watching } else { state.listening }
    }

    /// What hearing depends on, as it stands.
    pub fn inputs(&self) -> Inputs {
        self.state.read().inputs
    }

    /// Changes inputs; true when `listeningSince` changed with them, that of beats or that of Leases.
    pub fn update(&self, now: Moment, change: impl FnOnce(&mut Inputs)) -> bool {
        let mut state = self.state.write();
        change(&mut state.inputs);
        let next = follow(&state.inputs, state.listening, now);
        let watching = watch(&state.inputs, state.watching, now);
        let moved = next.since != state.listening.since || watching.since != state.watching.since;
        (state.listening, state.watching) = (next, watching);
        moved
    }

    /// The process did not run for a while: what was not heard meanwhile is no silence.
    pub fn froze(&self, now: Moment) {
        let mut state = self.state.write();
        let State { inputs: _, listening, watching } = &mut *state;
        for heard in [listening, watching] {
            if heard.since.is_some() {
                *heard = Listening { since: Some(now), gap: Gap::Restarted };
            }
        }
    }
}

/// The next listening state: a gap begins when an input fails, and ends now when all are well again.
fn follow(inputs: &Inputs, last: Listening, now: Moment) -> Listening {
    let Inputs { role, synced, port_open, behind_service, canary_failing_since, anyone_heard_at, .. } = *inputs;
    let running = matches!(role, Role::Leader | Role::Uncertain) && synced && port_open;
    let heard_lately =
        |failing_since| anyone_heard_at.is_some_and(|heard| heard >= failing_since && now < heard + HEARD_LATELY);
    let reachable = behind_service != Some(false) && canary_failing_since.is_none_or(heard_lately);
    match (running, reachable, last.since) {
        (true, true, Some(since)) => Listening { since: Some(since), gap: last.gap },
        (true, true, None) => Listening { since: Some(now), gap: last.gap },
        (true, false, _) => Listening { since: None, gap: Gap::Unreachable },
        (false, ..) => Listening { since: None, gap: Gap::Restarted },
    }
}

/// The same for the renewals of Leases. They reach us through the API server and by no other path: while that cannot be
/// reached we are deaf to them, whatever our port hears.
fn watch(inputs: &Inputs, last: Listening, now: Moment) -> Listening {
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
        assert_eq!(listening.listening().since, None);
        assert!(listening.update(at(3), |i| i.port_open = true));
        assert_eq!(listening.listening().since, Some(at(3)));
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
        assert_eq!(listening.listening().since, Some(at(3)));
        assert!(listening.update(at(401), |i| i.role = Role::Follower));
        assert_eq!(listening.listening(), Listening { since: None, gap: Gap::Restarted });
        listening.update(at(420), |i| i.role = Role::Leader);
        assert_eq!(listening.listening().since, Some(at(420)));
    }

    #[test]
    fn a_freeze_begins_the_listening_anew() {
        let listening = listening();
        listening.froze(at(100));
        assert_eq!(listening.listening(), Listening { since: Some(at(100)), gap: Gap::Restarted });
    }

    #[test]
    fn a_failing_canary_is_a_gap_only_while_nobody_else_is_heard_either() {
        let listening = listening();
        assert!(listening.update(at(50), |i| i.canary_failing_since = Some(at(50))));
        assert_eq!(listening.listening(), Listening { since: None, gap: Gap::Unreachable });
        assert!(listening.update(at(60), |i| i.anyone_heard_at = Some(at(60))));
        assert_eq!(listening.listening().since, Some(at(60)));
        assert!(!listening.update(at(149), |_| {}));
        assert!(listening.update(at(150), |_| {}), "nobody heard for too long");
        assert!(listening.update(at(160), |i| i.canary_failing_since = None));
        assert_eq!(listening.listening().since, Some(at(160)));
    }

    #[test]
    fn a_broken_watch_of_leases_is_deafness_to_leases_and_to_nothing_else() {
        let listening = listening();
        assert!(listening.update(at(50), |i| i.broken_lease_watches += 1));
        assert_eq!((listening.state.read().watching.since, listening.listening().since), (None, Some(at(3))));
        assert!(listening.update(at(60), |i| i.broken_lease_watches -= 1));
        assert_eq!(listening.state.read().watching.since, Some(at(60)));
    }

    #[test]
    fn a_pod_that_is_not_behind_its_service_does_not_listen() {
        let listening = listening();
        listening.update(at(9), |i| i.behind_service = Some(false));
        assert_eq!(listening.listening(), Listening { since: None, gap: Gap::Unreachable });
        listening.update(at(12), |i| i.behind_service = Some(true));
        assert_eq!(listening.listening().since, Some(at(12)));
    }
}
