//! I/O of remedies: reads workloads, restarts them, evicts pods. Decides nothing.
//!
//! The client must send each request once ([`crate::cluster::Clients::no_retry`]): kube's own retries would continue after
//! the permit ran out, and outlast the time limit of the call.

mod budgets;
mod kinds;
mod read;
mod restart;
mod rollout;
#[cfg(test)]
mod tests;

pub use budgets::protect;
pub use read::{OwnPod, read};
pub use restart::{CallResult, RestartOrder, evict, restart};
