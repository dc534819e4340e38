//! Reads the pod selector of a workload.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::Client;
use kube::api::Api;
use kube::core::Selector;

use crate::api::{WorkloadKind, WorkloadRef};
use crate::cluster::{CALL_TIMEOUT, CallError, within};

/// Reads the selector of the workload's pods.
///
/// # Errors
/// The error of the API server; `NotFound` when there is no such workload.
pub(super) async fn selector(client: &Client, namespace: &str, reference: &WorkloadRef) -> Result<Selector, CallError> {
    let WorkloadRef { kind, name } = reference;
    let what = format!("reading {kind} {namespace}/{name}");
    let client = client.clone();
    let selector = match kind {
        WorkloadKind::Deployment => {
            let api: Api<Deployment> = Api::namespaced(client, namespace);
            within(&what, CALL_TIMEOUT, api.get(name)).await?.spec.map(|spec| spec.selector)
        }
        WorkloadKind::StatefulSet => {
            let api: Api<StatefulSet> = Api::namespaced(client, namespace);
            within(&what, CALL_TIMEOUT, api.get(name)).await?.spec.map(|spec| spec.selector)
        }
        WorkloadKind::DaemonSet => {
            let api: Api<DaemonSet> = Api::namespaced(client, namespace);
            within(&what, CALL_TIMEOUT, api.get(name)).await?.spec.map(|spec| spec.selector)
        }
    };
    Selector::try_from(selector.unwrap_or_default()).map_err(|_| CallError::Invalid(format!("{what}: its selector")))
}
