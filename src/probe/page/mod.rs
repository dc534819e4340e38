//! Stands in for the reader of metrics pages until that is merged: the same interface, and of a page its lines alone.

use std::time::Duration;

use super::{Failure, MetricsOptions, Page};
use crate::api::{ErrorClass, Phase};

/// The headers of a scrape.
pub fn accept_headers(timeout: Duration) -> Vec<(&'static str, String)> {
    let seconds = timeout.as_secs_f64().to_string();
    vec![("accept", "text/plain;version=0.0.4".to_owned()), ("x-prometheus-scrape-timeout-seconds", seconds)]
}

/// Reads a page.
pub struct Reader(Page);

impl Reader {
    /// # Errors
    /// `ContentType` when it is not text.
    pub fn new(content_type: Option<&str>, _: &MetricsOptions) -> Result<Self, Failure> {
        if content_type.is_some_and(|it| it.starts_with("text/plain")) {
            return Ok(Self(Page::default()));
        }
        Err(Failure::new(ErrorClass::ContentType, Phase::Body, "the content type is not a supported one"))
    }

    /// # Errors
    /// `Exposition` at a line that begins with a dash.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), Failure> {
        self.0.samples += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
        if chunk.starts_with(b"-") {
            self.0.broken_at = Some((1, 0));
            return Err(Failure::new(ErrorClass::Exposition, Phase::Body, "line 1 is broken"));
        }
        Ok(())
    }

    /// What was read.
    pub fn page(&self) -> &Page {
        &self.0
    }

    /// Its end.
    pub fn finish(self) -> (Page, Result<(), Failure>) {
        (self.0, Ok(()))
    }
}
