//! The one implementation of "which cluster": flags, kubeconfig, context, and the clients made of them.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use hyper::header::{HeaderValue, USER_AGENT};
use kube::client::ClientBuilder;
use kube::config::{Cluster, Config, Context, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use thiserror::Error;
use tower::timeout::TimeoutLayer;

use crate::http::proxy::{ProxyEnvironment, proxy};

/// How long a connection may take to open (TCP and TLS). Above it an address is black-holed rather than slow, and a
/// call has no more than [`super::CALL_TIMEOUT`] anyway.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the peer may take no bytes from us before the connection is given up; our largest request is some kB.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the head of the answer to a watch or to a page of a list may take. A watch may be silent after it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);

/// The flags that name a cluster.
#[derive(Args, Debug, Clone, Default)]
pub struct ConnectionArgs {
    /// The kubeconfig file [default: KUBECONFIG, ~/.kube/config, or the cluster that this runs in]
    #[arg(long, value_name = "FILE", env = "VIGIE_KUBECONFIG", hide_env_values = true)]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig file [default: its current one]
    #[arg(long, value_name = "NAME", env = "VIGIE_CONTEXT", value_parser = NonEmptyStringValueParser::new())]
    pub context: Option<String>,
}

/// The operator's clients for one cluster. Each has connections of its own.
#[derive(Clone)]
pub struct Clients {
    /// For watches and lists: sends each request once, and waits 20 s for the head of its answer. Its users
    /// repeat what failed.
    ///
    /// An API server that starts answers 429 until its caches are filled. With kube's own retries the next request could
    /// come two minutes later, and a call that is accepted and never answered would be waited for without end.
    pub watching: kube::Client,
    /// Sends each request once: for the Lease and for **every write**.
    ///
    /// kube's built-in retries go on for up to 164 s, out of sight: a renewal would miss its deadline in them, a write
    /// could be sent long after the permit for it ran out, and one counted write could be fifteen requests.
    pub no_retry: kube::Client,
    /// The namespace of the context, or of the operator's own pod; `default` when neither names one.
    pub default_namespace: String,
    /// The host in the API server's URL.
    pub server_host: Option<String>,
}

/// The client of a command that answers a person.
#[derive(Clone)]
pub struct PersonalClient {
    /// Sends each request once: a 503 of the service proxy is an answer, not a reason to repeat the request for minutes.
    pub client: kube::Client,
    /// The namespace of the context, or of the pod that the command runs in; `default` when neither names one.
    pub default_namespace: String,
    /// The user of the context; none with the service account of a pod.
    pub user: Option<String>,
    /// Whether the cluster is the one that this process runs in, by the service account of its pod.
    ///
    /// In a pod with a kubeconfig, the cluster may be another one: there the same addresses belong to other pods.
    pub is_of_pod: bool,
}

/// Why no cluster can be used.
///
/// kube's errors contain their sources in their own text. They are no `source` here, because a chain would print them
/// twice.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// A kubeconfig was named or found, and cannot be used.
    #[error("cannot use {from}: {reason}")]
    Kubeconfig {
        /// The file and the context.
        from: String,
        /// The error of the file, the context or the cluster.
        reason: Box<KubeconfigError>,
    },
    /// A proxy was named, by the kubeconfig or the environment, that is no URL.
    #[error("cannot use {from}: the proxy is no URL (proxy-url of the cluster, else HTTPS_PROXY or HTTP_PROXY)")]
    Proxy {
        /// The file and the context.
        from: String,
    },
    /// A context was named, and there is no file to find it in.
    #[error("cannot use the context {0:?}: no kubeconfig is named, and the home directory is not known")]
    NoFileOfContext(String),
    /// Neither a kubeconfig nor a pod's service account was found.
    #[error("found no cluster: no kubeconfig is named, ~/.kube/config does not exist, and this is no pod: {0}")]
    Nothing(Box<InClusterError>),
    /// The configuration was read, but no client can be made of it.
    #[error("cannot make a client from {from}: {reason}")]
    Client {
        /// Where the configuration came from.
        from: String,
        /// kube's error.
        reason: Box<kube::Error>,
    },
}

/// The environment of the process, as far as it names a cluster.
#[derive(Default)]
struct Environment {
    /// `KUBECONFIG`.
    kubeconfig: Option<OsString>,
    /// The home directory.
    home: Option<PathBuf>,
    proxies: ProxyEnvironment,
}

