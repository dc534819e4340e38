//! Token Secrets that cannot be written, and objects that come back from a backup: no healthy connector is locked out.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ResourceQuota, Secret};
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::beats::{condition, said};
use crate::remedies::tunnel;
use crate::support::world::SOON;
use crate::support::{Connector, Operator, World, eventually, quick, text};

const SECRET: &str = "edge-1-connector-token";

/// A Connector whose old token ends with the delivery of the next one, not one second later.
fn without_grace() -> Value {
    let mut spec = quick();
    spec["token"] = json!({"graceSeconds": 0});
    spec
}

/// An Online connector whose next token ends the one before it at once.
async fn online(world: &World, operator: &Operator) -> Connector {
    let edge = world.connector("edge-1", without_grace()).await;
    assert_eq!(edge.status(operator.beats()), 200);
    world.state(SOON, "edge-1", "Online").await;
    edge
}

async fn rotate(world: &World, generation: i64) {
    world.patch("edge-1", json!({"spec": {"token": {"rotationGeneration": generation}}})).await;
}

/// Waits until the status says that the delivery failed, with these words; the token in the Secret is accepted.
async fn cannot_be_delivered(world: &World, operator: &Operator, edge: &Connector, words: &[&str]) {
    let seen = world
        .sees(SOON, "edge-1", "the failure is told", |seen| {
            said(seen, "Provisioned") == "False/TokenSecretInvalid" && {
                let message = text(condition(seen, "Provisioned"), "/message");
                words.iter().all(|word| message.contains(word))
            }
        })
        .await;
    assert!(text(condition(&seen, "Provisioned"), "/message").contains(SECRET), "{seen:#}");
    let event = world.event(SOON, "edge-1", "TokenDeliveryFailed").await;
    assert!(event.note.unwrap_or_default().contains(words[0]), "the event says why");
    assert_eq!(edge.status(operator.beats()), 200, "its token is the newest that was ever delivered");
}

