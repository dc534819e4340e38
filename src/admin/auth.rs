//! `--admin-auth=kubernetes`: the API server authenticates the token (TokenReview) and authorizes `get` on the path
//! (SubjectAccessReview on the nonResourceURL), as for its own `/metrics`.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use k8s_openapi::api::authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::refusal;
use super::strangers::Strangers;
use crate::cluster::describe;
use crate::http::client_network::client_network;

/// The header for the token of a caller behind the API server's service proxy, which removes `Authorization`.
pub const FORWARDED_TOKEN: &str = "x-vigie-token";

/// How long a positive answer is used without another review; a revoked right stays in force for this long.
const ALLOWED_TTL: Duration = Duration::from_secs(60);
/// How long a positive answer is used while the API server cannot be reached: the metrics have to show its outage. This is
/// the lifetime of a pod's own token.
const ALLOWED_OUTAGE_TTL: Duration = Duration::from_secs(3600);
/// How long a refusal is used without another review; a new right works after this long.
const REFUSED_TTL: Duration = Duration::from_secs(10);
/// The capacity of the cache, in answers: a few scrapers and users times a few paths, and a bound for floods.
const CACHE_CAPACITY: usize = 1024;
/// How long a request waits for a review slot; together with [`REVIEW_TIMEOUT`] less than the 10 s after which Prometheus
/// gives up.
const SLOT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the two reviews together may take.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);
/// How many unknown callers are reviewed at once: a flood of wrong tokens must not become a flood at the API server.
const UNKNOWN_CALLERS: usize = 8;
/// How many callers with a token that was allowed before are reviewed at once. Separate from [`UNKNOWN_CALLERS`], so a flood of unknown
/// tokens cannot delay callers that were allowed before.
const KNOWN_CALLERS: usize = 4;

/// Why a caller is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// No token, or a token that the API server does not know.
    Unauthenticated,
    /// An authenticated caller that may not `get` this path.
    Forbidden,
    /// The API server could not be asked; the text is the reason.
    Unavailable(String),
    /// Too many unknown tokens were sent; one more is reviewed after so many seconds.
    TooMany(u64),
}

impl IntoResponse for AuthError {
    fn into_response(self) -> Response {
        match self {
            Self::Unauthenticated => {
                let message = "a bearer token that the API server knows is needed";
                let mut response = refusal(StatusCode::UNAUTHORIZED, "Unauthorized", message);
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                response
            }
            Self::Forbidden => {
                let message = "this token may not get this path: grant the verb get on the nonResourceURL, /metrics or \
                               /vigie/api/v1/connectors";
                refusal(StatusCode::FORBIDDEN, "Forbidden", message)
            }
            Self::Unavailable(why) => {
                let message = format!("the API server could not be asked who may read this: {why}");
                let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", &message);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
                response
            }
            Self::TooMany(seconds) => {
                let message = format!(
                    "too many tokens that were not allowed before were sent; this one was not reviewed: try again in \
                     {seconds} s"
                );
                let mut response = refusal(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", &message);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                response
            }
        }
    }
}

/// Authenticates and authorizes callers through the API server, and caches the answers.
pub struct Authenticator {
    client: kube::Client,
    /// The audiences of which a token must have one; none = those of the API server.
    audiences: Vec<String>,
    cache: Mutex<AnswerCache>,
    strangers: Mutex<Strangers>,
    unknown_slots: Semaphore,
    known_slots: Semaphore,
}

impl Authenticator {
    /// An authenticator; `client` needs the right to create TokenReviews and SubjectAccessReviews. With `audiences`, only
    /// tokens for one of them are accepted.
    pub fn new(client: kube::Client, audiences: Vec<String>) -> Self {
        let [unknown_slots, known_slots] = [UNKNOWN_CALLERS, KNOWN_CALLERS].map(Semaphore::new);
        let strangers = Mutex::new(Strangers::new(Instant::now()));
        Self { client, audiences, cache: Mutex::default(), strangers, unknown_slots, known_slots }
    }

