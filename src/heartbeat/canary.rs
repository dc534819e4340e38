//! Sends heartbeats to this process through the public URL, to check that heartbeats can arrive at all.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::registry::Registry;
use crate::http::client;

/// The interval of the canary (`docs/design/liveness.md`, clock rule 3).
const INTERVAL: Duration = Duration::from_secs(10);

/// The interval after a first failure: one lost packet is not a broken path, and a broken path must be known before the
/// shortest deadline (30 s) passes.
const CONFIRM: Duration = Duration::from_secs(2);

/// Sends heartbeats until `stop`; calls `moved` when a result changed `listeningSince`.
pub async fn run(registry: Arc<Registry>, target: Uri, moved: impl Fn(), stop: CancellationToken) {
    let mut failures = 0u32;
    // A heartbeat that arrives after this took a path that the canary found broken: then it is not broken.
    let mut failed_first_at = None;
    let mut wait = INTERVAL;
    while stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
        let role = registry.listening.inputs().role;
        if !role.accepts_heartbeats() {
            // Another replica leads: the URL rightly leads to that one.
            (failures, failed_first_at, wait) = (0, None, INTERVAL);
            continue;
        }
        let outcome = send(&registry, &target).await;
        let now = registry.clock().now();
        wait = INTERVAL;
        match outcome {
            Ok(()) => {
                if failures > 1 {
                    tracing::info!(url = %target, "we can be reached again");
                }
                (failures, failed_first_at) = (0, None);
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                failed_first_at.get_or_insert(now);
                if failures == 1 {
                    wait = CONFIRM;
                } else if failures == 2 {
                    tracing::warn!(url = %target, error = %format!("{error:#}"), "our own beat does not reach us; unless connectors do, silence does not count");
                }
            }
        }
        let failing_since = failed_first_at.filter(|_| failures > 1);
        let last_heartbeat_at = registry.last_heartbeat_at();
        let changed = registry.listening.update(now, |inputs| {
            inputs.last_heartbeat_at = last_heartbeat_at;
            inputs.canary_failing_since = failing_since;
        });
        if changed {
            moved();
        }
    }
}

async fn send(registry: &Registry, target: &Uri) -> anyhow::Result<()> {
    let canary = registry.canary();
    let body = json!({ "connector_id": canary.id, "token": canary.token });
    client::post(target, body.to_string().into()).await.map(drop)
}