/// Waits until another token than that of `old` is in the Secret and in the status; it is the only one then.
async fn delivered_at_last(world: &World, operator: &Operator, old: &Connector) -> Connector {
    let new = eventually(SOON, "a new token", async || {
        let new = world.installed("edge-1").await;
        if new.token == old.token { Err("the old one".to_owned()) } else { Ok(new) }
    })
    .await;
    world.sees(SOON, "edge-1", "provisioned", |seen| said(seen, "Provisioned") == "True/Provisioned").await;
    eventually(SOON, "the grace of the old one is over", async || match old.status(operator.beats()) {
        401 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    assert_eq!(new.status(operator.beats()), 200);
    new
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_immutable_secret_ends_no_token_and_its_grace_begins_with_the_delivery() {
    let world = World::new("immutable").await;
    let operator = world.operator(&[]).await;
    let edge = online(&world, &operator).await;
    let frozen = Patch::Merge(json!({"immutable": true}));
    world.api::<Secret>().patch(SECRET, &PatchParams::default(), &frozen).await.unwrap();
    rotate(&world, 1).await;
    cannot_be_delivered(&world, &operator, &edge, &["immutable", "holds token 1, which stays valid"]).await;
    // Once more: the second rotation fails as the first did.
    rotate(&world, 2).await;
    world
        .sees(SOON, "edge-1", "the second is seen", |seen| {
            seen["status"]["observedGeneration"] == seen["metadata"]["generation"]
        })
        .await;
    assert_eq!(edge.status(operator.beats()), 200);
    // It beats and reports that its tunnel is down: that is the cause, and not the next token.
    edge.beat_with(operator.beats(), &tunnel("Fail"));
    let seen = world.state(SOON, "edge-1", "Degraded").await;
    assert_eq!(text(&seen, "/status/diagnosis/cause"), "WireGuardDown");
    edge.beat_with(operator.beats(), &tunnel("Pass"));
    world.state(SOON, "edge-1", "Online").await;

    world.api::<Secret>().delete(SECRET, &DeleteParams::default()).await.unwrap();
    delivered_at_last(&world, &operator, &edge).await;
    assert_eq!(world.events("edge-1", "TokenDeliveryFailed").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_quota_revokes_nothing() {
    let world = World::new("quota").await;
    let operator = world.operator(&[]).await;
    let edge = online(&world, &operator).await;
    let quota = json!({"metadata": {"name": "full"}, "spec": {"hard": {"count/secrets": "0"}}});
    let quotas = world.api::<ResourceQuota>();
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    eventually(SOON, "the quota is worked out", async || {
        let found = quotas.get("full").await.map_err(|error| error.to_string())?;
        found.status.and_then(|status| status.hard).map(drop).ok_or_else(|| "no status".to_owned())
    })
    .await;
    world.api::<Secret>().delete(SECRET, &DeleteParams::default()).await.unwrap();
    world.nudge("edge-1").await;
    cannot_be_delivered(&world, &operator, &edge, &["quota", "no such Secret"]).await;
    quotas.delete("full", &DeleteParams::default()).await.unwrap();
    delivered_at_last(&world, &operator, &edge).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_update_secrets_a_rotation_ends_no_token() {
    let world = World::new("noupdate").await;
    let operator = world.operator(&[]).await;
    let edge = online(&world, &operator).await;
    let roles = world.api::<Role>();
    let mut kept = Vec::new();
    for role in roles.list(&ListParams::default()).await.unwrap().items {
        let mut less = role.clone();
        for rule in less.rules.iter_mut().flatten() {
            if rule.resources.iter().flatten().any(|resource| resource == "secrets") {
                rule.verbs.retain(|verb| verb != "update");
            }
        }
        if less.rules != role.rules {
            less.metadata.managed_fields = None;
            roles.replace(role.metadata.name.as_deref().unwrap(), &PostParams::default(), &less).await.unwrap();
            kept.push(role);
        }
    }
    assert!(!kept.is_empty(), "the shipped Roles allow it");
    let account = format!("--as=system:serviceaccount:{}:vigie", world.ns);
    eventually(SOON, "the right is gone", async || {
        let ran = world.kubectl(&["auth", "can-i", "update", "secrets", &account]);
        if ran.stdout.trim() == "no" { Ok(()) } else { Err(ran.stdout) }
    })
    .await;
    rotate(&world, 1).await;
    cannot_be_delivered(&world, &operator, &edge, &["forbidden", "holds token 1, which stays valid"]).await;
    for role in kept {
        let rules = Patch::Merge(json!({"rules": role.rules}));
        roles.patch(role.metadata.name.as_deref().unwrap(), &PatchParams::default(), &rules).await.unwrap();
    }
    delivered_at_last(&world, &operator, &edge).await;
}

/// A port that accepts and resets each connection, so that each error names another source port; counts them.
fn resetting() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::Relaxed);
            // A socket that is closed with unread bytes resets its connection.
            let _ = stream.peek(&mut [0]);
        }
    });
    (port, count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_webhook_ends_no_token_and_its_changing_words_are_no_news() {
    let world = World::new("deadhook").await;
    let operator = world.operator(&[]).await;
    let edge = online(&world, &operator).await;
    let (port, calls) = resetting();
    let hook = json!({
        "metadata": {"name": format!("dead.{}.example.com", world.ns)},
        "webhooks": [{
            "name": "dead.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 2,
            "failurePolicy": "Fail",
            "clientConfig": {"url": format!("https://127.0.0.1:{port}/x"), "caBundle": world.authority()},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.ns}},
        }],
    });
    let hook: ValidatingWebhookConfiguration = serde_json::from_value(hook).unwrap();
    let hooks: Api<ValidatingWebhookConfiguration> = Api::all(world.client.clone());
    hooks.create(&PostParams::default(), &hook).await.unwrap();
    let probe = json!({"metadata": {"name": "probe"}});
    eventually(SOON, "the webhook refuses", async || {
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let made = world.api::<Secret>().create(&dry, &serde_json::from_value(probe.clone()).unwrap()).await;
        made.err().map(drop).ok_or_else(|| "it is admitted".to_owned())
    })
    .await;
    rotate(&world, 1).await;
    cannot_be_delivered(&world, &operator, &edge, &["webhook", "holds token 1, which stays valid"]).await;
    let (tried, written) = (calls.load(Ordering::Relaxed), status_writes(&world));
    eventually(crate::support::seconds(120), "it is tried three times more", async || {
        let now = calls.load(Ordering::Relaxed);
        if now >= tried + 3 { Ok(()) } else { Err(format!("{now} after {tried}")) }
    })
    .await;
    let more = status_writes(&world) - written;
    assert!(more <= 1, "{more} status writes for errors that differ in a port");
    hooks.delete(hook.metadata.name.as_deref().unwrap(), &DeleteParams::default()).await.unwrap();
    delivered_at_last(&world, &operator, &edge).await;
}

/// The writes of the status that were no checkpoints.
fn status_writes(world: &World) -> usize {
    let is_write = |resource: &str, verb: &str| resource == "connectors/status" && verb == "update";
    world.requests().iter().filter(|request| is_write(&request.resource, &request.verb)).count()
}

fn generation(seen: &Value) -> i64 {
    seen.pointer("/status/token/generation").and_then(Value::as_i64).unwrap_or(0)
}

/// Waits until a heartbeat is accepted: the operator knows a written status when its watch has delivered it, and answers 503
/// until then.
async fn heard(operator: &Operator, connector: &Connector) {
    eventually(SOON, "its heartbeats are accepted", async || match connector.status(operator.beats()) {
        200 => Ok(()),
        503 => Err("503".to_owned()),
        other => panic!("{other}"),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_status_is_made_anew_from_the_secret() {
    let world = World::new("loststatus").await;
    let mut operator = world.operator(&[]).await;
    let first = online(&world, &operator).await;
    rotate(&world, 1).await;
    let edge = delivered_at_last(&world, &operator, &first).await;
    let revoked =
        json!({"metadata": {"annotations": {"vigie.dev/revoke-requested": jiff::Timestamp::now().to_string()}}});
    world.patch("edge-1", revoked).await;
    let edge = delivered_at_last(&world, &operator, &edge).await;
    let before = world.get("edge-1").await;
    let secret = world.api::<Secret>().get(SECRET).await.unwrap();
    operator.kill();
    let lose = || {
        let remove = r#"[{"op": "remove", "path": "/status"}]"#;
        world.kubectl(&["patch", "connector", "edge-1", "--subresource=status", "--type=json", "-p", remove]).ok()
    };
    lose();
    assert_eq!(generation(&world.get("edge-1").await), 0, "it is lost");
    operator.restart().await;
    operator.hearing().await;
    let again =
        |seen: &Value| seen.pointer("/status/conditions").is_some() && said(seen, "Provisioned") == "True/Provisioned";
    let seen = world.sees(SOON, "edge-1", "provisioned again", again).await;
    heard(&operator, &edge).await;
    assert_eq!(generation(&seen), generation(&before));
    assert_eq!(seen["status"]["token"]["issuedTime"], before["status"]["token"]["issuedTime"]);
    world.event(SOON, "edge-1", "TokenAdopted").await;
    let kept = world.api::<Secret>().get(SECRET).await.unwrap();
    assert_eq!(kept.metadata.resource_version, secret.metadata.resource_version, "nothing was written over it");
    assert_eq!(world.events("edge-1", "TokenRevoked").await.len(), 1, "and the revocation is not repeated");

    // Once more, under a running operator. The next rotation is confirmed by the use of its own token only.
    lose();
    world.sees(SOON, "edge-1", "provisioned again", |seen| again(seen) && generation(seen) > 0).await;
    heard(&operator, &edge).await;
    world.patch("edge-1", json!({"spec": {"token": {"graceSeconds": 600}}})).await;
    rotate(&world, 2).await;
    world
        .sees(SOON, "edge-1", "pending", |seen| text(seen, "/status/token/rotation") == "Pending" && again(seen))
        .await;
    assert_eq!(edge.status(operator.beats()), 200);
}

/// An object as Velero restores it: name, labels and annotations, content, and labels of its own. UID, owner and status
/// are gone.
fn restored(object: &Value) -> DynamicObject {
    let mut copy = object.clone();
    let meta = &object["metadata"];
    copy["metadata"] = json!({"name": meta["name"], "annotations": meta["annotations"], "labels": meta["labels"]});
    copy["metadata"]["labels"]["velero.io/backup-name"] = json!("nightly");
    copy["metadata"]["labels"]["velero.io/restore-name"] = json!("nightly-1");
    copy.as_object_mut().unwrap().remove("status");
    serde_json::from_value(copy).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_restored_from_a_backup_with_its_secret_keeps_its_token() {
    let world = World::new("velero").await;
    let operator = world.operator(&[]).await;
    let edge = online(&world, &operator).await;
    let secrets = world.api::<Secret>();
    let mut secret = serde_json::to_value(secrets.get(SECRET).await.unwrap()).unwrap();
    (secret["apiVersion"], secret["kind"]) = (json!("v1"), json!("Secret"));
    let object = world.get("edge-1").await;
    world.connectors().delete("edge-1", &DeleteParams::default()).await.unwrap();
    eventually(SOON, "its Secret is collected", async || {
        let found = secrets.get_opt(SECRET).await.map_err(|error| error.to_string())?;
        if found.is_none() { Ok(()) } else { Err("it is there".to_owned()) }
    })
    .await;
    assert_eq!(edge.status(operator.beats()), 401);
    let copy: Secret = serde_json::from_value(serde_json::to_value(restored(&secret)).unwrap()).unwrap();
    secrets.create(&PostParams::default(), &copy).await.unwrap();
    world.connectors().create(&PostParams::default(), &restored(&object)).await.unwrap();
    let seen = world
        .sees(SOON, "edge-1", "provisioned", |seen| {
            seen.pointer("/status/conditions").is_some() && said(seen, "Provisioned") == "True/Provisioned"
        })
        .await;
    assert_eq!(edge.status(operator.beats()), 200, "the gateway in the field works on");
    assert_eq!(world.installed("edge-1").await.token, edge.token);
    world.event(SOON, "edge-1", "TokenAdopted").await;
    eventually(SOON, "the Secret belongs to the new object", async || {
        let found = secrets.get(SECRET).await.map_err(|error| error.to_string())?;
        let owner = found.metadata.owner_references.and_then(|owners| owners.into_iter().next()).map(|owner| owner.uid);
        if owner.as_deref() == Some(text(&seen, "/metadata/uid")) { Ok(()) } else { Err(format!("{owner:?}")) }
    })
    .await;
    // And it goes with it, and does not come back: a new object has a new token.
    world.connectors().delete("edge-1", &DeleteParams::default()).await.unwrap();
    world.create("edge-1", without_grace()).await;
    world
        .sees(SOON, "edge-1", "the new one is provisioned", |seen| {
            seen.pointer("/status/conditions").is_some() && said(seen, "Provisioned") == "True/Provisioned"
        })
        .await;
    let new = world.installed("edge-1").await;
    assert_ne!(new.token, edge.token);
    assert_eq!(edge.status(operator.beats()), 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_that_renewed_a_lease_for_a_while_has_its_token_again() {
    let world = World::new("andback").await;
    let operator = world.operator(&[]).await;
    let edge = online(&world, &operator).await;
    let before = world.get("edge-1").await;
    world.patch("edge-1", json!({"spec": {"heartbeat": {"source": "Lease", "leaseName": "gw"}}})).await;
    eventually(SOON, "its token is refused meanwhile", async || match edge.status(operator.beats()) {
        401 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    world
        .sees(SOON, "edge-1", "it is seen", |seen| {
            seen["status"]["observedGeneration"] == seen["metadata"]["generation"]
        })
        .await;
    world.patch("edge-1", json!({"spec": {"heartbeat": {"source": "HTTP", "leaseName": null}}})).await;
    eventually(SOON, "its token is accepted again", async || match edge.status(operator.beats()) {
        200 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    let seen = world
        .sees(SOON, "edge-1", "it is seen", |seen| {
            seen["status"]["observedGeneration"] == seen["metadata"]["generation"]
        })
        .await;
    assert_eq!(seen["status"]["token"]["hashes"], before["status"]["token"]["hashes"]);
}
