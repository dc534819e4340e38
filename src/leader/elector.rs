//! Reads and writes the Lease as `election` decides, and publishes the leadership.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::decide::{LeaseRecord, LeaseStep};
use super::election::{Ask, Election};
use super::failure_log::FailureLog;
use super::restore::RestoreDetector;
use super::terms::{RENEW_DEADLINE, RETRY, TERM, Terms};
use crate::cluster::{CallError, FIELD_MANAGER, within};
use crate::leadership::{Leadership, Role};
use crate::time::{Clock, Moment};

/// Waking this much too late means that the process did not run (SIGSTOP, a frozen machine); the same bound as that of the
/// tick of the whole process (`docs/design/liveness.md`, clock rule 3). A loaded machine stays below it.
const FROZEN_FOR: Duration = Duration::from_secs(2);

/// The limit of each call that gives the Lease back: they must fit into the 10 s after a SIGTERM, beside the flush of the
/// checkpoints.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(1);

/// The name of the Lease, the identity of this process, and the durations of the election.
#[derive(Clone, Debug)]
pub struct ElectorConfig {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub name: String,
    /// The identity of this process: [`super::identity`].
    pub identity: String,
    /// How long a record stays unchanged before another replica may take the Lease; whole seconds, because the Lease stores
    /// them.
    pub term: Duration,
    /// How long a leader writes after a renewal; shorter than `term`.
    pub renew_deadline: Duration,
    /// The interval of renewals or reads; at most a third of `renew_deadline`.
    pub retry: Duration,
}

impl ElectorConfig {
    /// The durations of `docs/design/liveness.md`: 12 s, 8 s and 2 s.
    pub fn new(namespace: String, name: String, identity: String) -> Self {
        Self { namespace, name, identity, term: TERM, renew_deadline: RENEW_DEADLINE, retry: RETRY }
    }

    fn terms(&self) -> Terms {
        Terms::clamped(self.term, self.renew_deadline, self.retry)
    }
}

/// Takes part in the election as long as the process runs.
pub struct Elector {
    api: Api<Lease>,
    path: String,
    call_timeout: Duration,
    clock: Clock,
    election: Election,
    /// The Lease as it was last read or written: a claim changes it and keeps the fields of other writers.
    lease: Option<Lease>,
    publisher: watch::Sender<Leadership>,
    failure_log: FailureLog,
    restore: RestoreDetector,
    restored: CancellationToken,
}

/// The result of a wait.
enum Wait<T> {
    Done(T),
    Stopped,
    Froze,
}

impl<T> Wait<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Wait<U> {
        match self {
            Self::Done(value) => Wait::Done(f(value)),
            Self::Stopped => Wait::Stopped,
            Self::Froze => Wait::Froze,
        }
    }
}

/// The response to one call.
struct Answer<T> {
    result: Result<T, CallError>,
    /// Taken before the call was sent.
    sent_at: Moment,
    /// Taken after the response arrived.
    now: Moment,
}

/// The signals that end a wait early.
struct WakeSignals {
    stop: CancellationToken,
    froze: Arc<Notify>,
}

impl Elector {
    /// A contender that has not led yet, and the channel on which it publishes the leadership. It cancels `restored` when
    /// the Lease proves that etcd was restored from an older copy: everything that was read before is worthless then.
    ///
    /// `lease_client` must have no retries of its own ([`crate::cluster::Clients::no_retry`]).
    pub fn new(
        lease_client: kube::Client,
        config: ElectorConfig,
        clock: Clock,
        restored: CancellationToken,
    ) -> (Self, watch::Receiver<Leadership>) {
        let (publisher, receiver) = watch::channel(Leadership::follower());
        let terms = config.terms();
        let elector = Self {
            api: Api::namespaced(lease_client, &config.namespace),
            path: format!("{}/{}", config.namespace, config.name),
            call_timeout: terms.call_timeout(),
            clock,
            election: Election::new(config.identity, terms, clock.now()),
            lease: None,
            publisher,
            failure_log: FailureLog::default(),
            restore: RestoreDetector::default(),
            restored,
        };
        (elector, receiver)
    }

