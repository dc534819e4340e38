//! The API server admits and refuses the objects of `tests/api/*cases.yaml` as specified, explains every field, and
//! emits no warning.

use std::path::Path;

use futures::StreamExt;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::{World, text};

fn read(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api").join(file);
    let content = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&content).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const CONNECTOR: &str = "Connector";
const BACKEND: &str = "MonitoredBackend";

fn object(kind: &str, name: &str, spec: &Value) -> DynamicObject {
    let object = json!({"apiVersion": "vigie.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    serde_json::from_value(object).unwrap()
}

fn objects(world: &World, kind: &str) -> Api<DynamicObject> {
    let plural = format!("{}s", kind.to_lowercase());
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("vigie.dev", "v1alpha1", kind), &plural);
    Api::namespaced_with(world.client.clone(), &world.ns, &resource)
}

/// Compares the outcome of one case with what it expects.
async fn outcome(world: &World, kind: &str, number: usize, case: &Value) -> Result<(), String> {
    let api = objects(world, kind);
    let default = format!("case-{number}");
    let name = case["object"].as_str().unwrap_or(&default);
    let mut last = api.create(&PostParams::default(), &object(kind, name, &case["create"])).await;
    if let (Some(update), Ok(made)) = (case.get("update"), &last) {
        let mut next = object(kind, name, update);
        next.metadata.resource_version.clone_from(&made.metadata.resource_version);
        last = api.replace(name, &PostParams::default(), &next).await;
    } else if case.get("update").is_some() {
        return Err(format!("its creation is refused: {last:?}"));
    }
    match (case["refused"].as_str(), last) {
        (None, Ok(stored)) => differs(case.get("stored"), &stored.data["spec"]),
        (None, Err(error)) => Err(format!("refused: {error}")),
        (Some(part), Ok(_)) => Err(format!("admitted, and should be refused: {part}")),
        (Some(part), Err(error)) if error.to_string().contains(part) => Ok(()),
        (Some(part), Err(error)) => Err(format!("refused with {error}, which does not say {part}")),
    }
}

fn differs(wanted: Option<&Value>, stored: &Value) -> Result<(), String> {
    let fields = wanted.and_then(Value::as_object).into_iter().flatten();
    for (field, wanted) in fields {
        let found = stored.get(field).unwrap_or(&Value::Null);
        if wanted.is_object() && found.is_object() {
            differs(Some(wanted), found)?;
        } else if wanted != found {
            return Err(format!("{field} is stored as {found}, and should be {wanted}"));
        }
    }
    Ok(())
}

/// Compares the API server's decisions with the cases of one kind.
async fn judge(kind: &str, file: &str) {
    let world = World::new(file.trim_end_matches(".yaml")).await;
    let cases = read(file);
    let cases = cases.as_array().unwrap();
    assert!(cases.len() > 50, "{} cases", cases.len());
    let judged = futures::stream::iter(cases.iter().enumerate()).map(async |(number, case)| {
        outcome(&world, kind, number, case).await.err().map(|why| format!("{}: {why}", text(case, "/name")))
    });
    let wrong: Vec<String> = judged.buffer_unordered(8).filter_map(async |why| why).collect().await;
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_admits_and_refuses_what_the_cases_say() {
    judge(CONNECTOR, "cases.yaml").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_admits_and_refuses_what_the_cases_of_backends_say() {
    judge(BACKEND, "backend-cases.yaml").await;
}

/// Writes the status of `file` to an object and compares it with the status that is read back.
async fn write_and_read(world: &World, kind: &str, name: &str, file: &str) {
    let status = read(file);
    let patch = json!({"status": status});
    let params =
        PatchParams { field_validation: Some(kube::api::ValidationDirective::Strict), ..PatchParams::default() };
    let api = objects(world, kind);
    api.patch_status(name, &params, &Patch::Merge(&patch)).await.unwrap();
    assert_eq!(api.get(name).await.unwrap().data["status"], status);
}

/// The table of all objects of `kind`, and the names of its columns.
fn table(world: &World, kind: &str, wide: bool) -> (String, Vec<String>) {
    let table = world.kubectl(&[&["get", kind][..], if wide { &["-o", "wide"] } else { &[] }].concat()).ok();
    let header = table.lines().next().unwrap();
    let columns = header.split("  ").map(str::trim).filter(|column| !column.is_empty()).map(str::to_owned).collect();
    (table, columns)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_status_is_read_back_as_it_was_written() {
    let world = World::new("roundtrip").await;
    world.create("edge-1", json!({})).await;
    write_and_read(&world, CONNECTOR, "edge-1", "status.yaml").await;
    let (_, columns) = table(&world, "connectors", false);
    assert_eq!(columns, ["NAME", "STATE", "READY", "CAUSE", "LAST CONTACT", "VERSION", "RESTARTS", "AGE"]);
    let (wide, columns) = table(&world, "ztc", true);
    assert_eq!(columns[8..], ["HEALTH", "SITE", "ADDRESS", "TOKEN AGE"]);
    assert!(wide.contains("192.0.2.7"), "{wide}");
    assert!(world.kubectl(&["get", "vigie"]).ok().contains("edge-1"), "the category");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_status_of_a_backend_is_read_back_as_it_was_written() {
    let world = World::new("backend-roundtrip").await;
    let api = objects(&world, BACKEND);
    let spec = json!({"target": {"service": {"name": "shop", "port": "management"}}, "site": "lyon"});
    let made = api.create(&PostParams::default(), &object(BACKEND, "shop", &spec)).await.unwrap();
    assert_eq!(made.data["status"], json!({"observedGeneration": -1}), "nothing was observed yet");
    write_and_read(&world, BACKEND, "shop", "backend-status.yaml").await;
    let (short, columns) = table(&world, "monitoredbackends", false);
    assert_eq!(columns, ["NAME", "STATE", "READY", "CAUSE", "LATENCY", "LAST PROBE", "RESTARTS", "AGE"]);
    for cell in ["shop", "Down", "False", "EndpointNotExposed", " 12 ", " 1 "] {
        assert!(short.contains(cell), "{cell}: {short}");
    }
    let (wide, columns) = table(&world, "mb", true);
    assert_eq!(columns[8..], ["ADVICE", "PROMETHEUS", "TARGET", "SITE"]);
    for cell in [
        "set MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_INCLUDE to health,prometheus",
        "StaleTarget",
        "http://shop.gateways.svc:8081/actuator/prometheus",
        "lyon",
    ] {
        assert!(wide.contains(cell), "{cell}: {wide}");
    }
    assert!(world.kubectl(&["get", "vigie"]).ok().contains("monitoredbackend.vigie.dev/shop"), "the category");

    let ours = world.vigie(&["get", "backends", "-n", &world.ns, "-o", "wide"]);
    assert_eq!(ours.code, 0, "{ours:?}");
    assert!(ours.stderr.trim().ends_with("showing what was last written"), "no operator runs: {ours:?}");
    let words = |line: &str| line.split("  ").map(str::trim).filter(|w| !w.is_empty()).map(str::to_owned).collect();
    let [header, row]: [Vec<String>; 2] = [0, 1].map(|at| words(ours.stdout.lines().nth(at).unwrap()));
    assert_eq!(header, columns);
    assert_eq!(
        (&row[..4], &row[4]),
        (&["shop", "Down", "False", "EndpointNotExposed"].map(str::to_owned)[..], &"12ms".to_owned())
    );
    let one: Value =
        serde_json::from_str(&world.vigie(&["get", "mb/shop", "-n", &world.ns, "-o", "json"]).ok()).unwrap();
    assert_eq!((&one["state"], &one["prometheus"]), (&json!("Down"), &json!("StaleTarget")));
    let nobody = world.vigie(&["get", "mb", "nobody", "-n", &world.ns]);
    assert_eq!(nobody.code, 1);
    assert!(nobody.stderr.contains("there is no backend \"nobody\""), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_from_a_newer_vigie_is_stored() {
    let world = World::new("newer-words").await;
    let api = objects(&world, BACKEND);
    let spec = json!({"target": {"url": "http://example.com/"}});
    api.create(&PostParams::default(), &object(BACKEND, "shop", &spec)).await.unwrap();
    let mut status = read("backend-status.yaml");
    for word in ["/diagnosis/cause", "/vantages/0/errorClass", "/vantages/0/phase", "/transitions/0/cause"] {
        *status.pointer_mut(word).unwrap() = json!("FromTheFuture");
    }
    let patch = json!({"status": status});
    let written = api.patch_status("shop", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!(written.data["status"], status);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_crds_apply_without_a_warning() {
    let world = World::new("warnings").await;
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
    for how in
        [&["replace", "--dry-run=server", "-f", crds][..], &["apply", "--server-side", "--dry-run=server", "-f", crds]]
    {
        let ran = world.cluster.kubectl(how);
        assert_eq!((ran.code, ran.stderr.contains("Warning")), (0, false), "{}", ran.stderr);
    }
}

/// The paths of all fields below `schema`.
fn fields(schema: &Value, at: &str, into: &mut Vec<(String, bool)>) {
    let properties = schema.get("properties").or_else(|| schema.pointer("/items/properties"));
    for (name, field) in properties.and_then(Value::as_object).into_iter().flatten() {
        let path = format!("{at}.{name}");
        into.push((path.clone(), field["description"].as_str().is_some_and(|text| text.len() > 10)));
        fields(field, &path, into);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_explains_every_field() {
    let world = World::new("explain").await;
    for (kind, at_least) in [("connectors", 80), ("monitoredbackends", 100)] {
        let crd = world.cluster.kubectl(&["get", "crd", &format!("{kind}.vigie.dev"), "-o", "json"]).ok();
        let crd: Value = serde_json::from_str(&crd).unwrap();
        let mut found = Vec::new();
        let root = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties").unwrap();
        for part in ["spec", "status"] {
            fields(&root[part], part, &mut found);
        }
        assert!(found.len() > at_least, "{} fields of {kind}", found.len());
        let mute: Vec<_> = found.iter().filter(|(_, explained)| !explained).map(|(path, _)| path).collect();
        assert!(mute.is_empty(), "no description: {mute:?} of {kind}");
    }
    for (field, part) in [
        ("connector.spec.heartbeat.offlineAfterSeconds", "300"),
        ("mb.spec.probe.http.tls.warnBeforeExpirySeconds", "two weeks"),
        ("monitoredbackend.spec.target.service.port", "name of the Service's port"),
    ] {
        let said = world.cluster.kubectl(&["explain", field]).ok();
        assert!(said.contains("DESCRIPTION") && said.contains(part), "{said}");
    }
    for (kind, fields) in [
        ("connector", ["rotationGeneration", "lastHeartbeatTime", "restartHelps", "workloadRef"]),
        ("monitoredbackend", ["expectedStatus", "lastProbeTime", "restartHelps", "sourceCIDR"]),
    ] {
        let all = world.cluster.kubectl(&["explain", kind, "--recursive"]).ok();
        for field in fields {
            assert!(all.contains(field), "{field}");
        }
    }
}
