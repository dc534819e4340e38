//! `vigie token show|rotate|revoke`: uses the API server alone, with the rights of the user.

mod source;
#[cfg(test)]
mod tests;

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::args::{RevokeArgs, TokenArgs, TokenChange};
use super::get::resource;
use super::{FIELD_MANAGER, output};
use crate::cluster::{PersonalClient, ask, connect_person};
pub(super) use source::TokenSource;

/// The annotation that requests the end of every token (`docs/design/api.md`, Annotations).
const REVOKE_REQUESTED: &str = "vigie.dev/revoke-requested";
/// The attempts of a rotation when other writers change the same object.
const ATTEMPTS: usize = 5;
/// The interval of `--wait`.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Prints the token of a connector, and nothing else, on stdout.
///
/// # Errors
/// When there is none, or the user may not read it.
pub(super) async fn show(args: TokenArgs) -> anyhow::Result<()> {
    output::print(&format!("{}\n", read(&args).await?))
}

/// The token of a connector.
///
/// # Errors
/// When there is none, or the user may not read it.
pub(super) async fn read(args: &TokenArgs) -> anyhow::Result<String> {
    TokenTarget::of(args).await?.token().await
}

/// Requests a new token and prints the next steps.
///
/// # Errors
/// When the connector has no token from vigie, or cannot be changed.
pub(super) async fn rotate(args: TokenChange) -> anyhow::Result<()> {
    let target = TokenTarget::of(&args.token).await?;
    let (generation, grace) = target.rotate().await?;
    output::print(&rotation_text(&target, generation, grace))?;
    if !args.wait {
        return Ok(());
    }
    let done = |object: &Value| source::observed_rotation(object) >= generation && source::is_in_secret(object);
    let object = target.wait(args.timeout, done).await?;
    let until = object.pointer("/status/token/graceUntil").and_then(Value::as_str);
    let until = until.map_or_else(String::new, |until| format!("; the old one works until {until} at most"));
    output::print(&format!("the new token is there{until}\n"))
}

fn rotation_text(target: &TokenTarget, generation: i64, grace: i64) -> String {
    let TokenTarget { namespace, name, .. } = target;
    let old = match grace {
        0 => "ends as soon as the new one is made".to_owned(),
        seconds => format!("works until the new one is first used, {seconds} s at most"),
    };
    format!(
        "rotation {generation} of {namespace}/{name} is asked for\n\
         the old token {old}\n\
         once it is made, get the new one with: vigie token show {name} -n {namespace}\n"
    )
}

/// Requests the end of every token, and a new one.
///
/// # Errors
/// When it is not confirmed, the connector has no token from vigie, or cannot be changed.
pub(super) async fn revoke(args: RevokeArgs) -> anyhow::Result<()> {
    let target = TokenTarget::of(&args.change.token).await?;
    let before = target.issued().await?;
    if !args.yes {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            bail!("nothing was revoked: this cannot be undone, so without a terminal --yes is needed");
        }
        if !confirmed(&target, &mut stdin.lock(), &mut std::io::stderr())? {
            bail!("nothing was revoked");
        }
    }
    target.revoke(Timestamp::now()).await?;
    let TokenTarget { namespace, name, .. } = &target;
    output::print(&format!(
        "every token of {namespace}/{name} is being ended; until it has the new one it gets 401\n\
         once it is made, get the new one with: vigie token show {name} -n {namespace}\n"
    ))?;
    if args.change.wait {
        let before = source::delivered(&before);
        target
            .wait(args.change.timeout, |object| source::delivered(object) > before && source::is_in_secret(object))
            .await?;
        output::print("the new token is there\n")?;
    }
    Ok(())
}

