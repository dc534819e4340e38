//! Finding the cluster: which file, which context, and the clients made of it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::header::{HeaderValue, USER_AGENT};
use kube::config::{Config, InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use thiserror::Error;

/// How long a connection may take to open (TCP and TLS). Above it an address is black-holed rather than slow, and a
/// call has no more than [`super::CALL_TIMEOUT`] anyway.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the peer may take no bytes from us before the connection is given up; our largest request is some kB.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The clients for one cluster. Each has connections of its own.
#[derive(Clone)]
pub struct Clients {
    /// For reads and watches: repeats a call that is answered 429, 503 or 504, up to 15 times.
    pub main: kube::Client,
    /// Sends each request once: for the Lease and for **every write**.
    ///
    /// kube's built-in retries go on for up to 164 s, out of sight: a renewal would miss its deadline in them, a write
    /// could be sent long after the permit for it ran out, and one counted write could be fifteen requests.
    pub lease: kube::Client,
    /// The namespace of the context, or of our own pod; `default` when neither names one.
    pub default_namespace: String,
    /// The host in the API server's URL.
    pub server_host: Option<String>,
}

/// Why we do not know how to reach a cluster.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// A kubeconfig was named, and cannot be used.
    #[error("cannot use {from}: {source}")]
    Kubeconfig {
        /// Which file and which context.
        from: String,
        /// What is wrong with it.
        source: Box<KubeconfigError>,
    },
    /// Nothing was named, and nothing was found.
    #[error("found no cluster: neither ~/.kube/config nor a pod's service account can be used: {0}")]
    Nothing(#[source] Box<InferConfigError>),
    /// The configuration was read, but no client can be made of it.
    #[error("cannot make a client from {from}: {source}")]
    Client {
        /// Where the configuration came from.
        from: String,
        /// What is wrong with it.
        source: Box<kube::Error>,
    },
}

/// Where the configuration comes from.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// `--kubeconfig`.
    File(PathBuf),
    /// The files that `KUBECONFIG` names.
    Environment(OsString),
    /// `~/.kube/config`, which a context was asked of.
    Home,
    /// `~/.kube/config`, else the pod we run in.
    Infer,
}

impl Source {
    /// What is named is used, or fails: falling back to another cluster would act on the wrong one.
    fn choose(kubeconfig: Option<&Path>, context: Option<&str>, environment: Option<&OsStr>) -> Self {
        match (kubeconfig, environment.filter(|value| !value.is_empty()), context) {
            (Some(file), _, _) => Self::File(file.to_owned()),
            (None, Some(files), _) => Self::Environment(files.to_owned()),
            (None, None, Some(_)) => Self::Home,
            (None, None, None) => Self::Infer,
        }
    }

    fn describe(&self, context: Option<&str>) -> String {
        let file = match self {
            Self::File(file) => format!("kubeconfig {}", file.display()),
            Self::Environment(files) => format!("kubeconfig {} (from KUBECONFIG)", files.display()),
            Self::Home => "kubeconfig ~/.kube/config".to_owned(),
            Self::Infer => return "~/.kube/config or the pod's service account".to_owned(),
        };
        match context {
            Some(context) => format!("{file}, context {context}"),
            None => file,
        }
    }

    async fn load(&self, context: Option<&str>) -> Result<Config, ConnectError> {
        let read = match self {
            Self::File(file) => Kubeconfig::read_from(file),
            Self::Environment(_) | Self::Home => Kubeconfig::read(),
            Self::Infer => return Config::infer().await.map_err(|error| ConnectError::Nothing(Box::new(error))),
        };
        let options = KubeConfigOptions { context: context.map(str::to_owned), cluster: None, user: None };
        let loaded = match read {
            Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
            Err(error) => Err(error),
        };
        loaded.map_err(|source| ConnectError::Kubeconfig { from: self.describe(context), source: Box::new(source) })
    }
}

/// Finds the cluster and makes the clients; sends nothing.
///
/// `kubeconfig` wins over the environment's `KUBECONFIG`, which wins over `~/.kube/config`, which wins over the service
/// account of the pod we run in.
///
/// # Errors
/// When what was named cannot be used (there is no falling back from it), or nothing was named and nothing found.
pub async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Clients, ConnectError> {
    let source = Source::choose(kubeconfig, context, std::env::var_os("KUBECONFIG").as_deref());
    let mut config = source.load(context).await?;
    tune(&mut config);
    let default_namespace = config.default_namespace.clone();
    let server_host = config.cluster_url.host().map(|host| host.trim_matches(['[', ']']).to_owned());
    let client = |config: Config| {
        kube::Client::try_from(config)
            .map_err(|error| ConnectError::Client { from: source.describe(context), source: Box::new(error) })
    };
    let main = client(config.clone())?;
    config.default_retry = false;
    let lease = client(config)?;
    Ok(Clients { main, lease, default_namespace, server_host })
}

fn tune(config: &mut Config) {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.write_timeout = Some(WRITE_TIMEOUT);
    // No read timeout: it would cut watches. Every other call has a limit of its own.
    let us = HeaderValue::from_static(concat!("vigie/", env!("CARGO_PKG_VERSION")));
    config.headers.push((USER_AGENT, us));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_wins_over_what_is_found() {
        let file = Path::new("a/b");
        let set = OsStr::new("c:d");
        for (kubeconfig, context, environment, want) in [
            (Some(file), None, Some(set), Source::File(file.to_owned())),
            (None, None, Some(set), Source::Environment(set.to_owned())),
            (None, Some("x"), Some(set), Source::Environment(set.to_owned())),
            (None, Some("x"), Some(OsStr::new("")), Source::Home),
            (None, Some("x"), None, Source::Home),
            (None, None, None, Source::Infer),
        ] {
            assert_eq!(Source::choose(kubeconfig, context, environment), want);
        }
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let error = connect(Some(Path::new("no/such/kubeconfig")), Some("there")).await.err().unwrap();
        let text = error.to_string();
        assert!(text.starts_with("cannot use kubeconfig no/such/kubeconfig, context there: "), "{text}");
    }

    #[test]
    fn we_say_who_we_are_and_open_connections_in_bounded_time() {
        let mut config = Config::new(hyper::Uri::from_static("https://127.0.0.1:6443"));
        tune(&mut config);
        let (name, value) = &config.headers[0];
        assert_eq!(name, USER_AGENT);
        assert_eq!(value, concat!("vigie/", env!("CARGO_PKG_VERSION")));
        assert_eq!((config.connect_timeout, config.read_timeout), (Some(CONNECT_TIMEOUT), None));
    }
}
