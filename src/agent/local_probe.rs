//! Probes of endpoints on this host, from the half that has a network.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyper::Uri;

use super::config::Config;
use crate::api::LocalProbe;
use crate::probe::{HttpOptions, Outcome, Policy, Prober, Request, Scheme, Target, TlsOptions};

/// How long one probe may take: less than the time between two looks.
const LIMIT: Duration = Duration::from_secs(2);

/// The prober of this host.
pub struct LocalProbes(Prober);

impl Default for LocalProbes {
    fn default() -> Self {
        // The URLs are in a file of root, as those of `vigie probe` are a person's.
        Self(Prober::new(Policy::of_a_person(Vec::new(), Vec::new())))
    }
}

impl LocalProbes {
    /// Probes every endpoint of `config` once. The results have the URLs as their names.
    pub async fn run(&self, config: &Config) -> BTreeMap<String, LocalProbe> {
        let of_checks = config.checks.iter().filter_map(|check| check.probe.as_ref());
        let of_backends = config.backends.iter().filter_map(|backend| backend.probe.as_ref());
        let urls: BTreeSet<&String> = of_checks.chain(of_backends).collect();
        let probes = urls.into_iter().filter_map(|url| Some((url.clone(), request(url)?)));
        let probes = probes.map(async |(url, request)| (url, told(&self.0.probe(&request).await)));
        futures::future::join_all(probes).await.into_iter().collect()
    }
}

/// The request for a URL of the configuration, which has checked it.
fn request(url: &str) -> Option<Request> {
    let uri: Uri = url.parse().ok()?;
    let scheme = match uri.scheme_str()? {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        "tcp" => Scheme::Tcp,
        _ => return None,
    };
    let target = Target {
        scheme,
        host: uri.host()?.trim_matches(['[', ']']).to_owned(),
        port: uri.port_u16().or_else(|| scheme.default_port())?,
        path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        address: None,
        is_own: true,
    };
    // A certificate on this host is rarely for 127.0.0.1; the question is whether it answers.
    let tls = TlsOptions { insecure_skip_verify: true, ..TlsOptions::default() };
    Some(Request { target, timeout: LIMIT, http: HttpOptions::default(), tls, metrics: None })
}

fn told(outcome: &Outcome) -> LocalProbe {
    let failure = outcome.result.as_ref().err();
    LocalProbe {
        ok: failure.is_none(),
        error_class: failure.map(|failure| failure.class.to_string()),
        phase: failure.map(|failure| failure.phase.to_string()),
        status: outcome.seen.http_status.map(u64::from),
        milliseconds: u64::try_from(outcome.took.as_millis()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_the_configuration_is_probed_where_it_points() {
        let request = |url| request(url).map(|request| request.target);
        let target = request("http://127.0.0.1:8081/actuator/health?x=1").unwrap();
        assert_eq!((&*target.host, target.port, &*target.path), ("127.0.0.1", 8081, "/actuator/health?x=1"));
        let target = request("https://[::1]").unwrap();
        assert_eq!((&*target.host, target.port, &*target.path), ("::1", 443, "/"));
        assert_eq!(request("tcp://127.0.0.1:5432").unwrap().scheme, Scheme::Tcp);
        assert_eq!(request("ftp://127.0.0.1"), None);
    }
}
