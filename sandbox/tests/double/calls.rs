//! API calls: authentication, validation and response headers.

use reqwest::Method;
use serde_json::json;

use crate::test_double::{TestDouble, id, send};

#[tokio::test]
async fn responses_have_request_id_version_and_date() {
    let double = TestDouble::start().await;
    let account = double.get("/v1/account", &[]).await;
    assert!(account.header("request-id").is_some_and(|id| id.starts_with("req_")));
    assert_eq!(account.header("stripe-version"), Some("2026-09-30.endive"));
    assert!(account.header("date").is_some());

    let call =
        double.call(Method::GET, "/v1/customers/cus_unknown", &[]).header("Stripe-Version", "2024-06-20");
    let rejected = send(call).await;
    assert_eq!(rejected.header("stripe-version"), Some("2024-06-20"));
    let error = rejected.error(404);
    assert_eq!([&error["type"], &error["code"]], ["invalid_request_error", "resource_missing"]);
    assert_eq!(error["doc_url"], "https://stripe.com/docs/error-codes/resource-missing");
    let request_id = rejected.header("request-id").expect("request id");
    assert!(error["request_log_url"].as_str().is_some_and(|url| url.contains(request_id)));
}

#[tokio::test]
async fn wrong_or_missing_api_key_returns_401() {
    let double = TestDouble::start().await;
    let without = send(double.request(Method::GET, "/v1/account")).await;
    assert_eq!(without.error(401)["type"], "invalid_request_error");
    let wrong = send(double.request(Method::GET, "/v1/account").bearer_auth("sk_test_other")).await;
    assert!(!wrong.text.contains("sk_test_other"));
    wrong.error(401);
    let basic = double.request(Method::GET, "/v1/account").basic_auth("sk_test_sandbox", Some(""));
    assert_eq!(send(basic).await.ok()["object"], "account");
}

#[tokio::test]
async fn unknown_parameter_is_rejected_with_full_name() {
    let double = TestDouble::start().await;
    let error = double.post("/v1/customers", &[("foo", "1")]).await.error(400);
    assert_eq!([&error["code"], &error["param"]], ["parameter_unknown", "foo"]);
    assert_eq!(error["message"], "Received unknown parameter: foo");

    let nested =
        [("mode", "subscription"), ("subscription_data[foo]", "1"), ("success_url", "https://a.example")];
    let error = double.post("/v1/checkout/sessions", &nested).await.error(400);
    assert_eq!(error["param"], "subscription_data[foo]");

    let error = double.get("/v1/events", &[("created[since]", "1")]).await.error(400);
    assert_eq!(error["param"], "created[since]");
    assert!(double.events().await.is_empty(), "a rejected call has no effect");
}

#[tokio::test]
async fn missing_parameter_is_rejected_with_name() {
    let double = TestDouble::start().await;
    let error = double.post("/v1/checkout/sessions", &[("mode", "subscription")]).await.error(400);
    assert_eq!([&error["code"], &error["param"]], ["parameter_missing", "line_items"]);
    let error = double.post("/v1/webhook_endpoints", &[("url", "http://a.example")]).await.error(400);
    assert_eq!([&error["code"], &error["param"]], ["parameter_missing", "enabled_events"]);
}

#[tokio::test]
async fn metadata_beyond_limits_is_rejected() {
    let double = TestDouble::start().await;
    let (long_key, long_value) = (format!("metadata[{}]", "k".repeat(41)), "v".repeat(501));
    double.post("/v1/customers", &[(&long_key, "v")]).await.error(400);
    double.post("/v1/customers", &[("metadata[k]", &long_value)]).await.error(400);
    let keys: Vec<String> = (0..51).map(|key| format!("metadata[{key}]")).collect();
    let many: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "v")).collect();
    assert_eq!(double.post("/v1/customers", &many).await.error(400)["param"], "metadata");
    let created = double.post("/v1/customers", &many[..50]).await.ok();
    assert_eq!(created["metadata"]["49"], "v");
}

