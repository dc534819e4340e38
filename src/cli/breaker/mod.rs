//! `vigie breaker show|reset`: uses the API server alone, with the rights of the user.

#[cfg(test)]
mod tests;

use anyhow::bail;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};

use super::{FIELD_MANAGER, Unwell, output};
use crate::cluster::{ConnectionArgs, PersonalClient, ask, connect_person};
use crate::controller::remediation::breaker::{BreakerRecord, NAME, State};
use crate::operator::flag_values as values;

/// The attempts of a reset when other writers change the ConfigMap.
const ATTEMPTS: usize = 5;

/// What to do with the breaker.
#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  vigie breaker show                  whether anything may be restarted, and if not, since when and why
  vigie breaker reset                 allow restarts again, after you have seen what was wrong
  vigie breaker show -n edge-system   of an operator in another namespace

Exit codes of show: 0 closed, 3 open, 1 could not look, 2 wrong usage.")]
pub enum BreakerCommand {
    /// Says whether the breaker is open, since when, why, and what to do
    Show(BreakerArgs),
    /// Closes it, in your name: workloads that stay unhealthy are restarted again
    Reset(BreakerArgs),
}

/// Whose breaker.
#[derive(Args, Debug, Clone)]
pub struct BreakerArgs {
    /// The namespace of the operator's Lease: the one that it runs in, or its --lease-namespace
    #[arg(short = 'n', long, visible_alias = "namespace", value_name = "NS", env = "VIGIE_OPERATOR_NAMESPACE",
        default_value = "vigie", value_parser = values::namespace)]
    pub operator_namespace: String,
    /// The Lease that operators elect a leader by
    #[arg(long, value_name = "NAME", env = "VIGIE_LEASE_NAME", default_value = "vigie",
        value_parser = NonEmptyStringValueParser::new())]
    pub lease_name: String,
    /// Which cluster.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// Shows or resets the breaker.
///
/// # Errors
/// [`Unwell`] when it is shown to be open; when it cannot be read or written, or no operator is there.
pub(super) async fn breaker(command: BreakerCommand) -> anyhow::Result<()> {
    let (BreakerCommand::Show(args) | BreakerCommand::Reset(args)) = &command;
    let PersonalClient { client, user, .. } = connect_person(&args.connection).await?;
    let (namespace, lease_name) = (args.operator_namespace.clone(), args.lease_name.clone());
    let breaker = OperatorBreaker { client, user, namespace, lease_name };
    match &command {
        BreakerCommand::Show(_) => {
            let record = breaker.read().await?;
            output::print(&shown(&record, &breaker.namespace))?;
            if record.state == State::Closed { Ok(()) } else { Err(Unwell.into()) }
        }
        BreakerCommand::Reset(_) => {
            let text = breaker.reset(Timestamp::now()).await?;
            output::print(&text)
        }
    }
}

/// The text of `show`.
fn shown(record: &BreakerRecord, namespace: &str) -> String {
    let reason = record.reason.as_deref().unwrap_or("no reason is given");
    let reset =
        record.reset.map(|at| format!("Last reset: {at}, by {}\n", record.reset_by.as_deref().unwrap_or("somebody")));
    match &record.state {
        State::Closed => {
            let opened = record.opened.map(|at| format!("Last opened: {at}: {reason}\n"));
            format!(
                "The breaker of the operator in namespace {namespace} is closed: remedies may be taken.\n{}{}",
                opened.unwrap_or_default(),
                reset.unwrap_or_default()
            )
        }
        State::Open => {
            let since = record.opened.map_or_else(|| "a time that is not given".to_owned(), |at| at.to_string());
            format!(
                "The breaker of the operator in namespace {namespace} is OPEN since {since}: nothing is restarted \
                 until a person resets it.\n\
                 Why: {reason}\n\
                 What to do: see what the unhealthy have in common (vigie get -A, vigie get backends -A); so many at \
                 once is rarely cured by restarts. Then: vigie breaker reset -n {namespace}\n"
            )
        }
        State::Unreadable(word) => format!(
            "The ConfigMap {namespace}/{NAME} says state {word:?}, which is neither Open nor Closed: nothing is \
             restarted.\nWhat to do: vigie breaker reset -n {namespace}\n"
        ),
    }
}

/// One operator's breaker.
struct OperatorBreaker {
    client: Client,
    /// The user of the context, where a kubeconfig is used.
    user: Option<String>,
    namespace: String,
    lease_name: String,
}

impl OperatorBreaker {
    fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Reads the ConfigMap. Without one the breaker is closed, but only in a namespace of an operator: elsewhere the
    /// namespace is probably wrong, which is an error.
    async fn read(&self) -> anyhow::Result<BreakerRecord> {
        let Self { client, namespace, lease_name, .. } = self;
        let doing = format!("reading the ConfigMap {namespace}/{NAME}");
        if let Some(map) = ask(&doing, self.maps().get_opt(NAME)).await? {
            return Ok(BreakerRecord::of(&map));
        }
        let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
        match ask(&format!("looking for the operator's Lease {namespace}/{lease_name}"), leases.get_opt(lease_name))
            .await
        {
            Ok(Some(_)) => {}
            Ok(None) => bail!(
                "there is neither the ConfigMap {NAME} nor the Lease {lease_name} in namespace {namespace:?}: name the \
                 operator's namespace by --operator-namespace"
            ),
            Err(error) => eprintln!("whether an operator uses namespace {namespace} was not seen: {error:#}"),
        }
        Ok(BreakerRecord::default())
    }

    /// Closes the breaker and returns the text to print.
    async fn reset(&self, now: Timestamp) -> anyhow::Result<String> {
        let Self { namespace, .. } = self;
        let mut by = None;
        for _ in 0..ATTEMPTS {
            let record = self.read().await?;
            if record.state == State::Closed {
                return Ok(format!(
                    "the breaker of the operator in namespace {namespace} is closed: nothing to reset\n"
                ));
            }
            if by.is_none() {
                by = Some(self.caller().await);
            }
            let by = by.as_deref().unwrap_or_default();
            let Some(patch) = record.reset_patch(by, now) else { continue };
            if self.patch(&patch).await? {
                let why = record.reason_since();
                return Ok(format!("reset by {by}: remedies are taken again\nit had been open {why}\n"));
            }
        }
        bail!("the ConfigMap {namespace}/{NAME} was changed by others {ATTEMPTS} times meanwhile: nothing was reset")
    }

    /// Returns false when another client wrote the ConfigMap since it was read.
    async fn patch(&self, patch: &serde_json::Value) -> anyhow::Result<bool> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let call = async {
            match self.maps().patch(NAME, &params, &Patch::Merge(patch)).await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if status.is_conflict() => Ok(false),
                Err(error) => Err(error),
            }
        };
        ask(&format!("resetting the breaker, ConfigMap {}/{NAME}", self.namespace), call).await
    }

    /// The name of the user by the API server; when it gives none, the user of the context.
    async fn caller(&self) -> String {
        let reviews: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let params = PostParams::default();
        let review = ask("asking who we are", reviews.create(&params, &SelfSubjectReview::default())).await;
        let named = review.ok().and_then(|review| review.status?.user_info?.username);
        named.or_else(|| self.user.clone()).unwrap_or_else(|| "somebody who is not named".to_owned())
    }
}
