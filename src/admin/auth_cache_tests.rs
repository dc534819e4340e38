use super::*;

fn caller(number: u8) -> CallerKey {
    CallerKey { token: [number; 32], path: "/metrics".into() }
}

#[test]
fn an_answer_is_forgotten_after_its_time() {
    let (mut answers, now) = (AnswerCache::default(), Instant::now());
    answers.put(caller(1), &Ok(()), now);
    answers.put(caller(2), &Err(AuthError::Forbidden), now);
    answers.put(caller(3), &Err(AuthError::Unavailable("gone".into())), now);
    let at = |seconds| now + Duration::from_secs(seconds);
    assert_eq!(answers.get(&caller(1), at(59)), Some(Ok(())));
    assert_eq!(answers.get(&caller(1), at(60)), None);
    assert_eq!(answers.get(&caller(2), at(9)), Some(Err(AuthError::Forbidden)));
    assert_eq!(answers.get(&caller(2), at(10)), None);
    assert_eq!(answers.get(&caller(3), now), None);
}

#[test]
fn who_was_allowed_is_remembered_for_while_nobody_can_be_asked_and_who_was_not_is_not() {
    let (mut answers, now) = (AnswerCache::default(), Instant::now());
    answers.put(caller(1), &Ok(()), now);
    answers.put(caller(2), &Err(AuthError::Forbidden), now);
    let at = |seconds| now + Duration::from_secs(seconds);
    assert!(answers.was_allowed(&caller(1), at(3599)));
    assert!(!answers.was_allowed(&caller(1), at(3600)));
    assert!(!answers.was_allowed(&caller(2), at(1)));
    // A refusal replaces the positive answer.
    answers.put(caller(1), &Err(AuthError::Forbidden), at(61));
    assert!(!answers.was_allowed(&caller(1), at(62)));
}

#[test]
fn a_flood_of_wrong_tokens_does_not_push_out_an_allowed_caller() {
    let (mut answers, now) = (AnswerCache::default(), Instant::now());
    let scraper = CallerKey::of("scraper", "/metrics");
    answers.put(scraper.clone(), &Ok(()), now);
    for i in 0..3 * CACHE_CAPACITY {
        answers.put(CallerKey::of(&i.to_string(), "/metrics"), &Err(AuthError::Unauthenticated), now);
    }
    assert_eq!(answers.0.len(), CACHE_CAPACITY);
    assert_eq!(answers.get(&scraper, now), Some(Ok(())));
}

#[test]
fn the_right_to_read_our_api_is_not_the_one_that_every_user_has_to_discover_kubernetes() {
    assert_eq!(non_resource_url("/api/v1/connectors"), "/vigie/api/v1/connectors");
    assert_eq!(non_resource_url("/apis"), "/vigie/apis");
    assert_eq!(non_resource_url("/metrics"), "/metrics");
    assert_eq!(non_resource_url("/apiary"), "/apiary");
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
    assert_ne!(CallerKey::of("a", "/metrics"), CallerKey::of("a", "/api/v1/connectors"));
    assert_ne!(CallerKey::of("a", "/metrics"), CallerKey::of("b", "/metrics"));
}

#[test]
fn a_token_that_is_not_authenticated_gets_no_path_and_takes_one_place() {
    let (mut answers, now) = (AnswerCache::default(), Instant::now());
    let [metrics, fleet] = ["/metrics", "/api/v1/connectors"].map(|path| CallerKey::of("wrong", path));
    answers.put(metrics.clone(), &Err(AuthError::Unauthenticated), now);
    assert_eq!(answers.get(&fleet, now), Some(Err(AuthError::Unauthenticated)));
    // The same token was good before: its answers are gone with its authentication.
    answers.put(caller(1), &Ok(()), now);
    assert!(answers.is_known(&caller(1).token, now));
    answers.put(CallerKey { path: "/sd/prometheus".into(), ..caller(1) }, &Err(AuthError::Unauthenticated), now);
    assert!(!answers.is_known(&caller(1).token, now) && !answers.was_allowed(&caller(1), now));
    assert_eq!(answers.0.len(), 2);
}

#[test]
fn a_token_is_known_by_any_path_that_it_was_allowed_to_get() {
    let (mut answers, now) = (AnswerCache::default(), Instant::now());
    answers.put(caller(1), &Ok(()), now);
    answers.put(caller(2), &Err(AuthError::Forbidden), now);
    let at = |seconds| now + Duration::from_secs(seconds);
    assert!(answers.is_known(&[1; 32], at(3599)) && !answers.is_known(&[1; 32], at(3600)));
    assert!(!answers.is_known(&[2; 32], now), "any account of the cluster can have tokens that are authenticated");
}
