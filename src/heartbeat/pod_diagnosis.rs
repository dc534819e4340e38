//! What is known of the pods behind a connector.

use std::sync::Arc;

use crate::api::Diagnosis;

/// The pods behind a connector that is silent.
#[derive(Clone, Debug, Default)]
pub enum PodDiagnosis {
    /// Nobody has looked at them in this silence, or they could not be seen.
    #[default]
    Unseen,
    /// They were looked at: why they do not do their work, or `None` when they explain nothing.
    Seen(Option<Arc<Diagnosis>>),
}

impl PodDiagnosis {
    /// Why they do not do their work, where that is known.
    pub fn why(&self) -> Option<&Diagnosis> {
        match self {
            Self::Seen(why) => why.as_deref(),
            Self::Unseen => None,
        }
    }
}
