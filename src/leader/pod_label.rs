//! The label by which the heartbeat Service finds the leader's pod.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::{CALL_TIMEOUT, CallError, FIELD_MANAGER, within};
use crate::leadership::{LabelState, LeaderLabel, Leadership, Role};

/// The key of the label; its value is `leader` (`docs/design/api.md`, "Annotations and labels").
pub const LEADER_LABEL: &str = "vigie.dev/role";

const SELECTOR: &str = "vigie.dev/role=leader";

/// The labels that the pods of one installation have in common. Another installation in the namespace differs in the
/// second.
const INSTALLATION: [&str; 2] = ["app.kubernetes.io/name", "app.kubernetes.io/instance"];

/// The interval at which a leader checks the label, in case a person moved it; it costs one small list.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// The pause after a failure: doubled with each, up to [`CHECK_INTERVAL`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The limit of removing the label on exit, of the 10 s after a SIGTERM: the last group of tasks has one second.
const EXIT_TIMEOUT: Duration = Duration::from_millis(800);

/// Keeps the label on the leader's pod, and removes it from the others.
pub struct PodLabel {
    api: Api<Pod>,
    pod: String,
    /// Whether this pod has it, for the metrics and `/readyz`.
    state: LeaderLabel,
}

/// The desired state of the label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// On this pod, and on no other.
    Ours,
    /// Not on this pod.
    Off,
    /// Unchanged, because the leader is not known.
    AsItIs,
}

/// The result of setting the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labelled {
    /// All labels are as desired.
    Done,
    /// The label of other pods is removed when this pod is Ready; or the leader changed meanwhile.
    RetrySoon,
}

impl Want {
    pub(super) fn of(leadership: &Leadership) -> Self {
        match leadership.role {
            Role::Leader => Self::Ours,
            // After a freeze another replica may lead; one read of the Lease shows whether one does.
            Role::Uncertain | Role::Unconfirmed => Self::AsItIs,
            // Until a successor removes it or this process ends: a Service without endpoints refuses connections, while this
            // process answers 503 with Retry-After.
            Role::Follower if leadership.resigned => Self::AsItIs,
            Role::Follower => Self::Off,
        }
    }
}

impl PodLabel {
    /// For the pod of this process; `state` is told whether it has the label.
    pub fn new(client: kube::Client, pod_namespace: &str, pod_name: &str, state: LeaderLabel) -> Self {
        Self { api: Api::namespaced(client, pod_namespace), pod: pod_name.to_owned(), state }
    }

    /// Removes the label from this pod, if it is there.
    ///
    /// # Errors
    /// When the pod cannot be patched within [`CALL_TIMEOUT`].
    pub async fn strip_own(&self) -> Result<(), CallError> {
        self.strip(&self.pod).await
    }

    /// Puts the label on this pod, and removes it from every other pod of this installation as soon as this pod is Ready:
    /// until then the Service would have no endpoints, and refuse heartbeats that a predecessor answers with 503.
    ///
    /// Nothing is written once `leads` returns false: the list does not show which replica leads by now, and a successor
    /// checks its label only every half a minute.
    ///
    /// # Errors
    /// When a pod cannot be read or patched. The call can be repeated.
    pub async fn lead(&self, leads: impl Fn() -> bool) -> Result<Labelled, CallError> {
        let began = Instant::now();
        let what = format!("listing the pods labelled {SELECTOR}");
        let labelled = within(&what, CALL_TIMEOUT, self.api.list(&ListParams::default().labels(SELECTOR))).await;
        let labelled = labelled.inspect_err(|_| self.state.not_seen())?;
        let ours = match labelled.items.iter().find(|pod| pod.name_any() == self.pod) {
            Some(pod) => pod.clone(),
            None if !leads() => return Ok(Labelled::RetrySoon),
            None => self.mark().await.inspect_err(|_| self.state.set(LabelState::Missing))?,
        };
        self.state.set(LabelState::Set);
        let is_other = |pod: &&Pod| pod.name_any() != self.pod && same_installation(&ours, pod);
        let others: Vec<&Pod> = labelled.items.iter().filter(is_other).collect();
        if !others.is_empty() && is_unready(&ours) {
            return Ok(Labelled::RetrySoon);
        }
        for pod in others {
            if !leads() {
                return Ok(Labelled::RetrySoon);
            }
            // A process that was frozen here would remove the label of its successor.
            if began.elapsed() > CALL_TIMEOUT {
                return Err(CallError::Timeout { what: "taking the leader's label off the other pods".to_owned() });
            }
            let name = pod.name_any();
            self.strip(&name).await?;
            tracing::info!(pod = name, "took the leader's label off a pod that does not lead");
        }
        Ok(Labelled::Done)
    }

