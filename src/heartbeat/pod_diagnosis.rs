//! The diagnosis of the pods of a silent connector.

use std::sync::Arc;

use crate::api::Diagnosis;

/// The diagnosis of the pods of a silent connector.
#[derive(Clone, Debug, Default)]
pub enum PodDiagnosis {
    /// The pods have not been read during this silence, or could not be read.
    #[default]
    Unseen,
    /// The pods were read: the cause of the silence, or `None` when they do not explain it.
    Seen(Option<Arc<Diagnosis>>),
}

impl PodDiagnosis {
    /// The cause of the silence, when the pods explain it.
    pub fn why(&self) -> Option<&Diagnosis> {
        match self {
            Self::Seen(why) => why.as_deref(),
            Self::Unseen => None,
        }
    }
}
