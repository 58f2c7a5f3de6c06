//! Injected faults of API calls.

use reqwest::Method;
use serde_json::json;

use crate::test_double::{TestDouble, eventually, send, try_send};

#[tokio::test]
async fn fault_with_count_fails_that_many_calls() {
    let double = TestDouble::start().await;
    let fault = json!({"match": "POST /v1/customers", "kind": "status", "status": 500, "times": 2});
    double.control("/faults", fault).await;
    double.get("/v1/customers", &[]).await.ok();
    assert_eq!(double.post("/v1/customers", &[]).await.error(500)["type"], "api_error");
    double.post("/v1/customers", &[]).await.error(500);
    double.post("/v1/customers", &[]).await.ok();
    assert_eq!(double.events().await.len(), 1);
}

#[tokio::test]
async fn fault_without_count_lasts_until_cleared() {
    let double = TestDouble::start().await;
    let fault = json!({"match": "*", "kind": "status", "status": 429, "should_retry": true});
    double.control("/faults", fault).await;
    for _ in 0..3 {
        let limited = double.get("/v1/account", &[]).await;
        assert_eq!(limited.error(429)["code"], "rate_limit");
        assert_eq!(limited.header("stripe-should-retry"), Some("true"));
    }
    double.clear_faults().await;
    double.get("/v1/account", &[]).await.ok();
}

#[tokio::test]
async fn fault_skips_calls_and_matches_parameter() {
    let double = TestDouble::start().await;
    let fault = json!({
        "match": "GET /v1/customers", "param": "limit", "kind": "status", "status": 403, "skip": 1,
    });
    double.control("/faults", fault).await;
    double.get("/v1/customers", &[("limit", "1")]).await.ok();
    double.get("/v1/customers", &[]).await.ok();
    double.get("/v1/customers", &[("limit", "1")]).await.error(403);
}

#[tokio::test]
async fn fault_with_body_returns_that_body() {
    let double = TestDouble::start().await;
    let fault =
        json!({"match": "*", "kind": "status", "status": 502, "times": 1, "body": "<h1>Bad Gateway</h1>"});
    double.control("/faults", fault).await;
    let response = double.get("/v1/account", &[]).await;
    assert_eq!((response.status, response.text.as_str()), (502, "<h1>Bad Gateway</h1>"));
    assert_eq!(response.header("stripe-should-retry"), None);
}

#[tokio::test]
async fn hanging_call_is_recorded_and_never_answered() {
    let double = TestDouble::start().await;
    double.control("/faults", json!({"match": "GET /v1/prices", "kind": "hang", "times": 1})).await;
    let hanging = tokio::spawn(try_send(double.call(Method::GET, "/v1/prices", &[])));
    eventually("the call is recorded", async || !double.records("requests").await.is_empty()).await;
    double.get("/v1/account", &[]).await.ok();
    assert!(!hanging.is_finished());
    hanging.abort();
}

#[tokio::test]
async fn drop_fault_closes_connection_before_execution() {
    let double = TestDouble::start().await;
    double.control("/faults", json!({"match": "POST /v1/customers", "kind": "drop", "times": 1})).await;
    let error = try_send(double.call(Method::POST, "/v1/customers", &[])).await.expect_err("no response");
    assert!(error.is_request() && !error.is_timeout(), "{error:?}");
    assert!(double.events().await.is_empty(), "the call was not executed");
}

#[tokio::test]
async fn lost_response_is_replayed_for_same_key() {
    let double = TestDouble::start().await;
    for kind in ["drop", "status"] {
        let before = double.events().await.len();
        let fault = json!({"match": "POST /v1/customers", "kind": kind, "times": 1, "before": false});
        double.control("/faults", fault).await;
        let call = || double.call(Method::POST, "/v1/customers", &[]).header("Idempotency-Key", kind);
        let lost = try_send(call()).await;
        assert!(lost.is_err() || lost.is_ok_and(|lost| lost.status == 500));
        assert_eq!(double.events().await.len(), before + 1, "the call was executed");
        let again = send(call()).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(double.events().await.len(), before + 1, "executed only once");
    }
}

#[tokio::test]
async fn invalid_control_call_returns_json_error() {
    let double = TestDouble::start().await;
    for invalid in ["{", "{}", r#"{"deliveries":"late"}"#, r#"{"match":"*","kind":"status","status":99}"#] {
        let request = double.request(Method::POST, "/_sandbox/faults").body(invalid);
        let rejected = send(request).await;
        assert_eq!(rejected.status, 400, "{invalid}");
        assert!(rejected.json()["error"].is_string());
    }
    let unknown_path = send(double.request(Method::GET, "/_sandbox/nothing")).await;
    assert_eq!(unknown_path.status, 404);
    assert!(unknown_path.json()["error"].is_string());
}
