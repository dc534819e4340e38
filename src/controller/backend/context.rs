//! The context of the reconciles of MonitoredBackends.

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::controller::runtime::Runtime;
use crate::monitor::agent::AgentReader;
use crate::monitor::context::{Command, Monitor, Parts, ProbeSettings};

/// The context of the reconciles of MonitoredBackends.
pub struct Context {
    /// The parts that both kinds have.
    pub runtime: Runtime<Self>,
    /// Probes and investigates the backends.
    pub monitor: Arc<Monitor>,
}

impl Context {
    /// A context without backends, and the receiving end of the commands for the probe scheduler.
    pub fn new(
        runtime: Runtime<Self>,
        settings: ProbeSettings,
        agents: Box<AgentReader>,
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
            agents,
        };
        let (monitor, commands) = Monitor::new(parts, settings);
        (Arc::new(Self { runtime, monitor }), commands)
    }
}

impl Deref for Context {
    type Target = Runtime<Self>;

    fn deref(&self) -> &Runtime<Self> {
        &self.runtime
    }
}
