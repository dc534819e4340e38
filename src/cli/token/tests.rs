use axum::http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock;

use super::*;

type Server = mock::Handle<Request<Body>, Response<Body>>;

fn target() -> (TokenTarget, Server) {
    let (service, server) = mock::pair();
    (TokenTarget::new(Client::new(service, "default"), "gw".to_owned(), "edge-1".to_owned()), server)
}

fn connector(version: &str, rotation: i64) -> Value {
    json!({
        "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector",
        "metadata": {"namespace": "gw", "name": "edge-1", "uid": "u-1", "resourceVersion": version},
        "spec": {"token": {"rotationGeneration": rotation, "graceSeconds": 60}},
    })
}

/// Answers the next request with `json`, and returns what was asked and with which body.
async fn answer(server: &mut Server, status: StatusCode, json: &Value) -> (Method, String, Value) {
    let (request, send) = server.next_request().await.expect("another request");
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let response = Response::builder().status(status).body(Body::from(serde_json::to_vec(json).unwrap())).unwrap();
    send.send_response(response);
    (head.method, head.uri.path().to_owned(), serde_json::from_slice(&bytes).unwrap_or_default())
}

fn conflict() -> Value {
    json!({"kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409, "message": "changed"})
}

#[tokio::test]
async fn rotating_raises_the_generation_of_the_version_that_was_read() {
    let (target, mut server) = target();
    let asked = tokio::spawn(async move { target.rotate().await });
    answer(&mut server, StatusCode::OK, &connector("7", 3)).await;
    let (method, path, patch) = answer(&mut server, StatusCode::OK, &connector("8", 4)).await;
    assert_eq!((method, path.as_str()), (Method::PATCH, "/apis/vigie.dev/v1alpha1/namespaces/gw/connectors/edge-1"));
    assert_eq!(patch, json!({"metadata": {"resourceVersion": "7"}, "spec": {"token": {"rotationGeneration": 4}}}));
    assert_eq!(asked.await.unwrap().unwrap(), (4, 60));
}

#[tokio::test]
async fn a_conflict_with_another_change_is_tried_again() {
    let (target, mut server) = target();
    let asked = tokio::spawn(async move { target.rotate().await });
    answer(&mut server, StatusCode::OK, &connector("7", 0)).await;
    answer(&mut server, StatusCode::CONFLICT, &conflict()).await;
    answer(&mut server, StatusCode::OK, &connector("9", 0)).await;
    let (_, _, patch) = answer(&mut server, StatusCode::OK, &connector("10", 1)).await;
    assert_eq!(patch["metadata"]["resourceVersion"], "9");
    assert_eq!(asked.await.unwrap().unwrap(), (1, 60));
}

#[tokio::test]
async fn of_two_concurrent_rotations_one_is_made() {
    let (target, mut server) = target();
    let asked = tokio::spawn(async move { target.rotate().await });
    answer(&mut server, StatusCode::OK, &connector("7", 0)).await;
    answer(&mut server, StatusCode::CONFLICT, &conflict()).await;
    answer(&mut server, StatusCode::OK, &connector("9", 1)).await;
    assert_eq!(asked.await.unwrap().unwrap(), (1, 60));
    assert!(server.next_request().await.is_none(), "nothing more is asked");
}

fn secret(owner: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "data": {"token": "dmd0X3g="},
        "metadata": {"name": "edge-1-connector-token", "namespace": "gw", "ownerReferences": [
            {"apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "name": "edge-1", "uid": owner}]},
    })
}

#[tokio::test]
async fn the_token_is_read_from_the_connectors_own_secret() {
    let (target, mut server) = target();
    let asked = tokio::spawn(async move { target.token().await });
    answer(&mut server, StatusCode::OK, &connector("7", 0)).await;
    let (_, path, _) = answer(&mut server, StatusCode::OK, &secret("u-1")).await;
    assert_eq!(path, "/api/v1/namespaces/gw/secrets/edge-1-connector-token");
    assert_eq!(asked.await.unwrap().unwrap(), "vgt_x");
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_not_shown() {
    let (target, mut server) = target();
    let asked = tokio::spawn(async move { target.token().await });
    answer(&mut server, StatusCode::OK, &connector("7", 0)).await;
    answer(&mut server, StatusCode::OK, &secret("u-0")).await;
    let error = asked.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("does not belong to this connector"), "{error}");
}

#[tokio::test]
async fn a_missing_connector_and_a_missing_secret_are_told_apart() {
    let missing = json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": "x"});
    let (here, mut server) = target();
    let asked = tokio::spawn(async move { here.token().await });
    answer(&mut server, StatusCode::NOT_FOUND, &missing).await;
    let error = asked.await.unwrap().unwrap_err().to_string();
    assert_eq!(error, "there is no connector \"edge-1\" in namespace \"gw\"");

    let (here, mut server) = target();
    let asked = tokio::spawn(async move { here.token().await });
    answer(&mut server, StatusCode::OK, &connector("7", 0)).await;
    answer(&mut server, StatusCode::NOT_FOUND, &missing).await;
    let error = asked.await.unwrap().unwrap_err().to_string();
    assert!(error.starts_with("the Secret gw/edge-1-connector-token does not exist"), "{error}");
}

#[tokio::test]
async fn a_connector_with_a_lease_is_not_rotated() {
    let (target, mut server) = target();
    let asked = tokio::spawn(async move { target.rotate().await });
    let mut object = connector("7", 0);
    object["spec"] = json!({"heartbeat": {"source": "Lease", "leaseName": "l"}});
    answer(&mut server, StatusCode::OK, &object).await;
    let error = asked.await.unwrap().unwrap_err().to_string();
    assert_eq!(error, "gw/edge-1 has no token of vigie's: it renews a Lease and needs none");
    assert!(server.next_request().await.is_none());
}

#[tokio::test]
async fn revoking_needs_a_clear_yes() {
    let (target, _server) = target();
    for (answer, meant) in [("y\n", true), ("YES\n", true), ("\n", false), ("no\n", false), ("", false)] {
        let mut asked = Vec::new();
        assert_eq!(confirmed(&target, &mut answer.as_bytes(), &mut asked).unwrap(), meant, "{answer:?}");
        assert!(String::from_utf8(asked).unwrap().starts_with("End every token of gw/edge-1 now?"));
    }
}

#[tokio::test]
async fn revoking_is_an_annotation_with_the_time() {
    let (target, mut server) = target();
    let asked = tokio::spawn(async move { target.revoke("2026-11-22T12:00:00Z".parse().unwrap()).await });
    let (_, _, patch) = answer(&mut server, StatusCode::OK, &connector("8", 0)).await;
    let annotations = json!({"vigie.dev/revoke-requested": "2026-11-22T12:00:00Z"});
    assert_eq!(patch, json!({"metadata": {"annotations": annotations}}));
    asked.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_happens_next_is_said() {
    let (target, _server) = target();
    let expected = "\
rotation 4 of gw/edge-1 is asked for
the old token works until the new one is first used, 60 s at most
once it is made, get the new one with: vigie token show edge-1 -n gw
";
    assert_eq!(rotation_text(&target, 4, 60), expected);
    assert!(rotation_text(&target, 4, 0).contains("the old token ends as soon as the new one is made"));
}
