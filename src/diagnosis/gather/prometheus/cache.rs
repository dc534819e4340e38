//! The last answers of each Prometheus. Its lists cover all targets at once, so a thousand backends that are examined
//! at the same time share one request.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Source;
use super::client::{InstantVector, PrometheusClient};
use super::targets::{JobInstance, Targets};

/// For how long an answer is everybody's, also one that says why there is none. Shorter than any usual scrape interval,
/// and than what passes until a backend that turned bad is looked at for the second time.
const SHARED_FOR: Duration = Duration::from_secs(10);

/// Whose last scrape brought nothing. Asked for these alone, the answer is short in a fleet that is well.
const WITHOUT_SAMPLES: &str = "/api/v1/query?query=scrape_samples_scraped%20%3D%3D%200";

/// The cache that were asked lately, and what they said.
#[derive(Default)]
pub struct ServerCache {
    active: AnswerCache<Targets>,
    dropped: AnswerCache<Targets>,
    empty: AnswerCache<HashSet<JobInstance>>,
}

impl ServerCache {
    /// The targets that are scraped, and when that was asked.
    pub(super) async fn active(&self, client: &PrometheusClient<'_>) -> Answer<Targets> {
        self.active.ask(client, async || client.get("/api/v1/targets?state=active").await).await
    }

    /// The targets that relabelling dropped.
    pub(super) async fn dropped(&self, client: &PrometheusClient<'_>) -> Answer<Targets> {
        self.dropped.ask(client, async || client.get("/api/v1/targets?state=dropped").await).await
    }

    /// The entries whose last scrape brought no sample.
    pub(super) async fn empty(&self, client: &PrometheusClient<'_>) -> Answer<HashSet<JobInstance>> {
        let ask = async || {
            let vector: InstantVector = client.get(WITHOUT_SAMPLES).await?;
            Ok(vector.result.into_iter().map(|sample| (sample.metric.job, sample.metric.instance)).collect())
        };
        self.empty.ask(client, ask).await
    }
}

/// An answer, and when it was asked for.
pub(super) type Answer<T> = Result<(Arc<T>, Timestamp), String>;

/// The answers of one kind.
struct AnswerCache<T>(Mutex<HashMap<CacheKey, Arc<CacheSlot<T>>>>);

/// Whom one asks, and in whose name: an answer is shared only among those who would get the same.
#[derive(PartialEq, Eq, Hash)]
struct CacheKey {
    url: String,
    bearer_token: Option<String>,
    is_administrators: bool,
}

/// Where one waits for an answer, or finds it with the time since which it is there.
type CacheSlot<T> = tokio::sync::Mutex<Option<(Instant, Answer<T>)>>;

impl<T> Default for AnswerCache<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> AnswerCache<T> {
    async fn ask(&self, client: &PrometheusClient<'_>, ask: impl AsyncFnOnce() -> Result<T, String>) -> Answer<T> {
        let slot = self.slot(client.source);
        // Held while one asks: the others wait for the same answer, and ask themselves if that one gave up.
        let mut slot = slot.lock().await;
        if let Some((_, answer)) = slot.as_ref().filter(|(at, _)| is_shared(*at)) {
            return answer.clone();
        }
        let answer = ask().await.map(|said| (Arc::new(said), client.now));
        *slot = Some((Instant::now(), answer.clone()));
        answer
    }

    fn slot(&self, source: &Source) -> Arc<CacheSlot<T>> {
        let Source { url, bearer_token, is_administrators, .. } = source;
        let key =
            CacheKey { url: url.clone(), bearer_token: bearer_token.clone(), is_administrators: *is_administrators };
        let mut slots = self.0.lock();
        // What is nobody's any more is not kept. A slot that cannot be locked is being used.
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
