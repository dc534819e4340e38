use serde_json::{Value, json};

use super::*;
use crate::cluster::fake::{Fake, Mode};

const PATH: &str = "/api/v1/namespaces/ops/configmaps/vigie-breaker";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/ops/leases/vigie";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn open() -> Value {
    json!({ "metadata": { "name": NAME }, "data": { "state": "Open", "reason": "7 of 10 workloads turned unhealthy within 5 minutes",
        "openedTime": "2026-01-31T12:00:00Z" } })
}

fn breaker(fake: &Fake) -> OperatorBreaker {
    OperatorBreaker {
        client: fake.client(),
        user: Some("ann".to_owned()),
        namespace: "ops".to_owned(),
        lease_name: "vigie".to_owned(),
    }
}

fn record(map: Value) -> BreakerRecord {
    BreakerRecord::of(&serde_json::from_value(map).unwrap())
}

#[test]
fn an_open_one_is_shown_with_since_when_why_and_what_to_do() {
    let text = shown(&record(open()), "ops");
    let expected = "\
The breaker of the operator in namespace ops is OPEN since 2026-01-31T12:00:00Z: nothing is restarted until a person resets it.
Why: 7 of 10 workloads turned unhealthy within 5 minutes
What to do: see what the unhealthy have in common (vigie get -A, vigie get backends -A); so many at once is rarely cured by restarts. Then: vigie breaker reset -n ops
";
    assert_eq!(text, expected);
    let odd = shown(&record(json!({ "metadata": {}, "data": { "state": "open" } })), "ops");
    assert!(odd.contains("neither Open nor Closed: nothing is restarted"), "{odd}");
}

#[test]
fn a_closed_one_is_shown_with_what_was() {
    let text = shown(&BreakerRecord::default(), "ops");
    assert_eq!(text, "The breaker of the operator in namespace ops is closed: remedies may be taken.\n");
    let mut map = open();
    map["data"]["state"] = "Closed".into();
    map["data"]["resetTime"] = "2026-01-31T13:00:00Z".into();
    map["data"]["resetBy"] = "ann".into();
    let text = shown(&record(map), "ops");
    assert!(text.contains("Last opened: 2026-01-31T12:00:00Z: 7 of 10"), "{text}");
    assert!(text.ends_with("Last reset: 2026-01-31T13:00:00Z, by ann\n"), "{text}");
}

#[tokio::test]
async fn where_no_operator_is_nothing_is_called_closed() {
    let fake = Fake::new();
    let error = breaker(&fake).read().await.unwrap_err().to_string();
    assert!(error.contains("--operator-namespace"), "{error}");
    fake.put(LEASE, json!({ "metadata": { "name": "vigie" } }));
    assert_eq!(breaker(&fake).read().await.unwrap(), BreakerRecord::default());
    fake.set_mode(Mode::Forbids("/leases/"));
    assert_eq!(breaker(&fake).read().await.unwrap(), BreakerRecord::default(), "said on stderr");
    fake.set_mode(Mode::Forbids("/configmaps/"));
    let error = breaker(&fake).read().await.unwrap_err().to_string();
    assert!(error.starts_with("reading the ConfigMap ops/vigie-breaker"), "{error}");
}

#[tokio::test]
async fn a_reset_is_written_in_the_name_of_the_caller() {
    let fake = Fake::new();
    fake.put(PATH, open());
    // The fake knows no SelfSubjectReview and gives back what it was sent, so the context names the user.
    let text = breaker(&fake).reset(time("2026-01-31T13:00:00Z")).await.unwrap();
    assert!(text.starts_with("reset by ann: remedies are taken again\nit had been open since 2026-01-31T12"), "{text}");
    let stored = record(fake.object(PATH).unwrap());
    assert_eq!((stored.state, stored.reset_by.as_deref()), (State::Closed, Some("ann")));
    assert_eq!(stored.reset, Some(time("2026-01-31T13:00:00Z")));
    fake.take_log();
    let again = breaker(&fake).reset(time("2026-01-31T13:00:01Z")).await.unwrap();
    assert_eq!(again, "the breaker of the operator in namespace ops is closed: nothing to reset\n");
    assert_eq!(fake.take_log(), [format!("GET {PATH}")], "nothing is written");
}
