//! DNS names and TLS certificates.

use jiff::Timestamp;

use super::Finding;
use super::queries::{pods, probe_fact, target};
use super::response::{is_grpc, prometheus_only, with_class};
use super::rollout::rollout_fact;
use super::scrape_error::{ScrapeError, Unfit, scrape_fact};
use super::settings::{application, setting, setting_fact};
use super::text::{kubectl, kubectl_name, stamp, url, value};
use crate::api::{Cause, Confidence, ErrorClass};
use crate::diagnosis::evidence::{Evidence, Vantage};

/// A failure of this class, seen by vigie or by Prometheus alone: vantage, name and fact.
fn failure(e: &Evidence, class: ErrorClass, why: ScrapeError) -> Option<(Option<&Vantage>, String, String)> {
    if let Some(vantage) = with_class(e, class) {
        return Some((Some(vantage), host(e), probe_fact(vantage)));
    }
    let (scraped, why) = prometheus_only(e, |seen| seen == why)?;
    Some((None, format!("{} (as Prometheus asks)", url(&scraped.url)), scrape_fact(scraped, why)))
}

fn host(e: &Evidence) -> String {
    value(&e.subject.host)
}

pub(super) fn dns_not_found(e: &Evidence) -> Option<Finding> {
    let (ours, name, fact) = failure(e, ErrorClass::DNSNotFound, ScrapeError::NoSuchHost)?;
    let advice = match ours {
        Some(_) => {
            "Correct the name in spec.target, or create its record (for a Service: does it exist in that namespace?)"
        }
        None => {
            "The name exists for us: look at the resolver and the search domains that Prometheus uses, or give it a full name"
        }
    };
    Some(Finding::new(Cause::DNSNotFound, format!("the name {name} does not exist"), advice).fact(fact))
}

pub(super) fn dns_broken(e: &Evidence) -> Option<Finding> {
    let (ours, name, fact) = failure(e, ErrorClass::DNSFailure, ScrapeError::Resolver)
        .or_else(|| failure(e, ErrorClass::DNSTimeout, ScrapeError::Resolver))?;
    let whose = if ours.is_some() { "vigie's pod" } else { "Prometheus" };
    Some(
        Finding::new(
            Cause::DNSBroken,
            format!("the name {name} cannot be resolved: the resolver fails or does not answer"),
            format!("Look at the DNS that {whose} uses: CoreDNS' pods and log, /etc/resolv.conf, a NetworkPolicy that bars UDP and TCP 53"),
        )
        .fact(fact),
    )
}

/// The Secret was renewed after the process started: the process still presents the old certificate.
fn renewed(e: &Evidence) -> Option<(String, Timestamp, Timestamp)> {
    let secret = e.certificate_secret.found()?;
    let (changed, since) = (secret.changed?, application(e)?.running_since?);
    (changed > since).then(|| (secret.name.clone(), changed, since))
}

/// A restart helps only if the Secret was renewed: then it loads the new certificate.
fn with_renewal(e: &Evidence, finding: Finding) -> Finding {
    let Some((name, changed, since)) = renewed(e) else { return finding };
    let mut finding = finding.at_most(Confidence::Likely).restart_once().fact(format!(
        "Secret {name} was changed at {}, the process runs since {}",
        stamp(changed),
        stamp(since)
    ));
    let restart = match &e.subject.workload {
        Some(workload) => kubectl(e, format_args!("rollout restart {}", kubectl_name(workload))),
        None => "restart it".to_owned(),
    };
    finding.advice = format!("Secret {name} is renewed already and the process has not loaded it: {restart}");
    finding
}

pub(super) fn certificate_expired(e: &Evidence) -> Option<Finding> {
    let (ours, name, fact) = failure(e, ErrorClass::TLSExpired, ScrapeError::Expired)?;
    let at = ours
        .and_then(|vantage| vantage.certificate_expires)
        .map(|at| format!(" (it ends at {})", stamp(at)))
        .unwrap_or_default();
    let finding = Finding::new(
        Cause::CertificateExpired,
        format!("the certificate of {name} has expired or is not valid yet{at}"),
        "Renew the certificate (cert-manager: `kubectl get certificates`), and check the clock of both sides",
    );
    Some(with_renewal(e, finding.fact(fact)))
}

