//! What Prometheus servers answered last. Its lists are about all targets at once: a thousand backends that look at the
//! same time ask once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::targets::{Targets, place, without_secrets};
use super::{LARGEST, PATIENCE, Source};
use crate::probe::{HttpOptions, Prober, Request, Scheme, Target};

/// For how long an answer is everybody's, also one that says why there is none. Shorter than any usual scrape interval,
/// and than what passes until a backend that turned bad is looked at for the second time.
const SHARED_FOR: Duration = Duration::from_secs(10);

/// Whose last scrape brought nothing. Asked for these alone, the answer is short in a fleet that is well.
const WITHOUT_SAMPLES: &str = "/api/v1/query?query=scrape_samples_scraped%20%3D%3D%200";

/// The servers that were asked lately, and what they said.
#[derive(Default)]
pub struct Servers {
    active: Board<Targets>,
    dropped: Board<Targets>,
    empty: Board<HashSet<Entry>>,
}

/// An entry by its labels `job` and `instance`.
pub(super) type Entry = (String, String);

impl Servers {
    /// The targets that are scraped, and when that was asked.
    pub(super) async fn active(&self, of: &Asker<'_>) -> Answer<Targets> {
        self.active.ask(of, async || of.get("/api/v1/targets?state=active").await).await
    }

    /// The targets that relabelling dropped.
    pub(super) async fn dropped(&self, of: &Asker<'_>) -> Answer<Targets> {
        self.dropped.ask(of, async || of.get("/api/v1/targets?state=dropped").await).await
    }

    /// The entries whose last scrape brought no sample.
    pub(super) async fn empty(&self, of: &Asker<'_>) -> Answer<HashSet<Entry>> {
        let ask = async || {
            let vector: Vector = of.get(WITHOUT_SAMPLES).await?;
            Ok(vector.result.into_iter().map(|sample| (sample.metric.job, sample.metric.instance)).collect())
        };
        self.empty.ask(of, ask).await
    }
}

/// An answer, and when it was asked for.
pub(super) type Answer<T> = Result<(Arc<T>, Timestamp), String>;

/// The answers of one kind.
struct Board<T>(Mutex<HashMap<Caller, Arc<Desk<T>>>>);

/// Whom one asks, and in whose name: an answer is shared only among those who would get the same.
#[derive(PartialEq, Eq, Hash)]
struct Caller {
    url: String,
    bearer_token: Option<String>,
    is_administrators: bool,
}

/// Where one waits for an answer, or finds it with the time since which it is there.
type Desk<T> = tokio::sync::Mutex<Option<(Instant, Answer<T>)>>;

impl<T> Default for Board<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Board<T> {
    async fn ask(&self, of: &Asker<'_>, ask: impl AsyncFnOnce() -> Result<T, String>) -> Answer<T> {
        let desk = self.desk(of.source);
        // Held while one asks: the others wait for the same answer, and ask themselves if that one gave up.
        let mut desk = desk.lock().await;
        if let Some((_, answer)) = desk.as_ref().filter(|(at, _)| is_shared(*at)) {
            return answer.clone();
        }
        let answer = ask().await.map(|said| (Arc::new(said), of.now));
        *desk = Some((Instant::now(), answer.clone()));
        answer
    }

    fn desk(&self, source: &Source) -> Arc<Desk<T>> {
        let Source { url, bearer_token, is_administrators, .. } = source;
        let caller =
            Caller { url: url.clone(), bearer_token: bearer_token.clone(), is_administrators: *is_administrators };
        let mut desks = self.0.lock();
        // What is nobody's any more is not kept. A desk that cannot be locked is being used.
        desks.retain(|_, desk| {
            let is_kept = desk.try_lock().map(|said| said.as_ref().is_some_and(|(at, _)| is_shared(*at)));
            Arc::strong_count(desk) > 1 || is_kept.unwrap_or(true)
        });
        desks.entry(caller).or_default().clone()
    }
}

fn is_shared(since: Instant) -> bool {
    since.elapsed() < SHARED_FOR
}

/// Asks one Prometheus now.
pub(super) struct Asker<'a> {
    pub(super) prober: &'a Prober,
    pub(super) source: &'a Source,
    pub(super) now: Timestamp,
}

/// What every answer of Prometheus' API is wrapped in.
#[derive(Deserialize)]
struct Wrapped<T> {
    data: T,
}

/// The answer to an instant query.
#[derive(Deserialize)]
struct Vector {
    result: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    metric: Metric,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metric {
    job: String,
    instance: String,
}

impl Asker<'_> {
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let base = without_secrets(&self.source.url);
        let failed = |why: String| format!("asking Prometheus at {base}: {why}");
        let request =
            self.request(path).ok_or_else(|| failed("this is no http or https URL with a host".to_owned()))?;
        let outcome = self.prober.probe(&request).await;
        outcome.result.map_err(|failure| failed(failure.message))?;
        let body = outcome.seen.body.unwrap_or_default();
        let answer: Wrapped<T> = serde_json::from_slice(&body)
            .map_err(|_| failed("its answer is not what Prometheus' API answers".to_owned()))?;
        Ok(answer.data)
    }

    fn request(&self, path: &str) -> Option<Request> {
        let source = self.source;
        let uri: Uri = source.url.parse().ok()?;
        let (host, port) = place(&source.url)?;
        let scheme = match uri.scheme_str()? {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let token = source.bearer_token.iter().map(|token| ("Authorization".to_owned(), format!("Bearer {token}")));
        let target = Target {
            scheme,
            host,
            port: port?,
            path: format!("{}{path}", uri.path().trim_end_matches('/')),
            address: None,
            is_own: source.is_administrators,
        };
        let http = HttpOptions {
            headers: token.collect(),
            keep_body: true,
            most_kept: LARGEST,
            most_body: LARGEST as u64,
            ..Default::default()
        };
        Some(Request { target, timeout: PATIENCE, http, tls: Default::default(), metrics: None })
    }
}
