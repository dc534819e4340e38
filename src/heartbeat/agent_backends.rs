//! The backends that an agent reports: a heartbeat that repeats what is known stores nothing and is no news.

use std::sync::Arc;
use std::time::Duration;

use crate::api::{BackendReport, LocalProbe};
use crate::time::Moment;

/// Two heartbeats give the start of one state in whole seconds each, and take different ways: it counts as the same up to
/// this difference.
const SAME_START: Duration = Duration::from_secs(5);

/// The reports of one agent about its backends.
#[derive(Clone, Debug)]
pub struct AgentBackends {
    /// The reports.
    pub reports: Arc<[BackendReport]>,
    /// When they were received; the durations in them count from then.
    pub at: Moment,
    /// When a heartbeat said the same for the last time.
    pub confirmed_at: Moment,
}

impl AgentBackends {
    /// Stores what a heartbeat says; true when a diagnosis may differ because of it.
    pub(super) fn hear(known: &mut Option<Self>, said: &[BackendReport], now: Moment) -> bool {
        let (mut is_same, mut is_news) = (false, true);
        if let Some(known) = known.as_mut() {
            let (elapsed, before) = (now.since(known.at), &known.reports);
            let pairs = || before.iter().zip(said);
            let is_as_long = before.len() == said.len();
            is_news = !is_as_long || !pairs().all(|(before, said)| is_same_to_rules(before, said, elapsed));
            is_same = !is_news && pairs().all(|(before, said)| before.message == said.message);
            known.confirmed_at = now;
        }
        if !is_same {
            *known = Some(Self { reports: said.into(), at: now, confirmed_at: now });
        }
        is_news
    }
}

/// Whether a report says what one of `elapsed` ago said, except for its sentence, which may count seconds.
fn is_same_to_rules(before: &BackendReport, said: &BackendReport, elapsed: Duration) -> bool {
    let BackendReport {
        name,
        unit,
        state,
        since_seconds,
        exit_code,
        oom_killed,
        restarts,
        recent_restarts,
        stopped_on_purpose,
        policy,
        health,
        listens,
        published,
        probe,
        environment,
        words,
        message: _,
    } = said;
    before.state == *state
        && before.name == *name
        && before.unit == *unit
        && is_same_start(before.since_seconds, *since_seconds, elapsed)
        && (before.exit_code, before.oom_killed, before.restarts) == (*exit_code, *oom_killed, *restarts)
        && (before.recent_restarts, before.stopped_on_purpose) == (*recent_restarts, *stopped_on_purpose)
        && (&before.policy, &before.health) == (policy, health)
        && is_same_probe(before.probe.as_ref(), probe.as_ref())
        && (&before.listens, &before.published) == (listens, published)
        && (&before.environment, &before.words) == (environment, words)
}

fn is_same_start(before: Option<u64>, said: Option<u64>, elapsed: Duration) -> bool {
    match (before, said) {
        (Some(before), Some(said)) => before.saturating_add(elapsed.as_secs()).abs_diff(said) <= SAME_START.as_secs(),
        (before, said) => before == said,
    }
}

fn is_same_probe(before: Option<&LocalProbe>, said: Option<&LocalProbe>) -> bool {
    let words = |probe: &LocalProbe| (probe.ok, probe.status);
    let texts = |probe: &LocalProbe| (probe.error_class.clone(), probe.phase.clone());
    match (before, said) {
        (Some(before), Some(said)) => words(before) == words(said) && (said.ok || texts(before) == texts(said)),
        (before, said) => before.is_none() && said.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(second: u64) -> Moment {
        Moment::default() + Duration::from_secs(second)
    }

    fn reports(more: Value) -> Vec<BackendReport> {
        let mut orders = json!({"name": "orders", "unit": "compose:shop:orders", "state": "Running", "since_seconds": 60,
            "probe": {"ok": true, "status": 200, "milliseconds": 3}, "restarts": 1, "listens": ["0.0.0.0:8081"],
            "environment": {"SERVER_PORT": "8081"}, "policy": "always"});
        orders.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let billing = json!({"name": "billing", "state": "Running"});
        serde_json::from_value(json!([orders, billing])).unwrap()
    }

    /// The reports of a first heartbeat, and whether a second one with these is news after 30 s.
    fn heard_again(second: &[BackendReport]) -> (AgentBackends, bool) {
        let mut known = None;
        assert!(AgentBackends::hear(&mut known, &reports(json!({})), at(100)), "the first is news");
        let is_news = AgentBackends::hear(&mut known, second, at(130));
        (known.unwrap(), is_news)
    }

    #[test]
    fn a_heartbeat_that_repeats_what_is_known_stores_nothing_new() {
        let again = reports(json!({"since_seconds": 92, "probe": {"ok": true, "status": 200, "milliseconds": 9}}));
        let (known, is_news) = heard_again(&again);
        assert!(!is_news);
        assert_eq!((known.at, known.confirmed_at), (at(100), at(130)));
        assert_eq!(&*known.reports, &reports(json!({}))[..]);
    }

    #[test]
    fn a_sentence_is_stored_and_is_no_news() {
        let (known, is_news) = heard_again(&reports(json!({"since_seconds": 90, "message": "it runs since 30 s"})));
        assert!(!is_news);
        assert_eq!((known.at, known.reports[0].message.is_some()), (at(130), true));
    }

    #[test]
    fn each_fact_that_a_rule_reads_is_news() {
        for more in [
            json!({"state": "Exited"}),
            json!({"since_seconds": 3}),
            json!({"since_seconds": null}),
            json!({"unit": "orders.service"}),
            json!({"exit_code": 1}),
            json!({"oom_killed": true}),
            json!({"restarts": 2}),
            json!({"recent_restarts": 3}),
            json!({"stopped_on_purpose": true}),
            json!({"policy": "no"}),
            json!({"health": "unhealthy"}),
            json!({"listens": ["127.0.0.1:8081"]}),
            json!({"published": ["0.0.0.0:8081->8080/tcp"]}),
            json!({"probe": null}),
            json!({"probe": {"ok": false, "error_class": "Refused"}}),
            json!({"probe": {"ok": true, "status": 204}}),
            json!({"environment": {}}),
            json!({"words": "java.net.ConnectException"}),
        ] {
            let mut fields = json!({"since_seconds": 90});
            fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let (known, is_news) = heard_again(&reports(fields));
            assert!(is_news, "{more}");
            assert_eq!((known.at, known.confirmed_at), (at(130), at(130)), "{more}");
        }
        assert!(heard_again(&reports(json!({"since_seconds": 90}))[..1]).1, "a backend is gone");
    }

    #[test]
    fn absurd_durations_break_nothing() {
        let mut known = None;
        for seconds in [u64::MAX, 0, u64::MAX] {
            assert!(AgentBackends::hear(&mut known, &reports(json!({"since_seconds": seconds})), at(1)));
        }
    }
}
