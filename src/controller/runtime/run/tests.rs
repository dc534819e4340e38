//! The controller of each kind over a list of objects, with an API server that does not answer for one namespace.

use std::convert::Infallible;

use hyper::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::cluster::fake::{Fake, Mode};
use crate::controller::{backend, connector};

/// The path of an object in the API server.
fn path<K: Kind>(namespace: &str, name: &str) -> String {
    format!("/apis/vigie.dev/v1alpha1/namespaces/{namespace}/{}/{name}", K::Object::plural(&()))
}

fn object<K: Kind>(namespace: &str, name: &str, spec: &Value) -> Value {
    let meta = json!({ "name": name, "namespace": namespace, "uid": format!("{namespace}-{name}"), "generation": 1, "resourceVersion": "1" });
    json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": K::Object::KIND, "metadata": meta, "spec": spec })
}

/// A client of an API server that lists these objects, whose watch never delivers anything.
fn lists(items: Vec<Value>) -> Client {
    let list = json!({ "metadata": { "resourceVersion": "1" }, "items": items });
    let list = serde_json::to_vec(&list).unwrap();
    let service = tower::service_fn(move |request: Request<Body>| {
        let list = list.clone();
        async move {
            if request.uri().query().is_some_and(|query| query.contains("watch=")) {
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(Response::new(Body::from(list)))
        }
    });
    Client::new(service, "default")
}

/// Starts the controller of one kind over 2,000 objects of the namespace `flapping`, for which the API server does not
/// answer, and one of `shop`; waits until the status of that one is written.
async fn is_written_beside_a_flapping_namespace<K: Kind>(fake: &Fake, kind: Arc<K>, spec: Value) {
    let shop = path::<K>("shop", "web");
    fake.put(&shop, object::<K>("shop", "web", &spec));
    fake.set_mode(Mode::HangsAt("/namespaces/flapping/"));
    let mut items: Vec<_> = (0..2_000).map(|number| object::<K>("flapping", &format!("web-{number}"), &spec)).collect();
    items.push(fake.object(&shop).unwrap());
    let stop = CancellationToken::new();
    let tap = Tap { kind, scope: None, filled: Arc::new(|| {}) };
    let (_wake, woken) = mpsc::unbounded_channel();
    let (_, driven) = controller(&lists(items), None, tap, woken, futures::stream::pending(), stop.clone());
    let driven = tokio::spawn(driven);
    let is_written = || fake.object(&shop).is_some_and(|shop| shop["status"].is_object());
    let written = async {
        while !is_written() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    // Time is paused: the calls that hang reach their limit of 5 s only when nothing else is left to do.
    let in_time = tokio::time::timeout(Duration::from_secs(1), written).await;
    stop.cancel();
    driven.abort();
    in_time.expect("it waits for no object of the namespace whose calls hang");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_of_connectors_whose_calls_hang_delays_no_connector_of_another() {
    let fake = Fake::new();
    let (context, _ends) = connector::fake::leader(&fake);
    is_written_beside_a_flapping_namespace(&fake, Arc::new(context), json!({})).await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_of_backends_whose_calls_hang_delays_no_backend_of_another() {
    let fake = Fake::new();
    let (shared, _leadership) = connector::fake::shared(&fake);
    let spec = backend::fake::backend()["spec"].take();
    is_written_beside_a_flapping_namespace(&fake, backend::fake::context(shared), spec).await;
}
