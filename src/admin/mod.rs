//! What operators and Prometheus ask us, on a port of its own. No call changes anything.

mod auth;
mod lists;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::body::{Frame, SizeHint};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub use auth::{Authenticator, Denied, FORWARDED_TOKEN};

use crate::metrics;
use crate::view::{Fleet, Standing};

/// How many answers that walk the whole fleet are made at once: each holds a copy of it, and two keep both cores of a
/// small node busy. The others wait their turn.
const LARGE_ANSWERS: usize = 2;
/// How long one waits for its turn before it is told to come again. Prometheus gives up after 10 s by default.
const TURN_WITHIN: Duration = Duration::from_secs(8);
/// How much of a large text is handed on to be sent at once, in bytes.
const PIECE: usize = 64 * 1024;

/// What the admin port is made of.
pub struct Admin {
    /// Whoever knows the fleet.
    pub fleet: Arc<dyn Fleet>,
    /// Every metric that is exported.
    pub registry: Arc<Registry>,
    /// Who may ask; without it, whoever reaches the port.
    pub auth: Option<Authenticator>,
}

struct Shared {
    fleet: Arc<dyn Fleet>,
    registry: Arc<Registry>,
    auth: Option<Authenticator>,
    large: Arc<Semaphore>,
}

/// The routes of the admin port. `/livez` and `/readyz` are open to the kubelet, the others to whom `auth` lets in.
pub fn router(admin: Admin) -> Router {
    let Admin { fleet, registry, auth } = admin;
    let shared = Arc::new(Shared { fleet, registry, auth, large: Arc::new(Semaphore::new(LARGE_ANSWERS)) });
    let guarded = Router::new()
        .route("/metrics", get(scrape))
        .route("/api/v1/connectors", get(lists::connectors))
        .route("/api/v1/backends", get(lists::backends))
        .route("/sd/prometheus", get(lists::discovery))
        .route_layer(middleware::from_fn_with_state(shared.clone(), guard));
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .merge(guarded)
        .method_not_allowed_fallback(async || {
            refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "this port only answers GET and HEAD")
        })
        .fallback(async || refusal(StatusCode::NOT_FOUND, "NotFound", "there is nothing at this path"))
        .with_state(shared)
}

/// An answer that is no success, in the same shape as on the connectors' port.
fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"error": {"code": code, "message": message}}))).into_response()
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    match readiness(shared.fleet.standing()) {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

/// Whether this replica can do its part: lead, or take over with warm stores. One that has led and cannot reach the
/// API server stays ready, because nobody else hears the beats.
fn readiness((standing, synced): (Standing, bool)) -> Result<(), &'static str> {
    match standing {
        Standing::Uncertain => Ok(()),
        Standing::Leader | Standing::Follower if synced => Ok(()),
        Standing::Leader | Standing::Follower => Err("the stores are not yet filled from the API server"),
    }
}

async fn scrape(State(shared): State<Arc<Shared>>) -> Response {
    let registry = shared.registry.clone();
    match large(&shared, "the metrics", move || metrics::encode(&registry)).await {
        Ok((Ok(text), turn)) => {
            let body = Body::new(Held { text: text.into(), _turn: turn });
            ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], body).into_response()
        }
        Ok((Err(_), _)) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "Internal", "the metrics could not be written"),
        Err(refused) => refused,
    }
}

/// Runs `make` where it may take its time, a few at once, and gives the place with what was made: it is free when the
/// place is dropped, which belongs into the body of the answer. Whoever asks and goes away frees none before `make` is
/// done, for nothing can stop it.
async fn large<T: Send + 'static>(
    shared: &Shared,
    what: &str,
    make: impl FnOnce() -> T + Send + 'static,
) -> Result<(T, OwnedSemaphorePermit), Response> {
    let Ok(Ok(turn)) = timeout(TURN_WITHIN, Arc::clone(&shared.large).acquire_owned()).await else {
        let message = format!("others are being answered; nobody could make {what} within {} s", TURN_WITHIN.as_secs());
        let mut busy = refusal(StatusCode::SERVICE_UNAVAILABLE, "Busy", &message);
        busy.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        return Err(busy);
    };
    let made = tokio::task::spawn_blocking(move || (make(), turn)).await;
    made.map_err(|_| refusal(StatusCode::INTERNAL_SERVER_ERROR, "Internal", &format!("{what} could not be made")))
}

/// A text that has a place among the large answers until it is sent but for its last piece, or nobody reads it any more.
struct Held {
    text: Bytes,
    _turn: OwnedSemaphorePermit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.text.len().min(PIECE);
        let piece = self.text.split_to(length);
        // A copy: as a part of the text it would keep all of it while it waits to be sent.
        let piece = (!piece.is_empty()).then(|| Ok(Frame::data(Bytes::copy_from_slice(&piece))));
        Poll::Ready(piece)
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.text.len() as u64)
    }
}

async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let Some(auth) = &shared.auth else { return next.run(request).await };
    let token = auth::token_of(request.headers());
    match auth.allow(token, request.uri().path()).await {
        Ok(()) => next.run(request).await,
        Err(denied) => denied.into_response(),
    }
}
