//! `vigie agent install` and `uninstall`: two units, a configuration, a token and the binary, on this host.

mod apply;
pub mod detect;
mod farewell;
pub mod heard;
mod undo;
pub mod units;

pub use apply::{Install, Removed, install, uninstall};

/// The binary that the units run.
pub const BINARY: &str = "/usr/local/bin/vigie";
/// The token.
pub const TOKEN: &str = super::beats::token::DEFAULT_FILE;
