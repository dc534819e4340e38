//! Backends: probed in rounds, investigated when they turn bad, and told of in their status.

pub mod assess;
pub mod decide;
pub mod drive;
pub mod reconcile;
pub mod remediation_input;
pub mod view;
pub mod watch;
