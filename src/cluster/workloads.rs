//! The three kinds of workloads behind one trait, so that a reader is written once.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Resource;
use serde::de::DeserializeOwned;

/// A namespaced object that the API server can return.
pub trait NamespacedObject:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned
{
}

impl<K> NamespacedObject for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned
{
}

/// A Deployment, StatefulSet or DaemonSet.
pub trait WorkloadObject: NamespacedObject {
    /// The kind that stores its pod templates: ReplicaSet or ControllerRevision.
    type Revision: NamespacedObject;

    /// The selector of its pods and of its revisions; `None` without a spec.
    fn pod_selector(&self) -> Option<&LabelSelector>;
}

macro_rules! workload_object {
    ($kind:ty, $revision:ty) => {
        impl WorkloadObject for $kind {
            type Revision = $revision;

            fn pod_selector(&self) -> Option<&LabelSelector> {
                self.spec.as_ref().map(|spec| &spec.selector)
            }
        }
    };
}

workload_object!(Deployment, ReplicaSet);
workload_object!(StatefulSet, ControllerRevision);
workload_object!(DaemonSet, ControllerRevision);
