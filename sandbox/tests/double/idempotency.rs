//! Idempotency keys.

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::test_double::{TestDouble, eventually, send};

fn create(double: &TestDouble, key: &str, name: &str) -> RequestBuilder {
    double.call(Method::POST, "/v1/customers", &[("name", name)]).header("Idempotency-Key", key)
}

#[tokio::test]
async fn repeated_key_replays_first_response() {
    let double = TestDouble::start().await;
    let first = send(create(&double, "k", "A")).await;
    let second = send(create(&double, "k", "A")).await;
    assert_eq!((first.status, &first.text), (second.status, &second.text));
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    assert_ne!(first.header("request-id"), second.header("request-id"));
    let events = double.events().await;
    assert_eq!(events.len(), 1, "the customer was created once");
    assert_eq!(events[0]["request"]["idempotency_key"], "k");
    assert_eq!(events[0]["request"]["id"].as_str(), first.header("request-id"));
}

#[tokio::test]
async fn key_with_other_parameters_is_rejected() {
    let double = TestDouble::start().await;
    send(create(&double, "k", "A")).await.ok();
    assert_eq!(send(create(&double, "k", "B")).await.error(400)["type"], "idempotency_error");
    let elsewhere = double.call(Method::POST, "/v1/webhook_endpoints", &[("name", "A")]);
    assert_eq!(send(elsewhere.header("Idempotency-Key", "k")).await.error(400)["type"], "idempotency_error");
}

#[tokio::test]
async fn rejected_call_frees_key() {
    let double = TestDouble::start().await;
    let invalid = double.call(Method::POST, "/v1/customers", &[("nmae", "A")]).header("Idempotency-Key", "k");
    send(invalid).await.error(400);
    let valid = send(create(&double, "k", "A")).await;
    assert_eq!(valid.status, 200);
    assert_eq!(valid.header("idempotent-replayed"), None);
}

#[tokio::test]
async fn failure_before_execution_frees_key() {
    let double = TestDouble::start().await;
    double.control("/faults", json!({"match": "*", "kind": "status", "status": 503, "times": 1})).await;
    send(create(&double, "k", "A")).await.error(503);
    assert_eq!(send(create(&double, "k", "A")).await.header("idempotent-replayed"), None);
}

#[tokio::test]
async fn failure_during_execution_is_saved() {
    let double = TestDouble::start().await;
    double.control("/faults", json!({"match": "*", "kind": "status", "status": 500, "times": 1})).await;
    send(create(&double, "k", "A")).await.error(500);
    let replayed = send(create(&double, "k", "A")).await;
    assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
    replayed.error(500);
    assert_eq!(send(create(&double, "other", "A")).await.status, 200);
}

#[tokio::test]
async fn concurrent_call_with_same_key_returns_409() {
    let double = TestDouble::start().await;
    double.control("/faults", json!({"match": "POST /v1/customers", "kind": "hang"})).await;
    let first = tokio::spawn(send(create(&double, "k", "A")));
    let second = tokio::spawn(send(create(&double, "k", "A")));
    let abort_handles = [first.abort_handle(), second.abort_handle()];
    // One of the calls hangs with the key locked, so the other one fails.
    let response = tokio::select! {
        response = first => response,
        response = second => response,
    };
    let error = response.expect("call without panic").error(409);
    assert_eq!([&error["type"], &error["code"]], ["idempotency_error", "idempotency_key_in_use"]);

    double.clear_faults().await;
    for handle in abort_handles {
        handle.abort();
    }
    eventually("the key is free after its client has disconnected", async || {
        send(create(&double, "k", "A")).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn too_long_key_is_rejected() {
    let double = TestDouble::start().await;
    send(create(&double, &"k".repeat(255), "A")).await.ok();
    send(create(&double, &"k".repeat(256), "A")).await.error(400);
}
