//! The end: who is told, what is written, and who hears the beats meanwhile.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Api;
use tokio_util::sync::CancellationToken;

use super::group::Group;
use crate::cluster::endpoints;
use crate::controller::connector::reconcile::Context;
use crate::controller::connector::view::FleetView;
use crate::controller::runtime::run;
use crate::leadership::Standing;

/// How long each part may take to stop: 8 s in all, and SIGTERM leaves us 10.
const STOP_WORK: Duration = Duration::from_secs(2);
const FLUSH: Duration = Duration::from_secs(3);
const STOP_ELECTION: Duration = Duration::from_secs(2);
const STOP_REST: Duration = Duration::from_secs(1);
/// After the signal nobody is waited for any longer.
const HAND_OVER_UNTIL: Duration = Duration::from_secs(8);
/// From an endpoint in the API server to the rules of every node: kube-proxy applies changes once a second by default, and a
/// busy node is behind with it (seen: 2.6 s, at a load of 8 on two cores).
const SPREAD: Duration = Duration::from_secs(4);

/// What runs, in the order in which it is stopped.
pub(super) struct Running {
    /// The heartbeat port.
    pub(super) hearing: Group,
    /// Watches, reconciles, deadlines, checkpoints.
    pub(super) work: Group,
    /// The election.
    pub(super) election: Group,
    /// Label, pulse, admin port.
    pub(super) rest: Group,
    /// Cancelled when a task of any of these panicked.
    pub(super) failed: CancellationToken,
    /// Whom to wait for before the port is closed, behind a Service.
    pub(super) successors: Option<Successors>,
    pub(super) context: Arc<Context>,
    pub(super) known: Arc<FleetView>,
}

impl Running {
    /// Flushes the checkpoints, gives the Lease back, stops listening; at most 10 s.
    ///
    /// Behind a Service a leader goes on answering until another is there: 503 with Retry-After, since a port that is
    /// closed before is refused beats. Until then beats lead to us, also while our pod is terminating.
    pub(super) async fn stop(self) {
        let began = tokio::time::Instant::now();
        let Self { hearing, work, election, rest, successors, context, known, .. } = self;
        let led = context.leadership.borrow().standing != Standing::Follower;
        let successors = successors.filter(|_| led);
        let close = async {
            if successors.is_none() {
                hearing.end("the heartbeat port", STOP_WORK).await;
            }
        };
        tokio::join!(close, work.end("the controllers", STOP_WORK));
        if context.leadership.borrow().permit(context.clock.now()).is_some() {
            let stores = known.stores.read().clone();
            let flushed = run::flush(&*context, &stores, FLUSH).await;
            tracing::info!(flushed, "wrote the last contacts that were not written yet");
        }
        election.end("the election", STOP_ELECTION).await;
        if let Some(successors) = successors {
            match tokio::time::timeout_at(began + HAND_OVER_UNTIL, successors.arrive()).await {
                Ok(()) => tracing::info!("another replica hears the beats"),
                Err(_) => tracing::warn!("no other replica hears the beats yet; stopped without waiting any longer"),
            }
            hearing.end("the heartbeat port", STOP_REST).await;
        }
        rest.end("the admin port", STOP_REST).await;
    }
}

/// The other pods that the heartbeat Service may lead to.
pub(super) struct Successors {
    pub(super) api: Api<EndpointSlice>,
    pub(super) service: String,
    pub(super) pod: String,
}

impl Successors {
    /// Waits until beats are led to one of them.
    async fn arrive(self) {
        let there = CancellationToken::new();
        let tell = |is_there: bool| {
            if is_there {
                there.cancel();
            }
        };
        endpoints::follow(self.api, &self.service, |name| name != self.pod, tell, there.clone()).await;
        tokio::time::sleep(SPREAD).await;
    }
}
