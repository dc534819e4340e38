//! Images that do not come, and containers that do not start: the words decide, never digits in names.

use super::scene::*;
use crate::api::Cause;
use crate::api::Confidence::{Certain, Likely};
use crate::api::RestartHelps::No;
use crate::diagnosis::evidence::Evidence;

const DIGEST: &str = "sha256:ab4034290c0ffee0c0ffee0c0ffee0c0ffee0c0ffee0c0ffee0c0ffee0c0f401";

fn pulls(image: &str, reason: &str, said: &str) -> Evidence {
    with(bad(crate::api::ErrorClass::Refused), |e| {
        waits(e, reason, said);
        container_of(e).image = image.to_owned();
    })
}

#[test]
fn each_wording_of_a_registry_has_its_reason() {
    for (said, words) in [
        ("failed to pull and unpack image \"r/web:1\": no match for platform in manifest: not found", "architecture"),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", "architecture"),
        ("no image found in image index for architecture \"arm64\", variant \"v8\", OS \"linux\"", "architecture"),
        (
            "429 Too Many Requests - Server message: toomanyrequests: You have reached your unauthenticated pull rate limit.",
            "limits how many",
        ),
        ("pull QPS exceeded", "limits how many"),
        ("failed to extract layer: write /var/lib/x: no space left on device: unknown", "disk of the node is full"),
        (
            "Head \"https://r/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority",
            "certificate",
        ),
        ("Head \"https://r/v2/\": http: server gave HTTP response to HTTPS client", "plain HTTP"),
        ("dial tcp: lookup r.example.com on 10.0.0.10:53: no such host", "name of its registry"),
        ("failed to do request: net/http: TLS handshake timeout", "cannot be reached"),
        ("dial tcp 192.0.2.9:14040: connect: connection refused", "cannot be reached"),
        (
            "failed to authorize: failed to fetch anonymous token: Get \"https://auth.example.com/t\": dial tcp 192.0.2.9:443: i/o timeout",
            "cannot be reached",
        ),
        ("unexpected status code 503", "cannot be reached"),
        ("Get \"https://r/v2/web/manifests/1\": no basic auth credentials", "other credentials"),
        ("pull access denied, repository does not exist or may require authorization", "other credentials"),
        ("unexpected status from HEAD request to https://r/v2/web/manifests/1: 403 Forbidden", "other credentials"),
        ("unexpected status code 401", "other credentials"),
        ("manifest for r/web:1 not found: manifest unknown", "no such image"),
        ("unexpected status code 404", "no such image"),
        ("Back-off pulling image \"registry.example.com/web:1\"", "the node cannot get it"),
    ] {
        let d = expect(&pulls("registry.example.com/web:1", "ErrImagePull", said), Cause::ImagePullFailed, Certain, No);
        says(&d.message, &[words]);
    }
}

#[test]
fn digits_and_words_in_the_name_of_an_image_say_nothing() {
    for image in [
        format!("registry.example.com/web@{DIGEST}"),
        "registry.example.com:4043/not-found/web:1".to_owned(),
        "denied.example.com/unauthorized:429".to_owned(),
    ] {
        let said = format!(
            "failed to pull image \"{image}\": failed to resolve reference {image}: dial tcp 192.0.2.9:443: i/o timeout"
        );
        says(&diagnosis(&pulls(&image, "ErrImagePull", &said)).message, &["cannot be reached"]);
        let unknown = format!("failed to pull image \"{image}\": the moon is full");
        says(&diagnosis(&pulls(&image, "ErrImagePull", &unknown)).message, &["the node cannot get it"]);
    }
}

#[test]
fn a_kubelet_that_waits_is_explained_by_the_event_of_its_last_attempt() {
    let e = with(pulls("r/web:1", "ImagePullBackOff", "Back-off pulling image \"r/web:1\""), |e| {
        warn(e, "Failed", "Error: ImagePullBackOff");
        warn(e, "Failed", "Failed to pull image \"r/web:1\": rpc error: code = NotFound desc = manifest unknown");
    });
    says(&diagnosis(&e).message, &["no such image"]);
}

