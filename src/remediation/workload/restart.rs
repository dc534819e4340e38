//! Restarts a workload, or evicts a pod: one request, which fails rather than change anything but its target.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::api::{WorkloadKind, WorkloadRef};
use crate::cluster::revisions::{ATTEMPT, RESTARTED_AT};
use crate::cluster::{CALL_TIMEOUT, CallError, FIELD_MANAGER, within};
use crate::leadership::WritePermit;
use crate::time::Clock;

/// The annotations that a restart writes, and the state of the workload that it requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartOrder {
    /// Id of the attempt, written to `vigie.dev/attempt`.
    pub id: String,
    /// Time of the decision, written to `kubectl.kubernetes.io/restartedAt` in whole seconds, as kubectl writes it. The same
    /// each time the request is sent.
    pub started: Timestamp,
    /// UID of the workload that it was decided for.
    pub uid: String,
    /// Generation of the workload that it was decided for.
    pub generation: i64,
}

/// Result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// The API server applied it.
    Applied,
    /// The target differs from the one that was decided for, and nothing was changed; the difference. Read again, then
    /// decide again.
    Stale(String),
    /// Refused; the server's message. The same request would be refused again.
    Refused(String),
    /// Not applied, or not known whether; the error. Read the workload before sending it again.
    Retry(String),
    /// The permit ran out before it could be sent. Nothing was sent.
    NotLeader,
}

/// Restarts a workload as `kubectl rollout restart` does, if it has the UID and the generation of the order.
///
/// One read, which shows whether the template has annotations, and one JSON patch, which tests UID and generation. Every
/// change of the template changes the generation, so the read still holds.
pub async fn restart(
    client: &Client,
    clock: Clock,
    permit: &WritePermit,
    namespace: &str,
    reference: &WorkloadRef,
    order: &RestartOrder,
) -> CallResult {
    let resource = match reference.kind {
        WorkloadKind::Deployment => ApiResource::erase::<Deployment>(&()),
        WorkloadKind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        WorkloadKind::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let display_name = format!("{} {namespace}/{}", resource.kind, reference.name);
    let found = match send(&format!("reading {display_name}"), api.get(&reference.name)).await {
        Ok(found) => found,
        Err(done) => return done,
    };
    if let Some(stale) = difference(&display_name, &found, order) {
        return CallResult::Stale(stale);
    }
    let patch = match serde_json::from_value(patch_operations(order, annotations(&found).is_some())) {
        Ok(patch) => Patch::Json::<()>(patch),
        Err(error) => return CallResult::Refused(format!("the patch for {display_name} cannot be made: {error}")),
    };
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    // Checked here, because the read may have outlasted the permit.
    if !permit.is_current(clock.now()) {
        return CallResult::NotLeader;
    }
    match send(&format!("restarting {display_name}"), api.patch(&reference.name, &params, &patch)).await {
        Ok(written) if attempt(&written) == Some(&order.id) => CallResult::Applied,
        Ok(_) => CallResult::Refused(format!(
            "the API server took the change of {display_name}, and {ATTEMPT} is not in it: an admission webhook took it out"
        )),
        Err(done) => done,
    }
}

/// Evicts a pod, if it has this UID. The API server honours its disruption budget.
///
/// [`Api::evict`] does not serve: kube-core 5.0 sends the options of the deletion as `delete_options`, a field that the API
/// server does not know and drops, so a precondition on the UID would not hold. A test compares the two requests.
pub async fn evict(
    client: &Client,
    clock: Clock,
    permit: &WritePermit,
    namespace: &str,
    pod: &str,
    uid: &str,
) -> CallResult {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let eviction = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "name": pod, "namespace": namespace },
        "deleteOptions": { "preconditions": { "uid": uid } },
    });
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    if !permit.is_current(clock.now()) {
        return CallResult::NotLeader;
    }
    let call = api.create_subresource::<Value, Status>("eviction", pod, &params, &eviction);
    send(&format!("evicting pod {namespace}/{pod}"), call).await.map_or_else(|done| done, |_| CallResult::Applied)
}

/// The difference between `found` and the workload that the order was given for.
fn difference(display_name: &str, found: &DynamicObject, order: &RestartOrder) -> Option<String> {
    let uid = found.uid().unwrap_or_default();
    if uid != order.uid {
        return Some(format!("{display_name} is another one now: its UID is {uid}, not {}", order.uid));
    }
    let generation = found.metadata.generation.unwrap_or(0);
    (generation != order.generation)
        .then(|| format!("{display_name} was changed: its generation is {generation}, not {}", order.generation))
}

fn annotations(workload: &DynamicObject) -> Option<&Value> {
    workload.data.pointer("/spec/template/metadata/annotations").filter(|annotations| annotations.is_object())
}

