use proptest::prelude::*;

use super::scene::*;
use crate::api::{Cause, ErrorClass, MAX_ALTERNATIVES, MAX_EVIDENCE, MAX_MESSAGE, RestartHelps};
use crate::diagnosis::evidence::{Ended, Evidence, Lookup, Vantage};
use crate::diagnosis::rules::{RULES, conclude, diagnose};

/// Canary text that must never be shown, in two spellings: a rule may change the case.
const CANARY: &str = "C4narySecret";

/// Termination messages of many kinds, each with the canary where text must not be shown.
const WORDS: &[&str] = &[
    "C4narySecret",
    "java.lang.IllegalStateException: C4narySecret\n\tat x.Y.z(Y.java:1)",
    "Caused by: org.postgresql.util.PSQLException: Connection to db:5432 refused C4narySecret",
    "jdbc:postgresql://user:C4narySecret@db:5432/x?password=C4narySecret connection refused",
    "http://user:C4narySecret/x@db:5432/ connection refused",
    "connect to postgres user:C4narySecret@tcp(db:3306)/x refused",
    "password=C4narySecret token: C4narySecret Authorization: Bearer C4narySecret",
    "Description:\n\nFailed to bind properties under 'a.b' to int:\n\n    Property: a.b\n    Value: \"C4narySecret\"\n    Origin: System Environment Property \"A_B\"\n    Reason: failed to convert String to int (caused by NumberFormatException: For input string: \"C4narySecret\")\n\nAction:\n\nUpdate your application's configuration\n\nC4narySecret\n",
    "Description:\n\nInvalid value 'C4narySecret' for configuration property 'x'.\n\nAction:\n\nReview the value with password=C4narySecret at http://u:C4narySecret@h/?q=C4narySecret\n",
    "Traceback (most recent call last):\n  File \"a.py\", line 1\npsycopg2.OperationalError: could not connect C4narySecret",
    "panic: C4narySecret\n\ngoroutine 1 [running]:",
    "exec C4narySecret: exec format error",
    "Error: connect ECONNREFUSED C4narySecret\n    at TCPConnectWrap (node:net:1)",
];

const LAST_ERRORS: &[&str] = &[
    "server returned HTTP status 404 C4narySecret",
    "expected value after metric, got \"C4narySecret\"",
    "received unsupported Content-Type \"C4narySecret\"",
    "Get \"http://u:C4narySecret@10.1.0.7:8081/x?token=C4narySecret\": context deadline exceeded",
    "Get \"http://u:C4narySecret@10.1.0.7:8081/x\": dial tcp 10.1.0.7:8081: connect: connection refused",
    "C4narySecret",
];

const WAITING: &[&str] = &[
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "CreateContainerConfigError",
    "RunContainerError",
    "ContainerCreating",
    "SomethingNew",
];

fn ended() -> impl Strategy<Value = Ended> {
    let reasons = prop::sample::select(vec!["OOMKilled", "Error", "Completed", "ContainerStatusUnknown", "StartError"]);
    let codes = prop::sample::select(vec![0, 1, 126, 127, 128, 137, 143]);
    (reasons, codes, prop::option::of(prop::sample::select(WORDS)), 0_i64..5000).prop_map(
        |(reason, exit_code, words, at)| Ended {
            reason: reason.to_owned(),
            exit_code,
            began: None,
            ended: Some(ago(at)),
            message: words.map(str::to_owned),
        },
    )
}

/// Changes to the pods.
#[derive(Clone, Debug)]
struct Inside {
    ready: bool,
    node_lost: bool,
    waiting: Option<&'static str>,
    terminated: Option<Ended>,
    last: Option<Ended>,
    log_tail: Option<&'static str>,
    running_for: i64,
}

fn inside() -> impl Strategy<Value = Inside> {
    let waiting = prop::option::of(prop::sample::select(WAITING));
    let tail = prop::option::of(prop::sample::select(WORDS));
    (any::<(bool, bool)>(), waiting, prop::option::of(ended()), prop::option::of(ended()), tail, 0_i64..1000).prop_map(
        |((ready, node_lost), waiting, terminated, last, log_tail, running_for)| Inside {
            ready,
            node_lost,
            waiting,
            terminated,
            last,
            log_tail,
            running_for,
        },
    )
}

impl Inside {
    fn befall(&self, e: &mut Evidence) {
        pod_of(e).ready = self.ready;
        if self.node_lost {
            e.nodes_not_ready = Lookup::Found([("node-a".to_owned(), None)].into());
        }
        let container = container_of(e);
        container.ready = self.ready;
        container.waiting = self.waiting.map(|reason| (reason.to_owned(), format!("said {CANARY}")));
        container.running_since = self.waiting.is_none().then(|| ago(self.running_for));
        (container.terminated, container.last) = (self.terminated.clone(), self.last.clone());
        container.log_tail = self.log_tail.map(str::to_owned);
    }
}

/// Changes to the probes.
#[derive(Clone, Debug)]
struct Outside {
    class: Option<ErrorClass>,
    code: u16,
    error: Option<&'static str>,
    health: &'static str,
    health_code: u16,
    pod_alike: bool,
    db_down: bool,
    has_base: bool,
    odd_links: bool,
    warned: bool,
    behind_service: bool,
    forbidden: bool,
    was_well: bool,
}

