//! Restarts a workload, or evicts a pod: one request, which fails rather than to hit something else than was meant.

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
use crate::leadership::Permit;
use crate::time::Clock;

/// What a restart is to write, and onto what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Identity of the attempt: `vigie.dev/attempt`.
    pub id: String,
    /// When it was decided: `kubectl.kubernetes.io/restartedAt`, in whole seconds as kubectl writes it. The same
    /// whenever it is sent.
    pub started: Timestamp,
    /// UID of the workload that it was decided for.
    pub uid: String,
    /// Generation of the workload that it was decided for.
    pub generation: i64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The API server did it.
    Done,
    /// It is not any more what was decided for, and nothing was changed: read again, then decide again. Why.
    Stale(String),
    /// Refused, in the server's words. The same request would be refused again.
    Refused(String),
    /// Not done, or nobody knows whether: read before it is sent again. Why.
    Later(String),
    /// The permit ran out before it could be sent. Nothing was sent.
    NotLeader,
}

/// Restarts a workload as `kubectl rollout restart` does, if it has the UID and the generation of the order.
///
/// One read, which says whether there are annotations to add to, and one JSON patch, which tests both: whatever changes
/// the template changes the generation, so what was read holds.
pub async fn restart(
    client: &Client,
    clock: Clock,
    permit: &Permit,
    namespace: &str,
    reference: &WorkloadRef,
    order: &Order,
) -> Done {
    let resource = match reference.kind {
        WorkloadKind::Deployment => ApiResource::erase::<Deployment>(&()),
        WorkloadKind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        WorkloadKind::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let called = format!("{} {namespace}/{}", resource.kind, reference.name);
    let found = match send(&format!("reading {called}"), api.get(&reference.name)).await {
        Ok(found) => found,
        Err(done) => return done,
    };
    if let Some(stale) = difference(&called, &found, order) {
        return Done::Stale(stale);
    }
    let patch = match serde_json::from_value(operations(order, annotations(&found).is_some())) {
        Ok(patch) => Patch::Json::<()>(patch),
        Err(error) => return Done::Refused(format!("the patch for {called} cannot be made: {error}")),
    };
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    // Asked here: the read may have outlasted the permit.
    if !permit.is_current(clock.now()) {
        return Done::NotLeader;
    }
    match send(&format!("restarting {called}"), api.patch(&reference.name, &params, &patch)).await {
        Ok(written) if attempt(&written) == Some(&order.id) => Done::Done,
        Ok(_) => Done::Refused(format!(
            "the API server took the change of {called}, and {ATTEMPT} is not in it: an admission webhook took it out"
        )),
        Err(done) => done,
    }
}

/// Evicts a pod, if it has this UID; its disruption budget is honoured by the API server.
///
/// Not by [`Api::evict`]: kube-core 5.0 sends the options of the deletion as `delete_options`, a field that the API
/// server does not know and drops, so that a precondition on the UID would not hold. A test holds it against ours.
pub async fn evict(client: &Client, clock: Clock, permit: &Permit, namespace: &str, pod: &str, uid: &str) -> Done {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let eviction = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "name": pod, "namespace": namespace },
        "deleteOptions": { "preconditions": { "uid": uid } },
    });
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    if !permit.is_current(clock.now()) {
        return Done::NotLeader;
    }
    let call = api.create_subresource::<Value, Status>("eviction", pod, &params, &eviction);
    send(&format!("evicting pod {namespace}/{pod}"), call).await.map_or_else(|done| done, |_| Done::Done)
}

/// In which way `found` is not what the order was given for.
fn difference(called: &str, found: &DynamicObject, order: &Order) -> Option<String> {
    let uid = found.uid().unwrap_or_default();
    if uid != order.uid {
        return Some(format!("{called} is another one now: its UID is {uid}, not {}", order.uid));
    }
    let generation = found.metadata.generation.unwrap_or(0);
    (generation != order.generation)
        .then(|| format!("{called} was changed: its generation is {generation}, not {}", order.generation))
}

fn annotations(workload: &DynamicObject) -> Option<&Value> {
    workload.data.pointer("/spec/template/metadata/annotations").filter(|annotations| annotations.is_object())
}

fn attempt(workload: &DynamicObject) -> Option<&str> {
    annotations(workload)?.get(ATTEMPT)?.as_str()
}

/// The JSON patch. What `add` adds to must be there, so where there are no annotations it adds all of them.
pub(super) fn operations(order: &Order, has_annotations: bool) -> Value {
    let Order { id, started, uid, generation } = order;
    let at = Timestamp::from_second(started.as_second()).unwrap_or(*started).to_string();
    let place = "/spec/template/metadata/annotations";
    let below = |name: &str| format!("{place}/{}", name.replace('/', "~1"));
    let mut operations = vec![
        json!({ "op": "test", "path": "/metadata/uid", "value": uid }),
        json!({ "op": "test", "path": "/metadata/generation", "value": generation }),
    ];
    if has_annotations {
        operations.push(json!({ "op": "add", "path": below(RESTARTED_AT), "value": at }));
        operations.push(json!({ "op": "add", "path": below(ATTEMPT), "value": id }));
    } else {
        operations.push(json!({ "op": "add", "path": place, "value": { RESTARTED_AT: at, ATTEMPT: id } }));
    }
    operations.into()
}

/// Sends one request with a limit; `what` says what is being done, and to what.
async fn send<T>(what: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T, Done> {
    let call = async {
        match call.await {
            Ok(answer) => Ok(Ok(answer)),
            Err(kube::Error::Api(status)) => Ok(Err(status)),
            Err(error) => Err(error),
        }
    };
    match within(what, CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|status| judge(what, &status)),
        Err(error @ (CallError::Timeout { .. } | CallError::Other { .. })) => Err(Done::Later(error.to_string())),
        Err(error) => Err(Done::Later(format!("{what}: {error}"))),
    }
}

/// What a refusal means. Seen at an API server 1.36:
///
/// | what happened | code, reason | by what it is told |
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
pub(super) fn judge(what: &str, status: &Status) -> Done {
    let words = format!("{what}: {}", in_words(status));
    let details = status.details.as_ref();
    let names_nothing = details.is_none_or(|details| details.name.is_empty() && details.causes.is_empty());
    let is_denied = ["denied the request", "denied request:", "more than one PodDisruptionBudget"];
    match status.code {
        // Whatever its code: who denied it would deny it again.
        _ if is_denied.iter().any(|denied| status.message.contains(denied)) => Done::Refused(words),
        404 if !names_nothing => Done::Stale(words),
        409 => Done::Stale(words),
        422 if names_nothing => Done::Stale(format!("{what}: it was changed meanwhile")),
        // 401: a token that expired is renewed, 408: the server gave up waiting.
        401 | 408 | 429 => Done::Later(words),
        400..=499 => Done::Refused(words),
        _ => Done::Later(words),
    }
}

/// The server's words, with what it says of the cause where the message does not.
fn in_words(status: &Status) -> String {
    let mut words = status.message.clone();
    let causes = status.details.iter().flat_map(|details| &details.causes);
    for cause in causes.filter(|cause| cause.reason == "DisruptionBudget") {
        words = format!("{words} {}", cause.message);
    }
    let told = if words.is_empty() { &status.reason } else { &words };
    crate::api::clip(format!("{told} ({})", status.code), LONGEST_WORDS)
}

/// A message that quotes the whole object has some kB; this is enough to know who refused, and why.
const LONGEST_WORDS: usize = 500;