    /// Whether the bearer of `token` may `get` `path`; `from` is the address of the caller.
    ///
    /// # Errors
    /// The reason of the refusal; [`AuthError::Unavailable`] when the API server gives no answer within five seconds, or no
    /// review slot becomes free within three; [`AuthError::TooMany`] without a review.
    pub async fn allow(&self, token: Option<&str>, path: &str, from: IpAddr) -> Result<(), AuthError> {
        let token = token.ok_or(AuthError::Unauthenticated)?;
        let (key, from) = (CallerKey::of(token, path), client_network(from));
        let is_known = {
            let cache = self.cache.lock();
            if let Some(answer) = cache.get(&key, Instant::now()) {
                return answer;
            }
            cache.is_known(&key.token, Instant::now())
        };
        if !is_known && let Err(wait) = self.strangers.lock().admit(from, Instant::now()) {
            return Err(AuthError::TooMany(wait.as_secs_f64().ceil() as u64));
        }
        let slots = if is_known { &self.known_slots } else { &self.unknown_slots };
        // A caller that gets no slot was not reviewed. That is no outage, so the cached answer is not used.
        let Ok(Ok(_slot)) = timeout(SLOT_TIMEOUT, slots.acquire()).await else {
            return Err(AuthError::Unavailable("too many others are being asked about".to_owned()));
        };
        let answer = match timeout(REVIEW_TIMEOUT, self.review(token, path)).await {
            Ok(answer) => answer,
            Err(_) => Err(AuthError::Unavailable(format!("no answer within {} s", REVIEW_TIMEOUT.as_secs()))),
        };
        if answer.is_ok() {
            self.strangers.lock().vouch(from, Instant::now());
        }
        let mut cache = self.cache.lock();
        if matches!(answer, Err(AuthError::Unavailable(_))) && cache.was_allowed(&key, Instant::now()) {
            return Ok(());
        }
        cache.put(key, &answer, Instant::now());
        answer
    }

    async fn review(&self, token: &str, path: &str) -> Result<(), AuthError> {
        let user = self.authenticate(token).await?.ok_or(AuthError::Unauthenticated)?;
        let review = SubjectAccessReview { spec: access_review(user, path), ..Default::default() };
        let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
        let review = reviews.create(&PostParams::default(), &review).await.map_err(unavailable)?;
        if review.status.is_some_and(|status| status.allowed && status.denied != Some(true)) {
            Ok(())
        } else {
            Err(AuthError::Forbidden)
        }
    }

    async fn authenticate(&self, token: &str) -> Result<Option<UserInfo>, AuthError> {
        let asked = (!self.audiences.is_empty()).then(|| self.audiences.clone());
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: asked };
        let review = TokenReview { spec, ..Default::default() };
        let reviews = Api::<TokenReview>::all(self.client.clone());
        let review = reviews.create(&PostParams::default(), &review).await.map_err(unavailable)?;
        let status = review.status.filter(|status| status.authenticated == Some(true));
        Ok(status.filter(|status| self.is_for_us(status)).and_then(|status| status.user))
    }

    /// Whether the token has one of the audiences. An authenticator that does not know audiences names none in its answer.
    fn is_for_us(&self, status: &TokenReviewStatus) -> bool {
        let answered = status.audiences.as_deref().unwrap_or_default();
        self.audiences.is_empty() || answered.iter().any(|audience| self.audiences.contains(audience))
    }
}

fn unavailable(error: kube::Error) -> AuthError {
    AuthError::Unavailable(describe(&error))
}

/// The nonResourceURL that is reviewed for `path`. Kubernetes allows every authenticated user to `get` all paths under
/// `/api` and `/apis` (its ClusterRole `system:discovery`); the right to read our API must be granted explicitly.
fn non_resource_url(path: &str) -> String {
    let is_discovery = ["/api", "/apis"].iter().any(|root| path == *root || path.starts_with(&format!("{root}/")));
    if is_discovery { format!("/vigie{path}") } else { path.to_owned() }
}

