//! The context of the reconciles of MonitoredBackends.

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::agents;
use crate::controller::runtime::Runtime;
use crate::heartbeat::registry::Registry;
use crate::monitor::context::{Command, Monitor, Parts, ProbeSettings};

/// The context of the reconciles of MonitoredBackends.
pub struct Context {
    /// The parts that both kinds have.
    pub runtime: Runtime<Self>,
    /// Probes and investigates the backends.
    pub monitor: Arc<Monitor>,
    /// The Connectors, whose agents look after backends.
    pub registry: Arc<Registry>,
}

impl Context {
    /// A context without backends, and the receiving end of the commands for the probe scheduler.
    pub fn new(
        runtime: Runtime<Self>,
        settings: ProbeSettings,
        registry: Arc<Registry>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Command>) {
        let trigger = runtime.trigger.clone();
        let parts = Parts {
            client: runtime.client.clone(),
            clock: runtime.clock,
            leadership: runtime.leadership.clone(),
            metrics: runtime.metrics.clone(),
            reporter: runtime.reporter.clone(),
            watchdog: runtime.watchdog.clone(),
            wake: Box::new(move |key| trigger.wake(key)),
            agents: {
                let registry = registry.clone();
                Box::new(move |backend, now| agents::read(&registry, backend, now))
            },
        };
        let (monitor, commands) = Monitor::new(parts, settings);
        (Arc::new(Self { runtime, monitor, registry }), commands)
    }
}

impl Deref for Context {
    type Target = Runtime<Self>;

    fn deref(&self) -> &Runtime<Self> {
        &self.runtime
    }
}
