//! Images that the kubelet cannot pull (ErrImagePull, ImagePullBackOff).

use std::sync::LazyLock;

use regex::Regex;

use super::Finding;
use super::containers::{describe, first_waiting, how_many, whose};
use super::queries::{unfinished_rollout, warnings};
use crate::api::Cause;
use crate::diagnosis::evidence::{Evidence, Pod};

/// Waiting reasons of a container whose image cannot be pulled (pkg/kubelet/images/types.go).
const IMAGE: &[&str] = &[
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "SignatureValidationFailed",
    "ImageInspectError",
];

/// Why an image is not pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PullError {
    InvalidName,
    NeverPulled,
    Signature,
    Platform,
    RateLimit,
    Disk,
    Certificate,
    PlainHttp,
    UnknownHost,
    Unreachable,
    Unpacking,
    Format,
    ShortName,
    Credentials,
    NotFound,
}

/// Words of registries, of runtimes and of the network for each error, in lower case; the first error whose words occur
/// is the one. Numbers are no words: digits of a digest or of a port look like a status.
const WORDS: &[(PullError, &[&str])] = &[
    // Runtimes add "not found" to a platform that a manifest lacks.
    (
        PullError::Platform,
        &[
            "no match for platform",
            "no matching manifest for",
            "does not match the specified platform",
            "no image found in image index for architecture",
            "no image found in manifest list for architecture",
        ],
    ),
    // Registries name the missing login as the reason of the limit.
    (PullError::RateLimit, &["toomanyrequests", "too many requests", "rate limit", "qps exceeded"]),
    (PullError::Disk, &["no space left on device", "disk quota exceeded"]),
    (PullError::ShortName, &["short-name", "short name mode", "no unqualified-search registries"]),
    (
        PullError::Format,
        &["is no longer supported", "not implemented: media type", "unsupported manifest", "unsupported media type"],
    ),
    (PullError::PlainHttp, &["server gave http response to https client"]),
    // No registry was contacted yet: before anything that a registry says.
    (PullError::UnknownHost, &["no such host", "server misbehaving", "temporary failure in name resolution"]),
    (
        PullError::Unreachable,
        &[
            "i/o timeout",
            "deadline exceeded",
            "tls handshake timeout",
            "timeout exceeded",
            "connection refused",
            "connection reset",
            "connection timed out",
            "no route to host",
            "network is unreachable",
            "proxyconnect",
            "unexpected eof",
            ": eof",
            "bad gateway",
            "gateway timeout",
            "service unavailable",
            "internal server error",
        ],
    ),
    // The image is on its way: what the node lacks for a layer is no image that the registry lacks.
    (
        PullError::Unpacking,
        &[
            "failed to extract layer",
            "failed to register layer",
            "read-only file system",
            "input/output error",
            "unexpected commit digest",
        ],
    ),
    (PullError::Certificate, &["x509:", "failed to verify certificate", "tls: "]),
    (
        PullError::Credentials,
        &[
            "unauthorized",
            "denied",
            "authentication required",
            "authorization failed",
            "forbidden",
            "no basic auth credentials",
            "insufficient_scope",
            "invalid username/password",
            "image pull secret",
        ],
    ),
    (
        PullError::NotFound,
        &["manifest unknown", "name unknown", "not found", "not known to registry", "does not exist", "no such"],
    ),
];

/// The error for an HTTP status that stands behind the word "status".
fn of_status(said: &str) -> Option<PullError> {
    static STATUS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\bstatus(?: ?code)?(?: from [a-z]+ request)?[: ]{1,2}([45][0-9]{2})\b")
            .expect("a constant pattern")
    });
    Some(match STATUS.captures(said)?.get(1)?.as_str() {
        "401" | "403" => PullError::Credentials,
        "404" => PullError::NotFound,
        "429" => PullError::RateLimit,
        status if status.starts_with('5') => PullError::Unreachable,
        _ => return None,
    })
}

/// The message without the names of images, registries and layers: they may hold any word.
fn without_names(said: &str, image: &str) -> String {
    static NAMES: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"https?://[^\s"]+|"[^"\s]*[/:@][^"\s]*"|\b[a-z0-9]+:[0-9a-f]{32,128}\b"#)
            .expect("a constant pattern")
    });
    let said = if image.is_empty() { said.to_owned() } else { said.replace(image, " ") };
    NAMES.replace_all(&said, " ").to_lowercase()
}

/// The error that these words of the kubelet name.
fn named(said: &str, image: &str) -> Option<PullError> {
    let said = without_names(said, image);
    let of_words = WORDS.iter().find(|(_, words)| words.iter().any(|word| said.contains(word)));
    of_words.map(|(error, _)| *error).or_else(|| of_status(&said))
}