#[tokio::test]
async fn invalid_checkout_parameters_are_rejected() {
    let double = TestDouble::start().await;
    let customer = double.create_customer().await;
    let valid = [
        ("mode", "subscription"),
        ("customer", customer.as_str()),
        ("line_items[0][price]", "price_pro_monthly"),
        ("line_items[0][quantity]", "1"),
        ("success_url", "https://shop.example/done?session={CHECKOUT_SESSION_ID}#top"),
        ("client_reference_id", "tenant"),
        ("locale", "de"),
    ];
    let too_long = "x".repeat(201);
    let invalid = [
        (0, "payment", "mode"),
        (1, "cus_unknown", "customer"),
        (2, "price_none", "line_items[0][price]"),
        (2, "price_setup_once", "line_items"),
        (3, "0", "line_items[0][quantity]"),
        (3, "many", "line_items[0][quantity]"),
        (4, "/done", "success_url"),
        (4, "ftp://shop.example", "success_url"),
        (5, too_long.as_str(), "client_reference_id"),
        (6, "tlh", "locale"),
    ];
    for (index, value, param) in invalid {
        let mut params = valid;
        params[index].1 = value;
        let error = double.post("/v1/checkout/sessions", &params).await.error(400);
        assert_eq!(error["param"], param, "{value}");
    }
    let session = double.post("/v1/checkout/sessions", &valid).await.ok();
    assert_eq!(session["payment_status"], "unpaid");

    double.delete(&format!("/v1/customers/{customer}")).await.ok();
    let error = double.post("/v1/checkout/sessions", &valid).await.error(400);
    assert_eq!([&error["code"], &error["param"]], ["resource_missing", "customer"]);
}

#[tokio::test]
async fn recorded_requests_do_not_contain_api_key() {
    let double = TestDouble::start().await;
    let params = [("name", "A & B"), ("metadata[tenant_id]", "t")];
    let call = double.call(Method::POST, "/v1/customers", &params).header("Idempotency-Key", "k1");
    let response = send(call).await;
    let requests = double.records("requests").await;
    assert_eq!(requests.len(), 1);
    assert_eq!([&requests[0]["method"], &requests[0]["path"]], ["POST", "/v1/customers"]);
    assert_eq!(requests[0]["params"], json!({"name": "A & B", "metadata": {"tenant_id": "t"}}));
    assert_eq!(requests[0]["headers"]["idempotency-key"], "k1");
    assert_eq!(response.header("request-id").map(Into::into), Some(requests[0]["request_id"].clone()));
    assert!(!requests[0].to_string().contains("sk_test_sandbox"));
}

#[tokio::test]
async fn deleted_customer_is_not_listed() {
    let double = TestDouble::start().await;
    let first = id(&double.post("/v1/customers", &[("email", "a@example.com")]).await.ok());
    let second = id(&double.post("/v1/customers", &[("email", "b@example.com")]).await.ok());
    let by_email = double.get("/v1/customers", &[("email", "a@example.com")]).await.ok();
    assert_eq!(by_email["data"][0]["id"], *first);
    double.delete(&format!("/v1/customers/{first}")).await.ok();
    let all = double.get("/v1/customers", &[]).await.ok();
    assert_eq!(all["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(all["data"][0]["id"], *second);
    let tombstone = double.get(&format!("/v1/customers/{first}"), &[]).await.ok();
    assert_eq!(tombstone, json!({"id": first, "object": "customer", "deleted": true}));
}

#[tokio::test]
async fn stopped_double_refuses_connections() {
    let double = TestDouble::start().await;
    let account = double.url("/v1/account");
    double.get("/v1/account", &[]).await.ok();
    let http = double.stop().await;
    let error = http.get(account).send().await.expect_err("connection rejected");
    assert!(error.is_connect());
}
