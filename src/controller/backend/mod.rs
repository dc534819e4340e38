//! MonitoredBackends: from probes and evidence to status and events.

pub mod agents;
mod apply;
pub mod assess;
pub mod context;
pub mod decide;
#[cfg(test)]
pub(super) mod fake;
mod observe;
pub mod reconcile;
pub mod remediation_input;
pub mod view;