fn confirmed(target: &TokenTarget, from: &mut impl BufRead, to: &mut impl Write) -> std::io::Result<bool> {
    let TokenTarget { namespace, name, .. } = target;
    write!(to, "End every token of {namespace}/{name} now? It is cut off until it has the new one. [y/N] ")?;
    to.flush()?;
    let mut answer = String::new();
    from.read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// The connector whose token is read or changed.
struct TokenTarget {
    client: Client,
    connectors: Api<DynamicObject>,
    namespace: String,
    name: String,
}

impl TokenTarget {
    async fn of(args: &TokenArgs) -> anyhow::Result<Self> {
        let PersonalClient { client, default_namespace, .. } = connect_person(&args.connection).await?;
        let namespace = args.namespace.clone().unwrap_or(default_namespace);
        Ok(Self::new(client, namespace, args.name.clone()))
    }

    fn new(client: Client, namespace: String, name: String) -> Self {
        let connectors = Api::namespaced_with(client.clone(), &namespace, &resource());
        Self { client, connectors, namespace, name }
    }

    async fn read(&self) -> anyhow::Result<DynamicObject> {
        let doing = format!("reading the connector {}/{}", self.namespace, self.name);
        let found = ask(&doing, self.connectors.get_opt(&self.name)).await?;
        found.with_context(|| format!("there is no connector {:?} in namespace {:?}", self.name, self.namespace))
    }

    /// Reads the connector; fails unless vigie makes its tokens.
    async fn issued(&self) -> anyhow::Result<Value> {
        let object = self.read().await?;
        match TokenSource::of(&object.data, &self.name) {
            TokenSource::Issued { .. } => Ok(object.data),
            other => bail!("{}/{} has no token of vigie's: {other}", self.namespace, self.name),
        }
    }

    async fn token(&self) -> anyhow::Result<String> {
        let object = self.read().await?;
        let secret_name = match TokenSource::of(&object.data, &self.name) {
            TokenSource::Issued { secret_name } => secret_name,
            other => bail!("{}/{} has no token of vigie's: {other}", self.namespace, self.name),
        };
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let path = format!("{}/{secret_name}", self.namespace);
        let secret = ask(&format!("reading the Secret {path}"), secrets.get_opt(&secret_name)).await?;
        let secret = secret.with_context(|| {
            format!("the Secret {path} does not exist: vigie makes it soon after the connector, if it runs")
        })?;
        let owner = object.uid();
        if !secret.owner_references().iter().any(|reference| Some(&reference.uid) == owner.as_ref()) {
            bail!("the Secret {path} does not belong to this connector: see its condition Provisioned");
        }
        let token = secret.data.unwrap_or_default().remove("token");
        let token = token.and_then(|bytes| String::from_utf8(bytes.0).ok());
        token.filter(|token| !token.is_empty()).with_context(|| format!("the Secret {path} holds no token"))
    }

    /// Raises the generation, and returns it with the grace in seconds. When another client raises it meanwhile, that
    /// rotation counts as the requested one: a second one would replace a token that was not used yet.
    async fn rotate(&self) -> anyhow::Result<(i64, i64)> {
        let mut first = None;
        for _ in 0..ATTEMPTS {
            let object = self.read().await?;
            match TokenSource::of(&object.data, &self.name) {
                TokenSource::Issued { .. } => {}
                other => bail!("{}/{} has no token of vigie's: {other}", self.namespace, self.name),
            }
            let (generation, grace) = (source::rotation(&object.data), source::grace_seconds(&object.data));
            if generation > *first.get_or_insert(generation) {
                return Ok((generation, grace));
            }
            let patch = json!({
                "metadata": {"resourceVersion": object.resource_version()},
                "spec": {"token": {"rotationGeneration": generation + 1}},
            });
            match self.patch(&patch).await? {
                Patched::Yes => return Ok((generation + 1, grace)),
                Patched::Conflict => {}
            }
        }
        bail!("{}/{} was changed by others {ATTEMPTS} times meanwhile: nothing was rotated", self.namespace, self.name)
    }

    /// Writes the annotation of the request. The last request counts, so a concurrent change is no conflict.
    async fn revoke(&self, now: Timestamp) -> anyhow::Result<()> {
        let patch = json!({"metadata": {"annotations": {REVOKE_REQUESTED: now.to_string()}}});
        match self.patch(&patch).await? {
            Patched::Yes => Ok(()),
            Patched::Conflict => bail!("{}/{} is being changed by others: try again", self.namespace, self.name),
        }
    }

    async fn patch(&self, patch: &Value) -> anyhow::Result<Patched> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
        let doing = format!("changing the connector {}/{}", self.namespace, self.name);
        let call = async {
            match self.connectors.patch(&self.name, &params, &Patch::Merge(patch)).await {
                Ok(_) => Ok(Patched::Yes),
                Err(kube::Error::Api(status)) if status.is_conflict() => Ok(Patched::Conflict),
                Err(error) => Err(error),
            }
        };
        ask(&doing, call).await
    }

    async fn wait(&self, seconds: u32, done: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let mut problem = None;
        let poll = async {
            loop {
                let object = self.read().await?.data;
                if done(&object) {
                    return anyhow::Ok(object);
                }
                problem = source::delivery_problem(&object);
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(seconds.into()), poll).await {
            Ok(found) => found,
            Err(_) => match problem {
                Some(problem) => {
                    bail!("it is asked for, and the new token was not delivered within {seconds} s: {problem}")
                }
                None => bail!("it is asked for, and the operator has not done it within {seconds} s: does it run?"),
            },
        }
    }
}

enum Patched {
    Yes,
    Conflict,
}