impl Environment {
    fn of_process() -> Self {
        // An empty HOME would make the default file one of the working directory.
        let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
        Self { kubeconfig: std::env::var_os("KUBECONFIG"), home, proxies: ProxyEnvironment::of_process() }
    }
}

/// Where the configuration comes from.
#[derive(Debug, PartialEq, Eq)]
enum KubeconfigSource {
    /// `--kubeconfig`.
    Flag(PathBuf),
    /// The files of `KUBECONFIG`, merged: the first file that sets a value wins.
    ///
    /// Files that do not exist are skipped while another one does, as kubectl does. One that exists and cannot be read or
    /// understood is an error.
    Environment(Vec<PathBuf>),
    /// `~/.kube/config`.
    Home(PathBuf),
    /// The service account of the pod that this process runs in.
    Pod,
}

impl KubeconfigSource {
    /// Chooses the first source that is named or exists, and never falls back from it to another cluster.
    ///
    /// An empty `KUBECONFIG` names no file, as with kubectl. Neither does one of separators only.
    fn choose(named: &ConnectionArgs, environment: &Environment) -> Result<Self, ConnectError> {
        if let Some(file) = &named.kubeconfig {
            return Ok(Self::Flag(file.clone()));
        }
        let files = std::env::split_paths(environment.kubeconfig.as_deref().unwrap_or_default());
        let files: Vec<PathBuf> = files.filter(|file| !file.as_os_str().is_empty()).collect();
        if !files.is_empty() {
            let (missing, present): (Vec<PathBuf>, Vec<PathBuf>) = files.into_iter().partition(|file| is_absent(file));
            return Ok(Self::Environment(if present.is_empty() { missing } else { present }));
        }
        let default = environment.home.as_ref().map(|home| home.join(".kube").join("config"));
        match (default, &named.context) {
            (Some(file), Some(_)) => Ok(Self::Home(file)),
            (Some(file), None) if !is_absent(&file) => Ok(Self::Home(file)),
            (None, Some(context)) => Err(ConnectError::NoFileOfContext(context.clone())),
            (_, None) => Ok(Self::Pod),
        }
    }

    fn describe(&self, context: Option<&str>) -> String {
        let file = match self {
            Self::Flag(file) | Self::Home(file) => format!("kubeconfig {}", file.display()),
            Self::Environment(files) => {
                let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
                format!("kubeconfig {} (from KUBECONFIG)", files.join(", "))
            }
            Self::Pod => return "the pod's service account".to_owned(),
        };
        match context {
            Some(context) => format!("{file}, context {context}"),
            None => file,
        }
    }

    async fn load(self, context: Option<&str>, proxies: &ProxyEnvironment) -> Result<LoadedConfig, ConnectError> {
        let from = self.describe(context);
        let read = match &self {
            Self::Flag(file) | Self::Home(file) => Kubeconfig::read_from(file),
            Self::Environment(files) => {
                files.iter().try_fold(Kubeconfig::default(), |merged, file| merged.merge(Kubeconfig::read_from(file)?))
            }
            Self::Pod => {
                let config = Config::incluster().map_err(|error| ConnectError::Nothing(Box::new(error)))?;
                return Ok(LoadedConfig { config, from, user: None, is_of_pod: true });
            }
        };
        let options = KubeConfigOptions { context: context.map(str::to_owned), cluster: None, user: None };
        let loaded = match read {
            Ok(kubeconfig) => {
                let (user, cluster) = (user(&kubeconfig, context), cluster(&kubeconfig, context));
                let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
                config.map(|config| (config, user, cluster))
            }
            Err(error) => Err(error),
        };
        match loaded {
            Ok((mut config, user, cluster)) => {
                let named = cluster.proxy_url.as_deref();
                config.proxy_url = proxy(named, &config.cluster_url, proxies)
                    .map_err(|_| ConnectError::Proxy { from: from.clone() })?;
                // Read again when it changes, as the file of a token is. Data in the kubeconfig itself wins over a file.
                let has_data = cluster.certificate_authority_data.is_some_and(|data| !data.is_empty());
                config.root_cert_file = cluster.certificate_authority.filter(|_| !has_data).map(PathBuf::from);
                Ok(LoadedConfig { config, from, user, is_of_pod: false })
            }
            Err(error) => Err(ConnectError::Kubeconfig { from, reason: Box::new(error) }),
        }
    }
}