    /// Takes part until `stop`, then publishes that this process follows, and gives its Lease back; that takes 4 s at most.
    /// The caller must first end everything that writes: a permit stays valid for its seconds, and the next leader no
    /// longer waits for them.
    ///
    /// `froze` signals that another part of the process detected a freeze.
    pub async fn run(mut self, stop: CancellationToken, froze: Arc<Notify>) {
        let signals = WakeSignals { stop, froze };
        loop {
            let ask = self.election.next(self.clock.read());
            self.publish();
            let wait = match ask {
                Ask::Sleep(until) => self.sleep(until, &signals).await,
                Ask::Read => self.read(&signals).await,
                Ask::Claim(step, record) => self.claim(step, record, &signals).await,
            };
            match wait {
                Wait::Done(()) => {}
                Wait::Stopped => break,
                Wait::Froze => {
                    tracing::warn!(lease = %self.path, "this process did not run for a while; reading the lease again");
                    self.election.froze(self.clock.now());
                }
            }
            self.publish();
        }
        self.give_back().await;
    }

    async fn sleep(&mut self, until: Moment, signals: &WakeSignals) -> Wait<()> {
        let at = self.clock.instant(until);
        self.wait_for(tokio::time::sleep_until(at), until, signals).await
    }

    async fn read(&mut self, signals: &WakeSignals) -> Wait<()> {
        let call = get(self.api.clone(), self.path.clone(), self.call_timeout);
        self.call(call, signals).await.map(|Answer { result, sent_at, now }| match result {
            Ok(lease) => {
                self.failure_log.recovered(&self.path);
                lease.as_ref().inspect(|lease| self.look_for_restore(lease));
                self.election.saw(lease.as_ref().map(record_of), now);
                self.lease = lease;
            }
            Err(error) => {
                self.failure_log.failed("read", &self.path, &error, now);
                self.election.failed(sent_at, now);
            }
        })
    }

    async fn claim(&mut self, step: LeaseStep, record: LeaseRecord, signals: &WakeSignals) -> Wait<()> {
        let lease = self.lease_with(&record);
        let call = put(self.api.clone(), self.path.clone(), step, lease, self.call_timeout);
        self.call(call, signals).await.map(|Answer { result, sent_at, now }| match result {
            Ok(lease) => {
                self.failure_log.recovered(&self.path);
                self.look_for_restore(&lease);
                self.election.claimed(step, record_of(&lease), sent_at, now);
                self.lease = Some(lease);
            }
            Err(CallError::Conflict | CallError::AlreadyExists) => self.election.refused(now),
            // The Lease was deleted meanwhile. On a create, the namespace is missing, which is a failure.
            Err(CallError::NotFound) if step != LeaseStep::Create => self.election.refused(now),
            Err(error) => {
                self.failure_log.failed("write", &self.path, &error, now);
                self.election.failed(sent_at, now);
            }
        })
    }

    fn look_for_restore(&mut self, lease: &Lease) {
        if self.restore.saw(lease.metadata.resource_version.as_deref(), &record_of(lease)) {
            tracing::warn!(
                lease = %self.path,
                "the lease is older than it was: etcd was restored from a copy; everything is read anew"
            );
            self.restored.cancel();
        }
    }

    /// Sends one call, which is not polled before.
    async fn call<T>(
        &mut self,
        call: impl Future<Output = Result<T, CallError>>,
        signals: &WakeSignals,
    ) -> Wait<Answer<T>> {
        // Before it is sent: other replicas count the term from its arrival.
        let sent_at = self.clock.now();
        let result = self.wait_for(call, sent_at + self.call_timeout, signals).await;
        let now = self.clock.now();
        result.map(|result| Answer { result, sent_at, now })
    }

