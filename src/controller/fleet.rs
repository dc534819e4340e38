//! Both kinds, for whoever asks.

use std::sync::Arc;

use super::{backend, connector};
use crate::admin::{BackendView, ConnectorView, Facts, Fleet, Standing};

/// All that this process looks after.
pub struct Everything {
    /// The connectors.
    pub connectors: Arc<connector::view::Known>,
    /// The backends.
    pub backends: Arc<backend::view::Known>,
}

impl Fleet for Everything {
    fn connectors(&self, namespace: Option<&str>, each: &mut dyn FnMut(ConnectorView)) {
        self.connectors.connectors(namespace, each);
    }

    fn backends(&self, namespace: Option<&str>, each: &mut dyn FnMut(BackendView)) {
        self.backends.backends(namespace, self.connectors.follows(), each);
    }

    fn facts(&self) -> Facts {
        let mut facts = self.connectors.facts();
        if facts.leader != Standing::Follower {
            facts.status_write_pending += self.backends.pending();
        }
        facts.backends = self.backends.count();
        facts
    }
}