#[test]
fn a_command_that_was_not_executed_is_no_crash_whatever_its_exit_code_is() {
    for (code, said, words) in [
        (
            255,
            "exec /usr/local/bin/entry.sh: exec format error\n",
            "its command /usr/local/bin/entry.sh: exec format error",
        ),
        (1, "exec /app/server: exec format error", "/app/server: exec format error"),
        (
            1,
            "standard_init_linux.go:228: exec user process caused: exec format error\n",
            "its command: exec format error",
        ),
        (1, "exec container process `/app/server`: Exec format error", "/app/server: exec format error"),
        (126, "[FATAL tini (7)] exec /app/server failed: Exec format error", "/app/server: exec format error"),
        (1, "exec /app/run.sh: no such file or directory\n", "/app/run.sh: no such file or directory"),
        (1, "starting\nexec /app/run.sh: permission denied", "/app/run.sh: permission denied"),
    ] {
        let d = expect(&crashed("Error", code, Some(said)), Cause::ContainerCannotStart, Certain, No);
        says(&d.message, &[words]);
    }
    says(&diagnosis(&crashed("Error", 1, Some("exec /a: exec format error"))).advice, &["architecture of node node-a"]);
    let file = crashed("Error", 127, Some("exec /a.sh: no such file or directory"));
    says(&diagnosis(&file).advice, &["carriage return"]);
    // A program that says so about something else, and goes on, was executed.
    for said in ["cannot run plugin x: exec format error\nexiting", "plugin: exec /x: exec format error, ignored"] {
        expect_cause(&crashed("Error", 1, Some(said)), Cause::CrashLoop);
    }
    // The name of a command that is no absolute path is not told.
    let d = diagnosis(&crashed("Error", 1, Some("exec hunter2: exec format error")));
    assert!(d.cause == Cause::ContainerCannotStart && !format!("{d:?}").contains("hunter2"), "{d:#?}");
}

#[test]
fn an_exit_code_of_a_start_that_ran_for_long_is_its_own() {
    let ran = |seconds: i64| {
        with(crashed("Error", 127, None), |e| {
            container_of(e).last.as_mut().unwrap().began = Some(ago(40 + seconds));
        })
    };
    expect_cause(&ran(2), Cause::ContainerCannotStart);
    expect_cause(&ran(600), Cause::CrashLoop);
}

#[test]
fn the_advice_about_a_start_fits_its_reason() {
    for (reason, said, words) in [
        (
            "RunContainerError",
            "runc create failed: container init was OOM-killed (memory limit too low?): unknown",
            "resources.limits.memory",
        ),
        (
            "CreateContainerError",
            "failed to reserve container name \"app\": name \"app\" is reserved for \"01\"",
            "look at node node-a",
        ),
        (
            "RunContainerError",
            "unable to apply cgroup configuration: write memory.max: device or resource busy",
            "container's resources",
        ),
        ("PostStartHookError", "PostStartHook failed", "lifecycle.postStart"),
        ("RunContainerError", "error mounting \"/x\" to rootfs at \"/y\": not a directory", "the mounts"),
    ] {
        let e = with(bad(crate::api::ErrorClass::Refused), |e| waits(e, reason, said));
        says(&expect(&e, Cause::ContainerCannotStart, Certain, No).advice, &[words]);
    }
    let slow = |reason, said| with(bad(crate::api::ErrorClass::Refused), |e| waits(e, reason, said));
    expect(&slow("CreateContainerError", "context deadline exceeded"), Cause::ContainerCannotStart, Likely, No);
    let cache = "failed to sync secret cache: timed out waiting for the condition";
    let d = expect(&slow("CreateContainerConfigError", cache), Cause::ContainerCannotStart, Likely, No);
    says(&d.message, &["could not read a Secret in time"]);
}
