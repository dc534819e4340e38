//! The breaker: latched in a ConfigMap, so that it survives restarts and changes of leader, and a person with permission to
//! write the ConfigMap can reset it (docs/design/remediation.md).

pub mod record;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;

pub use record::{BreakerRecord, NAME, State};

use crate::cluster::events::Reporter;
use crate::cluster::{CALL_TIMEOUT, FIELD_MANAGER, Retry, WriteError, watch, within};
use crate::controller::runtime::watch_log::WatchErrorLog;
use crate::leadership::{Leadership, WritePermit};
use crate::remediation::Breaker;
use crate::remediation::fleet::Trip;
use crate::time::Clock;

/// Interval at which failed events are published again, and a new leader checks for events to publish.
const PUBLISH_RETRY: Duration = Duration::from_secs(5);

/// Reads and writes the ConfigMap of the breaker.
#[derive(Clone)]
pub struct BreakerStore {
    /// `Clients::watching`; it sends each request once, writes too.
    pub client: kube::Client,
    /// The namespace of the operator's Lease.
    pub namespace: String,
    /// Publishes events.
    pub reporter: Reporter,
    /// Only the leader writes and publishes.
    pub leadership: Receiver<Leadership>,
    /// Source of the present time.
    pub clock: Clock,
}

impl BreakerStore {
    /// Watches the ConfigMap until `stop`. Calls `on_change` with the state and the record: at once, when nothing has been
    /// read, and then at every change. The last state stands while the API server is unreachable; a missing permission makes
    /// the state unknown.
    pub async fn follow(self, on_change: impl Fn(Breaker, BreakerRecord) + Send, stop: CancellationToken) {
        let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut events = watch(api, config).boxed();
        let mut watch_state = WatchState::of(&self.namespace);
        on_change(watch_state.breaker(), BreakerRecord::default());
        let mut published = HashSet::new();
        let mut again = tokio::time::interval(PUBLISH_RETRY);
        let mut publishing = Retry::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = again.tick() => {}
                event = events.next() => {
                    let Some(event) = event else { return };
                    if watch_state.take(event) {
                        on_change(watch_state.breaker(), watch_state.record.clone());
                    }
                }
            }
            if publishing.is_due(self.clock.now()) {
                self.publish_events(&watch_state.record, &mut published, &mut publishing, self.clock.read().wall).await;
            }
        }
    }

    /// Publishes the opening and the reset, unless they are in `published`. Failed events are tried again at the next call.
    async fn publish_events(
        &self,
        record: &BreakerRecord,
        published: &mut HashSet<String>,
        publishing: &mut Retry,
        now: Timestamp,
    ) {
        let events = record.events(now);
        published.retain(|occurrence| events.iter().any(|event| event.occurrence == *occurrence));
        for event in events {
            let leads = self.leadership.borrow().permit(self.clock.now()).is_some();
            if !leads || published.contains(&event.occurrence) {
                continue;
            }
            match self.reporter.publish(&record.reference(&self.namespace), &event).await {
                Ok(()) => {
                    publishing.succeeded();
                    published.insert(event.occurrence);
                }
                Err(error) => {
                    tracing::debug!(%error, "publishing an event of the breaker failed; trying again");
                    publishing.failed(&error, self.clock.now());
                    return;
                }
            }
        }
    }

    /// Opens the breaker because of `trip`, if the ConfigMap is still as `read` at the decision: a person may have reset it
    /// since. Writes nothing when it is open.
    ///
    /// # Errors
    /// [`WriteError::NotLeader`] when the permit ran out before anything was sent; [`crate::cluster::CallError::Conflict`]
    /// or [`crate::cluster::CallError::AlreadyExists`] when another client wrote it meanwhile: decide again
    /// by the next change of [`BreakerStore::follow`].
    pub async fn open(
        &self,
        permit: &WritePermit,
        read: &BreakerRecord,
        trip: &Trip,
        at: Timestamp,
    ) -> Result<(), WriteError> {
        let Some(write) = read.open_write(&self.namespace, trip, at) else { return Ok(()) };
        if !permit.is_current(self.clock.now()) {
            return Err(WriteError::NotLeader);
        }
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let what = format!("opening the breaker, ConfigMap {}/{NAME}", self.namespace);
        let field_manager = Some(FIELD_MANAGER.to_owned());
        match write {
            record::RecordWrite::Create(map) => {
                let params = PostParams { field_manager, ..PostParams::default() };
                within(&what, CALL_TIMEOUT, api.create(&params, &map)).await?;
            }
            record::RecordWrite::Patch(patch) => {
                let params = PatchParams { field_manager, ..PatchParams::default() };
                within(&what, CALL_TIMEOUT, api.patch(NAME, &params, &Patch::Merge(patch))).await?;
            }
        }
        let namespaces =
            trip.scope.as_ref().map(|scope| scope.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(","));
        let namespaces = namespaces.unwrap_or_else(|| "all".to_owned());
        tracing::error!(
            reason = trip.reason,
            namespaces,
            "the breaker opened: nothing is restarted until a person resets it"
        );
        Ok(())
    }
}

/// State of the watch.
struct WatchState {
    namespace: String,
    /// Why the content of the ConfigMap is not known.
    unknown_reason: Option<String>,
    record: BreakerRecord,
    /// Content by the list that is under way.
    listed: BreakerRecord,
    errors: WatchErrorLog,
}

impl WatchState {
    fn of(namespace: &str) -> Self {
        let display_name = format!("ConfigMap {namespace}/{NAME}");
        Self {
            unknown_reason: Some(format!("the breaker, {display_name}, has not been read yet")),
            errors: WatchErrorLog::of(&display_name),
            namespace: namespace.to_owned(),
            record: BreakerRecord::default(),
            listed: BreakerRecord::default(),
        }
    }

    fn breaker(&self) -> Breaker {
        self.unknown_reason.clone().map_or_else(|| self.record.breaker(), Breaker::Unknown)
    }

    /// Applies an event of the watch; returns whether anything changed.
    fn take(&mut self, event: Result<Event<ConfigMap>, watcher::Error>) -> bool {
        let before = (self.unknown_reason.clone(), self.record.clone());
        let record = match event {
            Ok(Event::Init) => {
                self.listed = BreakerRecord::default();
                None
            }
            Ok(Event::InitApply(map)) => {
                self.listed = BreakerRecord::of(&map);
                None
            }
            Ok(Event::InitDone) => Some(std::mem::take(&mut self.listed)),
            Ok(Event::Apply(map)) => Some(BreakerRecord::of(&map)),
            Ok(Event::Delete(_)) => Some(BreakerRecord::default()),
            Err(error) => {
                self.errors.failed(&error);
                if is_forbidden(&error) {
                    self.unknown_reason = Some(format!(
                        "the breaker may not be read: list and watch on configmaps named {NAME} in namespace {} are needed",
                        self.namespace
                    ));
                }
                None
            }
        };
        if let Some(record) = record {
            (self.unknown_reason, self.record) = (None, record);
            self.errors.recovered();
        }
        before != (self.unknown_reason.clone(), self.record.clone())
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => status.code == 403,
        watcher::Error::WatchError(status) => status.code == 403,
        _ => false,
    }
}
