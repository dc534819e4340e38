//! The thin I/O of remedies: reads workloads, restarts them, evicts pods. Nothing is decided here.
//!
//! Give it a client that sends each request once ([`crate::cluster::Clients::lease`]): kube's own repetitions would go
//! on after the permit ran out, and outlast the limit on each call.

mod act;
mod budgets;
mod kinds;
mod read;
mod rollout;
#[cfg(test)]
mod tests;

pub use act::{Done, Order, evict, restart};
pub use budgets::protect;
pub use read::{Me, read};
