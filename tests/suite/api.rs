//! The API server admits and refuses what `tests/api/cases.yaml` says, explains every field, and warns of nothing.

use std::path::Path;

use futures::StreamExt;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::{World, text};

fn read(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api").join(file);
    let content = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&content).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn object(name: &str, spec: &Value) -> DynamicObject {
    let object =
        json!({"apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "metadata": {"name": name}, "spec": spec});
    serde_json::from_value(object).unwrap()
}

/// What is wrong with the outcome of one case, if anything is.
async fn outcome(world: &World, number: usize, case: &Value) -> Result<(), String> {
    let api = world.connectors();
    let default = format!("case-{number}");
    let name = case["object"].as_str().unwrap_or(&default);
    let mut last = api.create(&PostParams::default(), &object(name, &case["create"])).await;
    if let (Some(update), Ok(made)) = (case.get("update"), &last) {
        let mut next = object(name, update);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_admits_and_refuses_what_the_cases_say() {
    let world = World::new("cases").await;
    let cases = read("cases.yaml");
    let cases = cases.as_array().unwrap();
    assert!(cases.len() > 50, "{} cases", cases.len());
    let judged = futures::stream::iter(cases.iter().enumerate()).map(async |(number, case)| {
        outcome(&world, number, case).await.err().map(|why| format!("{}: {why}", text(case, "/name")))
    });
    let wrong: Vec<String> = judged.buffer_unordered(8).filter_map(async |why| why).collect().await;
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_status_is_read_back_as_it_was_written() {
    let world = World::new("roundtrip").await;
    world.create("edge-1", json!({})).await;
    let status = read("status.yaml");
    let patch = json!({"status": status});
    let params =
        PatchParams { field_validation: Some(kube::api::ValidationDirective::Strict), ..PatchParams::default() };
    world.connectors().patch_status("edge-1", &params, &Patch::Merge(&patch)).await.unwrap();
    assert_eq!(world.get("edge-1").await["status"], status);
    let table = world.kubectl(&["get", "connectors"]).ok();
    assert_eq!(
        table.lines().next().unwrap().split("  ").map(str::trim).filter(|c| !c.is_empty()).collect::<Vec<_>>(),
        ["NAME", "STATE", "READY", "CAUSE", "LAST CONTACT", "VERSION", "RESTARTS", "AGE"]
    );
    let wide = world.kubectl(&["get", "ztc", "-o", "wide"]).ok();
    for column in ["HEALTH", "SITE", "ADDRESS", "TOKEN AGE"] {
        assert!(wide.lines().next().unwrap().contains(column), "{wide}");
    }
    assert!(wide.contains("192.0.2.7"), "{wide}");
    assert!(world.kubectl(&["get", "vigie"]).ok().contains("edge-1"), "the category");
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
    let crd = world.cluster.kubectl(&["get", "crd", "connectors.vigie.dev", "-o", "json"]).ok();
    let crd: Value = serde_json::from_str(&crd).unwrap();
    let mut found = Vec::new();
    let root = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties").unwrap();
    for part in ["spec", "status"] {
        fields(&root[part], part, &mut found);
    }
    assert!(found.len() > 80, "{} fields", found.len());
    let mute: Vec<_> = found.iter().filter(|(_, explained)| !explained).map(|(path, _)| path).collect();
    assert!(mute.is_empty(), "no description: {mute:?}");
    let said = world.cluster.kubectl(&["explain", "connector.spec.heartbeat.offlineAfterSeconds"]).ok();
    assert!(said.contains("DESCRIPTION") && said.contains("300"), "{said}");
    let all = world.cluster.kubectl(&["explain", "connector", "--recursive"]).ok();
    for field in ["rotationGeneration", "lastHeartbeatTime", "restartHelps", "workloadRef"] {
        assert!(all.contains(field), "{field}");
    }
}
