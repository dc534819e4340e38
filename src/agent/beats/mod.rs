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

use std::io;
use std::path::{Path, PathBuf};

pub use run::{Options, run};

/// The file of the runtime folder with the reason for a stop, which the installer leaves before it stops the agent.
pub const STOPPING: &str = "stopping";

/// Replaces a file in one step, without waiting for the disk.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(temporary, path)
}

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

/// Seconds since the host started, time asleep included.
fn uptime() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(['.', ' ']).next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
}
