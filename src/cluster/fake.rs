//! An API server for unit tests: objects in memory, checks of resourceVersions, and failures on request.

use std::collections::BTreeMap;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::{Request, Response};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// The behaviour of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Normal responses.
    Up,
    /// No response.
    Hangs,
    /// No response for paths that contain this; normal responses for the rest.
    HangsAt(&'static str),
    /// This code and reason for every request.
    Refuses(u16, &'static str),
    /// 403 for paths that contain this, as by RBAC; normal responses for the rest.
    Forbids(&'static str),
    /// 503 for paths that contain this; normal responses for the rest.
    Fails(&'static str),
    /// Normal behaviour, but the member at this JSON pointer is dropped from each write, as by a CRD that does not have it.
    Prunes(&'static str),
    /// Normal behaviour, but writes to paths that contain this are applied and answered with a gateway's 504.
    Loses(&'static str),
}

/// The server. Clones share their state.
#[derive(Clone)]
pub(crate) struct Fake(Arc<Mutex<State>>);

struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    mode: Mode,
    log: Vec<String>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        let state = State { objects: BTreeMap::new(), version: 1, mode: Mode::Up, log: Vec::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn client(&self) -> kube::Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| fake.clone().serve(request));
        kube::Client::new(service, "default")
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        self.0.lock().mode = mode;
    }

    /// The requests since the last call, as `METHOD path?query`.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().log)
    }

    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.0.lock().objects.get(path).cloned()
    }

    /// Stores an object as another client would; `Value::Null` deletes it.
    pub(crate) fn put(&self, path: &str, object: Value) {
        let mut state = self.0.lock();
        if object.is_null() {
            state.objects.remove(path);
        } else {
            state.store(path, object);
        }
    }

    /// Stores an object as it was, with the versions of that time, as a restore of etcd does.
    pub(crate) fn restore(&self, path: &str, object: Value) {
        let mut state = self.0.lock();
        let version = object["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok());
        state.version = version.expect("the copy of an object has its version");
        state.objects.insert(path.to_owned(), object);
    }

    async fn serve(self, request: Request<Body>) -> Result<Response<Body>, std::convert::Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.expect("a body in memory can be read").to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let asked = format!("{} {}", head.method, head.uri);
        let mode = {
            let mut state = self.0.lock();
            state.log.push(asked);
            state.mode
        };
        let (code, answer) = match mode {
            Mode::Up => self.0.lock().answer(head.method.as_str(), head.uri.path(), head.uri.query(), body),
            Mode::Hangs => std::future::pending().await,
            Mode::HangsAt(part) if head.uri.path().contains(part) => std::future::pending().await,
            Mode::Refuses(code, reason) => failure(code, reason),
            Mode::Forbids(part) if head.uri.path().contains(part) => failure(403, "Forbidden"),
            Mode::Loses(part) if head.method != "GET" && head.uri.path().contains(part) => {
                self.0.lock().answer(head.method.as_str(), head.uri.path(), head.uri.query(), body);
                failure(504, "Timeout")
            }
            Mode::Fails(part) if head.uri.path().contains(part) => failure(503, "ServiceUnavailable"),
            Mode::Prunes(member) => {
                let mut body = body;
                let (parent, name) = member.rsplit_once('/').expect("a pointer has a parent");
                if let Some(Value::Object(parent)) = body.pointer_mut(parent) {
                    parent.remove(name);
                }
                self.0.lock().answer(head.method.as_str(), head.uri.path(), head.uri.query(), body)
            }
            Mode::HangsAt(_) | Mode::Forbids(_) | Mode::Loses(_) | Mode::Fails(_) => {
                self.0.lock().answer(head.method.as_str(), head.uri.path(), head.uri.query(), body)
            }
        };
        let body = Body::from(serde_json::to_vec(&answer).expect("a value is JSON"));
        Ok(Response::builder().status(code).body(body).expect("the parts are well formed"))
    }
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    let message = format!("the fake says {reason}");
    let details = json!({ "name": "it" });
    (
        code,
        json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message, "details": details }),
    )
}

