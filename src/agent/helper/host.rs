//! The hands of the helper: systemd and the container engine.

use std::path::PathBuf;

use super::{docker, systemd};
use crate::agent::actions::engine::Host;
use crate::agent::actions::{Run, Seen};
use crate::api::Target;

/// This host.
pub(super) struct ThisHost {
    /// The socket of the container engine.
    pub(super) docker_socket: PathBuf,
}

impl Host for ThisHost {
    async fn observe(&self, target: &Target, run: Option<&Run>) -> Result<Seen, String> {
        match target {
            Target::Unit(unit) => systemd::observe(unit).await,
            Target::Container(_) | Target::Compose { .. } => docker::observe(&self.docker_socket, target, run).await,
        }
    }

    async fn restart(&self, target: &Target) -> Result<(), String> {
        match target {
            Target::Unit(unit) => systemd::restart(unit).await,
            Target::Compose { project, service } => docker::create(&self.docker_socket, project, service).await,
            Target::Container(name) => Err(format!("{name} does not exist")),
        }
    }

    async fn stop(&self, run: &Run) -> Result<(), String> {
        docker::stop(&self.docker_socket, run).await
    }

    async fn start(&self, run: &Run) -> Result<(), String> {
        docker::start(&self.docker_socket, run).await
    }
}