/// A property for which Prometheus refuses the certificate, although its chain may be right.
fn unfit_certificate(e: &Evidence) -> Option<Finding> {
    let refused = |why| matches!(why, ScrapeError::UnfitCertificate(unfit) if unfit != Unfit::NoAlternativeName);
    let (scraped, why) = prometheus_only(e, refused)?;
    let advice = match why {
        ScrapeError::UnfitCertificate(Unfit::Signature) => {
            "Issue the certificate and its authorities anew, signed with SHA-256: Go, and so Prometheus, refuses SHA-1 and MD5"
        }
        ScrapeError::UnfitCertificate(Unfit::KeyUsage) => {
            "Issue the certificate anew with the extended key usage serverAuth (cert-manager: usages: [server auth])"
        }
        _ => {
            "Read lastError of the target in Prometheus (Status, Targets): it names what is wrong with the certificate; issue it anew, or correct tls_config of the job"
        }
    };
    let message = format!("Prometheus refuses the certificate of {}: {}", url(&scraped.url), why.text());
    let finding = Finding::new(Cause::CertificateUntrusted, message, advice).fact(scrape_fact(scraped, why));
    Some(if why == ScrapeError::UnfitCertificate(Unfit::Other) { finding.at_most(Confidence::Likely) } else { finding })
}

pub(super) fn certificate_untrusted(e: &Evidence) -> Option<Finding> {
    untrusted_authority(e).or_else(|| unfit_certificate(e))
}

fn untrusted_authority(e: &Evidence) -> Option<Finding> {
    let (ours, name, fact) = failure(e, ErrorClass::TLSUnknownAuthority, ScrapeError::UnknownAuthority)?;
    let advice = match ours {
        Some(_) => "Name its authority in spec.probe.http.tls.caSecretRef, or have it show the whole chain",
        None => "Give Prometheus its authority: tls_config.ca_file of the job",
    };
    let finding = Finding::new(
        Cause::CertificateUntrusted,
        format!("the certificate of {name} is signed by an authority that is not trusted"),
        advice,
    );
    Some(with_renewal(e, finding.fact(fact)))
}

/// The server has no certificate with the name that Prometheus asks for.
fn nameless_certificate(e: &Evidence) -> Option<Finding> {
    let nameless = [ScrapeError::UnrecognizedName, ScrapeError::UnfitCertificate(Unfit::NoAlternativeName)];
    let (scraped, why) = prometheus_only(e, |why| nameless.contains(&why))?;
    let at = url(&scraped.url);
    let finding = match why {
        ScrapeError::UnrecognizedName => Finding::new(
            Cause::CertificateWrongName,
            format!("{at} knows no certificate for the name that Prometheus asks for"),
            "Let Prometheus ask by a name that the server knows: server_name in tls_config of the job",
        )
        .at_most(Confidence::Likely),
        _ => Finding::new(
            Cause::CertificateWrongName,
            format!("the certificate of {at} names its host in the Common Name alone, which Prometheus does not read"),
            "Issue the certificate anew with the host as subjectAltName (DNS or IP)",
        ),
    };
    Some(finding.fact(scrape_fact(scraped, why)))
}

pub(super) fn certificate_wrong_name(e: &Evidence) -> Option<Finding> {
    other_name(e).or_else(|| nameless_certificate(e))
}

fn other_name(e: &Evidence) -> Option<Finding> {
    let (ours, name, fact) = failure(e, ErrorClass::TLSNameMismatch, ScrapeError::WrongName)?;
    let advice = match ours {
        Some(_) => "Aim at a name that stands in it, or set spec.probe.http.tls.serverName to one",
        None => "Let Prometheus ask by a name that stands in it: tls_config.server_name of the job",
    };
    let finding =
        Finding::new(Cause::CertificateWrongName, format!("the certificate of {name} is for another name"), advice);
    Some(with_renewal(e, finding.fact(fact)))
}

