//! The metrics page of a backend: its path, and whether it answers 404.

use super::queries::{actuator, is_target, own_page, path_of, probe_fact};
use super::scrape_error::{ScrapeError, failing_with, scrape_fact};
use super::text::path;
use crate::diagnosis::evidence::{Evidence, Vantage};

/// A metrics page that answers 404.
pub(super) struct Missing {
    /// Its path.
    pub(super) path: String,
    /// The fact that shows it: who got the 404.
    pub(super) fact: String,
}

/// The metrics page, if it answers 404: to vigie, or, where vigie does not probe it, to Prometheus.
pub(super) fn missing_page(e: &Evidence) -> Option<Missing> {
    if let Some(page) = own_page(e) {
        let missing = !page.ok && page.http_status == Some(404);
        return missing.then(|| Missing { path: page_path(e, page), fact: probe_fact(page) });
    }
    let (scraped, why) = failing_with(e, |why| why == ScrapeError::Status(404))?;
    let path = path(path_of(&scraped.url)).unwrap_or("its metrics page").to_owned();
    Some(Missing { path, fact: scrape_fact(scraped, why) })
}

/// The path of the metrics page: the target's own, or the one under the actuator's base path.
pub(super) fn page_path(e: &Evidence, page: &Vantage) -> String {
    if is_target(page) {
        return path(e.subject.path.split('?').next().unwrap_or_default()).unwrap_or("/").to_owned();
    }
    let base = actuator(e).and_then(|actuator| path(path_of(&actuator.base))).unwrap_or("/actuator");
    format!("{}/prometheus", base.trim_end_matches('/'))
}
