//! The admin port: health, metrics, the fleet as JSON and Prometheus service discovery. Read-only.

mod auth;
mod lists;
mod strangers;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
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

pub use auth::{AuthError, Authenticator, FORWARDED_TOKEN};

use crate::http::server::ConnectionInfo;
use crate::metrics;
use crate::view::{Fleet, Role};

/// How many answers that walk the whole fleet are made at once. Each holds a copy of the fleet, and two keep both cores of
/// a small node busy. Other requests wait for a slot.
const LARGE_ANSWERS: usize = 2;
/// How long a request waits for a slot before it is answered with 503. Prometheus gives up after 10 s by default.
const SLOT_TIMEOUT: Duration = Duration::from_secs(8);
/// The size of one body frame of a large text, in bytes.
const FRAME_SIZE: usize = 64 * 1024;

/// The address of a caller without a connection, as in tests that call the routes in-process.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The parts of the admin port.
pub struct Admin {
    /// The source of all lists and of readiness.
    pub fleet: Arc<dyn Fleet>,
    /// Every metric that is exported.
    pub registry: Arc<Registry>,
    /// Checks callers; without it every caller is allowed.
    pub auth: Option<Authenticator>,
}

struct AdminState {
    fleet: Arc<dyn Fleet>,
    registry: Arc<Registry>,
    auth: Option<Authenticator>,
    large_slots: Arc<Semaphore>,
}

/// The routes of the admin port. `/livez` and `/readyz` need no token, because the kubelet sends none; all others are
/// checked by `auth`.
pub fn router(admin: Admin) -> Router {
    let Admin { fleet, registry, auth } = admin;
    let shared = Arc::new(AdminState { fleet, registry, auth, large_slots: Arc::new(Semaphore::new(LARGE_ANSWERS)) });
    let guarded = Router::new()
        .route("/metrics", get(scrape))
        .route("/api/v1/connectors", get(lists::connectors))
        .route("/api/v1/backends", get(lists::backends))
        .route("/sd/prometheus", get(lists::discovery))
        .route_layer(middleware::from_fn_with_state(shared.clone(), authorize));
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

/// An error response, in the same shape as on the heartbeat port.
fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"error": {"code": code, "message": message}}))).into_response()
}

/// The answer of a leader whose pod lacks its label. The reason is in the log only, because every client may ask.
const UNLABELLED: &str = "ok, but no heartbeat arrives by the Service: this replica leads, and its pod lacks the label \
                          vigie.dev/role=leader; its log has the reason\n";

async fn readyz(State(shared): State<Arc<AdminState>>) -> Response {
    match readiness(shared.fleet.role()) {
        // Ready all the same: another replica would have the same trouble, and a rollout must be able to bring the cure.
        Ok(()) if shared.fleet.lacks_label() => UNLABELLED.into_response(),
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

/// Whether this replica can lead, or take over with filled stores. A leader that cannot renew its Lease stays ready,
/// because no other replica accepts heartbeats.
fn readiness((role, synced): (Role, bool)) -> Result<(), &'static str> {
    match role {
        Role::Uncertain | Role::Unconfirmed => Ok(()),
        Role::Leader | Role::Follower if synced => Ok(()),
        Role::Leader | Role::Follower => Err("the stores are not yet filled from the API server"),
    }
}

async fn scrape(State(shared): State<Arc<AdminState>>) -> Response {
    let registry = shared.registry.clone();
    match make_large(&shared, "the metrics", move || metrics::encode(&registry)).await {
        Ok((Ok(text), slot)) => {
            let body = Body::new(LargeBody { text: text.into(), _slot: slot });
            ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], body).into_response()
        }
        Ok((Err(_), _)) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "Internal", "the metrics could not be written"),
        Err(refused) => refused,
    }
}

/// Runs `make` on a blocking thread, at most [`LARGE_ANSWERS`] at once. Returns its result and the slot, which the caller
/// moves into the response body. If the client disconnects, the slot is held until `make` returns: a blocking task cannot
/// be cancelled.
async fn make_large<T: Send + 'static>(
    shared: &AdminState,
    what: &str,
    make: impl FnOnce() -> T + Send + 'static,
) -> Result<(T, OwnedSemaphorePermit), Response> {
    let Ok(Ok(slot)) = timeout(SLOT_TIMEOUT, Arc::clone(&shared.large_slots).acquire_owned()).await else {
        let message =
            format!("others are being answered; nobody could make {what} within {} s", SLOT_TIMEOUT.as_secs());
        let mut busy = refusal(StatusCode::SERVICE_UNAVAILABLE, "Busy", &message);
        busy.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        return Err(busy);
    };
    let made = tokio::task::spawn_blocking(move || (make(), slot)).await;
    made.map_err(|_| refusal(StatusCode::INTERNAL_SERVER_ERROR, "Internal", &format!("{what} could not be made")))
}

/// A text that holds a slot of the large answers until its last frame is handed on, or the client disconnects.
struct LargeBody {
    text: Bytes,
    _slot: OwnedSemaphorePermit,
}

impl HttpBody for LargeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.text.len().min(FRAME_SIZE);
        let part = self.text.split_to(length);
        // A copy: a slice would keep the whole text in memory until it is sent.
        let frame = (!part.is_empty()).then(|| Ok(Frame::data(Bytes::copy_from_slice(&part))));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.text.len() as u64)
    }
}

async fn authorize(State(shared): State<Arc<AdminState>>, request: Request, next: Next) -> Response {
    let Some(auth) = &shared.auth else { return next.run(request).await };
    let token = auth::token_of(request.headers());
    let from = request.extensions().get::<ConnectionInfo>().map_or(NO_ADDRESS, |connection| connection.peer.ip());
    match auth.allow(token, request.uri().path(), from).await {
        Ok(()) => next.run(request).await,
        Err(denied) => denied.into_response(),
    }
}
