//! The shutdown: its order, its time limits, and the last writes of a leader.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Api;
use tokio_util::sync::CancellationToken;

use super::task_group::TaskGroup;
use crate::cluster::endpoints;
use crate::controller::connector::reconcile::Context;
use crate::controller::connector::view::FleetView;
use crate::controller::runtime::run;
use crate::leadership::Role;

/// The time limits for each part to stop: 8 s in all. The operator has 10 s after SIGTERM.
const STOP_WORK: Duration = Duration::from_secs(2);
const FLUSH: Duration = Duration::from_secs(3);
const STOP_ELECTION: Duration = Duration::from_secs(2);
const STOP_REST: Duration = Duration::from_secs(1);
/// The time after the signal until which the shutdown waits for a successor.
const HAND_OVER_UNTIL: Duration = Duration::from_secs(8);
/// The time until a new endpoint is in the rules of every node: kube-proxy applies changes once a second by default, and a
/// busy node is later (measured: 2.6 s, at a load of 8 on two cores).
const ENDPOINT_PROPAGATION: Duration = Duration::from_secs(4);

/// Why the operator stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The process ends.
    ForGood,
    /// etcd was restored from an older copy: the same process starts everything again.
    ToStartAnew,
}

/// The running tasks, in the order in which they are stopped.
pub(super) struct Tasks {
    /// The heartbeat port.
    pub(super) heartbeat_port: TaskGroup,
    /// Watches, reconciles, deadlines, checkpoints.
    pub(super) work: TaskGroup,
    /// The election.
    pub(super) election: TaskGroup,
    /// Label, pulse, admin port.
    pub(super) rest: TaskGroup,
}

impl Tasks {
    /// No tasks yet. A panic in one of them cancels `failed`.
    pub(super) fn new(failed: &CancellationToken) -> Self {
        let [heartbeat_port, work, election, rest] = std::array::from_fn(|_| TaskGroup::new(failed.clone()));
        Self { heartbeat_port, work, election, rest }
    }
}

/// A running operator.
pub(super) struct Running {
    pub(super) tasks: Tasks,
    /// Cancelled when a task of any of these panicked.
    pub(super) failed: CancellationToken,
    /// Cancelled when etcd was restored from an older copy.
    pub(super) restored: CancellationToken,
    /// With a heartbeat Service: the endpoints to wait for before the heartbeat port is closed.
    pub(super) successors: Option<Successors>,
    pub(super) context: Arc<Context>,
    pub(super) known: Arc<FleetView>,
}

impl Running {
    /// Writes the outstanding checkpoints, releases the Lease and closes the ports; takes at most 10 s.
    ///
    /// With a heartbeat Service, a leader keeps its port open until another replica is an endpoint, and answers 503 with
    /// Retry-After: connections to a port that is closed earlier would be refused. Until then heartbeats are still routed
    /// to this pod, also while it is terminating.
    ///
    /// To start anew, it waits for no other replica, because all of them do the same; and it writes no checkpoints, because
    /// they would be based on versions that do not exist any more.
    pub(super) async fn stop(self, ending: Ending) {
        let began = tokio::time::Instant::now();
        let Self { tasks: Tasks { heartbeat_port, work, election, rest }, successors, context, known, .. } = self;
        let led = context.leadership.borrow().role != Role::Follower;
        let successors = successors.filter(|_| led && ending == Ending::ForGood);
        let close = async {
            if successors.is_none() {
                heartbeat_port.end("the heartbeat port", STOP_WORK).await;
            }
        };
        tokio::join!(close, work.end("the controllers", STOP_WORK));
        if ending == Ending::ForGood && context.leadership.borrow().permit(context.clock.now()).is_some() {
            let stores = known.stores.read().clone();
            let flushed = run::flush(&*context, &stores, FLUSH).await;
            tracing::info!(flushed, "wrote the last contacts that were not written yet");
        }
        election.end("the election", STOP_ELECTION).await;
        if let Some(successors) = successors {
            match tokio::time::timeout_at(began + HAND_OVER_UNTIL, successors.wait()).await {
                Ok(()) => tracing::info!("another replica hears the beats"),
                Err(_) => tracing::warn!("no other replica hears the beats yet; stopped without waiting any longer"),
            }
            heartbeat_port.end("the heartbeat port", STOP_REST).await;
        }
        rest.end("the admin port", STOP_REST).await;
    }
}

/// The other endpoints of the heartbeat Service.
pub(super) struct Successors {
    pub(super) api: Api<EndpointSlice>,
    pub(super) service: String,
    pub(super) pod: String,
}

impl Successors {
    /// Waits until heartbeats are routed to one of them.
    async fn wait(self) {
        let there = CancellationToken::new();
        let on_change = |is_there: bool| {
            if is_there {
                there.cancel();
            }
        };
        endpoints::follow(self.api, &self.service, |name| name != self.pod, on_change, there.clone()).await;
        tokio::time::sleep(ENDPOINT_PROPAGATION).await;
    }
}