fn outside() -> impl Strategy<Value = Outside> {
    let class = prop::option::of(prop::sample::select(ErrorClass::ALL));
    let code = prop::sample::select(vec![200_u16, 302, 400, 401, 404, 429, 500, 502, 503]);
    let error = prop::option::of(prop::sample::select(LAST_ERRORS));
    let health = prop::sample::select(vec!["UP", "DOWN", "OUT_OF_SERVICE", "UNKNOWN", CANARY]);
    let codes = (code.clone(), code);
    (class, codes, error, health, any::<[bool; 8]>()).prop_map(|(class, (code, health_code), error, health, flags)| {
        let [pod_alike, db_down, has_base, odd_links, warned, behind_service, forbidden, was_well] = flags;
        Outside {
            class,
            code,
            error,
            health,
            health_code,
            pod_alike,
            db_down,
            has_base,
            odd_links,
            warned,
            behind_service,
            forbidden,
            was_well,
        }
    })
}

impl Outside {
    fn befall(&self, e: &mut Evidence) {
        let target = |name: &str| match self.class {
            Some(class) => Vantage {
                http_status: (class == ErrorClass::HTTPStatus).then_some(self.code),
                detail: Some(CANARY.to_owned()),
                ..failing(name, class)
            },
            None => passing(name),
        };
        e.vantages = vec![target("target")];
        e.history.bad_since = self.class.map(|_| ago(60));
        e.history.last_healthy = self.was_well.then(|| ago(61));
        if self.pod_alike {
            e.vantages.push(target("pod/web-1"));
        }
        if let Some(error) = self.error {
            prometheus_of(e).targets = vec![down(error)];
            prometheus_of(e).targets[0].url = format!("http://u:{CANARY}@10.1.0.7:8081/x?token={CANARY}");
        }
        let actuator = actuator_of(e);
        actuator.health = Some(self.health.to_owned());
        actuator.health_status = Some(if self.health == "UP" { 200 } else { self.health_code });
        let db = if self.db_down { "DOWN" } else { "UP" };
        actuator.components = links(&[("db", db), (&format!("a {CANARY}"), "DOWN")]);
        actuator.base_status = self.has_base.then_some(self.code);
        if self.odd_links {
            actuator.links = links(&[("self", "/actuator"), ("prometheus", &format!("//evil/{CANARY}"))]);
        }
        if self.warned {
            warn_all(e);
        }
        if self.behind_service {
            behind_service(e);
        }
        if self.forbidden {
            e.pods = Lookup::Forbidden("list pods".to_owned());
        }
    }
}

fn warn_all(e: &mut Evidence) {
    for (reason, note) in [
        ("Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500, body: C4narySecret"),
        ("Killing", "Container app failed liveness probe, will be restarted C4narySecret"),
        ("Failed", "Failed to pull image: C4narySecret"),
        ("FailedMount", "MountVolume.SetUp failed: C4narySecret"),
        ("FailedCreatePodSandBox", "C4narySecret"),
    ] {
        warn(e, reason, note);
    }
}

fn evidence() -> impl Strategy<Value = Evidence> {
    (inside(), outside()).prop_map(|(inside, outside)| {
        with(well(), |e| {
            inside.befall(e);
            outside.befall(e);
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_same_evidence_gives_the_same_words_also_offline(e in evidence()) {
        let saved = serde_json::to_string(&e).unwrap();
        let read: Evidence = serde_json::from_str(&saved).unwrap();
        prop_assert_eq!(&read, &e);
        prop_assert_eq!(diagnose(&e), diagnose(&read));
        prop_assert_eq!(conclude(&e), conclude(&read));
    }

    #[test]
    fn what_a_backend_said_is_shown_nowhere_and_all_texts_fit(e in evidence()) {
        let Some(d) = diagnose(&e) else { return Ok(()) };
        let shown = format!("{d:?} {:?}", conclude(&e));
        prop_assert!(!shown.to_lowercase().contains(&CANARY.to_lowercase()), "{}", shown);
        prop_assert!(d.evidence.len() <= MAX_EVIDENCE && d.alternatives.len() <= MAX_ALTERNATIVES);
        let texts = d.evidence.iter().chain([&d.message, &d.advice]).chain(d.alternatives.iter().map(|other| &other.message));
        for text in texts {
            prop_assert!(!text.is_empty() && text.chars().count() <= MAX_MESSAGE);
        }
        prop_assert!(d.advice.chars().next().is_some_and(|first| !first.is_lowercase()), "{}", d.advice);
    }

    #[test]
    fn each_rule_speaks_of_its_own_cause_and_no_cause_in_the_pods_is_cured_by_a_restart(e in evidence()) {
        for (cause, rule) in RULES {
            if let Some(finding) = rule(&e) {
                prop_assert_eq!(finding.cause, *cause);
                let in_pods = (Cause::ScaledToZero..=Cause::CrashLoop).contains(cause);
                prop_assert!(!in_pods || finding.restart_helps == RestartHelps::No);
            }
        }
    }

    #[test]
    fn no_restart_is_advised_while_the_health_page_says_down_or_out_of_service(e in evidence()) {
        let word = e.actuator.found().and_then(|actuator| actuator.health.as_deref());
        if matches!(word, Some("DOWN" | "OUT_OF_SERVICE")) {
            prop_assert!(diagnose(&e).is_none_or(|d| d.restart_helps == RestartHelps::No));
        }
    }

    #[test]
    fn what_is_wrong_always_has_a_cause(e in evidence()) {
        let fails = e.vantages.iter().any(|vantage| vantage.name == "target" && !vantage.ok);
        prop_assert!(!fails || diagnose(&e).is_some());
    }
}