fn access_review(user: UserInfo, path: &str) -> SubjectAccessReviewSpec {
    let attributes = NonResourceAttributes { path: Some(non_resource_url(path)), verb: Some("get".to_owned()) };
    SubjectAccessReviewSpec {
        user: user.username,
        groups: user.groups,
        uid: user.uid,
        extra: user.extra.map(|extra| extra.into_iter().collect::<BTreeMap<_, _>>()),
        non_resource_attributes: Some(attributes),
        resource_attributes: None,
    }
}

/// The token that a request carries.
pub(super) fn token_of(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let forwarded = || headers.get(FORWARDED_TOKEN).and_then(|value| value.to_str().ok()).map(str::trim);
    bearer.or_else(forwarded).filter(|token| !token.is_empty())
}

type TokenHash = [u8; 32];

/// The cache key. Only a hash of the token is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CallerKey {
    token: TokenHash,
    /// Empty for a token that no path is given to.
    path: Box<str>,
}

impl CallerKey {
    fn of(token: &str, path: &str) -> Self {
        Self { token: Sha256::digest(token).into(), path: path.into() }
    }

    /// The key of the answer that holds for every path.
    fn of_every_path(&self) -> Self {
        Self { token: self.token, path: Box::default() }
    }
}

/// Recent answers of the API server. `Unavailable` is not cached.
#[derive(Default)]
struct AnswerCache(HashMap<CallerKey, CachedAnswer>);

struct CachedAnswer {
    answer: Result<(), AuthError>,
    /// Until then the answer is used without another review.
    fresh_until: Instant,
    /// Until then the answer is used while the API server cannot be reached.
    known_until: Instant,
}

impl AnswerCache {
    fn get(&self, key: &CallerKey, now: Instant) -> Option<Result<(), AuthError>> {
        let of_every_path = key.of_every_path();
        let cached = [key, &of_every_path].map(|key| self.0.get(key).filter(|cached| now < cached.fresh_until));
        cached.into_iter().flatten().next().map(|cached| cached.answer.clone())
    }

    /// Whether the last review allowed this caller.
    fn was_allowed(&self, key: &CallerKey, now: Instant) -> bool {
        self.0.get(key).is_some_and(|cached| cached.answer.is_ok() && now < cached.known_until)
    }

    /// Whether this token was allowed to get any path.
    fn is_known(&self, token: &TokenHash, now: Instant) -> bool {
        let allowed = |cached: &CachedAnswer| cached.answer.is_ok() && now < cached.known_until;
        self.0.iter().any(|(key, cached)| key.token == *token && allowed(cached))
    }

    fn put(&mut self, key: CallerKey, answer: &Result<(), AuthError>, now: Instant) {
        let (fresh_for, known_for) = match answer {
            Ok(()) => (ALLOWED_TTL, ALLOWED_OUTAGE_TTL),
            Err(AuthError::Unauthenticated | AuthError::Forbidden) => (REFUSED_TTL, REFUSED_TTL),
            Err(AuthError::Unavailable(_) | AuthError::TooMany(_)) => return,
        };
        // A token that is not authenticated gets no path at all.
        let key = if *answer == Err(AuthError::Unauthenticated) {
            self.0.retain(|known, _| known.token != key.token);
            key.of_every_path()
        } else {
            key
        };
        if self.0.len() >= CACHE_CAPACITY && !self.0.contains_key(&key) {
            self.evict(now);
        }
        let cached =
            CachedAnswer { answer: answer.clone(), fresh_until: now + fresh_for, known_until: now + known_for };
        self.0.insert(key, cached);
    }

    /// Drops expired answers; if there are none, drops one refusal, and a positive answer only when there is no refusal, so
    /// that a flood of wrong tokens does not push scrapers out of the cache.
    fn evict(&mut self, now: Instant) {
        self.0.retain(|_, cached| now < cached.known_until);
        if self.0.len() < CACHE_CAPACITY {
            return;
        }
        let victim = self
            .0
            .iter()
            .min_by_key(|(_, cached)| (cached.answer.is_ok(), cached.known_until))
            .map(|(key, _)| key.clone());
        if let Some(key) = victim {
            self.0.remove(&key);
        }
    }
}

#[cfg(test)]
#[path = "auth_cache_tests.rs"]
mod tests;
