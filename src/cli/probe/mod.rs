//! `vigie probe`: one probe, phase by phase, and what the operator would conclude from it.

pub mod args;
mod options;
mod report;
mod run;
#[cfg(test)]
mod tests;

use args::{Format, ProbeArgs};

use super::{Unwell, Usage, output};
use crate::api::ErrorClass;
use crate::monitor::target;
use crate::probe::Scheme;

/// Probes once and prints what was seen.
///
/// # Errors
/// [`Usage`] when the flags or the file make no sense, [`Unwell`] when the probe failed, anything else when it could not
/// be made.
pub(super) async fn probe(args: ProbeArgs) -> anyhow::Result<()> {
    let (spec, secrets) = options::read(&args)?;
    let target = target::of_url(&args.url).map_err(|why| Usage(why.replace("spec.target.url", "the URL")))?;
    let is_http = matches!(target.scheme, Scheme::Http | Scheme::Https);
    if spec.metrics.is_some() && !is_http {
        return Err(Usage("a metrics page needs an http or https URL".to_owned()).into());
    }
    if spec.actuator.as_ref().is_some_and(|actuator| actuator.port.is_none()) && !is_http {
        return Err(Usage("an actuator beside the target needs an http or https URL".to_owned()).into());
    }
    let run = run::run(&args, spec, target, &secrets).await?;
    if let Err(failure) = &run.outcome.result
        && failure.class == ErrorClass::Internal
    {
        anyhow::bail!("this could not be probed: {}", failure.message);
    }
    output::print(&match args.output {
        Format::Text => report::text(&run),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&report::json(&run))?),
    })?;
    if run.passed() { Ok(()) } else { Err(Unwell.into()) }
}
