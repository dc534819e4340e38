//! `vigie agent install` and `uninstall`: two units, a configuration, a token and the binary, on this host.

mod apply;
pub mod detect;
mod farewell;
pub mod heard;
mod undo;
pub mod units;

pub use apply::{Install, Removed, install, uninstall};
