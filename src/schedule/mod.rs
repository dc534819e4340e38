//! Timing, generic over what is scheduled: deadlines, phases within an interval, concurrency limits, checkpoints, and
//! the detection of times at which the process, or one of its tasks, did not run.

mod burst_limit;
pub mod checkpoints;
mod concurrency_limit;
mod deadlines;
mod fair_queue;
mod fair_share;
mod pulse;
mod spread;
mod watchdog;

pub use burst_limit::BurstLimit;
pub use concurrency_limit::{ConcurrencyLimiter, Permit};
pub use deadlines::Deadlines;
pub use fair_queue::{FairQueue, Namespaced};
pub use fair_share::{FairShare, Place};
pub use pulse::{TICK, frozen_for};
pub use spread::{phase_of, turn_after};
pub use watchdog::{Blocked, WATCH_EVERY, Watchdog};
