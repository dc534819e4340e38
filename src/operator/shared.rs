//! The values that the parts for Connectors and MonitoredBackends share.

use std::sync::Arc;

use kube::runtime::reflector::Store;

use super::args::RunArgs;
use crate::cluster::Clients;
use crate::cluster::own_addresses::OwnAddresses;
use crate::controller::remediation::{Census, Remediable};
use crate::controller::runtime;
use crate::controller::runtime::wake::Guarded;

/// The pod that the operator runs in.
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Pod {
    /// The pod with its heartbeat Service.
    pub(super) fn with_service(&self, args: &RunArgs) -> OwnAddresses {
        let (namespace, pod) = (self.namespace.clone(), self.name.clone());
        OwnAddresses { namespace, pod, heartbeat_service: args.reachability.heartbeat_service.clone() }
    }
}

/// The values that the parts for both kinds are made from.
pub(super) struct SharedParts<'a> {
    pub(super) args: &'a RunArgs,
    pub(super) clients: &'a Clients,
    pub(super) runtime: Arc<runtime::Shared>,
    /// The operator's own pod, in a cluster.
    pub(super) own_pod: Option<OwnAddresses>,
}

/// Registers the objects of these stores with the census of the fleet.
pub(super) fn register_stores<K>(census: &Census, stores: &[Store<Guarded<K>>])
where
    K: Remediable + Clone + Send + Sync + 'static,
{
    let stores = stores.to_vec();
    census.add_source(Box::new(move |census| {
        for object in stores.iter().flat_map(Store::state) {
            if let Ok(object) = &object.0 {
                census.upsert_stored(object);
            }
        }
    }));
}
