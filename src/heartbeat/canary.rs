//! Beating to ourselves through the public URL: can we be reached at all?

use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::listening::Role;
use super::registry::Registry;
use crate::http::client;

/// How often the canary beats (liveness.md, clock rule 3).
const EVERY: Duration = Duration::from_secs(10);

/// After a first failure it tries again this soon: one lost packet is no broken path, and a real one must be known
/// before the shortest deadline (30 s) passes.
const CONFIRM: Duration = Duration::from_secs(2);

/// Beats to ourselves until `stop`; `moved` is called when `listeningSince` changed with the outcome.
pub async fn run(registry: Arc<Registry>, target: Uri, moved: impl Fn(), stop: CancellationToken) {
    let mut failures = 0u32;
    // Whoever was heard after this was heard on a path that the canary calls broken: then it is not.
    let mut failed_first_at = None;
    let mut wait = EVERY;
    while stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
        let role = registry.listening.inputs().role;
        if !matches!(role, Role::Leader | Role::Uncertain) {
            // Another leads: what the URL leads to is not us, and rightly so.
            (failures, failed_first_at, wait) = (0, None, EVERY);
            continue;
        }
        let outcome = beat(&registry, &target).await;
        let now = registry.clock().now();
        wait = EVERY;
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
        let anyone_heard_at = registry.anyone_heard_at();
        let changed = registry.listening.update(now, |inputs| {
            inputs.anyone_heard_at = anyone_heard_at;
            inputs.canary_failing_since = failing_since;
        });
        if changed {
            moved();
        }
    }
}

async fn beat(registry: &Registry, target: &Uri) -> anyhow::Result<()> {
    let canary = registry.canary();
    let body = json!({ "connector_id": canary.id, "token": canary.token });
    client::post(target, body.to_string().into()).await.map(drop)
}
