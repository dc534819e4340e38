use super::scene::*;
use crate::api::Confidence::{Certain, Likely, Possible};
use crate::api::RestartHelps::No;
use crate::api::{Cause, Diagnosis};
use crate::diagnosis::evidence::{Actuator, EnvValue, Evidence, Lookup};

const INCLUDE: &str = "MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_INCLUDE";
const HEALTH: &[(&str, &str)] =
    &[("self", "/actuator"), ("health", "/actuator/health"), ("health-path", "/actuator/health/{*path}")];
const SOME: &[(&str, &str)] = &[
    ("self", "/actuator"),
    ("health", "/actuator/health"),
    ("info", "/actuator/info"),
    ("metrics", "/actuator/metrics"),
    ("metrics-requiredMetricName", "/actuator/metrics/{requiredMetricName}"),
];
const ONLY_SELF: &[(&str, &str)] = &[("self", "/actuator")];

/// The metrics page answers 404, and the actuator lists these endpoints.
fn missing(listed: &[(&str, &str)]) -> Evidence {
    with(status(404), |e| actuator_of(e).links = links(listed))
}

fn alternatives(d: &Diagnosis) -> Vec<Cause> {
    d.alternatives.iter().map(|other| other.cause).collect()
}

#[test]
fn a_page_that_is_not_exposed_names_the_variable_and_the_value_to_set() {
    let d = expect(&missing(HEALTH), Cause::EndpointNotExposed, Likely, No);
    // Its own properties may expose it, and are not seen: then its registry is missing.
    assert_eq!((alternatives(&d), d.alternatives[0].confidence), (vec![Cause::RegistryMissing], Possible));
    says(&d.message, &[INCLUDE, "health,prometheus", "lists only health", "/actuator/prometheus answers 404"]);
    says(
        &d.advice,
        &["kubectl -n shop set env deployment/web -c app MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_INCLUDE=health,prometheus"],
    );
}

#[test]
fn the_value_to_set_is_merged_with_the_present_one() {
    let e = with(missing(SOME), |e| set(e, INCLUDE, "health, info,metrics"));
    let d = expect(&e, Cause::EndpointNotExposed, Likely, No);
    says(&d.advice, &["=health,info,metrics,prometheus"]);
}

#[test]
fn a_list_that_somebody_chose_leaves_the_registry_as_the_alternative() {
    let d = expect(&missing(SOME), Cause::EndpointNotExposed, Likely, No);
    assert_eq!(alternatives(&d), [Cause::RegistryMissing]);
    assert_eq!(d.alternatives[0].confidence, Possible);
}

#[test]
fn a_variable_that_names_other_endpoints_is_certain_because_it_wins_over_all_properties() {
    let e = with(missing(HEALTH), |e| set(e, INCLUDE, "health"));
    let d = expect(&e, Cause::EndpointNotExposed, Certain, No);
    assert_eq!(alternatives(&d), []);
    // An empty value has no effect.
    let empty = with(missing(HEALTH), |e| set(e, INCLUDE, ""));
    assert_eq!(alternatives(&expect(&empty, Cause::EndpointNotExposed, Likely, No)), [Cause::RegistryMissing]);
}

#[test]
fn elements_of_the_list_whose_values_were_not_read_are_not_replaced() {
    let e = with(missing(HEALTH), |e| {
        container_of(e).environment.extend([format!("{INCLUDE}_0"), format!("{INCLUDE}_1")]);
    });
    let d = expect(&e, Cause::EndpointNotExposed, Likely, No);
    says(&d.message, &["was not seen"]);
    says(&d.advice, &["merged with its present value"]);
    assert_eq!(alternatives(&d), [Cause::RegistryMissing]);
}

