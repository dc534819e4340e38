//! The half without privilege: it asks the helper for the state of the host, and sends heartbeats.

mod agent;
pub mod answer;
pub mod body;
pub mod gaps;
pub mod link;
mod run;
pub mod schedule;
pub mod status;
pub mod token;

use std::path::{Path, PathBuf};

pub use run::{Options, run};

/// Identifies the host and its current start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostIdentity {
    /// Identifies the start of the host.
    pub boot_id: String,
    /// The name of the host.
    pub hostname: String,
}

impl HostIdentity {
    /// That of this host.
    pub fn read() -> Self {
        let kernel = Path::new("/proc/sys/kernel");
        let text = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Self { boot_id: text(kernel.join("random/boot_id")), hostname: text(kernel.join("hostname")) }
    }
}
