//! The last answers of each Prometheus. Its lists cover all targets at once, so a thousand backends that are examined
//! at the same time share one request.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::PrometheusSource;
use super::client::{InstantVector, PrometheusClient};
use super::targets::{JobInstance, Targets};

/// How long an answer, or an error, is shared. Shorter than any usual scrape interval, and than the time between the
/// first and the second examination of a failing backend.
const SHARED_FOR: Duration = Duration::from_secs(10);

/// Query for targets whose last scrape had no samples. The filter keeps the answer short in a healthy fleet.
const WITHOUT_SAMPLES: &str = "/api/v1/query?query=scrape_samples_scraped%20%3D%3D%200";

/// The recent answers of each Prometheus server.
#[derive(Default)]
pub struct ServerCache {
    active: ResponseCache<Targets>,
    dropped: ResponseCache<Targets>,
    empty: ResponseCache<HashSet<JobInstance>>,
}

impl ServerCache {
    /// The active targets, and the time of the request.
    pub(super) async fn active(&self, client: &PrometheusClient<'_>) -> Answer<Targets> {
        self.active.ask(client, async || client.get("/api/v1/targets?state=active").await).await
    }

    /// The targets dropped by relabelling.
    pub(super) async fn dropped(&self, client: &PrometheusClient<'_>) -> Answer<Targets> {
        self.dropped.ask(client, async || client.get("/api/v1/targets?state=dropped").await).await
    }

    /// The targets whose last scrape had no samples.
    pub(super) async fn empty(&self, client: &PrometheusClient<'_>) -> Answer<HashSet<JobInstance>> {
        let ask = async || {
            let vector: InstantVector = client.get(WITHOUT_SAMPLES).await?;
            Ok(vector.result.into_iter().map(|sample| (sample.metric.job, sample.metric.instance)).collect())
        };
        self.empty.ask(client, ask).await
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

impl<T> ResponseCache<T> {
    async fn ask(&self, client: &PrometheusClient<'_>, ask: impl AsyncFnOnce() -> Result<T, String>) -> Answer<T> {
        let slot = self.slot(client.source);
        // Held during the request: concurrent callers wait for the same answer, and send their own request if it was
        // cancelled.
        let mut slot = slot.lock().await;
        if let Some((_, answer)) = slot.as_ref().filter(|(at, _)| is_shared(*at)) {
            return answer.clone();
        }
        let answer = ask().await.map(|said| (Arc::new(said), client.now));
        *slot = Some((Instant::now(), answer.clone()));
        answer
    }

    fn slot(&self, source: &PrometheusSource) -> Arc<CacheSlot<T>> {
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
