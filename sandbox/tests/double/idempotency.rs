//! Calls that are made twice.

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::stage::{Stage, eventually, send};

fn create(stage: &Stage, key: &str, name: &str) -> RequestBuilder {
    stage.call(Method::POST, "/v1/customers", &[("name", name)]).header("Idempotency-Key", key)
}

#[tokio::test]
async fn the_second_call_gets_the_first_answer() {
    let stage = Stage::set().await;
    let first = send(create(&stage, "k", "A")).await;
    let second = send(create(&stage, "k", "A")).await;
    assert_eq!((first.status, &first.text), (second.status, &second.text));
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    assert_ne!(first.header("request-id"), second.header("request-id"));
    let events = stage.events().await;
    assert_eq!(events.len(), 1, "the customer was made once");
    assert_eq!(events[0]["request"]["idempotency_key"], "k");
    assert_eq!(events[0]["request"]["id"].as_str(), first.header("request-id"));
}

#[tokio::test]
async fn a_key_means_one_call_only() {
    let stage = Stage::set().await;
    send(create(&stage, "k", "A")).await.ok();
    assert_eq!(send(create(&stage, "k", "B")).await.error(400)["type"], "idempotency_error");
    let elsewhere = stage.call(Method::POST, "/v1/webhook_endpoints", &[("name", "A")]);
    assert_eq!(send(elsewhere.header("Idempotency-Key", "k")).await.error(400)["type"], "idempotency_error");
}

#[tokio::test]
async fn a_refused_call_leaves_the_key_free() {
    let stage = Stage::set().await;
    let bad = stage.call(Method::POST, "/v1/customers", &[("nmae", "A")]).header("Idempotency-Key", "k");
    send(bad).await.error(400);
    let good = send(create(&stage, "k", "A")).await;
    assert_eq!(good.status, 200);
    assert_eq!(good.header("idempotent-replayed"), None);
}

#[tokio::test]
async fn call_that_fails_before_it_is_carried_out_frees_the_key() {
    let stage = Stage::set().await;
    stage.tell("/faults", json!({"match": "*", "kind": "status", "status": 503, "times": 1})).await;
    send(create(&stage, "k", "A")).await.error(503);
    assert_eq!(send(create(&stage, "k", "A")).await.header("idempotent-replayed"), None);
}

#[tokio::test]
async fn call_that_fails_while_it_is_carried_out_keeps_its_failure() {
    let stage = Stage::set().await;
    stage.tell("/faults", json!({"match": "*", "kind": "status", "status": 500, "times": 1})).await;
    send(create(&stage, "k", "A")).await.error(500);
    let replayed = send(create(&stage, "k", "A")).await;
    assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
    replayed.error(500);
    assert_eq!(send(create(&stage, "other", "A")).await.status, 200);
}

#[tokio::test]
async fn two_calls_at_once_with_one_key_are_one_too_many() {
    let stage = Stage::set().await;
    stage.tell("/faults", json!({"match": "POST /v1/customers", "kind": "hang"})).await;
    let one = tokio::spawn(send(create(&stage, "k", "A")));
    let other = tokio::spawn(send(create(&stage, "k", "A")));
    let (one_may_end, other_may_end) = (one.abort_handle(), other.abort_handle());
    // Whichever came first hangs with the key in its hand; the other one is told so.
    let answer = tokio::select! {
        answer = one => answer,
        answer = other => answer,
    };
    let error = answer.expect("a call should not panic").error(409);
    assert_eq!([&error["type"], &error["code"]], ["idempotency_error", "idempotency_key_in_use"]);

    stage.clear_faults().await;
    one_may_end.abort();
    other_may_end.abort();
    eventually("the key is free once its caller has hung up", async || {
        send(create(&stage, "k", "A")).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_key_has_a_length() {
    let stage = Stage::set().await;
    send(create(&stage, &"k".repeat(255), "A")).await.ok();
    send(create(&stage, &"k".repeat(256), "A")).await.error(400);
}
