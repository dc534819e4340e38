//! `vigie install-command`: prints the script that installs the agent on the host of a connector.

mod script;

use std::io::IsTerminal;

use anyhow::{Context, bail};
use clap::Args;
use kube::api::{Api, DynamicObject};
use sha2::{Digest, Sha256};

use self::script::Script;
use super::args::TokenArgs;
use super::get::ResourceKind;
use super::{Usage, get, output, token};
use crate::cluster::{ConnectionArgs, PersonalClient, ask, connect_person};
use crate::operator::flag_values as values;

/// The flags of `vigie install-command`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Examples:
  vigie install-command edge-1 -n gateways --url https://vigie.example.com > install.sh
      a script that asks for the token on the terminal of the host
  vigie install-command edge-1 -n gateways --url https://vigie.example.com --with-token | ssh root@edge-1 bash -s
      with the token, which travels on standard input alone
  vigie install-command vm-7 -n shop --url https://vigie.example.com --backend orders=compose:orders:backend

The host gets the binary from the operator. The script checks it by the hash of this program, so use the vigie of the
operator's version; or say --sha256. Run the script again to update.")]
pub struct InstallCommandArgs {
    /// The connector
    #[arg(value_name = "NAME", value_parser = values::name)]
    pub name: String,
    /// Its namespace [default: the context's]
    #[arg(short, long, value_name = "NS", value_parser = values::namespace)]
    pub namespace: Option<String>,
    /// The operator's port for heartbeats, as the host reaches it
    #[arg(long, value_name = "URL", value_parser = values::url)]
    pub url: String,
    /// Lets the token go over http://
    #[arg(long)]
    pub allow_insecure: bool,
    /// What runs the connector: NAME.service, container:NAME or compose:PROJECT:SERVICE [default: spec.agentRef.unit]
    #[arg(long, value_name = "UNIT")]
    pub unit: Option<String>,
    /// A MonitoredBackend on this host, whose spec.agentRef.unit says what runs it, or NAME=UNIT; can be repeated.
    /// NAME=UNIT,URL adds the endpoint on the host that must answer
    #[arg(long = "backend", value_name = "NAME")]
    pub backends: Vec<String>,
    /// The host downloads the binary from here instead of from the operator; needs --sha256
    #[arg(long, value_name = "URL", requires = "sha256")]
    pub download_url: Option<String>,
    /// The hash of the binary [default: that of this program]
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub sha256: Option<String>,
    /// Writes the token into the script; refused on a terminal
    #[arg(long)]
    pub with_token: bool,
    /// Which cluster.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

fn sha256(text: &str) -> Result<String, String> {
    let is_hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { Ok(text.to_ascii_lowercase()) } else { Err("a SHA-256 has 64 hexadecimal digits".to_owned()) }
}

/// Prints the script.
///
/// # Errors
/// The flags do not fit, or an object cannot be read.
pub(super) async fn print(args: InstallCommandArgs) -> anyhow::Result<()> {
    if args.with_token && std::io::stdout().is_terminal() {
        let message = "--with-token would show the token on this terminal: pipe it, as in | ssh root@HOST bash -s";
        return Err(Usage(message.to_owned()).into());
    }
    check_urls(&args)?;
    let sha256 = match &args.sha256 {
        Some(given) => given.clone(),
        None => own_hash()?,
    };
    let PersonalClient { client, default_namespace, .. } = connect_person(&args.connection).await?;
    let namespace = args.namespace.clone().unwrap_or(default_namespace);
    let connectors: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &get::resource());
    let connector = format!("{namespace}/{}", args.name);
    let object = ask(&format!("reading the connector {connector}"), connectors.get_opt(&args.name)).await?;
    let object = object.with_context(|| format!("there is no connector {:?} in namespace {namespace:?}", args.name))?;
    if let Some(id) = text(&object, "/spec/connectorID").filter(|id| *id != connector) {
        bail!("{connector} has the connectorID {id:?}, and an agent beats by namespace and name");
    }
    let unit = args.unit.clone().or_else(|| text(&object, "/spec/agentRef/unit").map(str::to_owned));
    let mut arguments = vec!["--url".to_owned(), args.url.clone(), "--connector".to_owned(), connector.clone()];
    if args.allow_insecure {
        arguments.push("--allow-insecure".to_owned());
    }
    if let Some(unit) = unit {
        arguments.extend(["--unit".to_owned(), unit]);
    }
    let backends: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &ResourceKind::Backends.resource());
    for backend in &args.backends {
        arguments.extend(["--backend".to_owned(), backend_argument(&backends, backend).await?]);
    }
    let token = match args.with_token {
        true => {
            let which = TokenArgs { name: args.name.clone(), namespace: Some(namespace), connection: args.connection };
            Some(token::read(&which).await?)
        }
        false => None,
    };
    let script = Script {
        url: &args.url,
        connector: &connector,
        download_url: args.download_url.as_deref(),
        sha256: &sha256,
        arguments: &arguments,
        token: token.as_deref(),
        allow_insecure: args.allow_insecure,
    };
    output::print(&script.text())
}

fn check_urls(args: &InstallCommandArgs) -> Result<(), Usage> {
    let urls = [Some(&args.url), args.download_url.as_ref()];
    match urls.into_iter().flatten().find(|url| !url.starts_with("https://")) {
        Some(url) if !args.allow_insecure => Err(Usage(format!(
            "{url} is not https://: the token or the binary could be changed or read on the way; --allow-insecure lets it"
        ))),
        _ => Ok(()),
    }
}

fn own_hash() -> anyhow::Result<String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        let message = "this program is not the one for hosts (Linux on x86_64): say the hash of that one with --sha256";
        return Err(Usage(message.to_owned()).into());
    }
    // Also when the file was replaced since.
    let own = std::fs::read("/proc/self/exe").context("reading this program")?;
    Ok(Sha256::digest(own).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn text<'a>(object: &'a DynamicObject, pointer: &str) -> Option<&'a str> {
    object.data.pointer(pointer).and_then(serde_json::Value::as_str)
}

async fn backend_argument(backends: &Api<DynamicObject>, given: &str) -> anyhow::Result<String> {
    if given.contains('=') {
        return Ok(given.to_owned());
    }
    let object = ask(&format!("reading the backend {given}"), backends.get_opt(given)).await?;
    let object =
        object.with_context(|| format!("there is no MonitoredBackend {given:?} in the connector's namespace"))?;
    match text(&object, "/spec/agentRef/unit") {
        Some(unit) => Ok(format!("{given}={unit}")),
        None => Err(Usage(format!("the backend {given} has no spec.agentRef.unit: say --backend {given}=UNIT")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_has_64_hexadecimal_digits() {
        assert_eq!(sha256(&script::tests::SHA256.to_uppercase()).as_deref(), Ok(script::tests::SHA256));
        for bad in ["", "e3b0", &"g".repeat(64)] {
            assert!(sha256(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_hash_is_that_of_this_program() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let expected: String = Sha256::digest(own).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(own_hash().unwrap(), expected);
    }
}