/// The error: the waiting reason, the message, else the event of the last attempt. The message of ImagePullBackOff says
/// only that the kubelet waits.
fn pull_error(e: &Evidence, pod: &Pod, (reason, said): (&str, &str), image: &str) -> Option<PullError> {
    match reason {
        "InvalidImageName" => return Some(PullError::InvalidName),
        "ErrImageNeverPull" => return Some(PullError::NeverPulled),
        "SignatureValidationFailed" => return Some(PullError::Signature),
        _ => {}
    }
    let attempts = || {
        let mut failed = warnings(e, pod, &["Failed"]).filter(|event| event.note.contains("pull image"));
        failed.find_map(|event| named(&event.note, image))
    };
    named(said, image).or_else(attempts)
}

/// The meaning of the error, as part of a sentence.
fn meaning(error: Option<PullError>) -> &'static str {
    match error {
        Some(PullError::InvalidName) => "its name is not valid",
        Some(PullError::NeverPulled) => "imagePullPolicy is Never and the node has no such image",
        Some(PullError::Signature) => "the node does not accept its signature",
        Some(PullError::Platform) => "it exists, but not for the architecture of the node",
        Some(PullError::RateLimit) => "the registry limits how many pulls it answers",
        Some(PullError::Disk) => "the disk of the node is full",
        Some(PullError::Certificate) => "the node does not accept the certificate of the registry",
        Some(PullError::PlainHttp) => "the registry speaks plain HTTP, and the node HTTPS",
        Some(PullError::UnknownHost) => "the name of its registry does not exist for the node",
        Some(PullError::Unreachable) => "the registry cannot be reached from the node, or fails",
        Some(PullError::Unpacking) => "the node cannot unpack it",
        Some(PullError::Format) => "its manifest has a format that the runtime of the node does not read",
        Some(PullError::ShortName) => "its name lacks the registry",
        Some(PullError::Credentials) => "the registry wants other credentials",
        Some(PullError::NotFound) => "the registry has no such image",
        None => "the node cannot get it",
    }
}

fn advice(e: &Evidence, pod: &Pod, image: &str, error: Option<PullError>) -> String {
    let node = pod.node.as_deref().unwrap_or("?");
    match error {
        Some(PullError::InvalidName) => format!("Correct the image name {image} in the pod template"),
        Some(PullError::NeverPulled) => format!("Load {image} onto the node, or let it be pulled"),
        Some(PullError::Signature) => {
            format!("Sign {image} as the signature policy of node {node} wants, or correct that policy")
        }
        Some(PullError::Platform) => format!(
            "Build and push {image} for the architecture of node {node} (`kubectl get node {node} -o jsonpath={{.status.nodeInfo.architecture}}`, `docker buildx build --platform`), or let the pod run on nodes of its own one (nodeSelector kubernetes.io/arch)"
        ),
        Some(PullError::RateLimit) => {
            "Pull with credentials (imagePullSecrets), or through a mirror or a cache of the registry. The kubelet tries again by itself".to_owned()
        }
        Some(PullError::Disk) => {
            format!("Free space on node {node} (unused images, logs), or enlarge its disk: `kubectl describe node {node}`")
        }
        Some(PullError::Certificate) => format!(
            "Install the authority of the registry's certificate in the container runtime of node {node}, or renew the certificate"
        ),
        Some(PullError::PlainHttp) => format!(
            "Serve the registry with TLS, or declare it as an insecure one in the container runtime of node {node}"
        ),
        Some(PullError::UnknownHost) => {
            format!("Correct the registry in the image name {image}, or look at the DNS that the node uses")
        }
        Some(PullError::Unreachable) => format!(
            "Check the path from node {node} to the registry: DNS, proxy, firewall; and the registry itself"
        ),
        Some(PullError::Unpacking) => format!(
            "Look at the disk and the container runtime of node {node}: a disk that is read-only or broken, a tool that the runtime lacks. If other nodes cannot unpack it either, push {image} again: {}",
            describe(e, pod)
        ),
        Some(PullError::Format) => format!(
            "Build and push {image} again with a present tool (docker buildx, buildah), or convert it (`skopeo copy --format oci`)"
        ),
        Some(PullError::ShortName) => format!(
            "Write the registry in front of the image name {image} in the pod template, as docker.io/library/NAME; node {node} is not set up to search for it"
        ),
        Some(PullError::Credentials) => "Check imagePullSecrets of the pod and that the image name is right: registries say so of private and of missing images alike".to_owned(),
        Some(PullError::NotFound) => format!("Correct the tag or digest of {image}, or push it"),
        None => format!("Read the kubelet's words: {}", describe(e, pod)),
    }
}

pub(super) fn image_pull_failed(e: &Evidence) -> Option<Finding> {
    let (pod, container, reason, said, affected) = first_waiting(e, IMAGE)?;
    let image = &container.image;
    let error = pull_error(e, pod, (reason, said), image);
    let why = meaning(error);
    Some(
        Finding::new(
            Cause::ImagePullFailed,
            format!(
                "{} cannot start: image {image} is not pulled, {why}{}",
                whose(pod, container),
                how_many(e, affected)
            ),
            advice(e, pod, image, error),
        )
        .fact(format!("{} waits: {reason}", whose(pod, container)))
        .facts(unfinished_rollout(e)),
    )
}