    /// Removes the label from this pod, then follows the leadership until `stop`, and removes it again.
    ///
    /// Logs failures and retries without end.
    pub async fn run(self, mut leadership: watch::Receiver<Leadership>, stop: CancellationToken) {
        // A killed container leaves the labels of its pod behind; the new container does not lead.
        let mut done = None;
        let mut pause = FIRST_PAUSE;
        let now = leadership.clone();
        let leads = || Want::of(&now.borrow()) == Want::Ours;
        loop {
            let want = Want::of(&leadership.borrow_and_update());
            let labelled = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                labelled = self.apply(want, done, &leads) => labelled,
            };
            let next_in = match labelled {
                Ok(Labelled::RetrySoon) => FIRST_PAUSE,
                Ok(Labelled::Done) => {
                    done = if want == Want::AsItIs { done } else { Some(want) };
                    pause = FIRST_PAUSE;
                    CHECK_INTERVAL
                }
                Err(error) => {
                    tracing::warn!(pod = self.pod, %error, "could not set the leader's label; trying again");
                    done = None;
                    let now = pause;
                    pause = (pause * 2).min(CHECK_INTERVAL);
                    now
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                // The election is over; a successor still has time to remove the label.
                changed = leadership.changed() => if changed.is_err() {
                    stop.cancelled().await;
                    break;
                },
                () = tokio::time::sleep(next_in) => {}
            }
        }
        match tokio::time::timeout(EXIT_TIMEOUT, self.strip_own()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(pod = self.pod, %error, "could not remove the leader's label on exit"),
            Err(_) => tracing::warn!(pod = self.pod, "no time to remove the leader's label on exit"),
        }
    }

    pub(super) async fn apply(
        &self,
        want: Want,
        done: Option<Want>,
        leads: impl Fn() -> bool,
    ) -> Result<Labelled, CallError> {
        match want {
            Want::Ours => return self.lead(leads).await,
            // Once: a follower costs the API server nothing.
            Want::Off if done == Some(Want::Off) => {}
            Want::Off => {
                self.state.set(LabelState::NotWanted);
                self.strip_own().await?;
            }
            Want::AsItIs => {}
        }
        Ok(Labelled::Done)
    }

    async fn mark(&self) -> Result<Pod, CallError> {
        let what = format!("labelling pod {} as the leader", self.pod);
        let pod = within(&what, CALL_TIMEOUT, self.patch(&self.pod, json!("leader"))).await?;
        if pod.labels().get(LEADER_LABEL).is_some_and(|role| role == "leader") {
            return Ok(pod);
        }
        let why = "the API server took the request, and the label is not there: an admission webhook took it out";
        Err(CallError::Forbidden(why.to_owned()))
    }

    async fn strip(&self, pod: &str) -> Result<(), CallError> {
        let what = format!("taking the leader's label off pod {pod}");
        match within(&what, CALL_TIMEOUT, self.patch(pod, json!(null))).await {
            // A pod that is gone carries no label.
            Ok(_) | Err(CallError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn patch(&self, pod: &str, value: serde_json::Value) -> Result<Pod, kube::Error> {
        let patch = Patch::Merge(json!({ "metadata": { "labels": { LEADER_LABEL: value } } }));
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        self.api.patch(pod, &params, &patch).await
    }
}

/// Whether the kubelet reports that the pod is not Ready. A pod without the condition counts as ready.
fn is_unready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.filter(|condition| condition.type_ == "Ready").any(|condition| condition.status != "True")
}

/// Whether two pods belong to one installation, by the labels that this pod has.
fn same_installation(ours: &Pod, other: &Pod) -> bool {
    INSTALLATION.iter().all(|key| match ours.labels().get(*key) {
        Some(value) => other.labels().get(*key) == Some(value),
        None => true,
    })
}
