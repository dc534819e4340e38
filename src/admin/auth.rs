//! `--admin-auth=kubernetes`: the API server says who a token is (TokenReview) and whether they may `get` the path
//! (SubjectAccessReview on the nonResourceURL), as for its own `/metrics`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::refusal;
use crate::cluster::describe;

/// Where a caller behind the API server's service proxy puts its token: the proxy removes `Authorization`.
pub const FORWARDED_TOKEN: &str = "x-vigie-token";

/// How long an allowed caller is not asked about again: revoked rights live on for this long.
const ALLOWED_FOR: Duration = Duration::from_secs(60);
/// How long an allowed caller stays allowed while the API server cannot be asked: its outage is what the metrics have to
/// tell. As long as a pod's own token is given out for.
const ALLOWED_UNASKED: Duration = Duration::from_secs(3600);
/// How long a refused caller is not asked about again: new rights work after this long.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How many answers are remembered: a few scrapers and people times a few paths, and a bound for floods.
const REMEMBERED: usize = 1024;
/// How long one waits to be asked about; with [`PATIENCE`] less than the 10 s after which Prometheus gives up.
const TURN_WITHIN: Duration = Duration::from_secs(3);
/// How long the two questions together may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many strangers are asked about at once: a flood of wrong tokens must not become one at the API server.
const STRANGERS: usize = 8;
/// How many of those who were let in before are asked about at once. They wait for no stranger, so that no flood makes them
/// look as if they could not be asked about.
const ACQUAINTANCES: usize = 4;

/// Why a caller is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No token, or one that the API server does not know.
    Unauthenticated,
    /// Known, and not allowed to `get` this path.
    Forbidden,
    /// The API server could not be asked; says why.
    Unavailable(String),
}

impl IntoResponse for Denied {
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
        }
    }
}

/// Asks the API server who may read what, and remembers the answer for a short while.
pub struct Authenticator {
    client: kube::Client,
    answers: Mutex<Answers>,
    strangers: Semaphore,
    acquaintances: Semaphore,
}

impl Authenticator {
    /// One that asks through `client`, which needs the right to create TokenReviews and SubjectAccessReviews.
    pub fn new(client: kube::Client) -> Self {
        let [strangers, acquaintances] = [STRANGERS, ACQUAINTANCES].map(Semaphore::new);
        Self { client, answers: Mutex::default(), strangers, acquaintances }
    }

    /// Whether the bearer of `token` may `get` `path`.
    ///
    /// # Errors
    /// Says why not; [`Denied::Unavailable`] when the API server gives no answer within five seconds, or too many others are
    /// asked about for as long.
    pub async fn allow(&self, token: Option<&str>, path: &str) -> Result<(), Denied> {
        let token = token.ok_or(Denied::Unauthenticated)?;
        let key = key(token, path);
        let was_allowed = {
            let answers = self.answers.lock();
            if let Some(answer) = answers.get(&key, Instant::now()) {
                return answer;
            }
            answers.was_allowed(&key, Instant::now())
        };
        let questions = if was_allowed { &self.acquaintances } else { &self.strangers };
        // Whoever waits in vain has not been asked about: that is no outage, and lets nobody in.
        let Ok(Ok(_turn)) = timeout(TURN_WITHIN, questions.acquire()).await else {
            return Err(Denied::Unavailable("too many others are being asked about".to_owned()));
        };
        let answer = match timeout(PATIENCE, self.ask(token, path)).await {
            Ok(answer) => answer,
            Err(_) => Err(Denied::Unavailable(format!("no answer within {} s", PATIENCE.as_secs()))),
        };
        let mut answers = self.answers.lock();
        if matches!(answer, Err(Denied::Unavailable(_))) && answers.was_allowed(&key, Instant::now()) {
            return Ok(());
        }
        answers.put(key, &answer, Instant::now());
        answer
    }

    async fn ask(&self, token: &str, path: &str) -> Result<(), Denied> {
        let user = self.review(token).await?.ok_or(Denied::Unauthenticated)?;
        let review = SubjectAccessReview { spec: question(user, path), ..Default::default() };
        let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
        let review = reviews.create(&PostParams::default(), &review).await.map_err(unavailable)?;
        if review.status.is_some_and(|status| status.allowed && status.denied != Some(true)) {
            Ok(())
        } else {
            Err(Denied::Forbidden)
        }
    }

    async fn review(&self, token: &str) -> Result<Option<UserInfo>, Denied> {
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: None };
        let review = TokenReview { spec, ..Default::default() };
        let reviews = Api::<TokenReview>::all(self.client.clone());
        let review = reviews.create(&PostParams::default(), &review).await.map_err(unavailable)?;
        Ok(review.status.filter(|status| status.authenticated == Some(true)).and_then(|status| status.user))
    }
}

fn unavailable(error: kube::Error) -> Denied {
    Denied::Unavailable(describe(&error))
}

/// The nonResourceURL that stands for `path`. Kubernetes lets every authenticated user `get` what lies under `/api` and
/// `/apis` (its ClusterRole `system:discovery`): a right to read our API must be one that somebody granted.
fn granted_as(path: &str) -> String {
    let is_discovery = ["/api", "/apis"].iter().any(|root| path == *root || path.starts_with(&format!("{root}/")));
    if is_discovery { format!("/vigie{path}") } else { path.to_owned() }
}

