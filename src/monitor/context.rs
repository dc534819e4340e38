//! The context of the work on MonitoredBackends: probes, investigations and reconciles.

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use super::registry::{Backend, Backends};
use super::self_check::SelfCheck;
use crate::controller::runtime::Runtime;
use crate::diagnosis::gather::ServerCache;
use crate::probe::{Policy, Prober};
use crate::schedule::ConcurrencyLimiter;

/// The number of objects that are read at once for investigations, and as many for the resolution of targets; over HTTP/1.1
/// each opens a connection.
pub const LOOKS_AT_ONCE: usize = 8;

/// The settings of the probes.
pub struct ProbeSettings {
    /// The addresses that may be dialled.
    pub policy: Policy,
    /// The number of probes at once, at least 2.
    pub places: usize,
    /// The Prometheus for specs that name none.
    pub prometheus_url: Option<String>,
    /// Namespace and name of the operator's own pod, in a cluster.
    pub pod: Option<(String, String)>,
}

/// The context of the work on MonitoredBackends.
pub struct Context {
    /// The parts that both kinds have.
    pub runtime: Runtime<Self>,
    /// All backends.
    pub backends: Arc<Backends>,
    /// Dials the targets.
    pub prober: Arc<Prober>,
    /// Limits the probes at once.
    pub places: ConcurrencyLimiter,
    /// Whether the operator can see its targets.
    pub self_check: SelfCheck,
    /// The Prometheus for specs that name none.
    pub prometheus_url: Option<String>,
    /// Namespace and name of the operator's own pod, in a cluster: investigations check whether NetworkPolicies admit it.
    pub pod: Option<(String, String)>,
    /// The last answers of the Prometheus servers.
    pub servers: Arc<ServerCache>,
    /// Limits the investigations at once.
    pub looks: Arc<Semaphore>,
    /// Limits the resolutions of targets at once. Separate from `looks`: an investigation may hang, and must not delay
    /// probes.
    pub lookups: Arc<Semaphore>,
    /// The commands for the probe scheduler.
    pub commands: mpsc::UnboundedSender<Command>,
}

impl Deref for Context {
    type Target = Runtime<Self>;

    fn deref(&self) -> &Runtime<Self> {
        &self.runtime
    }
}

/// A command for the probe scheduler.
#[derive(Debug)]
pub enum Command {
    /// The backend is new, or its spec changed.
    Look(Arc<Backend>),
    /// The backend is gone.
    Gone(Arc<Backend>),
    /// This replica began to lead, or the process was suspended: nothing that was due before is due now.
    Anew,
}

impl Context {
    /// A context without backends, and the receiving end of the commands for the probe scheduler.
    pub fn new(runtime: Runtime<Self>, settings: ProbeSettings) -> (Arc<Self>, mpsc::UnboundedReceiver<Command>) {
        let (commands, received) = mpsc::unbounded_channel();
        let context = Self {
            backends: Arc::default(),
            prober: Arc::new(Prober::new(settings.policy)),
            places: ConcurrencyLimiter::new(settings.places),
            self_check: SelfCheck::new(runtime.clock),
            runtime,
            prometheus_url: settings.prometheus_url,
            pod: settings.pod,
            servers: Arc::default(),
            looks: Arc::new(Semaphore::new(LOOKS_AT_ONCE)),
            lookups: Arc::new(Semaphore::new(LOOKS_AT_ONCE)),
            commands,
        };
        (Arc::new(context), received)
    }

    /// Requests the reconcile of every backend.
    pub fn wake_all(&self) {
        for backend in self.backends.all() {
            self.trigger.wake(&backend.key);
        }
    }
}
