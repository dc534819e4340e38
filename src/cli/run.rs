//! The composition root. Written by the lead; this stands in until the branches meet.

use super::args::RunArgs;

/// Runs the operator until SIGTERM.
///
/// # Errors
/// Always, on this branch.
#[expect(clippy::unused_async, reason = "the composition root awaits")]
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    anyhow::bail!("the operator is not wired on this branch (it would listen on {})", args.listen)
}
