use std::collections::BTreeMap;

use super::scene::*;
use crate::api::Confidence::{Certain, Likely, Possible};
use crate::api::RestartHelps::{No, Once};
use crate::api::{Cause, ErrorClass};
use crate::diagnosis::evidence::{Container, Ended, Evidence, Lookup};
use crate::diagnosis::rules::diagnose;

fn refused() -> Evidence {
    bad(ErrorClass::Refused)
}

fn waiting(reason: &str, message: &str) -> Evidence {
    with(refused(), |e| waits(e, reason, message))
}

#[test]
fn scaled_to_zero_is_said_before_anything_about_pods() {
    let e = with(refused(), |e| {
        *workload_of(e) = crate::diagnosis::evidence::Workload { observed: true, ..Default::default() };
        found(&mut e.pods).clear();
    });
    let d = expect(&e, Cause::ScaledToZero, Certain, No);
    says(&d.advice, &["kubectl -n shop scale deployment/web --replicas=1"]);
}

#[test]
fn a_lost_node_explains_its_pods() {
    let lost = |e: &mut Evidence| {
        e.nodes_not_ready = Lookup::Found(BTreeMap::from([("node-a".to_owned(), Some(ago(90)))]));
    };
    let d = expect(&with(bad(ErrorClass::ConnectTimeout), lost), Cause::NodeLost, Certain, No);
    says(&d.message, &["node-a", "2026-11-05T09:58:30Z", "web-1"]);
    // A lost node without pods of this backend is not a cause, and neither is one whose pods answer.
    let other = with(bad(ErrorClass::Unreachable), |e| {
        e.nodes_not_ready = Lookup::Found(BTreeMap::from([("node-b".to_owned(), None)]));
    });
    expect_cause(&other, Cause::Unexplained);
    assert_eq!(diagnose(&with(well(), lost)), None);
}

#[test]
fn a_pod_that_waits_to_be_deleted_still_tells_of_its_lost_node() {
    let e = with(bad(ErrorClass::ConnectTimeout), |e| {
        let pod = pod_of(e);
        pod.deleting = true;
        pod.containers[0].terminated =
            Some(Ended { reason: "ContainerStatusUnknown".to_owned(), exit_code: 137, ..Ended::default() });
        e.nodes_not_ready = Lookup::Forbidden("list nodes".to_owned());
    });
    let d = expect(&e, Cause::NodeLost, Possible, No);
    says(&d.evidence.join("\n"), &["not seen: list nodes"]);
}

#[test]
fn an_unschedulable_pod_quotes_the_scheduler() {
    let pending = |reason: &str, message: &str| {
        with(refused(), |e| {
            let pod = pod_of(e);
            (pod.phase, pod.ready) = ("Pending".to_owned(), false);
            pod.containers[0] = Container { name: "app".to_owned(), ..Container::default() };
            pod.unscheduled = Some((reason.to_owned(), message.to_owned()));
        })
    };
    let d = expect(
        &pending("Unschedulable", "0/3 nodes are available: 3 Insufficient memory. preemption: 0/3 nodes are helpful."),
        Cause::Unschedulable,
        Certain,
        No,
    );
    assert!(d.message.ends_with("0/3 nodes are available: 3 Insufficient memory"), "{}", d.message);
    says(&expect_cause(&pending("SchedulingGated", ""), Cause::Unschedulable).message, &["scheduling gate"]);
}

#[test]
fn an_image_that_does_not_come_is_told_apart_by_the_kubelets_words() {
    for (reason, message, words) in [
        ("ImagePullBackOff", "manifest unknown: not found", &["no such image"][..]),
        ("ErrImagePull", "401 Unauthorized", &["other credentials"]),
        ("ErrImagePull", "dial tcp: i/o timeout", &["cannot be reached"]),
        ("ErrImagePull", "dial tcp: lookup registry.example.com: no such host", &["its registry does not exist"]),
        ("InvalidImageName", "", &["not valid"]),
        ("ErrImageNeverPull", "", &["imagePullPolicy is Never"]),
    ] {
        let d = expect(&waiting(reason, message), Cause::ImagePullFailed, Certain, No);
        says(&d.message, &["registry.example.com/web:1", "container app of pod web-1"]);
        says(&d.message, words);
        assert!(message.is_empty() || !d.message.contains(message), "a registry's words are not shown");
    }
}

