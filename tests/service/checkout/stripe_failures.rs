//! Stripe is slow, broken, overloaded or unreachable: responses arrive in time, are accurate and
//! contain no text of Stripe's.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::app::{NEWER_BY_SECONDS, TestApp, eventually, stripe_event};
use crate::support::database::Database;
use crate::support::stripe::Stripe;

#[tokio::test]
async fn stripe_unreachable_returns_502() {
    let mut app = TestApp::start(Database::Sqlite).await;
    app.stripe.stop().await;
    app.check_out(&app.token("acme"), &json!({})).await.assert_problem(502, "stripe_unavailable");
    let failure = app.wait_for_line("billing", |line| line["event"] == "checkout.create.failure").await;
    assert_eq!((&failure["outcome"], &failure["level"]), (&json!("stripe_unavailable"), &json!("error")));
    app.subscription(&app.token("acme")).await.ok();
    app.stop().await;
}

#[tokio::test]
async fn stripe_hanging_returns_502_within_timeout() {
    let app = TestApp::start(Database::Sqlite).await;
    app.stripe.inject_fault(&json!({ "match": "*", "kind": "hang" })).await;
    let token = app.token("acme");
    let response = tokio::time::timeout(Duration::from_mins(1), app.check_out(&token, &json!({}))).await;
    response.expect("a response although Stripe never responds").assert_problem(502, "stripe_unavailable");
    app.stripe.clear_faults().await;
    app.check_out(&token, &json!({})).await.ok();
    app.stop().await;
}

/// A checkout first runs the refresh that is queued for its customer.
#[tokio::test]
async fn queued_refresh_is_bound_by_deadline_of_checkout() {
    let app = TestApp::start(Database::Sqlite).await;
    app.wait_for_backfill().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    let customer = app.stripe.create_subscribed_customer().await;
    // The refresh is due by the machine's clock, which is ahead of the service's.
    assert!(app.run_command(&["tenant", "link", "acme", &customer]).status.success());
    app.stripe.remove("customers", &customer).await;
    // The first request times out after 5 s, its retry finds no customer, and the rest of the 10 s
    // goes to the customer. With a deadline of its own it would exceed the 15 s for a response.
    app.stripe.inject_fault(&json!({ "match": "GET /v1/subscriptions", "kind": "hang", "times": 1 })).await;
    app.stripe.inject_fault(&json!({ "match": "GET /v1/customers", "kind": "hang" })).await;
    app.check_out(&app.token("acme"), &json!({})).await.assert_problem(502, "stripe_unavailable");
    app.stop().await;
}

#[tokio::test]
async fn webhooks_apply_and_refreshes_wait_while_stripe_api_fails() {
    let app = TestApp::start(Database::Sqlite).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let faults = [
        json!({ "match": "GET /v1/", "kind": "hang" }),
        json!({ "match": "GET /v1/", "kind": "status", "status": 503 }),
        json!({ "match": "GET /v1/", "kind": "status", "status": 429 }),
        json!({ "match": "GET /v1/", "kind": "status", "status": 401 }),
    ];
    for (number, fault) in (1..).zip(&faults) {
        app.stripe.inject_fault(fault).await;
        let update = |seconds: i64, quantity: i64| {
            let event =
                stripe_event("customer.subscription.updated", app.clock_seconds() + seconds, |object| {
                    object["id"] = json!(subscription);
                    object["items"]["data"][0]["quantity"] = json!(quantity);
                });
            app.for_customer_of("acme", event)
        };
        let (newer, older) =
            (update(number * NEWER_BY_SECONDS, number + 10).await, update(-number, number + 20).await);
        for event in [&newer, &older] {
            app.deliver(event).await.ok();
        }
        assert_eq!(app.outcome_of(&newer).await.0, "applied");
        assert_eq!(
            app.quantity_of(&subscription).await,
            number + 10,
            "the known state is kept until the refresh"
        );
        app.wait_for_line("subscription_state", |line| {
            line["event"] == "refresh.failed" && line["stripe_event_id"] == older["id"]
        })
        .await;
        app.stripe.clear_faults().await;
        app.clock.advance_seconds(600);
        app.wait_for_refreshes().await;
        assert_eq!(app.quantity_of(&subscription).await, 1, "the refresh reads Stripe's state");
    }
    app.stop().await;
}

#[tokio::test]
async fn brief_stripe_failure_is_retried() {
    let app = TestApp::start(Database::Sqlite).await;
    app.stripe
        .inject_fault(&json!({ "match": "POST /v1/customers", "kind": "status", "status": 503, "times": 2 }))
        .await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    let requests = app.stripe.requests_to("POST", "/v1/customers").await;
    assert_eq!(requests.len(), 3);
    assert!(
        requests
            .iter()
            .all(|one| one["headers"]["idempotency-key"] == "billhook-customer-staging-test-acme-0")
    );
    app.stop().await;
}

#[tokio::test]
async fn lost_stripe_response_is_retried_with_same_key() {
    let app = TestApp::start(Database::Sqlite).await;
    let lost = json!({ "match": "POST /v1/checkout/sessions", "kind": "drop", "times": 1, "before": false });
    app.stripe.inject_fault(&lost).await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    let sessions = app.stripe.api("GET", "/v1/checkout/sessions", "").await;
    assert_eq!(sessions["data"].as_array().map(Vec::len), Some(1), "{sessions}");
    let requests = app.stripe.requests_to("POST", "/v1/checkout/sessions").await;
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0]["headers"]["idempotency-key"], requests[1]["headers"]["idempotency-key"]);
    app.stop().await;
}

