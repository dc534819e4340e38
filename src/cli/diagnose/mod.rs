//! `vigie diagnose`: gathers evidence and diagnoses with the rights and from the host of the user. It needs no operator;
//! where one runs, its last status is further evidence.

pub mod args;
mod backend;
mod commands;
mod connector;
mod report;
mod saved;
#[cfg(test)]
mod tests;
mod text;
mod token;
mod vantages;

use args::DiagnoseCommand;

/// The health of the object, as the exit code reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExitHealth {
    Well,
    Unwell,
}

/// The reports about saved evidence, as text and as JSON: those of `vigie diagnose backend --from`.
///
/// # Errors
/// When `saved` is no evidence.
pub fn explain_saved(saved: &[u8]) -> anyhow::Result<(String, serde_json::Value)> {
    let evidence = saved::parse("the evidence", saved)?;
    let views = backend::saved_views(&evidence);
    let report = report::Report { evidence: &evidence, views: &views, operator: None };
    Ok((report.text(evidence.gathered_at), report.json()))
}

/// Diagnoses one object and prints the report.
///
/// # Errors
/// When there is no such object, cluster or file.
pub(super) async fn diagnose(command: DiagnoseCommand) -> anyhow::Result<ExitHealth> {
    match command {
        DiagnoseCommand::Backend(args) => backend::diagnose(*args).await,
        DiagnoseCommand::Connector(args) => connector::diagnose(args).await,
    }
}
