//! The sites with mass silence: the deadline scheduler sets them, reconciles and views read them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

/// The sites that are silent as a whole, and the counts at the start of the silence.
#[derive(Debug, Default)]
pub struct Sites(RwLock<HashMap<Arc<str>, Arc<str>>>);

impl Sites {
    /// The counts at the start of the mass silence of `domain`, such as `4 of 5`; `None` while there is none.
    pub fn mass_silence(&self, domain: &str) -> Option<Arc<str>> {
        self.0.read().get(domain).cloned()
    }

    /// Sets the start or the end of the mass silence of `domain`.
    pub fn set(&self, domain: &Arc<str>, counts: Option<String>) {
        let mut sites = self.0.write();
        match counts {
            Some(counts) => sites.insert(domain.clone(), counts.into()),
            None => sites.remove(domain),
        };
    }

    /// The domains with mass silence, in their order.
    pub fn silent(&self) -> Vec<Arc<str>> {
        let mut domains: Vec<_> = self.0.read().keys().cloned().collect();
        domains.sort_unstable();
        domains
    }

    /// Removes all sites.
    pub fn clear(&self) {
        self.0.write().clear();
    }
}
