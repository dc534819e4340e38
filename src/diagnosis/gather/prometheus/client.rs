//! Requests to the HTTP API of one Prometheus.

use std::sync::Arc;

use axum::http::Uri;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use super::list::{Budget, Entry, Fit, List};
use super::splitter::ElementSplitter;
use super::url::{host_and_port, without_secrets};
use super::{MAX_ANSWER, PrometheusSource, REQUEST_TIMEOUT};
use crate::probe::{BodyReader, HttpOptions, Prober, Request, Scheme, Target};

/// Sends requests to one Prometheus, without a cache.
pub(super) struct PrometheusClient<'a> {
    pub(super) prober: &'a Prober,
    pub(super) source: &'a PrometheusSource,
    pub(super) now: Timestamp,
}

/// The question about one list of an answer.
pub(super) struct ListQuestion<F> {
    /// Path and query.
    pub(super) path: &'static str,
    /// The name of the list in the answer's `data`.
    pub(super) list: &'static str,
    /// Which entries fit the question.
    pub(super) fits: F,
}

/// Reads a list while its answer arrives.
struct ListReader<T, F>(Mutex<(ElementSplitter, List<T>)>, F);

impl<T: Entry + DeserializeOwned + Send, F: Fn(&T) -> Fit + Send + Sync> BodyReader for ListReader<T, F> {
    fn take(&self, bytes: &[u8]) -> Result<(), String> {
        let (splitter, list) = &mut *self.0.lock();
        splitter.take(bytes, |element| {
            list.push(serde_json::from_slice(element)?, &self.1);
            Ok(())
        })
    }
}

impl PrometheusClient<'_> {
    /// Reads the list of an answer into `budget`.
    pub(super) async fn list<T, F>(&self, question: ListQuestion<F>, budget: Arc<Budget>) -> Result<List<T>, String>
    where
        T: Entry + DeserializeOwned + Send + 'static,
        F: Fn(&T) -> Fit + Send + Sync + 'static,
    {
        let ListQuestion { path, list, fits } = question;
        let base = without_secrets(&self.source.url);
        let failed = |why: String| format!("asking Prometheus at {base}: {why}");
        let mut request =
            self.request(path).ok_or_else(|| failed("this is no http or https URL with a host".to_owned()))?;
        let reader = Arc::new(ListReader(Mutex::new((ElementSplitter::new(list), List::new(budget))), fits));
        request.http.reader = Some(reader.clone());
        let outcome = self.prober.probe(&request).await;
        drop(request);
        outcome.result.map_err(|failure| failed(failure.message))?;
        let gone = || failed("the answer was not read".to_owned());
        let (splitter, mut list) = Arc::into_inner(reader).ok_or_else(gone)?.0.into_inner();
        list.oversized += splitter.finish().map_err(failed)?;
        Ok(list)
    }

    fn request(&self, path: &str) -> Option<Request> {
        let source = self.source;
        let uri: Uri = source.url.parse().ok()?;
        let (host, port) = host_and_port(&source.url)?;
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
        let http = HttpOptions { headers: token.collect(), most_body: MAX_ANSWER, ..Default::default() };
        Some(Request { target, timeout: REQUEST_TIMEOUT, http, tls: Default::default(), metrics: None })
    }
}
