//! Calls, well and badly made.

use reqwest::Method;
use serde_json::json;

use crate::stage::{Stage, id, send};

#[tokio::test]
async fn every_answer_says_which_call_and_which_version_and_when() {
    let stage = Stage::set().await;
    let plain = stage.get("/v1/account", &[]).await;
    assert!(plain.header("request-id").is_some_and(|id| id.starts_with("req_")));
    assert_eq!(plain.header("stripe-version"), Some("2026-09-30.endive"));
    assert!(plain.header("date").is_some());

    let call =
        stage.call(Method::GET, "/v1/customers/cus_nobody", &[]).header("Stripe-Version", "2024-06-20");
    let refused = send(call).await;
    assert_eq!(refused.header("stripe-version"), Some("2024-06-20"));
    let error = refused.error(404);
    assert_eq!([&error["type"], &error["code"]], ["invalid_request_error", "resource_missing"]);
    assert_eq!(error["doc_url"], "https://stripe.com/docs/error-codes/resource-missing");
    let request_id = refused.header("request-id").expect("an error has a request id too");
    assert!(error["request_log_url"].as_str().is_some_and(|url| url.contains(request_id)));
}

#[tokio::test]
async fn only_the_key_opens_the_door() {
    let stage = Stage::set().await;
    let without = send(stage.request(Method::GET, "/v1/account")).await;
    assert_eq!(without.error(401)["type"], "invalid_request_error");
    let wrong = send(stage.request(Method::GET, "/v1/account").bearer_auth("sk_test_other")).await;
    assert!(!wrong.text.contains("sk_test_other"));
    wrong.error(401);
    let basic = stage.request(Method::GET, "/v1/account").basic_auth("sk_test_sandbox", Some(""));
    assert_eq!(send(basic).await.ok()["object"], "account");
}

#[tokio::test]
async fn unknown_parameters_are_refused_by_their_full_name() {
    let stage = Stage::set().await;
    let error = stage.post("/v1/customers", &[("foo", "1")]).await.error(400);
    assert_eq!([&error["code"], &error["param"]], ["parameter_unknown", "foo"]);
    assert_eq!(error["message"], "Received unknown parameter: foo");

    let nested =
        [("mode", "subscription"), ("subscription_data[foo]", "1"), ("success_url", "https://a.example")];
    let error = stage.post("/v1/checkout/sessions", &nested).await.error(400);
    assert_eq!(error["param"], "subscription_data[foo]");

    let error = stage.get("/v1/events", &[("created[since]", "1")]).await.error(400);
    assert_eq!(error["param"], "created[since]");
    assert!(stage.events().await.is_empty(), "a refused call does nothing");
}

#[tokio::test]
async fn missing_parameters_are_named() {
    let stage = Stage::set().await;
    let error = stage.post("/v1/checkout/sessions", &[("mode", "subscription")]).await.error(400);
    assert_eq!([&error["code"], &error["param"]], ["parameter_missing", "line_items"]);
    let error = stage.post("/v1/webhook_endpoints", &[("url", "http://a.example")]).await.error(400);
    assert_eq!([&error["code"], &error["param"]], ["parameter_missing", "enabled_events"]);
}

#[tokio::test]
async fn metadata_has_limits() {
    let stage = Stage::set().await;
    let (long_key, long_value) = (format!("metadata[{}]", "k".repeat(41)), "v".repeat(501));
    stage.post("/v1/customers", &[(&long_key, "v")]).await.error(400);
    stage.post("/v1/customers", &[("metadata[k]", &long_value)]).await.error(400);
    let keys: Vec<String> = (0..51).map(|key| format!("metadata[{key}]")).collect();
    let many: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "v")).collect();
    assert_eq!(stage.post("/v1/customers", &many).await.error(400)["param"], "metadata");
    let kept = stage.post("/v1/customers", &many[..50]).await.ok();
    assert_eq!(kept["metadata"]["49"], "v");
}

#[tokio::test]
async fn a_checkout_is_checked() {
    let stage = Stage::set().await;
    let customer = stage.customer().await;
    let good = [
        ("mode", "subscription"),
        ("customer", customer.as_str()),
        ("line_items[0][price]", "price_pro_monthly"),
        ("line_items[0][quantity]", "1"),
        ("success_url", "https://shop.example/done?session={CHECKOUT_SESSION_ID}#top"),
        ("client_reference_id", "tenant"),
        ("locale", "de"),
    ];
    let too_long = "x".repeat(201);
    let bad = [
        (0, "payment", "mode"),
        (1, "cus_nobody", "customer"),
        (2, "price_none", "line_items[0][price]"),
        (2, "price_setup_once", "line_items"),
        (3, "0", "line_items[0][quantity]"),
        (3, "many", "line_items[0][quantity]"),
        (4, "/done", "success_url"),
        (4, "ftp://shop.example", "success_url"),
        (5, too_long.as_str(), "client_reference_id"),
        (6, "tlh", "locale"),
    ];
    for (index, value, param) in bad {
        let mut params = good;
        params[index].1 = value;
        let error = stage.post("/v1/checkout/sessions", &params).await.error(400);
        assert_eq!(error["param"], param, "{value}");
    }
    let session = stage.post("/v1/checkout/sessions", &good).await.ok();
    assert_eq!(session["payment_status"], "unpaid");

    stage.delete(&format!("/v1/customers/{customer}")).await.ok();
    let error = stage.post("/v1/checkout/sessions", &good).await.error(400);
    assert_eq!([&error["code"], &error["param"]], ["resource_missing", "customer"]);
}

#[tokio::test]
async fn the_conversation_can_be_read_back_without_the_key() {
    let stage = Stage::set().await;
    let params = [("name", "A & B"), ("metadata[tenant_id]", "t")];
    let call = stage.call(Method::POST, "/v1/customers", &params).header("Idempotency-Key", "k1");
    let reply = send(call).await;
    let heard = stage.read_back("requests").await;
    assert_eq!(heard.len(), 1);
    assert_eq!([&heard[0]["method"], &heard[0]["path"]], ["POST", "/v1/customers"]);
    assert_eq!(heard[0]["params"], json!({"name": "A & B", "metadata": {"tenant_id": "t"}}));
    assert_eq!(heard[0]["headers"]["idempotency-key"], "k1");
    assert_eq!(reply.header("request-id").map(Into::into), Some(heard[0]["request_id"].clone()));
    assert!(!heard[0].to_string().contains("sk_test_sandbox"));
}

#[tokio::test]
async fn customers_are_listed_without_the_deleted() {
    let stage = Stage::set().await;
    let first = id(&stage.post("/v1/customers", &[("email", "a@example.com")]).await.ok());
    let second = id(&stage.post("/v1/customers", &[("email", "b@example.com")]).await.ok());
    let by_email = stage.get("/v1/customers", &[("email", "a@example.com")]).await.ok();
    assert_eq!(by_email["data"][0]["id"], *first);
    stage.delete(&format!("/v1/customers/{first}")).await.ok();
    let all = stage.get("/v1/customers", &[]).await.ok();
    assert_eq!(all["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(all["data"][0]["id"], *second);
    let stump = stage.get(&format!("/v1/customers/{first}"), &[]).await.ok();
    assert_eq!(stump, json!({"id": first, "object": "customer", "deleted": true}));
}

#[tokio::test]
async fn a_stopped_double_refuses_connections() {
    let stage = Stage::set().await;
    let account = stage.url("/v1/account");
    stage.get("/v1/account", &[]).await.ok();
    let http = stage.strike().await;
    let error = http.get(account).send().await.expect_err("nobody should answer");
    assert!(error.is_connect());
}
