//! Disruption budgets: the pods that they protect from eviction.
//!
//! The API server decides and refuses. This module repeats its rule (kubernetes, pkg/registry/core/pod/storage/eviction.go)
//! so that the denial is known before anything is reserved.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::core::{Selector, SelectorExt as _};
use kube::{Client, ResourceExt as _};

use super::read::WorkloadReader;
use crate::remediation::{Pod, Workload, WorkloadLookup};

/// Most budgets that are read of a namespace.
const MOST_BUDGETS: u32 = 500;

/// Sets for each pod of `workload` the budget that forbids its eviction now. One list of the budgets of the namespace.
///
/// Returns the reason when they cannot be read: no pod is marked then, and the API server alone refuses.
pub async fn protect(client: &Client, namespace: &str, workload: &mut Workload) -> Option<String> {
    let budgets = WorkloadReader { client, namespace }.list(&ListParams::default().limit(MOST_BUDGETS)).await;
    match budgets {
        Ok(budgets) => {
            for pod in &mut workload.pods {
                pod.protected_by = protection(pod, &budgets);
            }
            None
        }
        Err(WorkloadLookup::Forbidden(why) | WorkloadLookup::Failed(why)) => Some(why),
        Err(_) => Some(format!("the API server knows no disruption budgets in namespace {namespace}")),
    }
}

/// The reason why `pod` may not be evicted. A pod that is terminating is not protected.
pub(super) fn protection(pod: &Pod, budgets: &[PodDisruptionBudget]) -> Option<String> {
    let matching: Vec<_> = budgets.iter().filter(|budget| !pod.is_terminating && selects(budget, pod)).collect();
    match matching.as_slice() {
        [] => None,
        [budget] => forbids(budget, pod.is_ready),
        [one, other, ..] => Some(format!(
            "the disruption budgets {} and {} both select it, and the API server evicts no such pod",
            one.name_any(),
            other.name_any()
        )),
    }
}

/// A budget without a selector selects nothing, one with an empty selector everything.
fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
    let selector = selector.and_then(|selector| Selector::try_from(selector).ok());
    selector.is_some_and(|selector| selector.matches(&pod.labels))
}

fn forbids(budget: &PodDisruptionBudget, is_ready: bool) -> Option<String> {
    let (spec, status) = (budget.spec.clone().unwrap_or_default(), budget.status.clone().unwrap_or_default());
    let (healthy, needed, name) = (status.current_healthy, status.desired_healthy, budget.name_any());
    // A pod that is not ready does not count in the budget: it may be evicted while the budget is met, or always with
    // AlwaysAllow.
    let always = spec.unhealthy_pod_eviction_policy.as_deref() == Some("AlwaysAllow");
    if !is_ready && (always || needed > 0 && healthy >= needed) {
        return None;
    }
    if status.observed_generation.unwrap_or(0) < budget.metadata.generation.unwrap_or(0) {
        return Some(format!("its disruption budget {name} was changed, and is not worked out yet"));
    }
    (status.disruptions_allowed <= 0)
        .then(|| format!("its disruption budget {name} needs {needed} healthy pods, and {healthy} are"))
}
