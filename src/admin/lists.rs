//! `/api/v1/connectors`, `/api/v1/backends`: the fleet as JSON; `/sd/prometheus`: what of it Prometheus is to scrape.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::{Shared, large, refusal};
use crate::view::{BackendView, Fleet};

/// How many connectors are written to the socket in one piece, some 50 kB: the JSON of a large fleet never exists as
/// a whole.
const PIECE: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    namespace: Option<String>,
}

type Asked = Result<Query<Params>, QueryRejection>;

pub(super) async fn connectors(State(shared): State<Arc<Shared>>, params: Asked) -> Response {
    let gather = |fleet: &dyn Fleet, namespace: Option<&str>| {
        let mut items = Vec::new();
        fleet.connectors(namespace, &mut |view| items.push(view));
        items.sort_unstable_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        items
    };
    list(&shared, params, gather).await
}

pub(super) async fn backends(State(shared): State<Arc<Shared>>, params: Asked) -> Response {
    list(&shared, params, sorted_backends).await
}

fn sorted_backends(fleet: &dyn Fleet, namespace: Option<&str>) -> Vec<BackendView> {
    let mut items = Vec::new();
    fleet.backends(namespace, &mut |view| items.push(view));
    items.sort_unstable_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    items
}

async fn list<V: Serialize + Send + 'static>(
    shared: &Arc<Shared>,
    params: Asked,
    gather: fn(&dyn Fleet, Option<&str>) -> Vec<V>,
) -> Response {
    let (leader, _) = shared.fleet.standing();
    let tail = format!("],\"leader\":\"{leader}\",\"source\":\"operator\"}}\n");
    match gathered(shared, params, gather).await {
        Ok(items) => ([(header::CONTENT_TYPE, "application/json")], body("{\"items\":[", items, tail)).into_response(),
        Err(refused) => refused,
    }
}

async fn gathered<V: Send + 'static>(
    shared: &Arc<Shared>,
    params: Asked,
    gather: fn(&dyn Fleet, Option<&str>) -> Vec<V>,
) -> Result<(Vec<V>, OwnedSemaphorePermit), Response> {
    let namespace = match params.map_err(|rejection| wrong(&rejection)).and_then(|Query(p)| namespace(p)) {
        Ok(namespace) => namespace,
        Err(why) => return Err(refusal(StatusCode::BAD_REQUEST, "BadQuery", &why)),
    };
    let fleet = shared.fleet.clone();
    large(shared, "the list", move || gather(&*fleet, namespace.as_deref())).await
}

/// One entry of Prometheus' HTTP service discovery: what one backend is scraped at.
#[derive(Serialize)]
struct Group {
    targets: Vec<String>,
    labels: Labels,
}

#[derive(Serialize)]
struct Labels {
    namespace: String,
    name: String,
    site: String,
    #[serde(rename = "__scheme__")]
    scheme: &'static str,
    #[serde(rename = "__metrics_path__")]
    path: String,
}

/// Every accepted backend that speaks HTTP, for Prometheus' `http_sd_configs`.
pub(super) async fn discovery(State(shared): State<Arc<Shared>>, params: Asked) -> Response {
    // Before everything is known an empty list would have Prometheus drop every target: an error leaves those it has.
    if !shared.fleet.standing().1 {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "NotSynced", "the backends are not all known yet");
    }
    match gathered(&shared, params, sorted_backends).await {
        Ok((views, turn)) => {
            let groups: Vec<Group> = views.into_iter().filter_map(group).collect();
            ([(header::CONTENT_TYPE, "application/json")], body("[", (groups, turn), "]\n".to_owned())).into_response()
        }
        Err(refused) => refused,
    }
}

fn group(view: BackendView) -> Option<Group> {
    let scrape = view.scrape.filter(|_| view.accepted)?;
    let labels = Labels {
        namespace: view.namespace,
        name: view.name,
        site: view.site,
        scheme: if scrape.is_tls { "https" } else { "http" },
        path: scrape.path,
    };
    Some(Group { targets: scrape.addresses, labels })
}

/// What is wrong with a query, without the name of the parser's step.
fn wrong(rejection: &QueryRejection) -> String {
    let text = rejection.body_text();
    format!("the query cannot be read: {}", text.rsplit_once("query string: ").map_or(text.as_str(), |(_, why)| why))
}

/// The namespace that was asked for; an empty one means all, as in `?namespace=$NS` with nothing set.
fn namespace(params: Params) -> Result<Option<String>, String> {
    match params.namespace.filter(|namespace| !namespace.is_empty()) {
        None => Ok(None),
        Some(namespace) if crate::api::is_dns_label(&namespace) => Ok(Some(namespace)),
        Some(namespace) => Err(format!("namespace {namespace:?} is no name of a namespace")),
    }
}

/// The answer in pieces. Its place among the large ones is kept until the last one is sent, or nobody reads any more.
fn body<V: Serialize + Send + 'static>(
    head: &str,
    (items, turn): (Vec<V>, OwnedSemaphorePermit),
    tail: String,
) -> Body {
    let mut items = items.into_iter().peekable();
    let mut text = head.to_owned();
    let mut tail = Some(tail);
    let pieces = std::iter::from_fn(move || {
        let _held = &turn;
        tail.as_ref()?;
        let mut piece = std::mem::take(&mut text);
        for view in items.by_ref().take(PIECE) {
            match serde_json::to_string(&view) {
                Ok(json) => piece.push_str(&json),
                Err(error) => return Some(Err(std::io::Error::other(error))),
            }
            piece.push(',');
        }
        if items.peek().is_none() {
            if piece.ends_with(',') {
                piece.pop();
            }
            piece.push_str(&tail.take()?);
        }
        Some(Ok(piece))
    });
    Body::from_stream(stream::iter(pieces))
}
