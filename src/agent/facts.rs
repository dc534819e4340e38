//! The state of the host, as the helper reads it and sends it to the agent.

use serde::{Deserialize, Serialize};

/// The state of the host at one look.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {}