    /// The Lease with `record` in it, everything else as it was read.
    fn lease_with(&self, record: &LeaseRecord) -> Lease {
        let mut lease = self.lease.clone().unwrap_or_else(|| {
            let name = self.path.rsplit('/').next().unwrap_or(&self.path).to_owned();
            Lease { metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() }, spec: None }
        });
        // Omitted, because the server keeps them, and they would be most of the request.
        lease.metadata.managed_fields = None;
        write_into(lease.spec.get_or_insert_default(), record);
        lease
    }

    /// Waits for `work`, which should be done by `due`; meanwhile becomes uncertain on time, and detects a freeze.
    async fn wait_for<T>(&mut self, work: impl Future<Output = T>, due: Moment, signals: &WakeSignals) -> Wait<T> {
        tokio::pin!(work);
        let value = loop {
            let overdue_at = self.election.overdue_at();
            let overdue = tokio::time::sleep_until(self.clock.instant(overdue_at.unwrap_or(due)));
            tokio::select! {
                biased;
                () = signals.stop.cancelled() => return Wait::Stopped,
                () = signals.froze.notified() => return Wait::Froze,
                () = overdue, if overdue_at.is_some() => {
                    self.election.tick(self.clock.now());
                    self.publish();
                }
                value = &mut work => break value,
            }
        };
        // A result that is handled too late may be out of date: another replica may have led since.
        if self.clock.now().since(due) > FROZEN_FOR { Wait::Froze } else { Wait::Done(value) }
    }

    /// Publishes the leadership; notifies of every change except that of `write_until`.
    fn publish(&self) {
        let new = self.election.leadership();
        self.publisher.send_if_modified(|old| {
            let changed = old.role != new.role
                || old.holder != new.holder
                || old.epoch != new.epoch
                || old.acquired_at != new.acquired_at;
            if changed {
                log_change(&self.path, old, new);
            }
            old.clone_from(new);
            changed
        });
    }

    /// Gives the Lease back, so that the next leader need not wait for the end of the term.
    async fn give_back(&mut self) {
        let may_hold = self.election.may_hold();
        self.election.resign();
        self.publish();
        // Twice: the first write may conflict with a renewal of this process that was in progress.
        for _ in 0..2 {
            if !may_hold {
                return;
            }
            match self.try_give_back().await {
                Ok(()) => return,
                Err(CallError::Conflict) => {}
                Err(error) => {
                    tracing::warn!(lease = %self.path, %error, "could not give the lease back; it expires by itself");
                    return;
                }
            }
        }
    }

    async fn try_give_back(&mut self) -> Result<(), CallError> {
        self.lease = get(self.api.clone(), self.path.clone(), GIVE_BACK_TIMEOUT).await?;
        let Some(record) = self.lease.as_ref().map(record_of) else { return Ok(()) };
        if record.holder.as_deref() != Some(self.election.me()) {
            return Ok(());
        }
        let lease = self.lease_with(&LeaseRecord { holder: None, ..record });
        put(self.api.clone(), self.path.clone(), LeaseStep::Renew, lease, GIVE_BACK_TIMEOUT).await?;
        tracing::info!(lease = %self.path, "gave the lease back");
        Ok(())
    }
}

async fn get(api: Api<Lease>, path: String, limit: Duration) -> Result<Option<Lease>, CallError> {
    let name = path.rsplit('/').next().unwrap_or(&path);
    within(&format!("reading lease {path}"), limit, api.get_opt(name)).await
}

async fn put(
    api: Api<Lease>,
    path: String,
    step: LeaseStep,
    lease: Lease,
    limit: Duration,
) -> Result<Lease, CallError> {
    let name = path.rsplit('/').next().unwrap_or(&path);
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let what = format!("writing lease {path}");
    if step == LeaseStep::Create {
        within(&what, limit, api.create(&params, &lease)).await
    } else {
        within(&what, limit, api.replace(name, &params, &lease)).await
    }
}

fn record_of(lease: &Lease) -> LeaseRecord {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    LeaseRecord {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        acquired_at: spec.acquire_time.map(|time| time.0),
        renewed_at: spec.renew_time.map(|time| time.0),
        transitions: spec.lease_transitions.unwrap_or_default(),
        lasts_for: Duration::from_secs(seconds.unwrap_or_default()),
    }
}

fn write_into(spec: &mut LeaseSpec, record: &LeaseRecord) {
    let LeaseRecord { holder, acquired_at, renewed_at, transitions, lasts_for } = record.clone();
    spec.holder_identity = Some(holder.unwrap_or_default());
    spec.acquire_time = acquired_at.map(MicroTime);
    spec.renew_time = renewed_at.map(MicroTime);
    spec.lease_transitions = Some(transitions);
    // The API server refuses 0.
    spec.lease_duration_seconds = Some(i32::try_from(lasts_for.as_secs()).unwrap_or(i32::MAX).max(1));
}

fn log_change(lease: &str, old: &Leadership, new: &Leadership) {
    let holder = new.holder.as_deref().unwrap_or("nobody");
    match (old.role, new.role) {
        (Role::Leader | Role::Unconfirmed, Role::Leader) if old.epoch == new.epoch => {}
        (Role::Uncertain, Role::Leader) if old.epoch == new.epoch => {
            tracing::info!(lease, epoch = new.epoch, "leading again; no other replica led meanwhile");
        }
        (_, Role::Leader) => tracing::info!(lease, epoch = new.epoch, "leading"),
        (Role::Leader | Role::Unconfirmed, Role::Uncertain) => {
            tracing::warn!(lease, "could not renew the lease in time: beats are heard, nothing is written");
        }
        (Role::Leader | Role::Uncertain | Role::Unconfirmed, Role::Follower) => {
            tracing::warn!(lease, holder, "leading no more");
        }
        (Role::Follower, Role::Follower) if old.holder != new.holder => {
            tracing::info!(lease, holder, "following");
        }
        _ => {}
    }
}

#[cfg(test)]
#[path = "elector_tests.rs"]
mod tests;