#[test]
fn a_list_of_nothing_but_itself_is_no_disabled_endpoint_where_health_is_not_included() {
    let only_prometheus = with(missing(ONLY_SELF), |e| set(e, INCLUDE, "prometheus"));
    let d = expect(&only_prometheus, Cause::RegistryMissing, Likely, No);
    assert_eq!(alternatives(&d), []);
    let only_info = with(missing(ONLY_SELF), |e| set(e, INCLUDE, "info"));
    expect(&only_info, Cause::EndpointNotExposed, Likely, No);
    // With health in the list, only a setting for all endpoints removes it.
    let all = with(missing(ONLY_SELF), |e| set(e, INCLUDE, "health,prometheus"));
    expect(&all, Cause::EndpointDisabled, Likely, No);
    let unseen = expect(&missing(ONLY_SELF), Cause::EndpointDisabled, Likely, No);
    assert!(alternatives(&unseen).contains(&Cause::RegistryMissing), "{unseen:#?}");
}

/// The target is this path below the health endpoint, which exists, and answers 404.
fn group(path: &str) -> Evidence {
    with(missing(HEALTH), |e| (e.subject.path, e.subject.wants_metrics) = (path.to_owned(), false))
}

#[test]
fn a_group_of_health_that_does_not_exist_is_defined_and_is_no_metrics_path() {
    const PROBES: &str = "MANAGEMENT_ENDPOINT_HEALTH_PROBES_ENABLED";
    for name in ["readiness", "liveness"] {
        let d = expect(&group(&format!("/actuator/health/{name}")), Cause::WrongPath, Likely, No);
        says(&d.message, &[&format!("has no group {name}"), "/actuator/health exists"]);
        says(&d.advice, &["MANAGEMENT_ENDPOINT_HEALTH_PROBES_ENABLED=true"]);
        assert!(!d.advice.contains("metrics_path"), "{}", d.advice);
    }
    let off = with(group("/actuator/health/readiness"), |e| set(e, PROBES, "false"));
    says(&expect(&off, Cause::WrongPath, Certain, No).message, &["MANAGEMENT_ENDPOINT_HEALTH_PROBES_ENABLED=false"]);
    let own = expect(&group("/actuator/health/partners"), Cause::WrongPath, Likely, No);
    says(&own.advice, &["management.endpoint.health.group.partners.include"]);
    let main = expect(&group("/livez"), Cause::WrongPath, Likely, No);
    says(&main.advice, &["MANAGEMENT_ENDPOINT_HEALTH_PROBES_ADDADDITIONALPATHS=true"]);
    // The list names another path of health: the group is below that one.
    let moved = with(group("/manage/health/readiness"), |e| e.subject.path = "/manage/health/readiness".to_owned());
    says(&expect_cause(&moved, Cause::WrongPath).message, &["under /actuator/health"]);
}

#[test]
fn advice_about_a_page_that_is_not_metrics_names_no_metrics_path() {
    for path in ["/actuator/health", "/actuator/health/readiness", "/shop", "/health"] {
        for listed in [HEALTH, &[("self", "/ops"), ("health", "/ops/health")]] {
            let e = with(missing(listed), |e| (e.subject.path, e.subject.wants_metrics) = (path.to_owned(), false));
            let d = expect_cause(&e, Cause::WrongPath);
            assert!(!d.advice.contains("metrics_path"), "{path}: {}", d.advice);
        }
    }
    // The additional probe of health is led by its own field.
    let beside = with(missing(&[("self", "/ops"), ("health", "/ops/health")]), |e| {
        (e.subject.path, e.subject.wants_metrics, e.subject.wants_actuator) = ("/".to_owned(), false, true);
        e.vantages = vec![passing("target"), answered("health", 404)];
        (actuator_of(e).health, actuator_of(e).health_status) = (None, Some(404));
    });
    says(&expect_cause(&beside, Cause::WrongPath).advice, &["spec.probe.actuator.basePath to /ops"]);
}

#[test]
fn an_environment_that_was_not_seen_makes_it_likely_and_names_what_is_missing() {
    let hidden = with(missing(HEALTH), |e| {
        container_of(e).environment_incomplete = Some("Secret web-env by envFrom is not read".to_owned());
    });
    let d = expect(&hidden, Cause::EndpointNotExposed, Likely, No);
    says(
        &d.evidence.join("\n"),
        &["not seen: MANAGEMENT_ENDPOINT_PROMETHEUS_ACCESS (Secret web-env by envFrom is not read)"],
    );
    let secret = with(missing(HEALTH), |e| {
        container_of(e).environment.insert(INCLUDE.to_owned());
        container_of(e).values.insert(INCLUDE.to_owned(), EnvValue::FromSecret);
    });
    says(&expect_cause(&secret, Cause::EndpointNotExposed).advice, &["merged with its present value"]);
    let forbidden = with(missing(HEALTH), |e| e.pods = Lookup::Forbidden("list pods in shop".to_owned()));
    expect(&forbidden, Cause::EndpointNotExposed, Possible, No);
    let external = with(missing(HEALTH), |e| {
        (e.pods, e.workload, e.subject.workload) = (Lookup::NotLooked, Lookup::NotLooked, None);
    });
    expect(&external, Cause::EndpointNotExposed, Likely, No);
}