pub(super) fn scheme_mismatch(e: &Evidence) -> Option<Finding> {
    let tls_settings = ["MANAGEMENT_SERVER_SSL_ENABLED", "SERVER_SSL_ENABLED"];
    let ssl = tls_settings.into_iter().find(|name| setting(e, name).is_word("true"));
    if let Some(vantage) = with_class(e, ErrorClass::NotTLS) {
        let plain = e.subject.scheme.trim_end_matches('s');
        return Some(
            Finding::new(
                Cause::SchemeMismatch,
                format!("{} does not speak TLS on port {}", host(e), e.subject.port),
                format!("Use {plain} in spec.target, or switch TLS on in the backend (SERVER_SSL_ENABLED)"),
            )
            .fact(probe_fact(vantage))
            .facts(rollout_fact(e)),
        );
    }
    let is_plain = !e.subject.scheme.ends_with('s');
    // Tomcat answers 400 to plain HTTP on a TLS port.
    let refused = target(e).filter(|target| !target.ok && target.http_status == Some(400) && ssl.is_some());
    // Only bytes of TLS, or the words of a TLS server, prove it: other bytes are another protocol, or broken HTTP.
    let speaks_tls = with_class(e, ErrorClass::NotHTTP).filter(|vantage| vantage.message.contains("speaks TLS"));
    if let Some(vantage) = speaks_tls.or(refused).filter(|_| is_plain) {
        let secure = if is_grpc(e) { "grpcs" } else { "https" };
        let finding = Finding::new(
            Cause::SchemeMismatch,
            format!("port {} of {} speaks TLS", e.subject.port, host(e)),
            format!("Use {secure} in spec.target (and scheme: https in Prometheus), or correct the port"),
        )
        .fact(probe_fact(vantage))
        .facts(rollout_fact(e));
        return Some(finding.facts(ssl.and_then(|name| setting_fact(e, name))));
    }
    let (scraped, why) = prometheus_only(e, |why| why == ScrapeError::Scheme)?;
    let message = format!("Prometheus asks {} with the wrong scheme: {}", url(&scraped.url), why.text());
    let advice = "Correct scheme in the scrape configuration (http or https)";
    Some(Finding::new(Cause::SchemeMismatch, message, advice).fact(scrape_fact(scraped, why)))
}

pub(super) fn client_certificate_required(e: &Evidence) -> Option<Finding> {
    const ADVICE: &str = "Give the probe a client certificate (spec.probe.http.tls.clientCertificateSecretName), or except the port from mutual TLS";
    let wants = |vantage: &&Vantage| {
        let said = [Some(&vantage.message), vantage.detail.as_ref()];
        let words = ["certificate required", "CertificateRequired", "client certificate"];
        said.into_iter().flatten().any(|text| words.iter().any(|word| text.contains(word)))
    };
    let tls = [ErrorClass::TLSHandshake, ErrorClass::Reset];
    if let Some(vantage) = tls.into_iter().filter_map(|class| with_class(e, class)).find(wants) {
        let message = format!("{} wants a client certificate, and was shown none that it takes", host(e));
        return Some(Finding::new(Cause::ClientCertificateRequired, message, ADVICE).fact(probe_fact(vantage)));
    }
    if let Some((scraped, why)) = prometheus_only(e, |why| why == ScrapeError::ClientCertificate) {
        let message = format!("{} wants a client certificate from Prometheus", url(&scraped.url));
        let advice = "Give Prometheus one: tls_config.cert_file and key_file of the job";
        return Some(Finding::new(Cause::ClientCertificateRequired, message, advice).fact(scrape_fact(scraped, why)));
    }
    if let Some((scraped, why)) = prometheus_only(e, |why| why == ScrapeError::ClientCertificateRefused) {
        let message = format!("{} refuses the client certificate of Prometheus", url(&scraped.url));
        let advice = "Give Prometheus a client certificate that has not expired and that an authority of the server signed: cert_file and key_file in tls_config of the job; lastError of the target names the alert";
        return Some(Finding::new(Cause::ClientCertificateRequired, message, advice).fact(scrape_fact(scraped, why)));
    }
    let sidecar = pods(e).into_iter().flat_map(|pod| pod.init.iter().chain(&pod.containers));
    let sidecar = sidecar.map(|c| c.name.as_str()).find(|name| matches!(*name, "istio-proxy" | "linkerd-proxy"))?;
    let reset = with_class(e, ErrorClass::Reset)?;
    Some(
        Finding::new(
            Cause::ClientCertificateRequired,
            format!("the connection is reset, and the sidecar {sidecar} stands before the process: it may admit mutual TLS only"),
            ADVICE,
        )
        .at_most(Confidence::Possible)
        .fact(probe_fact(reset))
        .fact(format!("container {sidecar}")),
    )
}

