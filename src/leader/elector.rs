//! The contender's voice: reads and writes the Lease as `election` asks, and publishes where we stand.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::decide::{Record, Step};
use super::election::{Ask, Election, Terms};
use super::{RENEW_DEADLINE, RETRY, TERM};
use crate::cluster::{CallError, FIELD_MANAGER, within};
use crate::leadership::{Leadership, Standing};
use crate::time::{Clock, Moment};

/// Waking this much later than asked means that we did not run (SIGSTOP, a frozen machine); the bound that the tick
/// of the whole process uses (liveness.md, clock rule 3). A loaded machine stays below it.
const FROZEN_FOR: Duration = Duration::from_secs(2);

/// How long each of the calls that give the Lease back may take: they must fit into the 10 s after a SIGTERM, beside
/// the flush of the checkpoints.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(1);

/// How often one failure is logged that goes on.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// What the Lease is called, who we are in it, and the times of the election.
#[derive(Clone, Debug)]
pub struct ElectorConfig {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub name: String,
    /// Who we are: [`super::identity`], unique to this process.
    pub identity: String,
    /// How long a record stands unchanged before another may take it; whole seconds, for they are written into it.
    pub term: Duration,
    /// How long after a renewal we write; shorter than `term`.
    pub renew_deadline: Duration,
    /// How often we renew or look; at most a third of `renew_deadline`.
    pub retry: Duration,
}

impl ElectorConfig {
    /// The times of liveness.md: 12 s, 8 s and 2 s.
    pub fn new(namespace: String, name: String, identity: String) -> Self {
        Self { namespace, name, identity, term: TERM, renew_deadline: RENEW_DEADLINE, retry: RETRY }
    }

    fn terms(&self) -> Terms {
        // Whatever was configured, writes stop before the term does.
        let renew_deadline = self.renew_deadline.min(self.term * 5 / 6);
        Terms { term: self.term, renew_deadline, retry: self.retry }
    }

    /// So that a renewal which hangs leaves time for a second one before the deadline.
    fn call_timeout(&self) -> Duration {
        let terms = self.terms();
        terms.renew_deadline.saturating_sub(terms.retry) / 2
    }
}

/// Takes part in the election for as long as the process lives.
pub struct Elector {
    api: Api<Lease>,
    path: String,
    call_timeout: Duration,
    clock: Clock,
    election: Election,
    /// The Lease as it was read or written last: a claim changes it and keeps what others put there.
    lease: Option<Lease>,
    publisher: watch::Sender<Leadership>,
    trouble: Trouble,
}

/// How waiting for something ended.
enum Wait<T> {
    Over(T),
    Stopped,
    Froze,
}

/// What ends a wait early.
struct Signals {
    stop: CancellationToken,
    froze: Arc<Notify>,
}

impl Elector {
    /// A contender that has not led yet, and the channel on which it says where it stands.
    ///
    /// `lease_client` must have no retries of its own ([`crate::cluster::Clients::lease`]).
    pub fn new(lease_client: kube::Client, config: ElectorConfig, clock: Clock) -> (Self, watch::Receiver<Leadership>) {
        let (publisher, receiver) = watch::channel(Leadership::follower());
        let (terms, call_timeout) = (config.terms(), config.call_timeout());
        let elector = Self {
            api: Api::namespaced(lease_client, &config.namespace),
            path: format!("{}/{}", config.namespace, config.name),
            call_timeout,
            clock,
            election: Election::new(config.identity, terms, clock.now()),
            lease: None,
            publisher,
            trouble: Trouble::default(),
        };
        (elector, receiver)
    }

