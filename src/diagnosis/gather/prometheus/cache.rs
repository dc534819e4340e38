//! The last answers of each Prometheus. Its lists cover all targets at once, so a thousand backends that are examined
//! at the same time share one request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::PrometheusSource;
use super::client::{ListQuestion, PrometheusClient};
use super::list::{Budget, Entry, Fit, List};
use super::targets::{Active, Dropped, VectorSample};

/// How long an answer, or an error, is shared. Shorter than any usual scrape interval, and than the time between the
/// first and the second examination of a failing backend.
const SHARED_FOR: Duration = Duration::from_secs(10);

/// Query for targets whose last scrape had no samples. The filter keeps the answer short in a healthy fleet.
const WITHOUT_SAMPLES: &str = "/api/v1/query?query=scrape_samples_scraped%20%3D%3D%200";

/// Memory of the lists of the administrator's Prometheus: about 60,000 targets.
const ADMINISTRATORS_BUDGET: usize = 32 << 20;
/// Memory of the lists of all servers that objects name. Separate: no object can displace the administrator's lists.
const OBJECTS_BUDGET: usize = 16 << 20;

/// The recent answers of each Prometheus server.
pub struct ServerCache {
    active: ResponseCache<List<Active>>,
    dropped: ResponseCache<List<Dropped>>,
    empty: ResponseCache<List<VectorSample>>,
    administrators: Arc<Budget>,
    objects: Arc<Budget>,
}

impl Default for ServerCache {
    fn default() -> Self {
        Self::with_budgets(ADMINISTRATORS_BUDGET, OBJECTS_BUDGET)
    }
}

impl ServerCache {
    /// A cache with these budgets, in bytes, for the administrator's Prometheus and for all others.
    pub(super) fn with_budgets(administrators: usize, objects: usize) -> Self {
        Self {
            active: Default::default(),
            dropped: Default::default(),
            empty: Default::default(),
            administrators: Arc::new(Budget::new(administrators)),
            objects: Arc::new(Budget::new(objects)),
        }
    }

    /// The active targets, and the time of the request. Those that `fits` accepts are among them.
    pub(super) async fn active(
        &self,
        client: &PrometheusClient<'_>,
        fits: impl Fn(&Active) -> Fit + Send + Sync + 'static,
    ) -> Answer<List<Active>> {
        let question = ListQuestion { path: "/api/v1/targets?state=active", list: "activeTargets", fits };
        self.active.ask(client, client.list(question, self.budget(client))).await
    }

    /// The targets dropped by relabelling.
    pub(super) async fn dropped(
        &self,
        client: &PrometheusClient<'_>,
        fits: impl Fn(&Dropped) -> Fit + Send + Sync + 'static,
    ) -> Answer<List<Dropped>> {
        let question = ListQuestion { path: "/api/v1/targets?state=dropped", list: "droppedTargets", fits };
        self.dropped.ask(client, client.list(question, self.budget(client))).await
    }

    /// The targets whose last scrape had no samples.
    pub(super) async fn empty(
        &self,
        client: &PrometheusClient<'_>,
        fits: impl Fn(&VectorSample) -> Fit + Send + Sync + 'static,
    ) -> Answer<List<VectorSample>> {
        let question = ListQuestion { path: WITHOUT_SAMPLES, list: "result", fits };
        self.empty.ask(client, client.list(question, self.budget(client))).await
    }

    fn budget(&self, client: &PrometheusClient<'_>) -> Arc<Budget> {
        if client.source.is_administrators { self.administrators.clone() } else { self.objects.clone() }
    }
}

/// An answer, and the time of its request.
pub(super) type Answer<T> = Result<(Arc<T>, Timestamp), String>;

/// Cached answers to one request, by server and credentials.
struct ResponseCache<T>(Mutex<HashMap<CacheKey, Arc<CacheSlot<T>>>>);

/// Server and credentials: an answer is shared only between requests that would get the same one.
#[derive(PartialEq, Eq, Hash)]
struct CacheKey {
    url: String,
    bearer_token: Option<String>,
    is_administrators: bool,
}

/// A cached answer and its time. The lock makes concurrent requests wait for the same answer.
type CacheSlot<T> = tokio::sync::Mutex<Option<(Instant, Answer<T>)>>;

impl<T> Default for ResponseCache<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Entry> ResponseCache<List<T>> {
    async fn ask(
        &self,
        client: &PrometheusClient<'_>,
        ask: impl Future<Output = Result<List<T>, String>>,
    ) -> Answer<List<T>> {
        let slot = self.slot(client.source);
        // Held during the request: concurrent callers wait for the same answer, and send their own request if it was
        // cancelled.
        let mut slot = slot.lock().await;
        if let Some((_, answer)) = slot.as_ref().filter(|(at, _)| is_shared(*at)) {
            return answer.clone();
        }
        // The old answer gives its memory back before the new one takes its own.
        *slot = None;
        let answer = ask.await.map(|said| (Arc::new(said), client.now));
        // A list that is not whole answers one question only.
        if answer.as_ref().map_or(true, |(list, _)| list.is_whole()) {
            *slot = Some((Instant::now(), answer.clone()));
        }
        answer
    }

    fn slot(&self, source: &PrometheusSource) -> Arc<CacheSlot<List<T>>> {
        let PrometheusSource { url, bearer_token, is_administrators, .. } = source;
        let key =
            CacheKey { url: url.clone(), bearer_token: bearer_token.clone(), is_administrators: *is_administrators };
        let mut slots = self.0.lock();
        // Removes expired slots. A locked slot is in use.
        slots.retain(|_, slot| {
            let is_kept = slot.try_lock().map(|said| said.as_ref().is_some_and(|(at, _)| is_shared(*at)));
            Arc::strong_count(slot) > 1 || is_kept.unwrap_or(true)
        });
        slots.entry(key).or_default().clone()
    }
}

fn is_shared(since: Instant) -> bool {
    since.elapsed() < SHARED_FOR
}
