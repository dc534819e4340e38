//! Failures of Prometheus itself before it reaches the backend: its host, its credentials, its proxy.

use super::Finding;
use super::queries::{probe_fact, target};
use super::response::prometheus_only;
use super::scrape_error::{OwnFault, ScrapeError, scrape_fact};
use super::text::url;
use crate::api::{Cause, Confidence};
use crate::diagnosis::evidence::Evidence;

pub(super) fn prometheus_cannot_scrape(e: &Evidence) -> Option<Finding> {
    let (scraped, why) = prometheus_only(e, |why| matches!(why, ScrapeError::Own(_)))?;
    let ScrapeError::Own(fault) = why else { return None };
    let finding = Finding::new(
        Cause::PrometheusCannotScrape,
        format!("Prometheus cannot scrape {}: {}. The backend is not the reason", url(&scraped.url), why.text()),
        advice(fault),
    )
    .fact(scrape_fact(scraped, why))
    .facts(target(e).map(probe_fact));
    // A firewall on the way may be answered in the same words.
    let is_sure = !matches!(fault, OwnFault::Forbidden | OwnFault::Cancelled);
    Some(if is_sure { finding } else { finding.at_most(Confidence::Likely) })
}

fn advice(fault: OwnFault) -> &'static str {
    match fault {
        OwnFault::ProxyUnreachable => {
            "Bring the proxy of Prometheus back, or correct it: proxy_url of the job, or HTTP_PROXY and HTTPS_PROXY of the process; a target inside the network belongs into no_proxy"
        }
        OwnFault::ProxyRefuses => {
            "Give Prometheus the credentials of its proxy (proxy_url of the job) and let the proxy permit the target, or except the target by no_proxy; the proxy's log says why it refused"
        }
        OwnFault::OpenFiles => {
            "Raise the limit of open files of Prometheus (LimitNOFILE in its unit, ulimit -n, the runtime's default), and look at process_open_fds for a leak"
        }
        OwnFault::Forbidden => {
            "Look on the host of Prometheus: egress rules of its own firewall (nftables or iptables OUTPUT), SELinux or AppArmor, a route of type prohibit, an egress NetworkPolicy"
        }
        OwnFault::NoSourceAddress => {
            "Look on the host of Prometheus for used up ports (`ss -s`, net.ipv4.ip_local_port_range) and for an address of the target's family (IPv6)"
        }
        OwnFault::Memory => {
            "Look at the memory of the host of Prometheus and at net.ipv4.tcp_mem and its buffer limits"
        }
        OwnFault::CredentialFile => {
            "Mount the file that lastError names where Prometheus reads it, readable and unbroken: credentials_file, password_file, or ca_file, cert_file and key_file in tls_config of the job"
        }
        OwnFault::OAuth2 => {
            "Correct oauth2 in the scrape configuration (client_id, client_secret_file, token_url, scopes), and look at the log of the token service"
        }
        OwnFault::Cancelled => {
            "Wait for the next scrape: a reload of the configuration, or a stop, ends a scrape that runs. If it stays so, look for what reloads Prometheus again and again (prometheus_config_last_reload_success_timestamp_seconds)"
        }
    }
}
