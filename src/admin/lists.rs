//! `/api/v1/connectors`, `/api/v1/backends`: the fleet as JSON. `/sd/prometheus`: the scrape targets of all backends.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::{AdminState, make_large, refusal};
use crate::view::{BackendView, Fleet};

/// How many objects one chunk of the body holds, some 50 kB, so that the JSON of a large fleet is never in memory as a
/// whole.
const CHUNK: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    namespace: Option<String>,
}

type QueryResult = Result<Query<Params>, QueryRejection>;

pub(super) async fn connectors(State(shared): State<Arc<AdminState>>, params: QueryResult) -> Response {
    let gather = |fleet: &dyn Fleet, namespace: Option<&str>| {
        let mut items = Vec::new();
        fleet.connectors(namespace, &mut |view| items.push(view));
        items.sort_unstable_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        items
    };
    list(&shared, params, gather).await
}

pub(super) async fn backends(State(shared): State<Arc<AdminState>>, params: QueryResult) -> Response {
    list(&shared, params, sorted_backends).await
}

fn sorted_backends(fleet: &dyn Fleet, namespace: Option<&str>) -> Vec<BackendView> {
    let mut items = Vec::new();
    fleet.backends(namespace, &mut |view| items.push(view));
    items.sort_unstable_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    items
}

async fn list<V: Serialize + Send + 'static>(
    shared: &Arc<AdminState>,
    params: QueryResult,
    gather: fn(&dyn Fleet, Option<&str>) -> Vec<V>,
) -> Response {
    let (leader, _) = shared.fleet.role();
    let tail = format!("],\"leader\":\"{leader}\",\"source\":\"operator\"}}\n");
    match gathered(shared, params, gather).await {
        Ok(items) => ([(header::CONTENT_TYPE, "application/json")], body("{\"items\":[", items, tail)).into_response(),
        Err(refused) => refused,
    }
}

async fn gathered<V: Send + 'static>(
    shared: &Arc<AdminState>,
    params: QueryResult,
    gather: fn(&dyn Fleet, Option<&str>) -> Vec<V>,
) -> Result<(Vec<V>, OwnedSemaphorePermit), Response> {
    let namespace = match params.map_err(|rejection| query_error(&rejection)).and_then(|Query(p)| namespace(p)) {
        Ok(namespace) => namespace,
        Err(why) => return Err(refusal(StatusCode::BAD_REQUEST, "BadQuery", &why)),
    };
    let fleet = shared.fleet.clone();
    make_large(shared, "the list", move || gather(&*fleet, namespace.as_deref())).await
}

/// One entry of Prometheus' HTTP service discovery: the addresses of one backend.
#[derive(Serialize)]
struct TargetGroup {
    targets: Vec<String>,
    labels: TargetLabels,
}

#[derive(Serialize)]
struct TargetLabels {
    namespace: String,
    name: String,
    site: String,
    #[serde(rename = "__scheme__")]
    scheme: &'static str,
    #[serde(rename = "__metrics_path__")]
    path: String,
}

/// Every accepted backend that speaks HTTP, for Prometheus' `http_sd_configs`.
pub(super) async fn discovery(State(shared): State<Arc<AdminState>>, params: QueryResult) -> Response {
    // On an error Prometheus keeps its targets; an incomplete list would drop them.
    if !shared.fleet.role().1 {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "NotSynced", "the backends are not all known yet");
    }
    match gathered(&shared, params, sorted_backends).await {
        Ok((views, slot)) => {
            let groups: Vec<TargetGroup> = views.into_iter().filter_map(target_group).collect();
            ([(header::CONTENT_TYPE, "application/json")], body("[", (groups, slot), "]\n".to_owned())).into_response()
        }
        Err(refused) => refused,
    }
}

fn target_group(view: BackendView) -> Option<TargetGroup> {
    let scrape = view.scrape.filter(|_| view.accepted)?;
    let labels = TargetLabels {
        namespace: view.namespace,
        name: view.name,
        site: view.site,
        scheme: if scrape.is_tls { "https" } else { "http" },
        path: scrape.path,
    };
    Some(TargetGroup { targets: scrape.addresses, labels })
}

/// The parser's error message without its prefix.
fn query_error(rejection: &QueryRejection) -> String {
    let text = rejection.body_text();
    format!("the query cannot be read: {}", text.rsplit_once("query string: ").map_or(text.as_str(), |(_, why)| why))
}

/// The namespace in the query. An empty value means all namespaces, as in `?namespace=$NS` with `NS` unset.
fn namespace(params: Params) -> Result<Option<String>, String> {
    match params.namespace.filter(|namespace| !namespace.is_empty()) {
        None => Ok(None),
        Some(namespace) if crate::api::is_dns_label(&namespace) => Ok(Some(namespace)),
        Some(namespace) => Err(format!("namespace {namespace:?} is no name of a namespace")),
    }
}

/// The response body in chunks. It holds the slot until the last chunk is sent, or the client disconnects.
fn body<V: Serialize + Send + 'static>(
    head: &str,
    (items, slot): (Vec<V>, OwnedSemaphorePermit),
    tail: String,
) -> Body {
    let mut items = items.into_iter().peekable();
    let mut text = head.to_owned();
    let mut tail = Some(tail);
    let chunks = std::iter::from_fn(move || {
        let _slot = &slot;
        tail.as_ref()?;
        let mut chunk = std::mem::take(&mut text);
        for view in items.by_ref().take(CHUNK) {
            match serde_json::to_string(&view) {
                Ok(json) => chunk.push_str(&json),
                Err(error) => return Some(Err(std::io::Error::other(error))),
            }
            chunk.push(',');
        }
        if items.peek().is_none() {
            if chunk.ends_with(',') {
                chunk.pop();
            }
            chunk.push_str(&tail.take()?);
        }
        Some(Ok(chunk))
    });
    Body::from_stream(stream::iter(chunks))
}