#[test]
fn an_excluded_page_is_taken_out_of_the_exclusion() {
    let e = with(missing(SOME), |e| {
        set(e, INCLUDE, "*");
        set(e, "MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_EXCLUDE", "env,prometheus");
    });
    let d = expect(&e, Cause::EndpointNotExposed, Certain, No);
    says(&d.advice, &["MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_EXCLUDE=env"]);
}

/// Each setting that disables the endpoint, with the link list that Spring Boot 3.5 shows then.
type Disabling = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);
const DISABLING: &[Disabling] = &[
    ("MANAGEMENT_ENDPOINT_PROMETHEUS_ENABLED", "false", SOME, "MANAGEMENT_ENDPOINT_PROMETHEUS_ENABLED=true"),
    ("MANAGEMENT_ENDPOINT_PROMETHEUS_ACCESS", "NONE", SOME, "MANAGEMENT_ENDPOINT_PROMETHEUS_ACCESS=read-only"),
    ("MANAGEMENT_ENDPOINTS_ACCESS_DEFAULT", "none", ONLY_SELF, "MANAGEMENT_ENDPOINT_PROMETHEUS_ACCESS=read-only"),
    (
        "MANAGEMENT_ENDPOINTS_ACCESS_MAX_PERMITTED",
        "none",
        ONLY_SELF,
        "MANAGEMENT_ENDPOINTS_ACCESS_MAX_PERMITTED=read-only",
    ),
    ("MANAGEMENT_ENDPOINTS_ENABLED_BY_DEFAULT", "false", ONLY_SELF, "MANAGEMENT_ENDPOINT_PROMETHEUS_ENABLED=true"),
];

#[test]
fn a_disabled_endpoint_names_its_setting_and_never_both_families() {
    for (name, value, listed, wanted) in DISABLING {
        let e = with(missing(listed), |e| {
            set(e, INCLUDE, "health,info,metrics,prometheus");
            set(e, name, value);
        });
        let d = expect(&e, Cause::EndpointDisabled, Certain, No);
        says(&d.message, &[&format!("{name}={value}")]);
        says(&d.advice, &[wanted, "3.4"]);
        let families = ["PROMETHEUS_ENABLED", "ACCESS"].map(|family| d.advice.contains(family));
        assert_ne!(families, [true, true], "{}", d.advice);
    }
}

#[test]
fn every_pair_of_settings_gets_advice_for_one_family_alone() {
    for (first, value, ..) in DISABLING {
        for (second, other, ..) in DISABLING {
            let e = with(missing(SOME), |e| {
                set(e, first, value);
                set(e, second, other);
            });
            let d = expect_cause(&e, Cause::EndpointDisabled);
            let sets = |family: &str| d.advice.contains(&format!("set MANAGEMENT_ENDPOINT_PROMETHEUS_{family}="));
            assert!(!(sets("ENABLED") && (sets("ACCESS") || d.message.contains("ACCESS"))), "{}", d.advice);
            assert!(!(sets("ENABLED") && [first, second].iter().any(|name| name.contains("ACCESS"))), "{}", d.advice);
        }
    }
}

#[test]
fn a_list_of_nothing_but_itself_is_a_limit_for_all_endpoints_wherever_it_is_set() {
    let hidden = with(missing(ONLY_SELF), |e| container_of(e).environment_incomplete = Some("a Secret".to_owned()));
    says(&expect(&hidden, Cause::EndpointDisabled, Likely, No).evidence.join("\n"), &["not seen"]);
    // No variable sets it: then the application's own properties do.
    let d = expect(&missing(ONLY_SELF), Cause::EndpointDisabled, Likely, No);
    says(&d.advice, &["the application's own properties"]);
    let excluded = with(missing(ONLY_SELF), |e| set(e, "MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_EXCLUDE", "*"));
    expect(&excluded, Cause::EndpointNotExposed, Certain, No);
}

