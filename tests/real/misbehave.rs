//! What `misbehave` does in pods, and what is said of it.

use serde_json::json;

use crate::app::{App, running};
use crate::place;
use crate::support::world::SOON;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_in_a_pod_is_up_by_its_service_and_by_its_pods() {
    let world = place::world("real-up").await;
    let _operator = world.operator(&[]).await;
    let app = App::misbehave("shop", &[]);
    app.deploy(&world).await;
    world.backend("service", app.backend(app.at_service("/metrics"), json!({"metrics": {}}))).await;
    let pods = json!({"pods": {"port": 8080, "path": "/metrics"}});
    world.backend("pods", app.backend(pods, json!({"metrics": {}}))).await;
    running(&world, "shop", 1).await;
    world.backend_is(SOON, "service", "Up", "").await;
    world.backend_is(SOON, "pods", "Up", "").await;
}
