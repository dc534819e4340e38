//! The cluster that a person means, with that person's rights.

use std::time::Duration;

use anyhow::{anyhow, bail};
use axum::http::{HeaderValue, header};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::args::ConnectionArgs;
use crate::cluster::describe;

/// How long one call to the API server may take: a person waits, and kube itself sets no limit.
const PATIENCE: Duration = Duration::from_secs(10);

impl ConnectionArgs {
    /// The configuration that the flags, KUBECONFIG or the pod that we run in name.
    ///
    /// # Errors
    /// When the file, the context or the cluster cannot be found or read.
    pub async fn config(&self) -> anyhow::Result<Config> {
        let options = KubeConfigOptions { context: self.context.clone(), ..Default::default() };
        let mut config = match (&self.kubeconfig, &self.context) {
            (Some(file), _) => {
                // kube's errors name their sources themselves: a chain would say everything twice.
                let read = Kubeconfig::read_from(file).map_err(|error| anyhow!("reading the kubeconfig: {error}"))?;
                let used = Config::from_custom_kubeconfig(read, &options).await;
                used.map_err(|error| anyhow!("using {}: {error}", file.display()))?
            }
            (None, Some(context)) => {
                let used = Config::from_kubeconfig(&options).await;
                used.map_err(|error| anyhow!("using the context {context:?}: {error}"))?
            }
            (None, None) => Config::infer().await.map_err(|error| anyhow!("finding a cluster: {error}"))?,
        };
        let agent = HeaderValue::from_static(concat!("vigie/", env!("CARGO_PKG_VERSION")));
        config.headers.push((header::USER_AGENT, agent));
        Ok(config)
    }

    /// A client for short questions by a person, and the namespace of the context.
    pub(super) async fn client(&self) -> anyhow::Result<(Client, String)> {
        let mut config = self.config().await?;
        // A 503 of the service proxy is an answer for us, not a reason to ask for minutes.
        config.default_retry = false;
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|error| anyhow!("preparing to reach the cluster: {error}"))?;
        Ok((client, namespace))
    }
}

/// Awaits one call to the API server.
///
/// # Errors
/// The API server's own words, or that it did not answer in time; `doing` says what was asked.
pub(super) async fn ask<T>(doing: &str, call: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => bail!("{doing}: {}", describe(&error)),
        Err(_) => bail!("{doing}: the API server did not answer within {} s", PATIENCE.as_secs()),
    }
}
