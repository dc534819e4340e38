//! The label by which the heartbeat Service finds the leader's pod.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Leadership, Standing};
use crate::cluster::{CALL_TIMEOUT, CallError, FIELD_MANAGER, within};

/// The label's key; its value is `leader` (api.md, "Annotations and labels").
pub const LEADER_LABEL: &str = "vigie.dev/role";

const SELECTOR: &str = "vigie.dev/role=leader";

/// What pods of one installation have in common. Another installation in our namespace differs in the second.
const INSTALLATION: [&str; 2] = ["app.kubernetes.io/name", "app.kubernetes.io/instance"];

/// How often a leader looks whether the label is still where it belongs, in case somebody moved it by hand; one small
/// list.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The pause after a failure: doubled with each, up to [`LOOK_EVERY`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// How long the label may take on exit, of the 10 s after a SIGTERM.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Keeps the label on the leader's pod, and off the others.
pub struct PodLabel {
    api: Api<Pod>,
    pod: String,
}

/// What the label should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// On our pod, and on no other.
    Ours,
    /// Not on our pod.
    Off,
    /// As it is: we do not know better.
    AsItIs,
}

impl Want {
    fn of(leadership: &Leadership) -> Self {
        match leadership.standing {
            // After a freeze another may lead; it is known within a call.
            Standing::Leader if leadership.confirmed => Self::Ours,
            Standing::Leader | Standing::Uncertain => Self::AsItIs,
            Standing::Follower => Self::Off,
        }
    }
}

impl PodLabel {
    /// For the pod we run in.
    pub fn new(client: kube::Client, pod_namespace: &str, pod_name: &str) -> Self {
        Self { api: Api::namespaced(client, pod_namespace), pod: pod_name.to_owned() }
    }

    /// Takes the label off our pod; nothing happens when it is not there.
    ///
    /// # Errors
    /// When the pod cannot be patched within [`CALL_TIMEOUT`].
    pub async fn strip_own(&self) -> Result<(), CallError> {
        self.strip(&self.pod).await
    }

    /// Puts the label on our pod and takes it off every other pod of this installation.
    ///
    /// # Errors
    /// When a pod cannot be read or patched. What was done stays done, and all of it can be done again.
    pub async fn lead(&self) -> Result<(), CallError> {
        let began = Instant::now();
        let what = format!("listing the pods labelled {SELECTOR}");
        let labelled = within(&what, CALL_TIMEOUT, self.api.list(&ListParams::default().labels(SELECTOR))).await?;
        let ours = match labelled.items.iter().find(|pod| pod.name_any() == self.pod) {
            Some(pod) => pod.clone(),
            None => self.mark().await?,
        };
        for pod in labelled.items.iter().filter(|pod| pod.name_any() != self.pod && same_installation(&ours, pod)) {
            // A process that was frozen here would take the label off its successor.
            if began.elapsed() > CALL_TIMEOUT {
                return Err(CallError::Timeout { what: "taking the leader's label off the other pods".to_owned() });
            }
            let name = pod.name_any();
            self.strip(&name).await?;
            tracing::info!(pod = name, "took the leader's label off a pod that does not lead");
        }
        Ok(())
    }

    /// Strips our own pod, then follows the leadership until `stop`, and strips it again.
    ///
    /// Failures are logged and tried again for ever.
    pub async fn run(self, mut leadership: watch::Receiver<Leadership>, stop: CancellationToken) {
        // A killed container keeps its pod's labels: a new one does not lead, whatever they say.
        let mut done = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let want = Want::of(&leadership.borrow_and_update());
            let seen_to = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                seen_to = self.see_to(want, done) => seen_to,
            };
            let next_in = match seen_to {
                Ok(()) => {
                    done = if want == Want::AsItIs { done } else { Some(want) };
                    pause = FIRST_PAUSE;
                    LOOK_EVERY
                }
                Err(error) => {
                    tracing::warn!(pod = self.pod, %error, "could not set the leader's label; trying again");
                    done = None;
                    let now = pause;
                    pause = (pause * 2).min(LOOK_EVERY);
                    now
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                changed = leadership.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(next_in) => {}
            }
        }
        match tokio::time::timeout(EXIT_TIMEOUT, self.strip_own()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(pod = self.pod, %error, "could not remove the leader's label on exit"),
            Err(_) => tracing::warn!(pod = self.pod, "no time to remove the leader's label on exit"),
        }
    }

    async fn see_to(&self, want: Want, done: Option<Want>) -> Result<(), CallError> {
        match want {
            Want::Ours => self.lead().await,
            // Once: who follows costs the API server nothing.
            Want::Off if done == Some(Want::Off) => Ok(()),
            Want::Off => self.strip_own().await,
            Want::AsItIs => Ok(()),
        }
    }

    async fn mark(&self) -> Result<Pod, CallError> {
        let what = format!("labelling pod {} as the leader", self.pod);
        within(&what, CALL_TIMEOUT, self.patch(&self.pod, json!("leader"))).await
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

/// Whether two pods are of one installation, as far as ours says which it is.
fn same_installation(ours: &Pod, other: &Pod) -> bool {
    INSTALLATION.iter().all(|key| match ours.labels().get(*key) {
        Some(value) => other.labels().get(*key) == Some(value),
        None => true,
    })
}