#[test]
fn a_list_that_is_switched_off_is_no_actuator_that_is_elsewhere() {
    let e = with(status(404), |e| {
        actuator_of(e).base_status = Some(404);
        actuator_of(e).links = None;
    });
    expect(&e, Cause::EndpointNotExposed, Likely, No);
}

#[test]
fn a_setting_in_another_spelling_is_the_same_and_keeps_its_spelling() {
    let e = with(missing(SOME), |e| {
        set(e, INCLUDE, "prometheus");
        set(e, "MANAGEMENT_ENDPOINTS_ENABLED_BY_DEFAULT", "false");
        let names = &mut container_of(e).environment;
        names.remove("MANAGEMENT_ENDPOINTS_ENABLED_BY_DEFAULT");
        names.insert("MANAGEMENT_ENDPOINTS_ENABLEDBYDEFAULT".to_owned());
    });
    says(&expect_cause(&e, Cause::EndpointDisabled).message, &["MANAGEMENT_ENDPOINTS_ENABLEDBYDEFAULT=false"]);
}

#[test]
fn an_exposed_and_enabled_page_that_is_still_404_lacks_its_registry() {
    let exposed = with(missing(SOME), |e| set(e, INCLUDE, "health,prometheus"));
    let d = expect(&exposed, Cause::RegistryMissing, Likely, No);
    says(&d.advice, &["micrometer-registry-prometheus"]);
    let star = with(missing(SOME), |e| set(e, INCLUDE, "*"));
    expect(&star, Cause::RegistryMissing, Likely, No);
    let off = with(exposed.clone(), |e| set(e, "MANAGEMENT_PROMETHEUS_METRICS_EXPORT_ENABLED", "false"));
    let d = expect(&off, Cause::RegistryMissing, Certain, No);
    says(&d.advice, &["MANAGEMENT_PROMETHEUS_METRICS_EXPORT_ENABLED=true"]);
    // Disabled explains it better.
    let disabled = with(exposed, |e| set(e, "MANAGEMENT_ENDPOINT_PROMETHEUS_ACCESS", "none"));
    let d = expect_cause(&disabled, Cause::EndpointDisabled);
    assert_eq!(alternatives(&d), []);
}

#[test]
fn a_page_under_another_href_is_a_wrong_path_with_that_path() {
    let e = missing(&[("self", "/actuator"), ("health", "/actuator/health"), ("prometheus", "/actuator/metrics-page")]);
    let d = expect(&e, Cause::WrongPath, Certain, No);
    says(&d.message, &["/actuator/metrics-page"]);
}

#[test]
fn an_actuator_that_is_404_itself_is_looked_for_elsewhere() {
    let elsewhere = |e: &mut Evidence| {
        *actuator_of(e) = Actuator {
            base: "http://10.1.0.7:8081/actuator".to_owned(),
            base_status: Some(404),
            ..Actuator::default()
        };
    };
    let found = with(status(404), |e| {
        elsewhere(e);
        actuator_of(e).tried = [("/manage".to_owned(), 200), ("/x".to_owned(), 404)].into();
    });
    let d = expect(&found, Cause::WrongPath, Certain, No);
    says(&d.message, &["/manage/prometheus"]);
    let implied = with(status(404), |e| {
        elsewhere(e);
        set(e, "SERVER_SERVLET_CONTEXT_PATH", "/shop");
        set(e, "MANAGEMENT_ENDPOINTS_WEB_BASE_PATH", "/ops");
    });
    let d = expect(&implied, Cause::WrongPath, Likely, No);
    says(&d.message, &["/shop/ops/prometheus", "SERVER_SERVLET_CONTEXT_PATH=/shop"]);
    expect(&with(status(404), elsewhere), Cause::WrongPath, Possible, No);
    // A separate management server ignores the main server's context path.
    let separate = with(implied, |e| set(e, "MANAGEMENT_SERVER_PORT", "8081"));
    says(&expect_cause(&separate, Cause::WrongPath).message, &["under /ops/prometheus"]);
}

