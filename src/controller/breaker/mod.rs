//! The breaker: latched in a ConfigMap, so that it survives restarts and changes of leader, and a person who may write
//! it can reset it (remediation.md).

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
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;

pub use record::{NAME, Record, State};

use super::events::Reporter;
use super::runtime::watch_log::WatchErrorLog;
use crate::cluster::{CALL_TIMEOUT, FIELD_MANAGER, WatchBackoff, WriteError, within};
use crate::leadership::{Leadership, Permit};
use crate::remediation::Breaker;
use crate::time::Clock;

/// How often what could not be told is told again, and a new leader looks whether there is something to tell.
const TELL_AGAIN: Duration = Duration::from_secs(5);

/// The way to the ConfigMap.
#[derive(Clone)]
pub struct BreakerStore {
    /// A client that sends each request once.
    pub client: kube::Client,
    /// The namespace of our Lease.
    pub namespace: String,
    /// Who tells of it.
    pub reporter: Reporter,
    /// Whether we lead: only a leader writes and tells.
    pub leadership: Receiver<Leadership>,
    /// Our clock.
    pub clock: Clock,
}

impl BreakerStore {
    /// Follows the ConfigMap until `stop`, and tells what it means and what it says: at once that it has not been read,
    /// then at every change. What was known stands while the API server cannot be asked; when it may not be read, that
    /// is told.
    pub async fn follow(self, tell: impl Fn(Breaker, Record) + Send, stop: CancellationToken) {
        let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut events = watch(api, config).backoff(WatchBackoff::default()).boxed();
        let mut seen = Seen::of(&self.namespace);
        tell(seen.breaker(), Record::default());
        let mut told = HashSet::new();
        let mut again = tokio::time::interval(TELL_AGAIN);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = again.tick() => {}
                event = events.next() => {
                    let Some(event) = event else { return };
                    if seen.take(event) {
                        tell(seen.breaker(), seen.record.clone());
                    }
                }
            }
            self.tell_events(&seen.record, &mut told, self.clock.read().wall).await;
        }
    }

    /// Tells of its opening and its reset, unless that was `told`. What fails is tried again when this is called again.
    async fn tell_events(&self, record: &Record, told: &mut HashSet<String>, now: Timestamp) {
        let events = record.events(now);
        told.retain(|occurrence| events.iter().any(|event| event.occurrence == *occurrence));
        for event in events {
            let leads = self.leadership.borrow().permit(self.clock.now()).is_some();
            if !leads || told.contains(&event.occurrence) {
                continue;
            }
            match self.reporter.tell(&record.reference(&self.namespace), &event).await {
                Ok(()) => drop(told.insert(event.occurrence)),
                Err(error) => tracing::debug!(%error, "telling about the breaker; trying again"),
            }
        }
    }

    /// Opens it because of `reason`, if it still says what was `read` when that was decided: a person may have reset it
    /// since. Nothing is written when it is open.
    ///
    /// # Errors
    /// [`WriteError::NotLeader`] when the permit ran out before anything was sent; [`crate::cluster::CallError::Conflict`]
    /// or [`crate::cluster::CallError::AlreadyExists`] when somebody wrote it meanwhile: decide again by what
    /// [`BreakerStore::follow`] tells then.
    pub async fn open(&self, permit: &Permit, read: &Record, reason: &str, at: Timestamp) -> Result<(), WriteError> {
        let Some(write) = read.opening(&self.namespace, reason, at) else { return Ok(()) };
        if !permit.is_current(self.clock.now()) {
            return Err(WriteError::NotLeader);
        }
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let what = format!("opening the breaker, ConfigMap {}/{NAME}", self.namespace);
        let field_manager = Some(FIELD_MANAGER.to_owned());
        match write {
            record::Write::Create(map) => {
                let params = PostParams { field_manager, ..PostParams::default() };
                within(&what, CALL_TIMEOUT, api.create(&params, &map)).await?;
            }
            record::Write::Patch(patch) => {
                let params = PatchParams { field_manager, ..PatchParams::default() };
                within(&what, CALL_TIMEOUT, api.patch(NAME, &params, &Patch::Merge(patch))).await?;
            }
        }
        tracing::error!(reason, "the breaker opened: nothing is restarted until a person resets it");
        Ok(())
    }
}

/// What the watch has shown so far.
struct Seen {
    namespace: String,
    /// Why it cannot be said what the ConfigMap says.
    unread: Option<String>,
    record: Record,
    /// What a list that is under way has shown.
    listed: Record,
    trouble: WatchErrorLog,
}

impl Seen {
    fn of(namespace: &str) -> Self {
        let called = format!("ConfigMap {namespace}/{NAME}");
        Self {
            unread: Some(format!("the breaker, {called}, has not been read yet")),
            trouble: WatchErrorLog::of(&called),
            namespace: namespace.to_owned(),
            record: Record::default(),
            listed: Record::default(),
        }
    }

    fn breaker(&self) -> Breaker {
        self.unread.clone().map_or_else(|| self.record.breaker(), Breaker::Unknown)
    }

    /// Takes in what the watch says; true when that changed something.
    fn take(&mut self, event: Result<Event<ConfigMap>, watcher::Error>) -> bool {
        let before = (self.unread.clone(), self.record.clone());
        let record = match event {
            Ok(Event::Init) => {
                self.listed = Record::default();
                None
            }
            Ok(Event::InitApply(map)) => {
                self.listed = Record::of(&map);
                None
            }
            Ok(Event::InitDone) => Some(std::mem::take(&mut self.listed)),
            Ok(Event::Apply(map)) => Some(Record::of(&map)),
            Ok(Event::Delete(_)) => Some(Record::default()),
            Err(error) => {
                self.trouble.failed(&error);
                if is_forbidden(&error) {
                    self.unread = Some(format!(
                        "the breaker may not be read: list and watch on configmaps named {NAME} in namespace {} are needed",
                        self.namespace
                    ));
                }
                None
            }
        };
        if let Some(record) = record {
            (self.unread, self.record) = (None, record);
            self.trouble.recovered();
        }
        before != (self.unread.clone(), self.record.clone())
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
