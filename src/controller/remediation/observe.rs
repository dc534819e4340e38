//! Reads what a step needs to know of the cluster besides its object.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::Api;

use super::subject::{Remediable, requested_restart};
use super::{RemediationInput, Remediator};
use crate::api::RemediationStatus;
use crate::cluster::{CALL_TIMEOUT, within};
use crate::controller::paused;
use crate::remediation::{ObjectHealth, RestartRequest, Verdict, WorkloadLookup, workload};

/// The state that a decision depends on, besides the object and its evaluation.
pub(super) struct Observations {
    /// The workload, with its pods.
    pub(super) workload: WorkloadLookup,
    /// The pause of remedies, while there is one: by whom, why and until when, in a sentence.
    pub(super) paused: Option<String>,
    /// A person's request that is recent enough and not yet honoured.
    pub(super) request: Option<RestartRequest>,
    /// An attempt is in progress, or a remedy is wanted. Otherwise nothing was read.
    pub(super) is_wanted: bool,
}

impl Remediator {
    pub(super) async fn observe<K: Remediable>(&self, input: &RemediationInput<'_, K>) -> Observations {
        let RemediationInput { object, verdict, .. } = *input;
        let none = RemediationStatus::default();
        let status = object.remediation_status().unwrap_or(&none);
        let now = self.clock.read().wall;
        let request = requested_restart(object.meta(), status, now);
        let is_unhealthy = object.remediation().is_some() && verdict.health() == ObjectHealth::Unhealthy;
        let is_wanted = status.current.is_some() || request.is_some() || is_unhealthy;
        let (workload, paused) = match is_wanted {
            true => tokio::join!(self.read_workload(object, verdict, status), self.read_pause(object, now)),
            false => (WorkloadLookup::NotLooked, None),
        };
        Observations { workload, paused, request, is_wanted }
    }

    async fn read_workload<K: Remediable>(
        &self,
        object: &K,
        verdict: &Verdict,
        status: &RemediationStatus,
    ) -> WorkloadLookup {
        // During mass silence, blindness or `--remediation off` nothing would be done: save the calls.
        let is_held_back = verdict.mass_silence.is_some() || verdict.blind.is_some() || !self.limits.is_on;
        let Some(reference) = object.workload_ref().filter(|_| status.current.is_some() || !is_held_back) else {
            return WorkloadLookup::NotLooked;
        };
        let namespace = object.namespace().unwrap_or_default();
        let _permit = self.reads.acquire().await;
        let mut lookup = workload::read(&self.client, &namespace, reference, self.own_pod.as_ref()).await;
        if let WorkloadLookup::Found(workload) = &mut lookup
            && workload.pods.len() > 1
            && status.current.is_none()
        {
            workload::protect(&self.client, &namespace, workload).await;
        }
        lookup
    }

    /// The pause of the object, by its spec, its annotation, or the annotation of its namespace.
    async fn read_pause<K: Remediable>(&self, object: &K, now: Timestamp) -> Option<String> {
        if let Some(paused) = paused::in_words(object.meta(), object.paused(), now) {
            return Some(paused);
        }
        let name = object.namespace().unwrap_or_default();
        let api: Api<Namespace> = Api::all(self.client.clone());
        let doing = format!("reading Namespace {name}");
        match within(&doing, CALL_TIMEOUT, api.get_metadata(&name)).await {
            Ok(namespace) => paused::by_annotation(&namespace.metadata, now)
                .map(|until| format!("Namespace {name} pauses remedies until {until}")),
            // A pause that cannot be read may exist, so nothing is done.
            Err(error) => Some(format!("whether Namespace {name} pauses remedies cannot be read: {error}")),
        }
    }
}