#[test]
fn settings_that_move_the_actuator_explain_a_404_where_its_list_was_not_read() {
    let e = with(status(404), |e| {
        e.actuator = Lookup::Failed("the actuator was not read".to_owned());
        set(e, "MANAGEMENT_ENDPOINTS_WEB_BASE_PATH", "/manage");
    });
    expect(&e, Cause::WrongPath, Likely, No);
    let unmoved = with(status(404), |e| e.actuator = Lookup::NotLooked);
    expect(&unmoved, Cause::EndpointNotExposed, Likely, No);
}

#[test]
fn a_404_of_something_that_is_no_actuator_is_a_path_and_no_exposure() {
    let e = with(status(404), |e| {
        (e.subject.path, e.subject.wants_metrics) = ("/shop".to_owned(), false);
        e.actuator = Lookup::Absent;
    });
    expect(&e, Cause::WrongPath, Possible, No);
    let metrics = with(e, |e| (e.subject.path, e.subject.wants_metrics) = ("/metrics".to_owned(), true));
    expect(&metrics, Cause::WrongPath, Possible, No);
}

#[test]
fn what_only_prometheus_sees_is_explained_alike() {
    // The target is the health page, and only Prometheus requests metrics: the incident that led to vigie.
    let e = with(only_prometheus("server returned HTTP status 404 "), |e| {
        (e.subject.path, e.subject.wants_metrics) = ("/actuator/health".to_owned(), false);
        actuator_of(e).links = links(HEALTH);
    });
    expect(&e, Cause::EndpointNotExposed, Likely, No);
    // vigie gets the page, Prometheus scrapes another path.
    let path = with(only_prometheus("server returned HTTP status 404 Not Found"), |e| {
        prometheus_of(e).targets[0].url = "http://10.1.0.7:8081/metrics".to_owned();
    });
    let d = expect(&path, Cause::WrongPath, Certain, No);
    says(&d.advice, &["metrics_path of Prometheus' target to /actuator/prometheus"]);
}

/// The links of a recorded body: rel and path.
fn recorded_links(body: &str) -> Vec<(String, String)> {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let links = body["_links"].as_object().unwrap();
    let path = |href: &str| href.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap();
    links.iter().map(|(rel, link)| (rel.clone(), path(link["href"].as_str().unwrap()))).collect()
}

#[test]
fn what_spring_boot_really_lists_gives_the_cause_that_was_played() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for version in ["spring-3.5", "spring-4.0"] {
        each_recorded_list_gives_its_cause(&golden.join(version));
    }
}

fn each_recorded_list_gives_its_cause(root: &std::path::Path) {
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&read("cases.json")).unwrap();
    for (name, cause) in [
        ("health-only", Cause::EndpointNotExposed),
        ("nothing-exposed", Cause::EndpointNotExposed),
        ("without-prometheus", Cause::EndpointNotExposed),
        ("registry-missing", Cause::RegistryMissing),
        ("prometheus-access-none", Cause::EndpointDisabled),
        ("prometheus-enabled-false", Cause::EndpointDisabled),
        ("access-default-none", Cause::EndpointDisabled),
        ("access-max-permitted-none", Cause::EndpointDisabled),
        ("enabled-by-default-false", Cause::EndpointDisabled),
        ("prometheus-mapped", Cause::WrongPath),
    ] {
        let file = format!("links/{name}.json");
        let case = cases["cases"].as_array().unwrap().iter().find(|case| case["file"] == *file).unwrap();
        let e = with(status(404), |e| {
            actuator_of(e).links = Some(recorded_links(&read(&file)).into_iter().collect());
            for (name, value) in case["environment"].as_object().unwrap() {
                // Evidence keeps only the settings that the rules use.
                if crate::diagnosis::evidence::WANTED_ENVIRONMENT.contains(&name.as_str()) {
                    set(e, name, value.as_str().unwrap());
                }
            }
        });
        expect_cause(&e, cause);
    }
}
