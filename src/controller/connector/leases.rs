//! Heartbeats by Lease: a change of `renewTime`, at the moment at which the watch delivers it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use tokio_util::sync::CancellationToken;

use crate::cluster::watch;
use crate::heartbeat::registry::Registry;

/// The period of the check whether any Connector uses a Lease.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The namespace of the Leases that the kubelets renew, one for each node every 10 s: most of the traffic of a watch. They
/// are left out unless a Connector uses one.
const NODE_LEASES: &str = "kube-node-lease";

/// Watches the Leases of one scope while a Connector uses one; until `stop`. `moved` is called when the watch broke or
/// recovered: silence of Leases does not count in between.
pub async fn run(api: Api<Lease>, registry: Arc<Registry>, moved: impl Fn() + Send + Sync, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CHECK_EVERY) => {}
        }
        if registry.uses_leases() {
            let of_nodes = registry.uses_leases_in(NODE_LEASES);
            tokio::select! {
                () = stop.cancelled() => return,
                () = watch_leases(api.clone(), of_nodes, &registry, &moved) => {}
                () = changed(&registry, of_nodes) => {}
            }
        }
    }
}

/// Completes when another watch is needed, or none.
async fn changed(registry: &Registry, of_nodes: bool) {
    while registry.uses_leases() && registry.uses_leases_in(NODE_LEASES) == of_nodes {
        tokio::time::sleep(CHECK_EVERY).await;
    }
}

/// Reports to the listening state whether the watch works; a watch that was ended does not count as broken.
struct Watch<'a> {
    registry: &'a Registry,
    moved: &'a (dyn Fn() + Send + Sync),
    broken: bool,
}

impl Watch<'_> {
    fn is_broken(&mut self, broken: bool) -> bool {
        if std::mem::replace(&mut self.broken, broken) == broken {
            return false;
        }
        let changed = self.registry.listening.update(self.registry.clock().now(), |inputs| {
            let watches = &mut inputs.broken_lease_watches;
            *watches = if broken { *watches + 1 } else { watches.saturating_sub(1) };
        });
        if changed {
            (self.moved)();
        }
        true
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.is_broken(false);
    }
}

/// The Leases to watch; `of_nodes`: also those of nodes.
fn config(of_nodes: bool) -> watcher::Config {
    let config = watcher::Config::default();
    if of_nodes { config } else { config.fields(&format!("metadata.namespace!={NODE_LEASES}")) }
}

async fn watch_leases(api: Api<Lease>, of_nodes: bool, registry: &Registry, moved: &(dyn Fn() + Send + Sync)) {
    let mut seen = LastRenewals::default();
    let mut state = Watch { registry, moved, broken: false };
    let mut events = watch(api, config(of_nodes)).boxed();
    loop {
        match events.try_next().await {
            Ok(Some(event)) => {
                if state.is_broken(false) {
                    tracing::info!("watching Leases again");
                }
                if let Some(lease) = lease(&event) {
                    let key = (lease.namespace().unwrap_or_default(), lease.name_any());
                    let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
                    if seen.is_renewal(key.clone(), renewed) {
                        registry.lease_renewed(&key.0, &key.1);
                    }
                }
                if let Event::Delete(lease) = &event {
                    seen.forget(&(lease.namespace().unwrap_or_default(), lease.name_any()));
                }
            }
            Ok(None) => return,
            // The API server forgets old versions; a watch then continues with a new list.
            Err(watcher::Error::WatchError(status)) if status.code == 410 => {}
            Err(error) => {
                if state.is_broken(true) {
                    tracing::warn!(%error, "watching Leases failed; trying again until it works");
                }
            }
        }
    }
}

fn lease(event: &Event<Lease>) -> Option<&Lease> {
    match event {
        Event::Apply(lease) | Event::InitApply(lease) => Some(lease),
        Event::Delete(_) | Event::Init | Event::InitDone => None,
    }
}

/// The renewals seen so far.
#[derive(Default)]
struct LastRenewals(HashMap<(String, String), Option<MicroTime>>);

impl LastRenewals {
    /// Whether this is a renewal. The first version of a Lease that the watch delivers is none: its age is unknown.
    fn is_renewal(&mut self, key: (String, String), renewed: Option<MicroTime>) -> bool {
        let known = self.0.insert(key, renewed.clone());
        renewed.is_some() && known.is_some_and(|known| known != renewed)
    }

    fn forget(&mut self, key: &(String, String)) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn the_leases_of_nodes_are_watched_only_when_one_is_used() {
        assert_eq!(config(false).field_selector.as_deref(), Some("metadata.namespace!=kube-node-lease"));
        assert_eq!(config(true).field_selector, None);
    }

    #[test]
    fn a_changed_renew_time_is_a_beat_and_the_first_sight_is_none() {
        let mut seen = LastRenewals::default();
        let key = || ("edge".to_owned(), "paris".to_owned());
        let at = |second| Some(MicroTime(Timestamp::from_second(second).expect("in range")));
        assert!(!seen.is_renewal(key(), at(100)));
        assert!(!seen.is_renewal(key(), at(100)), "a relist renews nothing");
        assert!(seen.is_renewal(key(), at(110)));
        assert!(seen.is_renewal(key(), at(90)), "the holder's clock is ignored");
        assert!(!seen.is_renewal(key(), None));
        seen.forget(&key());
        assert!(!seen.is_renewal(key(), at(120)));
    }
}