    /// Takes part until `stop`, then says that we follow and gives the Lease back if it is ours; that takes 4 s at
    /// most. End whatever writes before: a permit that was given holds for its seconds, also when the next leader does
    /// not have to wait for them any more.
    ///
    /// `froze` says that this process did not run for a while, as somebody else noticed.
    pub async fn run(mut self, stop: CancellationToken, froze: Arc<Notify>) {
        let signals = Signals { stop, froze };
        loop {
            let ask = self.election.next(self.clock.read());
            self.publish();
            let wait = match ask {
                Ask::Sleep(until) => self.sleep(until, &signals).await,
                Ask::Read => self.read(&signals).await,
                Ask::Claim(step, record) => self.claim(step, record, &signals).await,
            };
            match wait {
                Wait::Over(()) => {}
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

    async fn sleep(&mut self, until: Moment, signals: &Signals) -> Wait<()> {
        let at = self.clock.instant(until);
        self.attend(tokio::time::sleep_until(at), until, signals).await
    }

    async fn read(&mut self, signals: &Signals) -> Wait<()> {
        let sent_at = self.clock.now();
        let call = get(self.api.clone(), self.path.clone(), self.call_timeout);
        let answer = match self.attend(call, sent_at + self.call_timeout, signals).await {
            Wait::Over(answer) => answer,
            Wait::Stopped => return Wait::Stopped,
            Wait::Froze => return Wait::Froze,
        };
        let now = self.clock.now();
        match answer {
            Ok(lease) => {
                self.trouble.over(&self.path);
                self.election.saw(lease.as_ref().map(record_of), now);
                self.lease = lease;
            }
            Err(error) => {
                self.trouble.tell("read", &self.path, &error, now);
                self.election.failed(sent_at, now);
            }
        }
        Wait::Over(())
    }

    async fn claim(&mut self, step: Step, record: Record, signals: &Signals) -> Wait<()> {
        // Before it is sent: others count our term from when it arrives.
        let sent_at = self.clock.now();
        let lease = self.written(&record);
        let call = put(self.api.clone(), self.path.clone(), step, lease, self.call_timeout);
        let answer = match self.attend(call, sent_at + self.call_timeout, signals).await {
            Wait::Over(answer) => answer,
            Wait::Stopped => return Wait::Stopped,
            Wait::Froze => return Wait::Froze,
        };
        let now = self.clock.now();
        match answer {
            Ok(lease) => {
                self.trouble.over(&self.path);
                self.election.claimed(step, record_of(&lease), sent_at, now);
                self.lease = Some(lease);
            }
            Err(CallError::Conflict | CallError::AlreadyExists) => self.election.refused(now),
            // Deleted under us. When it is to be made, it is the namespace that is missing.
            Err(CallError::NotFound) if step != Step::Create => self.election.refused(now),
            Err(error) => {
                self.trouble.tell("write", &self.path, &error, now);
                self.election.failed(sent_at, now);
            }
        }
        Wait::Over(())
    }

    /// The Lease with `record` in it, everything else as it was read.
    fn written(&self, record: &Record) -> Lease {
        let mut lease = self.lease.clone().unwrap_or_else(|| {
            let name = self.path.rsplit('/').next().unwrap_or(&self.path).to_owned();
            Lease { metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() }, spec: None }
        });
        // Left out, the server keeps them; sent, they would be most of the request.
        lease.metadata.managed_fields = None;
        write_into(lease.spec.get_or_insert_default(), record);
        lease
    }

    /// Waits for `work`, which should be over by `due`; meanwhile turns uncertain on time, and notices a freeze.
    async fn attend<T>(&mut self, work: impl Future<Output = T>, due: Moment, signals: &Signals) -> Wait<T> {
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
        // What came in time but is looked at too late may be out of date: another may have led since.
        if self.clock.now().since(due) > FROZEN_FOR { Wait::Froze } else { Wait::Over(value) }
    }

    /// Makes the leadership known; notifies of whatever is more than a later `write_until`.
    fn publish(&self) {
        let new = self.election.leadership();
        self.publisher.send_if_modified(|old| {
            let tell = old.standing != new.standing
                || old.holder != new.holder
                || old.epoch != new.epoch
                || old.acquired_at != new.acquired_at
                || old.confirmed != new.confirmed;
            if tell {
                log_change(&self.path, old, new);
            }
            old.clone_from(new);
            tell
        });
    }

    /// Gives the Lease back, so that the next leader does not have to wait for the end of our term.
    async fn give_back(&mut self) {
        let may_hold = self.election.may_hold();
        self.election.resign();
        self.publish();
        // Twice: the first write loses against a renewal of ours that was under way.
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
        let lease = self.written(&Record { holder: None, ..record });
        put(self.api.clone(), self.path.clone(), Step::Renew, lease, GIVE_BACK_TIMEOUT).await?;
        tracing::info!(lease = %self.path, "gave the lease back");
        Ok(())
    }
}

async fn get(api: Api<Lease>, path: String, limit: Duration) -> Result<Option<Lease>, CallError> {
    let name = path.rsplit('/').next().unwrap_or(&path);
    within(&format!("reading lease {path}"), limit, api.get_opt(name)).await
}

async fn put(api: Api<Lease>, path: String, step: Step, lease: Lease, limit: Duration) -> Result<Lease, CallError> {
    let name = path.rsplit('/').next().unwrap_or(&path);
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let what = format!("writing lease {path}");
    if step == Step::Create {
        within(&what, limit, api.create(&params, &lease)).await
    } else {
        within(&what, limit, api.replace(name, &params, &lease)).await
    }
}

fn record_of(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        acquired_at: spec.acquire_time.map(|time| time.0),
        renewed_at: spec.renew_time.map(|time| time.0),
        transitions: spec.lease_transitions.unwrap_or_default(),
        lasts_for: Duration::from_secs(seconds.unwrap_or_default()),
    }
}

fn write_into(spec: &mut LeaseSpec, record: &Record) {
    let Record { holder, acquired_at, renewed_at, transitions, lasts_for } = record.clone();
    spec.holder_identity = Some(holder.unwrap_or_default());
    spec.acquire_time = acquired_at.map(MicroTime);
    spec.renew_time = renewed_at.map(MicroTime);
    spec.lease_transitions = Some(transitions);
    // The API server refuses 0.
    spec.lease_duration_seconds = Some(i32::try_from(lasts_for.as_secs()).unwrap_or(i32::MAX).max(1));
}

fn log_change(lease: &str, old: &Leadership, new: &Leadership) {
    let holder = new.holder.as_deref().unwrap_or("nobody");
    match (&old.standing, &new.standing) {
        (Standing::Leader, Standing::Leader) if old.epoch == new.epoch => {}
        (Standing::Uncertain, Standing::Leader) if old.epoch == new.epoch => {
            tracing::info!(lease, epoch = new.epoch, "leading again; nobody else did meanwhile");
        }
        (_, Standing::Leader) => tracing::info!(lease, epoch = new.epoch, "leading"),
        (Standing::Leader, Standing::Uncertain) => {
            tracing::warn!(lease, "could not renew the lease in time: beats are heard, nothing is written");
        }
        (Standing::Leader | Standing::Uncertain, Standing::Follower) => {
            tracing::warn!(lease, holder, "leading no more");
        }
        (Standing::Follower, Standing::Follower) if old.holder != new.holder => {
            tracing::info!(lease, holder, "following");
        }
        _ => {}
    }
}

/// A failure that goes on: logged when it begins and then once a minute.
#[derive(Default)]
struct Trouble {
    last_told_at: Option<Moment>,
}

impl Trouble {
    fn tell(&mut self, verb: &str, lease: &str, error: &CallError, now: Moment) {
        if self.last_told_at.is_some_and(|told_at| now.since(told_at) < LOG_EVERY) {
            return;
        }
        self.last_told_at = Some(now);
        if let CallError::Forbidden(reason) = error {
            tracing::warn!(lease, "may not {verb} the lease; grant get, create and update on leases there: {reason}");
        } else {
            tracing::warn!(lease, %error, "could not {verb} the lease");
        }
    }

    fn over(&mut self, lease: &str) {
        if self.last_told_at.take().is_some() {
            tracing::info!(lease, "the lease can be read or written again");
        }
    }
}

#[cfg(test)]
#[path = "elector_tests.rs"]
mod tests;
