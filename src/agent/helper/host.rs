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
    /// Whether absent services of compose are created.
    pub(super) compose_up: bool,
}

impl Host for ThisHost {
    async fn observe(&self, target: &Target, run: Option<&Run>) -> Result<Seen, String> {
        match target {
            Target::Unit(unit) => systemd::observe(unit).await,
            Target::Compose { project, service } if self.compose_up => {
                // Asked for first: when it has ended, the container shows what came of it.
                let has_job = systemd::is_active(&docker::unit_of_up(project, service)).await?;
                let seen = docker::observe(&self.docker_socket, target, run).await?;
                Ok(Seen { has_job, ..seen })
            }
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