fn question(user: UserInfo, path: &str) -> SubjectAccessReviewSpec {
    let attributes = NonResourceAttributes { path: Some(granted_as(path)), verb: Some("get".to_owned()) };
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

type Key = [u8; 32];

/// Only the hash of a token is kept; a header holds no NUL, so token and path cannot be shifted against each other.
fn key(token: &str, path: &str) -> Key {
    Sha256::new().chain_update(token).chain_update([0]).chain_update(path).finalize().into()
}

/// What was answered lately. An answer that could not be had is not kept.
#[derive(Default)]
struct Answers(HashMap<Key, Kept>);

struct Kept {
    answer: Result<(), Denied>,
    /// Until when nobody is asked again.
    fresh_until: Instant,
    /// Until when it holds if nobody can be asked.
    known_until: Instant,
}

impl Answers {
    fn get(&self, key: &Key, now: Instant) -> Option<Result<(), Denied>> {
        self.0.get(key).filter(|kept| now < kept.fresh_until).map(|kept| kept.answer.clone())
    }

    /// Whether this caller was let in when somebody could be asked last.
    fn was_allowed(&self, key: &Key, now: Instant) -> bool {
        self.0.get(key).is_some_and(|kept| kept.answer.is_ok() && now < kept.known_until)
    }

    fn put(&mut self, key: Key, answer: &Result<(), Denied>, now: Instant) {
        let (fresh_for, known_for) = match answer {
            Ok(()) => (ALLOWED_FOR, ALLOWED_UNASKED),
            Err(Denied::Unauthenticated | Denied::Forbidden) => (REFUSED_FOR, REFUSED_FOR),
            Err(Denied::Unavailable(_)) => return,
        };
        if self.0.len() >= REMEMBERED && !self.0.contains_key(&key) {
            self.make_room(now);
        }
        let kept = Kept { answer: answer.clone(), fresh_until: now + fresh_for, known_until: now + known_for };
        self.0.insert(key, kept);
    }

    /// Drops what has expired; if that is nothing, a refusal before an allowed caller, so that a flood of wrong
    /// tokens costs the scrapers nothing.
    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, kept| now < kept.known_until);
        if self.0.len() < REMEMBERED {
            return;
        }
        let victim = self.0.iter().min_by_key(|(_, kept)| (kept.answer.is_ok(), kept.known_until)).map(|(key, _)| *key);
        if let Some(key) = victim {
            self.0.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_forgotten_after_its_time() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        answers.put([1; 32], &Ok(()), now);
        answers.put([2; 32], &Err(Denied::Forbidden), now);
        answers.put([3; 32], &Err(Denied::Unavailable("gone".into())), now);
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(answers.get(&[1; 32], at(59)), Some(Ok(())));
        assert_eq!(answers.get(&[1; 32], at(60)), None);
        assert_eq!(answers.get(&[2; 32], at(9)), Some(Err(Denied::Forbidden)));
        assert_eq!(answers.get(&[2; 32], at(10)), None);
        assert_eq!(answers.get(&[3; 32], now), None);
    }

    #[test]
    fn who_was_allowed_is_remembered_for_while_nobody_can_be_asked_and_who_was_not_is_not() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        answers.put([1; 32], &Ok(()), now);
        answers.put([2; 32], &Err(Denied::Forbidden), now);
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(answers.was_allowed(&[1; 32], at(3599)));
        assert!(!answers.was_allowed(&[1; 32], at(3600)));
        assert!(!answers.was_allowed(&[2; 32], at(1)));
        // A right that was taken away is gone when it could be asked for.
        answers.put([1; 32], &Err(Denied::Forbidden), at(61));
        assert!(!answers.was_allowed(&[1; 32], at(62)));
    }

    #[test]
    fn a_flood_of_wrong_tokens_does_not_push_out_an_allowed_caller() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        let scraper = key("scraper", "/metrics");
        answers.put(scraper, &Ok(()), now);
        for i in 0..3 * REMEMBERED {
            answers.put(key(&i.to_string(), "/metrics"), &Err(Denied::Unauthenticated), now);
        }
        assert_eq!(answers.0.len(), REMEMBERED);
        assert_eq!(answers.get(&scraper, now), Some(Ok(())));
    }

    #[test]
    fn the_right_to_read_our_api_is_not_the_one_that_every_user_has_to_discover_kubernetes() {
        assert_eq!(granted_as("/api/v1/connectors"), "/vigie/api/v1/connectors");
        assert_eq!(granted_as("/apis"), "/vigie/apis");
        assert_eq!(granted_as("/metrics"), "/metrics");
        assert_eq!(granted_as("/apiary"), "/apiary");
    }

    #[test]
    fn a_token_is_read_from_either_header_and_authorization_wins() {
        let mut headers = HeaderMap::new();
        assert_eq!(token_of(&headers), None);
        headers.insert(FORWARDED_TOKEN, HeaderValue::from_static("forwarded"));
        assert_eq!(token_of(&headers), Some("forwarded"));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("bearer direct"));
        assert_eq!(token_of(&headers), Some("direct"));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic abc"));
        assert_eq!(token_of(&headers), Some("forwarded"));
    }

    #[test]
    fn one_callers_answer_is_not_anothers() {
        assert_ne!(key("a", "/metrics"), key("a", "/api/v1/connectors"));
        assert_ne!(key("a", "/metrics"), key("b", "/metrics"));
    }
}