fn attempt(workload: &DynamicObject) -> Option<&str> {
    annotations(workload)?.get(ATTEMPT)?.as_str()
}

/// The JSON patch. `add` needs an existing parent, so without annotations it adds the whole map.
pub(super) fn patch_operations(order: &RestartOrder, has_annotations: bool) -> Value {
    let RestartOrder { id, started, uid, generation } = order;
    let at = Timestamp::from_second(started.as_second()).unwrap_or(*started).to_string();
    let reader = "/spec/template/metadata/annotations";
    let below = |name: &str| format!("{reader}/{}", name.replace('/', "~1"));
    let mut patch_operations = vec![
        json!({ "op": "test", "path": "/metadata/uid", "value": uid }),
        json!({ "op": "test", "path": "/metadata/generation", "value": generation }),
    ];
    if has_annotations {
        patch_operations.push(json!({ "op": "add", "path": below(RESTARTED_AT), "value": at }));
        patch_operations.push(json!({ "op": "add", "path": below(ATTEMPT), "value": id }));
    } else {
        patch_operations.push(json!({ "op": "add", "path": reader, "value": { RESTARTED_AT: at, ATTEMPT: id } }));
    }
    patch_operations.into()
}

/// Sends one request with a time limit; `what` names the action and its object, for errors.
async fn send<T>(what: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T, CallResult> {
    let call = async {
        match call.await {
            Ok(answer) => Ok(Ok(answer)),
            Err(kube::Error::Api(status)) => Ok(Err(status)),
            Err(error) => Err(error),
        }
    };
    match within(what, CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|status| classify(what, &status)),
        Err(error @ (CallError::Timeout { .. } | CallError::Other { .. })) => Err(CallResult::Retry(error.to_string())),
        Err(error) => Err(CallResult::Retry(format!("{what}: {error}"))),
    }
}

/// Classifies a refusal. Observed at an API server 1.36:
///
/// | case | code, reason | recognized by |
/// |---|---|---|
/// | a `test` of a JSON patch failed, or there was nothing to add to | 422 Invalid | `details` is empty; the message is "the server rejected our request due to an error in our request" |
/// | the object would break a rule | 422 Invalid | `details` has a name and causes |
/// | a ValidatingAdmissionPolicy denied it | 422 Invalid, or what it says: 403, 401, 413 | "… denied request: …", `details` has a name |
/// | an admission webhook denied it | 400 without a reason, or what it says, any code | "admission webhook "…" denied the request: …" |
/// | an admission webhook cannot be reached | 500 InternalError | "failed calling webhook …" |
/// | RBAC | 403 Forbidden | |
/// | no such object, or namespace | 404 NotFound | `details` has its name |
/// | no such kind | 404 NotFound | `details` is empty |
/// | another UID than the precondition's | 409 Conflict | asked for after the budget, so of a protected pod it is a 429 |
/// | a disruption budget is used up, or not worked out yet | 429 TooManyRequests | a cause `DisruptionBudget`, with the figures |
/// | two budgets select the pod | 500 without a reason | "This pod has more than one PodDisruptionBudget …" |
/// | too many requests at once | 429 TooManyRequests | no such cause |
pub(super) fn classify(what: &str, status: &Status) -> CallResult {
    let words = format!("{what}: {}", describe(status));
    let details = status.details.as_ref();
    let names_nothing = details.is_none_or(|details| details.name.is_empty() && details.causes.is_empty());
    let is_denied = ["denied the request", "denied request:", "more than one PodDisruptionBudget"];
    match status.code {
        // With any code: the same admission would deny it again.
        _ if is_denied.iter().any(|denied| status.message.contains(denied)) => CallResult::Refused(words),
        404 if !names_nothing => CallResult::Stale(words),
        409 => CallResult::Stale(words),
        422 if names_nothing => CallResult::Stale(format!("{what}: it was changed meanwhile")),
        // 401: a token that expired is renewed, 408: the server gave up waiting.
        401 | 408 | 429 => CallResult::Retry(words),
        400..=499 => CallResult::Refused(words),
        _ => CallResult::Retry(words),
    }
}

/// The server's message, with the message of a cause that it does not contain.
fn describe(status: &Status) -> String {
    let mut words = status.message.clone();
    let causes = status.details.iter().flat_map(|details| &details.causes);
    for cause in causes.filter(|cause| cause.reason == "DisruptionBudget") {
        words = format!("{words} {}", cause.message);
    }
    let told = if words.is_empty() { &status.reason } else { &words };
    crate::api::clip(format!("{told} ({})", status.code), LONGEST_WORDS)
}

/// Characters. A message that quotes the whole object has some kB; this is enough to see the refusal and its reason.
const LONGEST_WORDS: usize = 500;
