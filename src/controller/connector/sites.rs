//! Mass silence, site by site, for everybody who asks.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

/// Which sites are silent as a whole, and the counts that it began with.
#[derive(Debug, Default)]
pub struct Sites(RwLock<HashMap<Arc<str>, Arc<str>>>);

impl Sites {
    /// The counts that mass silence of `domain` began with, such as `4 of 5`; `None` while there is none.
    pub fn mass_silence(&self, domain: &str) -> Option<Arc<str>> {
        self.0.read().get(domain).cloned()
    }

    /// Mass silence of `domain` began, or ended.
    pub fn set(&self, domain: &Arc<str>, counts: Option<String>) {
        let mut sites = self.0.write();
        match counts {
            Some(counts) => sites.insert(domain.clone(), counts.into()),
            None => sites.remove(domain),
        };
    }

    /// The domains that fell silent as a whole, in their order.
    pub fn silent(&self) -> Vec<Arc<str>> {
        let mut domains: Vec<_> = self.0.read().keys().cloned().collect();
        domains.sort_unstable();
        domains
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.0.write().clear();
    }
}
