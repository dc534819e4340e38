//! Which pods their disruption budgets protect from eviction.
//!
//! The API server decides, and refuses in the end; this is its rule (kubernetes, pkg/registry/core/pod/storage/eviction.go)
//! so that a denial can be told before anything is reserved.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::core::{Selector, SelectorExt as _};
use kube::{Client, ResourceExt as _};

use super::read::Place;
use crate::remediation::{Lookup, Pod, Workload};

/// How many budgets of a namespace are read.
const MOST_BUDGETS: u32 = 500;

/// Notes at each pod of `workload` which budget forbids its eviction now. One list of the budgets of the namespace.
///
/// Gives the reason when they cannot be read: no pod is marked then, and the API server alone says no.
pub async fn protect(client: &Client, namespace: &str, workload: &mut Workload) -> Option<String> {
    let budgets = Place { client, namespace }.list(&ListParams::default().limit(MOST_BUDGETS)).await;
    match budgets {
        Ok(budgets) => {
            for pod in &mut workload.pods {
                pod.protected = protection(pod, &budgets);
            }
            None
        }
        Err(Lookup::Forbidden(why) | Lookup::Failed(why)) => Some(why),
        Err(_) => Some(format!("the API server knows no disruption budgets in namespace {namespace}")),
    }
}

/// What forbids the eviction of `pod`. One that is going already is not protected by anything.
pub(super) fn protection(pod: &Pod, budgets: &[PodDisruptionBudget]) -> Option<String> {
    let of_it: Vec<_> = budgets.iter().filter(|budget| !pod.is_going && selects(budget, pod)).collect();
    match of_it.as_slice() {
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
    // A pod that is not ready counts for nothing in the budget: it may go when that is kept, or always where that is said.
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
