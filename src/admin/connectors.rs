//! `/api/v1/connectors`: the fleet as JSON.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;

use super::{ConnectorView, Shared, large, refusal};

/// How many connectors are written to the socket in one piece, some 50 kB: the JSON of a large fleet never exists as
/// a whole.
const PIECE: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    namespace: Option<String>,
}

pub(super) async fn list(State(shared): State<Arc<Shared>>, params: Result<Query<Params>, QueryRejection>) -> Response {
    let namespace = match params.map_err(|rejection| wrong(&rejection)).and_then(|Query(p)| namespace(p)) {
        Ok(namespace) => namespace,
        Err(why) => return refusal(StatusCode::BAD_REQUEST, "BadQuery", &why),
    };
    let fleet = shared.fleet.clone();
    let gather = move || {
        let mut items = Vec::new();
        fleet.connectors(namespace.as_deref(), &mut |view| items.push(view));
        items.sort_unstable_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        items
    };
    let leader = shared.fleet.facts().leader;
    let Some(items) = large(&shared, gather).await else {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "Internal", "the connectors could not be gathered");
    };
    let tail = format!("],\"leader\":\"{leader}\",\"source\":\"operator\"}}\n");
    ([(header::CONTENT_TYPE, "application/json")], body(items, tail)).into_response()
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
        Some(namespace) if super::is_dns_label(&namespace) => Ok(Some(namespace)),
        Some(namespace) => Err(format!("namespace {namespace:?} is no name of a namespace")),
    }
}

fn body(items: Vec<ConnectorView>, tail: String) -> Body {
    let mut items = items.into_iter().peekable();
    let mut text = String::from("{\"items\":[");
    let mut tail = Some(tail);
    let pieces = std::iter::from_fn(move || {
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
