//! A person installs, upgrades, rolls back and uninstalls vigie, by Helm 3 and by Helm 4. This release watches all
//! namespaces, so it runs alone: other releases would watch the same objects.

use std::net::SocketAddr;
use std::path::PathBuf;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServiceAccount};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};

use crate::release::{Helm, STARTED, chart, world};
use crate::senders::{Pulse, heard};
use crate::support::backends::condition;
use crate::support::process::Ran;
use crate::support::world::SOON;
use crate::support::{World, eventually, http, quick, seconds, text};

/// The name in the documentation.
const NAME: &str = "vigie";

/// One release of the whole chart, in a namespace that admits only restricted pods.
struct Person<'a> {
    world: &'a World,
    helm: Helm,
    namespace: String,
}

impl<'a> Person<'a> {
    fn new(world: &'a World, major: u8) -> Self {
        let namespace = format!("{}-vigie", world.ns);
        let said = world.cluster.kubectl(&["create", "namespace", &namespace]);
        said.ok();
        let label = "pod-security.kubernetes.io/enforce=restricted";
        world.cluster.kubectl(&["label", "namespace", &namespace, label]).ok();
        Self { world, helm: Helm::of(major), namespace }
    }

    fn helm(&self, args: &[&str]) -> Ran {
        self.helm.run(&[args, &["--namespace", &self.namespace]].concat())
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.world.client.clone(), &self.namespace)
    }

    async fn service(&self, name: &str) -> SocketAddr {
        let service = self.api::<Service>().get(name).await.unwrap_or_else(|error| panic!("Service {name}: {error}"));
        let spec = service.spec.expect("it has a spec");
        let (address, port) = (spec.cluster_ip.expect("an address"), spec.ports.unwrap_or_default()[0].port);
        format!("{address}:{port}").parse().expect("an address and a port")
    }

    /// Both replicas run and are ready, without a restart, and exactly one leads.
    async fn runs(&self) {
        eventually(STARTED, "two pods run, and one of them leads", async || {
            let of_it = ListParams::default().labels(&format!("app.kubernetes.io/instance={NAME}"));
            let pods = self.api::<Pod>().list(&of_it).await.map_err(|error| error.to_string())?.items;
            let leads =
                pods.iter().filter(|pod| pod.labels().get("vigie.dev/role").is_some_and(|role| role == "leader"));
            let (count, leaders) = (pods.len(), leads.count());
            let statuses = pods.iter().filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref()?.first());
            let ready = statuses.filter(|status| status.ready && status.restart_count == 0).count();
            let seen = (count, ready, leaders);
            if seen == (2, 2, 1) { Ok(()) } else { Err(format!("{seen:?}: pods, ready ones, leaders")) }
        })
        .await;
    }

    /// A token of a ServiceAccount of the release's namespace.
    async fn token(&self, account: &str) -> String {
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(3600), ..Default::default() },
            ..Default::default()
        };
        let accounts = self.api::<ServiceAccount>();
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await;
        answer.expect("a token is given").status.expect("it is in the status").token
    }
}

impl Drop for Person<'_> {
    fn drop(&mut self) {
        let _ = self.helm(&["uninstall", NAME, "--ignore-not-found"]);
        let _ = self.world.cluster.kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}

/// The chart one version ago: its definitions lack a field of today's.
fn previous(world: &World) -> PathBuf {
    let into = world.folder("previous");
    copy(&chart(), &into);
    let file = into.join("Chart.yaml");
    let described = std::fs::read_to_string(&file).unwrap();
    let version = described.lines().find_map(|line| line.strip_prefix("version: ")).expect("it has a version");
    std::fs::write(&file, described.replace(&format!("version: {version}"), "version: 0.0.1")).unwrap();
    let file = into.join("files/crds/connectors.vigie.dev.yaml");
    let definition = std::fs::read_to_string(&file).unwrap();
    assert!(definition.contains(NEWER), "{NEWER} is in today's definition");
    std::fs::write(&file, definition.replace(NEWER, &format!("{NEWER}Once"))).unwrap();
    into
}

/// A field that the previous version did not have.
const NEWER: &str = "displayName";