#[tokio::test]
async fn rate_limited_call_is_retried_only_if_stripe_says_so() {
    let app = TestApp::start(Database::Sqlite).await;
    let limited = |should_retry: Option<bool>| {
        let mut fault = json!({ "match": "POST /v1/customers", "kind": "status", "status": 429, "times": 1 });
        if let Some(should_retry) = should_retry {
            fault["should_retry"] = json!(should_retry);
        }
        fault
    };
    app.stripe.inject_fault(&limited(None)).await;
    app.check_out(&app.token("acme"), &json!({})).await.assert_problem(502, "stripe_unavailable");
    app.stripe.inject_fault(&limited(Some(true))).await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    app.stop().await;
}

#[tokio::test]
async fn stripe_error_message_is_never_exposed() {
    let app = TestApp::start(Database::Sqlite).await;
    let stripe_error = json!({ "error": { "type": "invalid_request_error", "code": "canary-code",
        "param": "metadata[canary_param]", "message": "canary: No such price: 'price_canary' for payer@example.com" } });
    for (status, expected) in
        [(400, "stripe_rejected"), (401, "stripe_rejected"), (503, "stripe_unavailable")]
    {
        let fault = json!({ "match": "POST /v1/checkout/sessions", "kind": "status", "status": status,
            "should_retry": false, "times": 1, "body": stripe_error.to_string() });
        app.stripe.inject_fault(&fault).await;
        let response = app.check_out(&app.token("acme"), &json!({})).await;
        response.assert_problem(502, expected);
        assert!(!response.text.contains("canary"), "{}", response.text);
    }
    let failures = app.lines("billing").into_iter().filter(|line| line["event"] == "checkout.create.failure");
    for failure in failures {
        let text = failure.to_string();
        assert!(!text.contains("No such price") && !text.contains("canary"), "{text}");
        assert!(!failure["stripe_request_id"].is_null(), "{failure}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_without_permission_returns_not_configured() {
    let app = TestApp::start_process(Database::Sqlite, &[]).await;
    let message = "The provided key 'rk_test_canary' does not have the required permissions for this endpoint on account \
                   'acct_canary'. Having the 'rak_customer_write' permission would allow this request to continue.";
    let body = json!({ "error": { "type": "invalid_request_error", "message": message } });
    let fault = json!({ "match": "POST /v1/customers", "kind": "status", "status": 403, "times": 1,
        "body": body.to_string() });
    app.stripe.inject_fault(&fault).await;
    let response = app.check_out(&app.token("acme"), &json!({})).await;
    response.assert_problem(503, "billing_not_configured");
    assert!(
        !response.text.contains("customer_write") && !response.text.contains("canary"),
        "{}",
        response.text
    );
    let failure = app.wait_for_line("billing", |line| line["event"] == "checkout.create.failure").await;
    let reason = failure["reason"].as_str().expect("a reason");
    assert!(reason.ends_with("missing permission customer_write"), "{failure}");
    eventually("the operator is warned", || async {
        let stderr = app.stderr();
        (stderr.contains("STRIPE_SECRET_KEY lacks a permission") && stderr.contains("customer_write"))
            .then_some(())
    })
    .await;
    assert!(!app.stderr().contains("canary"));

    // A proxy in front of Stripe can return 403, too.
    let proxy = json!({ "match": "POST /v1/customers", "kind": "status", "status": 403, "times": 1,
        "body": "<html>denied</html>" });
    app.stripe.inject_fault(&proxy).await;
    app.check_out(&app.token("acme"), &json!({})).await.assert_problem(502, "stripe_rejected");
    app.stop().await;
}

#[tokio::test]
async fn response_not_from_stripe_returns_stripe_unavailable() {
    let app = TestApp::start(Database::Sqlite).await;
    let page = json!({ "match": "POST /v1/customers", "kind": "status", "status": 200, "times": 1,
        "body": "<h1>It works!</h1>" });
    app.stripe.inject_fault(&page).await;
    app.check_out(&app.token("acme"), &json!({})).await.assert_problem(502, "stripe_unavailable");
    app.stop().await;
}

#[tokio::test]
async fn stripe_redirect_is_not_followed() {
    let other_server = Stripe::start().await;
    let redirecting_server = redirecting_to(other_server.url.clone()).await;
    let app =
        TestApp::start_with(Database::Sqlite, &[("--stripe-api-base", redirecting_server.as_str())]).await;
    app.check_out(&app.token("acme"), &json!({})).await.assert_problem(502, "stripe_rejected");
    assert!(other_server.all_requests().await.is_empty(), "the key was sent nowhere else");
    app.stop().await;
}

/// A server that redirects every request to another base URL.
async fn redirecting_to(target: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            let path = text.split(' ').nth(1).unwrap_or("/");
            let response = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nLocation: {target}{path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            // The client may have disconnected.
            let _ = stream.write_all(response.as_bytes()).await;
        }
    });
    url
}

#[tokio::test]
async fn stored_failure_of_session_key_is_retried_with_new_key() {
    let app = TestApp::start(Database::Sqlite).await;
    let fault = json!({ "match": "POST /v1/checkout/sessions", "kind": "status", "status": 500, "times": 1 });
    app.stripe.inject_fault(&fault).await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    let requests = app.stripe.requests_to("POST", "/v1/checkout/sessions").await;
    let keys: Vec<_> = requests.iter().map(|one| &one["headers"]["idempotency-key"]).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys[0] == keys[1] && keys[1] != keys[2], "{keys:?}");
    app.stop().await;
}