impl State {
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn answer(&mut self, method: &str, path: &str, query: Option<&str>, body: Value) -> (u16, Value) {
        let path = path.strip_suffix("/status").unwrap_or(path);
        if let Some(pod) = path.strip_suffix("/eviction") {
            return self.evict(pod, &body);
        }
        if method == "POST" {
            let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap_or_default());
            return match self.objects.contains_key(&path) {
                true => failure(409, "AlreadyExists"),
                false => (201, self.store(&path, body)),
            };
        }
        if let Some(selector) = query.and_then(|query| query.split("labelSelector=").nth(1)) {
            return (200, json!({ "metadata": {}, "items": self.select(path, selector) }));
        }
        if method == "GET"
            && ["nodes", "servicecidrs", "pods", "services", "poddisruptionbudgets", "endpointslices"]
                .iter()
                .any(|plural| path.ends_with(&format!("/{plural}")))
        {
            let below: Vec<_> = self.objects.iter().filter(|(name, _)| name.starts_with(path)).collect();
            return (
                200,
                json!({ "metadata": {}, "items": below.into_iter().map(|(_, object)| object).collect::<Vec<_>>() }),
            );
        }
        let Some(current) = self.objects.get(path).cloned() else { return failure(404, "NotFound") };
        let version = body.pointer("/metadata/resourceVersion");
        if version.is_some_and(|version| Some(version) != current.pointer("/metadata/resourceVersion")) {
            return failure(409, "Conflict");
        }
        match method {
            "PUT" => (200, self.store(path, body)),
            "PATCH" if body.is_array() => match patched(&current, &body) {
                Some(object) => (200, self.store(path, object)),
                None => nameless(422, "Invalid"),
            },
            "PATCH" => {
                let mut merged = current;
                merge(&mut merged, body);
                (200, self.store(path, merged))
            }
            _ => (200, current),
        }
    }

    /// Deletes a pod, if the eviction's precondition on its UID holds.
    fn evict(&mut self, pod: &str, eviction: &Value) -> (u16, Value) {
        let Some(current) = self.objects.get(pod) else { return failure(404, "NotFound") };
        let wanted = eviction.pointer("/deleteOptions/preconditions/uid");
        if wanted.is_some_and(|uid| Some(uid) != current.pointer("/metadata/uid")) {
            return failure(409, "Conflict");
        }
        self.objects.remove(pod);
        (201, json!({ "kind": "Status", "status": "Success", "code": 201 }))
    }

    /// The objects below `path` that carry the one label of `selector`, which is percent-encoded.
    fn select(&self, path: &str, selector: &str) -> Vec<Value> {
        let selector = selector.split('&').next().unwrap_or_default().replace("%2F", "/").replace("%3D", "=");
        let (key, value) = selector.split_once('=').expect("one label is asked for");
        let labelled = |object: &&Value| object["metadata"]["labels"][key] == value;
        let below = self.objects.iter().filter(|(name, _)| name.starts_with(path));
        below.map(|(_, object)| object).filter(labelled).cloned().collect()
    }
}

/// As [`failure`], without the name of the object, as the API server answers a JSON patch that does not apply.
fn nameless(code: u16, reason: &str) -> (u16, Value) {
    let (code, mut status) = failure(code, reason);
    status["details"] = json!({});
    (code, status)
}

/// The part of RFC 6902 that the operator uses: `test` and `add` of members of objects. As in the API server, a change of
/// the spec gives a new generation. `None` when a test fails or the parent of an added member is missing.
fn patched(current: &Value, operations: &Value) -> Option<Value> {
    let mut object = current.clone();
    for operation in operations.as_array()? {
        let (path, value) = (operation["path"].as_str()?, &operation["value"]);
        match operation["op"].as_str()? {
            "test" if object.pointer(path) == Some(value) => {}
            "add" => {
                let (parent, member) = path.rsplit_once('/')?;
                let member = member.replace("~1", "/").replace("~0", "~");
                object.pointer_mut(parent)?.as_object_mut()?.insert(member, value.clone());
            }
            _ => return None,
        }
    }
    if let (Some(generation), true) = (object["metadata"]["generation"].as_i64(), object["spec"] != current["spec"]) {
        object["metadata"]["generation"] = (generation + 1).into();
    }
    Some(object)
}

/// RFC 7396.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        match (value, target.as_object_mut()) {
            (Value::Null, Some(target)) => drop(target.remove(&key)),
            (value, _) => merge(&mut target[&key], value),
        }
    }
}