#[test]
fn missing_configuration_names_the_object_and_the_key() {
    for (message, words) in [
        (r#"configmap "web-env" not found"#, "ConfigMap web-env does not exist"),
        (r#"secret "web-db" not found"#, "Secret web-db does not exist"),
        ("couldn't find key password in Secret shop/web-db", "Secret web-db has no key password"),
        ("couldn't find key exposure in ConfigMap shop/web-env", "ConfigMap web-env has no key exposure"),
    ] {
        let d = expect(&waiting("CreateContainerConfigError", message), Cause::ConfigMissing, Certain, No);
        says(&d.message, &[words]);
        assert!(d.alternatives.iter().all(|other| other.cause != Cause::ContainerCannotStart), "{d:?}");
    }
    for unnamed in ["", "a key of its environment is missing"] {
        expect(&waiting("CreateContainerConfigError", unnamed), Cause::ConfigMissing, Likely, No);
    }
    let other = waiting("CreateContainerConfigError", "something else");
    says(&expect_cause(&other, Cause::ContainerCannotStart).advice, &["kubectl -n shop describe pod web-1"]);
    // The same reason also means a bad security context, which is not missing configuration.
    let root = waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root");
    says(&expect_cause(&root, Cause::ContainerCannotStart).message, &["runAsNonRoot"]);
}

#[test]
fn a_volume_of_a_missing_config_map_is_missing_configuration_and_another_volume_is_not() {
    let mount = |note: &str| with(waiting("ContainerCreating", ""), |e| warn(e, "FailedMount", note));
    let e = mount(r#"MountVolume.SetUp failed for volume "c" : configmap "web-files" not found"#);
    says(&expect(&e, Cause::ConfigMissing, Certain, No).message, &["ConfigMap web-files does not exist"]);
    let e = mount("MountVolume.MountDevice failed: rpc error: the disk speaks");
    let d = expect_cause(&e, Cause::ContainerCannotStart);
    says(&d.message, &["cannot mount"]);
    assert!(!format!("{d:?}").contains("the disk speaks"));
}

#[test]
fn a_container_that_cannot_start_says_why() {
    let error =
        r#"failed to create containerd task: exec: "/app/nope": stat /app/nope: no such file or directory: unknown"#;
    let d = expect(&waiting("RunContainerError", error), Cause::ContainerCannotStart, Certain, No);
    says(&d.message, &["its command /app/nope: no such file or directory"]);
    for (reason, exit) in [("StartError", 128), ("Error", 127), ("Error", 126)] {
        expect(&crashed(reason, exit, None), Cause::ContainerCannotStart, Certain, No);
    }
    expect_cause(&crashed("Error", 1, None), Cause::CrashLoop);
}

#[test]
fn an_init_container_that_fails_is_named_and_one_that_succeeded_is_not() {
    let init = |exit_code: i32, ready: bool| {
        with(waiting("PodInitializing", ""), |e| {
            pod_of(e).init = vec![Container {
                name: "migrate".to_owned(),
                ready,
                terminated: Some(Ended {
                    reason: if exit_code == 0 { "Completed" } else { "Error" }.to_owned(),
                    exit_code,
                    message: Some("org.flywaydb.core.api.FlywayException: Validate failed\n".to_owned()),
                    ..Ended::default()
                }),
                ..Container::default()
            }];
            pod_of(e).created = Some(ago(20));
        })
    };
    let d = expect(&init(1, false), Cause::InitContainerFailing, Certain, No);
    says(&d.message, &["migrate", "web-1", "org.flywaydb.core.api.FlywayException"]);
    // It has ended and was not started again: its log is not a previous one.
    says(&d.advice, &["kubectl -n shop logs web-1 -c migrate`"]);
    expect_cause(&init(0, true), Cause::StillStarting);
}

#[test]
fn a_kill_for_memory_names_the_limit() {
    let d = expect(&crashed("OOMKilled", 137, None), Cause::OutOfMemory, Certain, No);
    says(&d.message, &["512Mi"]);
    says(&d.advice, &["resources.limits.memory of container app (now 512Mi)"]);
}

#[test]
fn an_old_kill_explains_nothing_of_today() {
    let old = |ended: i64| {
        with(status(503), |e| {
            actuator_of(e).health_status = Some(503);
            actuator_of(e).health = Some("DOWN".to_owned());
            container_of(e).last = Some(Ended {
                reason: "OOMKilled".to_owned(),
                exit_code: 137,
                ended: Some(ago(ended)),
                ..Ended::default()
            });
        })
    };
    expect_cause(&old(3 * 86_400), Cause::DependencyDown);
    expect_cause(&old(70), Cause::OutOfMemory);
}

const ANALYSIS: &str = "
***************************
APPLICATION FAILED TO START
***************************

Description:

Failed to configure a DataSource: 'url' attribute is not specified and no embedded datasource could be configured.

Reason: Failed to determine a suitable driver class


Action:

Consider the following:
	If you want an embedded database (H2, HSQL or Derby), please put it on the classpath.

";

#[test]
fn a_data_source_that_was_never_configured_is_configuration_and_never_the_database() {
    let d = expect(&crashed("Error", 1, Some(ANALYSIS)), Cause::CrashLoopConfig, Certain, No);
    says(&d.message, &["Failed to configure a DataSource"]);
    says(&d.advice, &["If you want an embedded database"]);
    // Also without the banner, which a short message may have lost.
    let short = "Caused by: x.y.DataSourceProperties$DataSourceBeanCreationException: Failed to determine a suitable driver class";
    expect_cause(&crashed("Error", 1, Some(short)), Cause::CrashLoopConfig);
}

#[test]
fn a_binding_failure_wins_over_the_refused_connection_in_its_reason() {
    let text = "Description:\n\nFailed to bind properties under 'app.backend' to java.net.URL:\n\n    Property: app.backend\n    Value: \"jdbc:postgresql://u:s3cr3t@db:5432/x\"\n    Reason: java.net.ConnectException: Connection refused to db:5432\n\nAction:\n\nUpdate your application's configuration\n";
    let d = expect_cause(&crashed("Error", 1, Some(text)), Cause::CrashLoopConfig);
    assert!(!format!("{d:?}").contains("s3cr3t"));
    let bind = "java.net.BindException: Address already in use (Bind failed)\nConnection refused: jdbc";
    says(&expect_cause(&crashed("Error", 1, Some(bind)), Cause::CrashLoopConfig).message, &["in use already"]);
}

#[test]
fn a_database_that_cannot_be_reached_or_refuses_is_told_apart() {
    let unreachable = "Caused by: org.postgresql.util.PSQLException: Connection to db.example.com:5432 refused. Check that the hostname and port are correct";
    let d = expect(&crashed("Error", 1, Some(unreachable)), Cause::CrashLoopDatabase, Certain, No);
    says(&d.message, &["cannot reach its database db.example.com:5432", "org.postgresql.util.PSQLException"]);
    let refuses =
        "Caused by: org.postgresql.util.PSQLException: FATAL: password authentication failed for user \"web\"";
    says(&expect_cause(&crashed("Error", 1, Some(refuses)), Cause::CrashLoopDatabase).message, &["refuses it"]);
    // A port in use is not a database.
    let other = "panic: dial tcp 10.0.0.5:9000: connect: connection refused";
    says(&expect_cause(&crashed("Error", 2, Some(other)), Cause::CrashLoop).message, &["10.0.0.5:9000"]);
}

#[test]
fn a_restart_helps_a_crashing_backend_once_its_database_answers_again() {
    let text = "Caused by: com.mysql.cj.exceptions.CJCommunicationsException: Communications link failure";
    let again = with(crashed("Error", 1, Some(text)), |e| e.vantages.push(passing("dependency")));
    expect(&again, Cause::CrashLoopDatabase, Certain, Once);
    let still = with(crashed("Error", 1, Some(text)), |e| e.vantages.push(failing("dependency", ErrorClass::Refused)));
    expect(&still, Cause::CrashLoopDatabase, Certain, No);
}

#[test]
fn the_tail_of_the_log_speaks_where_there_is_no_message() {
    let e = with(crashed("Error", 1, None), |e| container_of(e).log_tail = Some(ANALYSIS.to_owned()));
    expect_cause(&e, Cause::CrashLoopConfig);
}

#[test]
fn a_container_that_its_liveness_probe_kills_needs_the_event() {
    let killed = |exit: i32, note: &str| with(crashed("Error", exit, None), |e| warn(e, "Unhealthy", note));
    for exit in [137, 143] {
        let e = killed(exit, "Liveness probe failed: Get \"http://10.1.0.7:8081/\": context deadline exceeded");
        let d = expect(&e, Cause::CrashLoopKilledByLiveness, Certain, No);
        says(&d.advice, &["startupProbe", "CPU"]);
    }
    expect_cause(&killed(143, "Readiness probe failed: statuscode: 503"), Cause::CrashLoop);
}

#[test]
fn what_ended_cleanly_is_no_crash_and_a_restart_helps_only_where_an_agent_does_it() {
    expect(&crashed("Completed", 0, None), Cause::ExitedCleanly, Certain, No);
    let agent = with(crashed("Completed", 0, None), |e| e.subject.has_agent = true);
    expect(&agent, Cause::ExitedCleanly, Certain, Once);
}

#[test]
fn a_crash_loop_without_a_word_is_less_sure_and_says_what_would_help() {
    let d = expect(&crashed("Error", 1, None), Cause::CrashLoop, Likely, No);
    says(&d.message, &["exit 1, 4 restarts"]);
    says(&d.evidence.join("\n"), &["FallbackToLogsOnError"]);
    says(&d.advice, &["kubectl -n shop logs web-1 -c app --previous"]);
    let said = crashed("Error", 1, Some("java.lang.IllegalStateException: no\n\tat x.Y.z(Y.java:1)"));
    says(&expect(&said, Cause::CrashLoop, Certain, No).message, &["java.lang.IllegalStateException"]);
}

#[test]
fn the_steps_of_a_pods_life_stand_before_each_other() {
    let image_and_wait = with(waiting("PodInitializing", ""), |e| {
        pod_of(e).init = vec![Container {
            name: "wait".to_owned(),
            image: "x".to_owned(),
            waiting: Some(("ErrImagePull".to_owned(), String::new())),
            ..Container::default()
        }];
    });
    let d = expect_cause(&image_and_wait, Cause::ImagePullFailed);
    assert_eq!(d.alternatives.iter().map(|a| a.cause).collect::<Vec<_>>(), [Cause::InitContainerFailing]);
}
