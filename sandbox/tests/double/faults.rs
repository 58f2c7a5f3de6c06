//! Calls that go wrong on request.

use reqwest::Method;
use serde_json::json;

use crate::stage::{Stage, eventually, send, try_send};

#[tokio::test]
async fn the_server_fails_as_often_as_it_was_told_to() {
    let stage = Stage::set().await;
    let fault = json!({"match": "POST /v1/customers", "kind": "status", "status": 500, "times": 2});
    stage.tell("/faults", fault).await;
    stage.get("/v1/customers", &[]).await.ok();
    assert_eq!(stage.post("/v1/customers", &[]).await.error(500)["type"], "api_error");
    stage.post("/v1/customers", &[]).await.error(500);
    stage.post("/v1/customers", &[]).await.ok();
    assert_eq!(stage.events().await.len(), 1);
}

#[tokio::test]
async fn a_fault_without_a_count_lasts_until_it_is_cleared() {
    let stage = Stage::set().await;
    let fault = json!({"match": "*", "kind": "status", "status": 429, "should_retry": true});
    stage.tell("/faults", fault).await;
    for _ in 0..3 {
        let limited = stage.get("/v1/account", &[]).await;
        assert_eq!(limited.error(429)["code"], "rate_limit");
        assert_eq!(limited.header("stripe-should-retry"), Some("true"));
    }
    stage.clear_faults().await;
    stage.get("/v1/account", &[]).await.ok();
}

#[tokio::test]
async fn fault_skips_calls_and_concerns_those_with_its_parameter() {
    let stage = Stage::set().await;
    let fault = json!({
        "match": "GET /v1/customers", "param": "limit", "kind": "status", "status": 403, "skip": 1,
    });
    stage.tell("/faults", fault).await;
    stage.get("/v1/customers", &[("limit", "1")]).await.ok();
    stage.get("/v1/customers", &[]).await.ok();
    stage.get("/v1/customers", &[("limit", "1")]).await.error(403);
}

#[tokio::test]
async fn a_gateway_in_between_answers_whatever_it_likes() {
    let stage = Stage::set().await;
    let fault =
        json!({"match": "*", "kind": "status", "status": 502, "times": 1, "body": "<h1>Bad Gateway</h1>"});
    stage.tell("/faults", fault).await;
    let answer = stage.get("/v1/account", &[]).await;
    assert_eq!((answer.status, answer.text.as_str()), (502, "<h1>Bad Gateway</h1>"));
    assert_eq!(answer.header("stripe-should-retry"), None);
}

#[tokio::test]
async fn a_hanging_call_is_heard_and_never_answered() {
    let stage = Stage::set().await;
    stage.tell("/faults", json!({"match": "GET /v1/prices", "kind": "hang", "times": 1})).await;
    let hanging = tokio::spawn(try_send(stage.call(Method::GET, "/v1/prices", &[])));
    eventually("the call is heard", async || !stage.read_back("requests").await.is_empty()).await;
    stage.get("/v1/account", &[]).await.ok();
    assert!(!hanging.is_finished());
    hanging.abort();
}

#[tokio::test]
async fn a_dropped_connection_is_no_answer() {
    let stage = Stage::set().await;
    stage.tell("/faults", json!({"match": "POST /v1/customers", "kind": "drop", "times": 1})).await;
    let error =
        try_send(stage.call(Method::POST, "/v1/customers", &[])).await.expect_err("no answer should come");
    assert!(error.is_request() && !error.is_timeout(), "{error:?}");
    assert!(stage.events().await.is_empty(), "it failed before it was carried out");
}

#[tokio::test]
async fn a_lost_answer_is_got_by_asking_again_with_the_same_key() {
    let stage = Stage::set().await;
    for kind in ["drop", "status"] {
        let before = stage.events().await.len();
        let fault = json!({"match": "POST /v1/customers", "kind": kind, "times": 1, "before": false});
        stage.tell("/faults", fault).await;
        let call = || stage.call(Method::POST, "/v1/customers", &[]).header("Idempotency-Key", kind);
        let lost = try_send(call()).await;
        assert!(lost.is_err() || lost.is_ok_and(|lost| lost.status == 500));
        assert_eq!(stage.events().await.len(), before + 1, "it was carried out");
        let again = send(call()).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(stage.events().await.len(), before + 1, "and only once");
    }
}

#[tokio::test]
async fn nonsense_is_refused_in_json() {
    let stage = Stage::set().await;
    for nonsense in ["{", "{}", r#"{"deliveries":"late"}"#, r#"{"match":"*","kind":"status","status":99}"#] {
        let request = stage.request(Method::POST, "/_sandbox/faults").body(nonsense);
        let refused = send(request).await;
        assert_eq!(refused.status, 400, "{nonsense}");
        assert!(refused.json()["error"].is_string());
    }
    let lost = send(stage.request(Method::GET, "/_sandbox/nothing")).await;
    assert_eq!(lost.status, 404);
    assert!(lost.json()["error"].is_string());
}
