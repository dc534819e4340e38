//! `vigie agent install` and `vigie agent uninstall`.

use clap::Args;

use super::token;
use crate::agent::config::{BackendConfig, BadConfig};
use crate::agent::install::detect::{Found, Wanted, configuration, legacy_iptables};
use crate::agent::install::{self, Install, Removed, units};
use crate::agent::layout::{AGENT_UNIT, CONFIG, CONFIG_FOLDER, HELPER_UNIT, TOKEN, UNITS};
use crate::api::Target;
use crate::cli::{Usage, output};
use crate::operator::flag_values as values;

/// The flags of `vigie agent install`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "vigie install-command prints a script that downloads this program and calls this.

Without a configuration it looks at the host and writes one; a configuration and a token that are there are kept. It
waits up to 60 s until the operator has heard the agent, and else puts everything back as it was.")]
pub struct InstallArgs {
    /// The operator, for a host without configuration
    #[arg(long, value_name = "URL", value_parser = values::url, requires = "connector")]
    pub url: Option<String>,
    /// The connector, as NAMESPACE/NAME
    #[arg(long, value_name = "NAMESPACE/NAME", requires = "url")]
    pub connector: Option<String>,
    /// Lets the token go over http://
    #[arg(long)]
    pub allow_insecure: bool,
    /// What runs the connector: NAME.service, container:NAME or compose:PROJECT:SERVICE
    #[arg(long, value_name = "UNIT")]
    pub unit: Option<Target>,
    /// A MonitoredBackend on this host: NAME=UNIT, or NAME=UNIT,URL with the endpoint that must answer; can be repeated
    #[arg(long = "backend", value_name = "NAME=UNIT", value_parser = backend)]
    pub backends: Vec<BackendConfig>,
    /// Reads the token from the first line of stdin
    #[arg(long)]
    pub token_stdin: bool,
    /// Prints the units and the configuration, and writes nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Takes the host for one with this version of systemd
    #[arg(long, value_name = "VERSION", hide = true)]
    pub systemd: Option<u32>,
}

/// The flags of `vigie agent uninstall`.
#[derive(Args, Debug, Clone)]
pub struct UninstallArgs {
    /// Also removes the configuration and the token
    #[arg(long)]
    pub purge: bool,
}

fn backend(text: &str) -> Result<BackendConfig, String> {
    let (name, rest) = text.split_once('=').ok_or("it is NAME=UNIT, for example orders=compose:orders:backend")?;
    let (unit, probe) = rest.split_once(',').map_or((rest, None), |(unit, probe)| (unit, Some(probe.to_owned())));
    Ok(BackendConfig { name: name.to_owned(), unit: unit.parse()?, probe })
}

/// Installs, or prints what it would.
///
/// # Errors
/// [`Usage`] for a wrong configuration, else why the agent is not installed.
pub(super) async fn install(args: InstallArgs) -> anyhow::Result<()> {
    let InstallArgs { url, connector, allow_insecure, unit, backends, token_stdin, dry_run, systemd } = args;
    let wanted = url.zip(connector).map(|(url, connector)| Wanted { url, connector, allow_insecure, unit, backends });
    if dry_run {
        return output::print(&plan(wanted.as_ref(), systemd.unwrap_or(units::CREDENTIALS_SINCE)));
    }
    let token = if token_stdin { Some(token::from_stdin()?) } else { None };
    match install::install(Install { wanted, token, systemd }).await {
        Ok(text) => output::print(&text),
        Err(error) if error.downcast_ref::<BadConfig>().is_some() => Err(Usage(format!("{error:#}")).into()),
        Err(error) => Err(error),
    }
}

fn plan(wanted: Option<&Wanted>, systemd: u32) -> String {
    let host = units::Host { systemd, legacy_iptables: legacy_iptables() };
    let mut files = vec![
        (format!("{UNITS}/{AGENT_UNIT}"), units::agent(host)),
        (format!("{UNITS}/{HELPER_UNIT}"), units::helper(host)),
    ];
    if let Some(wanted) = wanted {
        let token_file = (systemd < units::CREDENTIALS_SINCE).then_some(TOKEN);
        files.push((CONFIG.to_owned(), configuration(wanted, &Found::look(), token_file)));
    }
    files.iter().map(|(path, text)| format!("==> {path}\n{text}")).collect::<Vec<_>>().join("\n")
}

/// Uninstalls.
///
/// # Errors
/// Something cannot be removed.
pub(super) fn uninstall(args: &UninstallArgs) -> anyhow::Result<()> {
    let Removed(paths) = install::uninstall(args.purge)?;
    if paths.is_empty() {
        return output::print("the agent was not installed\n");
    }
    let kept = match args.purge {
        true => String::new(),
        false => format!("kept: the configuration and the token in {CONFIG_FOLDER}; --purge removes them too\n"),
    };
    let lines: String = paths.iter().map(|path| format!("removed {}\n", path.display())).collect();
    output::print(&format!("{lines}{kept}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_a_name_what_runs_it_and_perhaps_an_endpoint() {
        let unit: Target = "compose:orders:backend".parse().unwrap();
        let orders = BackendConfig { name: "orders".into(), unit, probe: None };
        assert_eq!(backend("orders=compose:orders:backend"), Ok(orders.clone()));
        let url = "http://127.0.0.1:8081/health?a=b,c";
        let probed = BackendConfig { probe: Some(url.into()), ..orders };
        assert_eq!(backend(&format!("orders=compose:orders:backend,{url}")), Ok(probed));
        assert!(backend("orders").is_err());
        assert!(backend("orders=../x").is_err());
    }
}
