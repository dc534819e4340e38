//! The cluster that a person means, with that person's rights.

use std::time::Duration;

use anyhow::{Context, bail};
use axum::http::{HeaderName, HeaderValue, header};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::args::ConnectionArgs;

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
                let read = Kubeconfig::read_from(file).with_context(|| format!("reading {}", file.display()))?;
                let of = || format!("using {}", file.display());
                Config::from_custom_kubeconfig(read, &options).await.with_context(of)?
            }
            (None, Some(context)) => {
                Config::from_kubeconfig(&options).await.with_context(|| format!("using the context {context:?}"))?
            }
            (None, None) => Config::infer().await.context("finding a cluster (KUBECONFIG, or in a pod)")?,
        };
        let agent = HeaderValue::from_static(concat!("vigie/", env!("CARGO_PKG_VERSION")));
        config.headers.push((HeaderName::from(header::USER_AGENT), agent));
        Ok(config)
    }

    /// A client for short questions by a person, and the namespace of the context.
    pub(super) async fn client(&self) -> anyhow::Result<(Client, String)> {
        let mut config = self.config().await?;
        // A 503 of the service proxy is an answer for us, not a reason to ask for minutes.
        config.default_retry = false;
        let namespace = config.default_namespace.clone();
        Ok((Client::try_from(config).context("preparing the connection to the cluster")?, namespace))
    }
}

/// Awaits one call to the API server.
///
/// # Errors
/// The API server's own words, or that it did not answer in time; `doing` says what was asked.
pub(super) async fn ask<T>(doing: &str, call: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error).with_context(|| doing.to_owned()),
        Err(_) => bail!("{doing}: the API server did not answer within {} s", PATIENCE.as_secs()),
    }
}