/// Whether there is no such file. A file that exists and cannot be read, or a link to nothing, is not absent.
fn is_absent(file: &Path) -> bool {
    let found = std::fs::symlink_metadata(file);
    found.is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}

/// The context of this name, or the current one.
fn named_context<'a>(kubeconfig: &'a Kubeconfig, context: Option<&str>) -> Option<&'a Context> {
    let context = context.or(kubeconfig.current_context.as_deref())?;
    kubeconfig.contexts.iter().find(|named| named.name == context)?.context.as_ref()
}

/// The name of the user of `context`, or of the current one.
fn user(kubeconfig: &Kubeconfig, context: Option<&str>) -> Option<String> {
    named_context(kubeconfig, context)?.user.clone()
}

/// The cluster of `context`, or of the current one; an empty one when there is none.
fn cluster(kubeconfig: &Kubeconfig, context: Option<&str>) -> Cluster {
    let cluster = named_context(kubeconfig, context)
        .and_then(|context| kubeconfig.clusters.iter().find(|named| named.name == context.cluster)?.cluster.clone());
    cluster.unwrap_or_default()
}

/// A configuration that was read.
#[derive(Debug)]
struct LoadedConfig {
    config: Config,
    /// Its source, for errors.
    from: String,
    user: Option<String>,
    is_of_pod: bool,
}

impl LoadedConfig {
    /// Reads the configuration of the cluster that `named` and the environment name.
    async fn of(named: &ConnectionArgs, environment: &Environment) -> Result<Self, ConnectError> {
        let context = named.context.as_deref();
        let mut loaded = KubeconfigSource::choose(named, environment)?.load(context, &environment.proxies).await?;
        tune(&mut loaded.config);
        Ok(loaded)
    }

    fn client(&self) -> Result<kube::Client, ConnectError> {
        kube::Client::try_from(self.config.clone()).map_err(|error| self.no_client(error))
    }

    fn watching(&self) -> Result<kube::Client, ConnectError> {
        let builder = ClientBuilder::try_from(self.config.clone()).map_err(|error| self.no_client(error))?;
        Ok(builder.with_layer(&TimeoutLayer::new(HEAD_TIMEOUT)).build())
    }

    fn no_client(&self, error: kube::Error) -> ConnectError {
        ConnectError::Client { from: self.from.clone(), reason: Box::new(error) }
    }
}

/// Finds the cluster and makes the operator's clients; sends nothing.
///
/// `--kubeconfig` wins over `KUBECONFIG`, which wins over `~/.kube/config`, which wins over the service account of the
/// pod that this process runs in.
///
/// # Errors
/// When the first of these that is named or exists cannot be used, or none of them is found.
pub async fn connect(named: &ConnectionArgs) -> Result<Clients, ConnectError> {
    let loaded = LoadedConfig::of(named, &Environment::of_process()).await?;
    let (watching, no_retry) = (loaded.watching()?, loaded.client()?);
    let server_host = loaded.config.cluster_url.host().map(|host| host.trim_matches(['[', ']']).to_owned());
    Ok(Clients { watching, no_retry, default_namespace: loaded.config.default_namespace, server_host })
}

/// Finds the cluster as [`connect`] does, and makes the client of a command.
///
/// # Errors
/// As [`connect`].
pub async fn connect_person(named: &ConnectionArgs) -> Result<PersonalClient, ConnectError> {
    let loaded = LoadedConfig::of(named, &Environment::of_process()).await?;
    let (client, LoadedConfig { config, user, is_of_pod, .. }) = (loaded.client()?, loaded);
    Ok(PersonalClient { client, default_namespace: config.default_namespace, user, is_of_pod })
}

fn tune(config: &mut Config) {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.write_timeout = Some(WRITE_TIMEOUT);
    config.default_retry = false;
    // No read timeout: it would cut watches. Every other call has a limit of its own.
    let user_agent = HeaderValue::from_static(concat!("vigie/", env!("CARGO_PKG_VERSION")));
    config.headers.push((USER_AGENT, user_agent));
    // An empty namespace in a context means none, as with kubectl; a request for it would be one for every namespace.
    if config.default_namespace.is_empty() {
        "default".clone_into(&mut config.default_namespace);
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
