//! The Secret behind the certificate that a backend presents. Only its metadata is read, never its data.

use std::collections::BTreeSet;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::convert::time;
use super::namespace_reader::NamespaceReader;
use crate::api::{ErrorClass, Phase};
use crate::diagnosis::evidence::{CertificateSecret, Lookup, Vantage};

/// Maximum number of mounted Secrets that are read.
const MAX: usize = 8;
/// The annotation that cert-manager sets on its Secrets.
const OF_CERT_MANAGER: &str = "cert-manager.io/certificate-name";

/// Whether a probe failed for a certificate.
pub(super) fn is_asked_for(vantages: &[Vantage]) -> bool {
    let about = [ErrorClass::TLSExpired, ErrorClass::TLSNameMismatch, ErrorClass::TLSUnknownAuthority];
    let fails = |vantage: &Vantage| vantage.error_class.is_some_and(|class| about.contains(&class));
    vantages.iter().any(|vantage| vantage.phase == Some(Phase::TLS) && fails(vantage))
}

/// The Secrets that the pods mount, including those in projected volumes.
pub(super) fn mounted(pods: &[v1::Pod]) -> BTreeSet<String> {
    let volumes = pods.iter().filter_map(|pod| pod.spec.as_ref()).flat_map(|spec| spec.volumes.iter().flatten());
    let mut names = BTreeSet::new();
    for volume in volumes {
        names.extend(volume.secret.as_ref().and_then(|secret| secret.secret_name.clone()));
        let parts = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        names.extend(parts.filter_map(|part| part.secret.as_ref()).map(|secret| secret.name.clone()));
    }
    names
}

/// The Secret that probably holds the certificate: cert-manager's; else one whose name contains "tls" or "cert"; else
/// the only one.
pub(super) fn choose(secrets: &[ObjectMeta]) -> Option<CertificateSecret> {
    let of_cert_manager = |secret: &&ObjectMeta| {
        secret.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(OF_CERT_MANAGER))
    };
    let is_named_so = |secret: &&ObjectMeta| {
        secret.name.as_deref().is_some_and(|name| ["tls", "cert"].iter().any(|word| name.contains(word)))
    };
    let only = || if let [only] = secrets { Some(only) } else { None };
    let chosen = secrets.iter().find(of_cert_manager).or_else(|| secrets.iter().find(is_named_so)).or_else(only)?;
    Some(CertificateSecret { name: chosen.name.clone().unwrap_or_default(), changed: changed(chosen) })
}

/// The last change that the API server recorded.
fn changed(metadata: &ObjectMeta) -> Option<Timestamp> {
    let edits = metadata.managed_fields.iter().flatten().filter_map(|edit| time(edit.time.as_ref()));
    edits.max().or(time(metadata.creation_timestamp.as_ref()))
}

impl NamespaceReader<'_> {
    /// The Secret of the certificate among those that the pods mount.
    pub(super) async fn certificate(&self, mounted: &BTreeSet<String>) -> Lookup<CertificateSecret> {
        if mounted.is_empty() {
            return Lookup::NotLooked;
        }
        let read = mounted
            .iter()
            .take(MAX)
            .map(async |name| self.reader.get_metadata::<v1::Secret>(self.namespace, name).await);
        let mut secrets = Vec::new();
        for found in join_all(read).await {
            match found {
                Lookup::Found(found) => secrets.push(found),
                Lookup::Absent => {}
                missing => return missing.map(|_| CertificateSecret::default()),
            }
        }
        choose(&secrets).map_or(Lookup::Absent, Lookup::Found)
    }
}