/// A handshake that fails for another reason than the certificate's time, authority or name: that of the probe, then that
/// of Prometheus.
pub(super) fn tls_handshake_failed(e: &Evidence) -> Option<Finding> {
    if let Some(vantage) = with_class(e, ErrorClass::TLSHandshake) {
        return handshake_of_probe(e, vantage);
    }
    let (scraped, why) = prometheus_only(e, |why| matches!(why, ScrapeError::Handshake(_)))?;
    let at = url(&scraped.url);
    let finding = match why {
        ScrapeError::Handshake(true) => Finding::new(
            Cause::TLSHandshakeFailed,
            format!("Prometheus and {at} have no TLS version in common"),
            "Switch TLS 1.2 or newer on in the server, or lower min_version in tls_config of the job",
        ),
        _ => Finding::new(
            Cause::TLSHandshakeFailed,
            format!("{at} ends the TLS handshake with Prometheus"),
            "Compare versions and ciphers of both sides, and tls_config of the job: the server may want a client certificate (cert_file and key_file) or another name (server_name); its log names the reason",
        )
        .at_most(Confidence::Likely),
    };
    Some(finding.fact(scrape_fact(scraped, why)))
}

fn handshake_of_probe(e: &Evidence, vantage: &Vantage) -> Option<Finding> {
    if client_certificate_required(e).is_some() {
        return None;
    }
    let says = |words: &[&str]| words.iter().any(|word| vantage.message.contains(word));
    let advice = if says(&["RSA key", "signature algorithm", "version 1", "cannot be read", "for servers", "extension"])
    {
        "Issue the certificate anew: X.509 version 3, an RSA key of 2048 to 8192 bits or P-256, P-384 or Ed25519, signed with SHA-256 or better, for server authentication"
    } else if says(&["alert 40", "no server of that name"]) {
        "Set spec.probe.http.tls.serverName to a name that it serves (an address sends no name), then compare what it offers: `openssl s_client` shows protocol, cipher and kind of key"
    } else if says(&["ALPN"]) {
        "Let the port offer http/1.1 or h2 (gRPC: h2) within TLS, or correct the port"
    } else if says(&["TLS 1.2", "offers nothing"]) {
        "Let it speak TLS 1.2 with ECDHE and AES-GCM or ChaCha20, or TLS 1.3: older versions, CBC ciphers and RSA key exchange are not accepted (docs/backends.md)"
    } else {
        "Look at the TLS settings of the server or of the proxy in front, and at their log at the time of a probe"
    };
    let message = if vantage.message.is_empty() {
        format!("TLS cannot be set up with {}", host(e))
    } else {
        format!("TLS cannot be set up with {}: {}", host(e), vantage.message)
    };
    let finding = Finding::new(Cause::TLSHandshakeFailed, message, advice).fact(probe_fact(vantage));
    Some(with_renewal(e, finding.facts(rollout_fact(e))))
}
