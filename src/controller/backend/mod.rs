//! Backends: probed in rounds, investigated when they turn bad, and told of in their status.

pub mod ailing;
pub mod assess;
pub mod context;
pub mod decide;
pub mod drive;
pub mod entry;
pub mod investigate;
pub mod prepare;
pub mod reconcile;
pub mod request;
pub mod rounds;
pub mod sight;
pub mod view;
pub mod watch;
mod workload;
