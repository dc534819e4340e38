//! The faults of `misbehave` in pods, and their diagnoses.

use serde_json::{Value, json};

use crate::app::{App, CONTROL, post, running};
use crate::person::{blames_nobody_between, explained};
use crate::place;
use crate::support::world::SOON;
use crate::support::{World, eventually, text};

/// Runs diagnose as a person of this machine, with flags that allow the pods' network.
fn diagnose(world: &World, name: &str, more: &[&str]) -> crate::support::process::Ran {
    let near = ["--allow-network", "10.80.0.0/12", "--allow-network", "10.96.0.0/16"];
    world.vigie(&[&["diagnose", "backend", name, "-n", &world.ns], &near[..], more].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hang_is_one_by_the_service_by_the_pods_and_for_a_person() {
    let world = place::world("real-hang").await;
    let _operator = world.operator(&[]).await;
    let app = App::misbehave("shop", &[]);
    app.deploy(&world).await;
    world.backend("service", app.backend(app.at_service("/metrics"), json!({"metrics": {}}))).await;
    world.backend("pods", app.backend(app.at_pods("/metrics"), json!({"metrics": {}}))).await;
    let pods = running(&world, "shop", 1).await;
    for name in ["service", "pods"] {
        world.backend_is(SOON, name, "Up", "").await;
    }
    let well = eventually(SOON, "a person sees it, too", async || match diagnose(&world, "service", &[]) {
        ran if ran.code == 0 => Ok(ran),
        ran => Err(format!("{ran:?}")),
    })
    .await;
    assert!(well.stdout.contains(" is Up: nothing is wrong"), "{}", well.stdout);

    post(&pods[0], CONTROL, "/_/hang?port=main");
    let pod = pods[0].metadata.name.as_deref().unwrap();
    for name in ["service", "pods"] {
        let dump = format!("`kubectl -n {} exec {pod} -- jcmd 1 Thread.print`", world.ns);
        let hung = explained(&world, name, "Down", "Hung", &["accepts connections and sends no byte", &dump]).await;
        assert_eq!(text(&hung, "/status/diagnosis/restartHelps"), "Once", "{hung:#}");
        let ran = diagnose(&world, name, &[]);
        assert_eq!(ran.code, 3, "{ran:?}");
        let parts = ["Hung", "\nSEEN\n", "FirstByteTimeout", "here", "\nRUN NEXT\n", &format!("describe pod {pod}")];
        for part in parts {
            assert!(ran.stdout.contains(part), "{part:?} is not in\n{}", ran.stdout);
        }
    }
    // From a machine that cannot reach the cluster's network, the result is the same, by the status that the operator
    // wrote.
    let far = world.vigie(&["diagnose", "backend", "service", "-n", &world.ns, "-o", "json"]);
    assert_eq!(far.code, 3, "{far:?}");
    let report: Value = serde_json::from_str(&far.stdout).unwrap();
    assert_eq!(text(&report, "/diagnosis/cause"), "Hung", "{report:#}");
    assert_eq!(text(&report, "/state"), "Down", "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_closed_under_a_running_process_is_no_firewall() {
    let world = place::world("real-refused").await;
    let _operator = world.operator(&[]).await;
    let app = App::misbehave("shop", &[]);
    app.deploy(&world).await;
    world.backend("shop", app.backend(app.at_service("/metrics"), json!({"metrics": {}}))).await;
    let pods = running(&world, "shop", 1).await;
    world.backend_is(SOON, "shop", "Up", "").await;

    post(&pods[0], CONTROL, "/_/refuse?port=main");
    let pod = pods[0].metadata.name.as_deref().unwrap();
    let says = ["nothing listens on port 8080 any more", pod, "answered last at", &format!("logs {pod} -c app")];
    let down = explained(&world, "shop", "Down", "MainPortDead", &says).await;
    blames_nobody_between(&down["status"].to_string());
    let ran = diagnose(&world, "shop", &[]);
    assert_eq!(ran.code, 3, "{ran:?}");
    blames_nobody_between(&ran.stdout);

    post(&pods[0], CONTROL, "/_/open?port=main");
    world.backend_is(SOON, "shop", "Up", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_ends_is_told_apart_by_how_it_ends_and_is_no_firewall() {
    let world = place::world("real-ended").await;
    let _operator = world.operator(&[]).await;
    let clean = App::misbehave("clean", &["--crash-after", "2s", "--exit", "0"]);
    let crash = App::misbehave("crash", &["--crash-after=-1s", "--exit", "3", "--message", "no space left for it"]);
    for app in [&clean, &crash] {
        app.deploy(&world).await;
        world.backend(&app.name, app.backend(app.at_service("/metrics"), json!({"metrics": {}}))).await;
    }
    let says = ["container app of pod clean-", "Completed, exit 0", "correct command and args"];
    let down = explained(&world, "clean", "Down", "ExitedCleanly", &says).await;
    blames_nobody_between(&down["status"].to_string());
    let down = explained(&world, "crash", "Down", "CrashLoop", &["container app of pod crash-", "exit 3"]).await;
    blames_nobody_between(&down["status"].to_string());
    // The command for the container's last output finds it, whether or not the kubelet has restarted the container
    // meanwhile.
    eventually(SOON, "its last words", async || match diagnose(&world, "crash", &["--logs"]) {
        ran if ran.code == 3 && ran.stdout.contains("no space left for it") => Ok(()),
        ran => Err(format!("{ran:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_slow_or_malformed_is_the_pages_fault() {
    let world = place::world("real-pages").await;
    let _operator = world.operator(&[]).await;
    let app = App::misbehave("shop", &[]);
    app.deploy(&world).await;
    let broken = "/exposition/broken;kind=bad-value;line=4/metrics";
    world.backend("slow", app.backend(app.at_service("/slow/metrics/metrics"), json!({"metrics": {}}))).await;
    world.backend("broken", app.backend(app.at_service(broken), json!({"metrics": {}}))).await;
    world.backend("broken-pods", app.backend(app.at_pods(broken), json!({"metrics": {}}))).await;
    explained(&world, "slow", "Down", "SlowMetrics", &["only its metrics page is too slow", "scrape_timeout"]).await;
    for name in ["broken", "broken-pods"] {
        let command = format!("vigie diagnose backend {name} -n {}", world.ns);
        let down = explained(&world, name, "Down", "MalformedMetrics", &["line 4", &command]).await;
        assert!(!down["status"].to_string().contains("notanumber"), "nothing of the page is reported: {down:#}");
        // The command in the advice shows the line.
        let ran = diagnose(&world, name, &[]);
        assert_eq!(ran.code, 3, "{ran:?}");
        assert!(ran.stdout.contains("line 4") && ran.stdout.contains("it said, at "), "{}", ran.stdout);
        assert!(ran.stdout.contains("notanumber"), "{}", ran.stdout);
    }
}
