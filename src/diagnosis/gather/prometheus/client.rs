//! Requests to the HTTP API of one Prometheus.

use axum::http::Uri;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::url::{host_and_port, without_secrets};
use super::{MAX_ANSWER, PrometheusSource, REQUEST_TIMEOUT};
use crate::probe::{HttpOptions, Prober, Request, Scheme, Target};

/// Sends requests to one Prometheus, without a cache.
pub(super) struct PrometheusClient<'a> {
    pub(super) prober: &'a Prober,
    pub(super) source: &'a PrometheusSource,
    pub(super) now: Timestamp,
}

/// The envelope of every answer of Prometheus' API.
#[derive(Deserialize)]
struct ApiResponse<T> {
    data: T,
}

/// The answer to an instant query.
#[derive(Deserialize)]
pub(super) struct InstantVector {
    pub(super) result: Vec<VectorSample>,
}

#[derive(Deserialize)]
pub(super) struct VectorSample {
    pub(super) metric: Metric,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Metric {
    pub(super) job: String,
    pub(super) instance: String,
}

impl PrometheusClient<'_> {
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let base = without_secrets(&self.source.url);
        let failed = |why: String| format!("asking Prometheus at {base}: {why}");
        let request =
            self.request(path).ok_or_else(|| failed("this is no http or https URL with a host".to_owned()))?;
        let outcome = self.prober.probe(&request).await;
        outcome.result.map_err(|failure| failed(failure.message))?;
        let body = outcome.seen.body.unwrap_or_default();
        let answer: ApiResponse<T> = serde_json::from_slice(&body)
            .map_err(|_| failed("its answer is not what Prometheus' API answers".to_owned()))?;
        Ok(answer.data)
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
        let http = HttpOptions {
            headers: token.collect(),
            keep_body: true,
            most_kept: MAX_ANSWER,
            most_body: MAX_ANSWER as u64,
            ..Default::default()
        };
        Some(Request { target, timeout: REQUEST_TIMEOUT, http, tls: Default::default(), metrics: None })
    }
}
