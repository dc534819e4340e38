//! The proxy between this process and a server, chosen as kubectl does.

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// The environment of the process, as far as it names proxies.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProxyEnvironment {
    /// `HTTPS_PROXY`.
    pub(crate) https: Option<String>,
    /// `HTTP_PROXY`.
    pub(crate) http: Option<String>,
    /// `NO_PROXY`.
    pub(crate) except: Option<String>,
}

impl ProxyEnvironment {
    pub(crate) fn of_process() -> Self {
        let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let either = |name: &str| named(name).or_else(|| named(&name.to_ascii_lowercase()));
        Self { https: either("HTTPS_PROXY"), http: either("HTTP_PROXY"), except: either("NO_PROXY") }
    }

    /// The proxy for `server`, as the text that names it; `None` when it is reached without one.
    ///
    /// kube compares `NO_PROXY` with the address of the proxy instead of that of the server, so a cluster inside of the
    /// network would be looked for outside. A server on this machine needs no proxy, as with kubectl.
    fn proxy(&self, server: &Uri) -> Option<&str> {
        let named = if server.scheme_str() == Some("http") { &self.http } else { &self.https };
        let named = named.as_deref()?;
        let except = self.except.clone().unwrap_or_default();
        // The matcher does not apply the wildcard to addresses.
        let excepts_all = except.split(',').any(|one| one.trim() == "*");
        let matcher = Matcher::builder().all("http://proxy.invalid").no(except).build();
        let is_excepted = is_local(server) || excepts_all || matcher.intercept(server).is_none();
        (!is_excepted).then_some(named)
    }
}

/// The proxy for `server`: the one that is configured for it (for a cluster its `proxy-url` in the kubeconfig), else that of
/// the environment.
///
/// # Errors
/// The proxy is no URL.
pub(crate) fn proxy(
    configured: Option<&str>,
    server: &Uri,
    environment: &ProxyEnvironment,
) -> Result<Option<Uri>, hyper::http::uri::InvalidUri> {
    let configured = configured.filter(|url| !url.is_empty());
    let Some(named) = configured.or_else(|| environment.proxy(server)) else { return Ok(None) };
    // A proxy in the environment may be a host and a port alone.
    let url = if named.contains("://") { named.to_owned() } else { format!("http://{named}") };
    url.parse().map(Some)
}

fn is_local(server: &Uri) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_is_the_one_that_kubectl_would_use() {
        let environment = |https: &str, except: &str| ProxyEnvironment {
            https: Some(https.to_owned()).filter(|text| !text.is_empty()),
            http: Some("http://plain.example.com:1".to_owned()),
            except: Some(except.to_owned()),
        };
        let proxy_url = "http://192.0.2.9:3128";
        for (configured, server, https, except, expected) in [
            (None, "https://api.example.com:6443", "", "", None),
            (None, "https://api.example.com:6443", proxy_url, "", Some("http://192.0.2.9:3128/")),
            (None, "https://api.example.com:6443", "192.0.2.9:3128", "", Some("http://192.0.2.9:3128/")),
            (None, "http://api.example.com:6443", proxy_url, "", Some("http://plain.example.com:1/")),
            // The server is excepted, and not the proxy.
            (None, "https://api.example.com:6443", proxy_url, ".example.com", None),
            (None, "https://198.51.100.7:6443", proxy_url, "10.0.0.0/8,198.51.100.0/24", None),
            (None, "https://198.51.100.7:6443", proxy_url, "192.0.2.0/24", Some("http://192.0.2.9:3128/")),
            (None, "https://198.51.100.7:6443", proxy_url, "*", None),
            (None, "https://127.0.0.1:6443", proxy_url, "", None),
            (None, "https://[::1]:6443", proxy_url, "", None),
            (None, "https://localhost:6443", proxy_url, "", None),
            // The kubeconfig names a proxy for this cluster, wherever it is.
            (Some("socks5://192.0.2.1:1080"), "https://127.0.0.1:6443", "", "*", Some("socks5://192.0.2.1:1080/")),
            (Some(""), "https://api.example.com", proxy_url, "", Some("http://192.0.2.9:3128/")),
        ] {
            let found = proxy(configured, &server.parse().unwrap(), &environment(https, except)).unwrap();
            assert_eq!(
                found.map(|uri| uri.to_string()).as_deref(),
                expected,
                "{configured:?} {server} {https:?} {except:?}"
            );
        }
        let bad = proxy(None, &"https://api.example.com".parse().unwrap(), &environment("http://a b", ""));
        bad.expect_err("a URL has no spaces");
    }
}
