//! Stripe slow, broken, overloaded or gone: answers stay bounded, honest and free of Stripe's own words.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::app::{LATER, TestApp, eventually, stripe_event};
use crate::support::database::Database;
use crate::support::stripe::Stripe;

#[tokio::test]
async fn stripe_gone_is_502() {
    let mut app = TestApp::start(Database::Sqlite).await;
    app.stripe.go_away().await;
    app.check_out(&app.token("acme"), &json!({})).await.assert_is(502, "stripe_unavailable");
    let failure = app.line("billing", |line| line["event"] == "checkout.create.failure").await;
    assert_eq!((&failure["outcome"], &failure["level"]), (&json!("stripe_unavailable"), &json!("error")));
    app.subscription(&app.token("acme")).await.ok();
    app.stop().await;
}

#[tokio::test]
async fn stripe_hanging_is_502_within_the_time_limit() {
    let app = TestApp::start(Database::Sqlite).await;
    app.stripe.fault(&json!({ "match": "*", "kind": "hang" })).await;
    let token = app.token("acme");
    let answer = tokio::time::timeout(Duration::from_mins(1), app.check_out(&token, &json!({}))).await;
    answer.expect("an answer though Stripe never gives one").assert_is(502, "stripe_unavailable");
    app.stripe.all_is_well().await;
    app.check_out(&token, &json!({})).await.ok();
    app.stop().await;
}

