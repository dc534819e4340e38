//! `vigie diagnose`: the whole reasoning, with the rights and from the place of whoever asks. The operator is not
//! needed; where it runs, what it wrote last is one more thing that is seen.

pub mod args;
mod backend;
mod choose;
mod commands;
mod connector;
mod report;
mod saved;
#[cfg(test)]
mod tests;
mod text;
mod token;

use args::DiagnoseCommand;

/// Whether what was looked into is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// Nothing is wrong with it.
    Well,
    /// Something is.
    Unwell,
}

/// Looks into one object and prints what there is to say.
///
/// # Errors
/// When it cannot be looked into at all: no such object, no cluster, no file.
pub(super) async fn diagnose(command: DiagnoseCommand) -> anyhow::Result<Health> {
    match command {
        DiagnoseCommand::Backend(args) => backend::diagnose(*args).await,
        DiagnoseCommand::Connector(args) => connector::diagnose(args).await,
    }
}
