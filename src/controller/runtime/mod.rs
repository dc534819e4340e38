//! Runs the reconciles of one kind: the watch, the triggers, the steps, the writes, the retries. Generic over [`Kind`].

pub mod apply;
pub mod calls;
pub mod checkpoints;
pub mod contest;
pub mod kept;
pub mod kind;
pub mod queue;
pub mod recovery;
pub mod retry;
pub mod run;
pub mod shared;
pub mod state;
mod trim;
pub mod wake;
pub mod watch;
pub mod watch_log;

pub use kind::{Kind, ObjectEntry, Plan, Step};
pub use shared::{Runtime, Shared};