#[tokio::test]
async fn while_stripes_api_hangs_refuses_or_limits_webhooks_are_taken_and_doubts_wait() {
    let app = TestApp::start(Database::Sqlite).await;
    let subscription = app.make_pro("acme").await;
    let troubles = [
        json!({ "match": "GET /v1/", "kind": "hang" }),
        json!({ "match": "GET /v1/", "kind": "status", "status": 503 }),
        json!({ "match": "GET /v1/", "kind": "status", "status": 429 }),
        json!({ "match": "GET /v1/", "kind": "status", "status": 401 }),
    ];
    for (number, trouble) in (1..).zip(&troubles) {
        app.stripe.fault(trouble).await;
        let update = |seconds: i64, quantity: i64| {
            let event =
                stripe_event("customer.subscription.updated", app.clock_seconds() + seconds, |object| {
                    object["id"] = json!(subscription);
                    object["items"]["data"][0]["quantity"] = json!(quantity);
                });
            app.for_customer_of("acme", event)
        };
        let (newer, older) = (update(number * LATER, number + 10).await, update(-number, number + 20).await);
        for event in [&newer, &older] {
            app.deliver(event).await.ok();
        }
        assert_eq!(app.outcome_of(&newer).await.0, "applied");
        assert_eq!(app.quantity_of(&subscription).await, number + 10, "what we know stands meanwhile");
        app.line("subscription_state", |line| {
            line["event"] == "refresh.failed" && line["stripe_event_id"] == older["id"]
        })
        .await;
        app.stripe.all_is_well().await;
        app.clock.advance_seconds(600);
        app.until_nothing_is_asked().await;
        assert_eq!(app.quantity_of(&subscription).await, 1, "Stripe knows");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_stumble_of_stripes_is_not_noticed() {
    let app = TestApp::start(Database::Sqlite).await;
    app.stripe
        .fault(&json!({ "match": "POST /v1/customers", "kind": "status", "status": 503, "times": 2 }))
        .await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    let tries = app.stripe.requests_to("POST", "/v1/customers").await;
    assert_eq!(tries.len(), 3);
    assert!(
        tries.iter().all(|one| one["headers"]["idempotency-key"] == "billhook-customer-staging-test-acme-0")
    );
    app.stop().await;
}

#[tokio::test]
async fn an_answer_that_was_lost_is_given_again_and_nothing_is_made_twice() {
    let app = TestApp::start(Database::Sqlite).await;
    let lost = json!({ "match": "POST /v1/checkout/sessions", "kind": "drop", "times": 1, "before": false });
    app.stripe.fault(&lost).await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    let sessions = app.stripe.api("GET", "/v1/checkout/sessions", "").await;
    assert_eq!(sessions["data"].as_array().map(Vec::len), Some(1), "{sessions}");
    let tries = app.stripe.requests_to("POST", "/v1/checkout/sessions").await;
    assert_eq!(tries.len(), 2);
    assert_eq!(tries[0]["headers"]["idempotency-key"], tries[1]["headers"]["idempotency-key"]);
    app.stop().await;
}

#[tokio::test]
async fn a_rate_limit_is_not_pressed_against_unless_stripe_says_so() {
    let app = TestApp::start(Database::Sqlite).await;
    let limited = |should_retry: Option<bool>| {
        let mut fault = json!({ "match": "POST /v1/customers", "kind": "status", "status": 429, "times": 1 });
        if let Some(should_retry) = should_retry {
            fault["should_retry"] = json!(should_retry);
        }
        fault
    };
    app.stripe.fault(&limited(None)).await;
    app.check_out(&app.token("acme"), &json!({})).await.assert_is(502, "stripe_unavailable");
    app.stripe.fault(&limited(Some(true))).await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    app.stop().await;
}

#[tokio::test]
async fn stripes_own_words_are_never_passed_on() {
    let app = TestApp::start(Database::Sqlite).await;
    let words = json!({ "error": { "type": "invalid_request_error", "code": "canary-code",
        "param": "metadata[canary_param]", "message": "canary: No such price: 'price_canary' for somebody@example.com" } });
    for (status, expected) in
        [(400, "stripe_rejected"), (401, "stripe_rejected"), (503, "stripe_unavailable")]
    {
        let fault = json!({ "match": "POST /v1/checkout/sessions", "kind": "status", "status": status,
            "should_retry": false, "times": 1, "body": words.to_string() });
        app.stripe.fault(&fault).await;
        let answer = app.check_out(&app.token("acme"), &json!({})).await;
        answer.assert_is(502, expected);
        assert!(!answer.text.contains("canary"), "{}", answer.text);
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
async fn key_that_lacks_permission_is_not_configured() {
    let app = TestApp::start_process(Database::Sqlite, &[]).await;
    let message = "The provided key 'rk_test_canary' does not have the required permissions for this endpoint on account \
                   'acct_canary'. Having the 'rak_customer_write' permission would allow this request to continue.";
    let body = json!({ "error": { "type": "invalid_request_error", "message": message } });
    let fault = json!({ "match": "POST /v1/customers", "kind": "status", "status": 403, "times": 1,
        "body": body.to_string() });
    app.stripe.fault(&fault).await;
    let answer = app.check_out(&app.token("acme"), &json!({})).await;
    answer.assert_is(503, "billing_not_configured");
    assert!(!answer.text.contains("customer_write") && !answer.text.contains("canary"), "{}", answer.text);
    let failure = app.line("billing", |line| line["event"] == "checkout.create.failure").await;
    let reason = failure["reason"].as_str().expect("a reason");
    assert!(reason.ends_with("missing permission customer_write"), "{failure}");
    eventually("the operator is told", || async {
        let stderr = app.stderr();
        (stderr.contains("STRIPE_SECRET_KEY lacks a permission") && stderr.contains("customer_write"))
            .then_some(())
    })
    .await;
    assert!(!app.stderr().contains("canary"));

    // A proxy on the way answers 403 too.
    let proxy = json!({ "match": "POST /v1/customers", "kind": "status", "status": 403, "times": 1,
        "body": "<html>denied</html>" });
    app.stripe.fault(&proxy).await;
    app.check_out(&app.token("acme"), &json!({})).await.assert_is(502, "stripe_rejected");
    app.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_not_stripes_is_stripe_unavailable() {
    let app = TestApp::start(Database::Sqlite).await;
    let page = json!({ "match": "POST /v1/customers", "kind": "status", "status": 200, "times": 1,
        "body": "<h1>It works!</h1>" });
    app.stripe.fault(&page).await;
    app.check_out(&app.token("acme"), &json!({})).await.assert_is(502, "stripe_unavailable");
    app.stop().await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Stripe::start().await;
    let redirecting = redirecting_to(elsewhere.url.clone()).await;
    let app = TestApp::start_with(Database::Sqlite, &[("--stripe-api-base", redirecting.as_str())]).await;
    app.check_out(&app.token("acme"), &json!({})).await.assert_is(502, "stripe_rejected");
    assert!(elsewhere.all_requests().await.is_empty(), "the key went nowhere else");
    app.stop().await;
}

/// A server that sends everybody elsewhere.
async fn redirecting_to(elsewhere: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            let path = text.split(' ').nth(1).unwrap_or("/");
            let answer = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nLocation: {elsewhere}{path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            // Whoever asks may have gone.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

#[tokio::test]
async fn failure_kept_under_a_session_key_is_not_noticed() {
    let app = TestApp::start(Database::Sqlite).await;
    let fault = json!({ "match": "POST /v1/checkout/sessions", "kind": "status", "status": 500, "times": 1 });
    app.stripe.fault(&fault).await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    let tries = app.stripe.requests_to("POST", "/v1/checkout/sessions").await;
    let keys: Vec<_> = tries.iter().map(|one| &one["headers"]["idempotency-key"]).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys[0] == keys[1] && keys[1] != keys[2], "{keys:?}");
    app.stop().await;
}