fn copy(from: &std::path::Path, into: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = into.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Waits until the API server publishes the newer field, or no longer does; publication lags behind a definition.
async fn knows_the_newer_field(world: &World, expected: bool) {
    let field = format!("connectors.vigie.dev.spec.{NEWER}");
    eventually(SOON, "the definition is published", async || {
        let ran = world.cluster.kubectl(&["explain", &field]);
        if (ran.code == 0) == expected { Ok(()) } else { Err(format!("{ran:?}")) }
    })
    .await;
}

async fn whole_life(world: &World, major: u8) {
    let person = Person::new(world, major);
    let (previous, chart) = (previous(world), chart());
    let [previous, chart] = [&previous, &chart].map(|path| path.to_str().expect("a path is text"));
    let scraper = format!("serviceMonitor.scraper.namespace={}", world.ns);
    let values = ["--set", "serviceMonitor.scraper.serviceAccount=scraper", "--set", &scraper];
    let wait = ["--wait", "--timeout", "3m"];

    // Definitions that were applied by hand before are adopted only on request.
    let refused = person.helm(&[&["install", NAME, previous], &values[..], &wait[..]].concat());
    assert!(refused.code != 0 && refused.stderr.contains("connectors.vigie.dev"), "{refused:?}");
    person.helm(&["uninstall", NAME, "--ignore-not-found"]).ok();
    let said = person.helm(&[&["install", NAME, previous, "--take-ownership"], &values[..], &wait[..]].concat()).ok();
    assert!(said.contains("kubectl apply") && said.contains("vigie token show"), "the next step is told: {said}");
    knows_the_newer_field(world, false).await;
    person.runs().await;

    let edge = world.connector("edge-1", quick()).await;
    let to = person.service("vigie-heartbeat").await;
    let history = world.history();
    let pulse = Pulse::start(to, &edge);
    world.state(SOON, "edge-1", "Online").await;
    let nobody = world.create("nobody-installed-it-yet", json!({})).await;

    person.helm(&[&["upgrade", NAME, chart], &values[..], &wait[..]].concat()).ok();
    // Definitions are upgraded with the chart.
    knows_the_newer_field(world, true).await;
    person.runs().await;
    world.patch("edge-1", json!({"spec": {NEWER: "Edge gateway 1"}})).await;
    admits_who_may_and_no_others(&person).await;
    narrows(&person).await;
    keeps_probes_off_itself(&person).await;

    person.helm(&[&["rollback", NAME, "1"], &wait[..]].concat()).ok();
    person.runs().await;
    person.helm(&[&["rollback", NAME, "2"], &wait[..]].concat()).ok();
    person.runs().await;
    world.state(SOON, "edge-1", "Online").await;
    let states = history.of_connector("edge-1");
    assert!(states.iter().skip_while(|state| *state != "Online").all(|state| state == "Online"), "{states:?}");

    person.helm(&["uninstall", NAME, "--wait"]).ok();
    drop(pulse);
    let kept = world.get("edge-1").await;
    assert_eq!(text(&kept, "/status/state"), "Online", "what was written last is kept: {kept:#}");
    assert!(world.connectors().get_opt(&nobody.name_any()).await.unwrap().is_some());
    let secret = world.api::<Secret>().get_opt("edge-1-connector-token").await.unwrap();
    assert!(secret.is_some(), "a connector's token survives, and so need not be delivered anew");

    // Once more, over the kept objects.
    person.helm(&[&["install", NAME, chart], &values[..], &wait[..]].concat()).ok();
    person.runs().await;
    let to = person.service("vigie-heartbeat").await;
    heard(&edge, to).await;
}

/// The admin port answers the users that the API server allows, and refuses all others.
async fn admits_who_may_and_no_others(person: &Person<'_>) {
    let world = person.world;
    let admin = person.service(NAME).await;
    // For a moment after an upgrade a node may route to the pod that is gone.
    eventually(SOON, "a caller without a token is refused", async || match http::get(admin, "/metrics") {
        Ok(answer) if answer.status == 401 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    for account in ["scraper", "anybody"] {
        world.kubectl(&["create", "serviceaccount", account]).ok();
    }
    let as_account = async |account: &str| {
        let token = world.account_token(account).await;
        http::get_as(admin, "/metrics", Some(&token)).map_err(|error| error.to_string())
    };
    eventually(SOON, "an account without the right is refused", async || match as_account("anybody").await? {
        answer if answer.status == 403 => Ok(()),
        answer => Err(format!("{answer:?}")),
    })
    .await;
    let scraped = eventually(SOON, "Prometheus' ServiceAccount may scrape", async || {
        let answer = as_account("scraper").await?;
        if answer.status == 200 { Ok(answer.body) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert!(scraped.contains("vigie_leader"), "{scraped}");
}

/// With the operator's own token an image cannot be changed, whatever RBAC allows; a restart can be requested only by
/// users that may restart.
async fn narrows(person: &Person<'_>) {
    let world = person.world;
    world.kubectl(&["create", "deployment", "shop", "--image=example.com/shop:1", "--replicas=0"]).ok();
    let token = person.token(NAME).await;
    let (server, _) = world.cluster.server();
    let patch = |body: &str| {
        let args = ["--token", &token, "--server", &format!("https://{server}"), "--insecure-skip-tls-verify=true"];
        let rest = ["patch", "deployment", "shop", "--type=strategic", "-p", body];
        let kubeconfig = ["--kubeconfig=/dev/null", "-n", &world.ns];
        world.cluster.kubectl(&[&args[..], &kubeconfig[..], &rest[..]].concat())
    };
    let image = r#"{"spec":{"template":{"spec":{"containers":[{"name":"shop","image":"example.com/other:1"}]}}}}"#;
    eventually(SOON, "an image is not vigie's to change", async || {
        let said = patch(image);
        let is_refused = said.code != 0 && said.stderr.contains("ValidatingAdmissionPolicy");
        if is_refused { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
    let restart = r#"{"spec":{"template":{"metadata":{"annotations":{"vigie.dev/attempt":"x","kubectl.kubernetes.io/restartedAt":"2026-01-01T00:00:00Z"}}}}}"#;
    patch(restart).ok();
}

/// A backend that names vigie's own Service is refused, and never dialled.
async fn keeps_probes_off_itself(person: &Person<'_>) {
    let object = json!({
        "apiVersion": "vigie.dev/v1alpha1", "kind": "MonitoredBackend",
        "metadata": {"name": "own", "namespace": person.namespace},
        "spec": {"target": {"service": {"name": NAME, "port": "admin", "path": "/livez"}}},
    });
    let file = person.world.file("own.json", &object.to_string());
    person.world.cluster.kubectl(&["apply", "-f", file.to_str().unwrap()]).ok();
    eventually(seconds(120), "the target is denied", async || {
        let said = person.world.cluster.kubectl(&["get", "mb", "own", "-n", &person.namespace, "-o", "json"]);
        let found: Value = serde_json::from_str(&said.ok()).map_err(|error| error.to_string())?;
        if condition(&found, "Accepted") == ("False", "TargetDenied") {
            Ok(())
        } else {
            Err(format!("{:#}", found["status"]))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vigie_lives_a_whole_life_by_helm_3() {
    let world = world("helm3").await;
    whole_life(&world, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vigie_lives_a_whole_life_by_helm_4() {
    let world = world("helm4").await;
    whole_life(&world, 4).await;
}
