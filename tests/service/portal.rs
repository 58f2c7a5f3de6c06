//! Opening the Customer Portal.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::database::{Database, on_both_databases};

on_both_databases!(
    a_tenant_without_a_customer_has_nothing_to_manage,
    a_flow_goes_to_the_subscription_that_grants_the_plan,
    the_21st_call_in_a_minute_waits,
);

const PORTAL: &str = "/api/billing/create-portal-session/";

async fn a_tenant_without_a_customer_has_nothing_to_manage(database: Database) {
    let app = TestApp::start(database).await;
    app.open_portal(&app.token("acme"), &json!({})).await.assert_is(409, "no_customer");
    let failure = app.line("billing", |line| line["event"] == "portal.create.failure").await;
    assert_eq!((&failure["outcome"], &failure["level"]), (&json!("no_customer"), &json!("warn")));
    app.stop().await;
}

async fn a_flow_goes_to_the_subscription_that_grants_the_plan(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    app.check_out(&token, &json!({})).await.ok();
    for flow in ["subscription_update", "subscription_cancel"] {
        app.open_portal(&token, &json!({ "flow": flow })).await.assert_is(409, "no_subscription");
    }
    app.open_portal(&token, &json!({ "flow": "payment_method_update" })).await.ok();

    let subscription = app.make_pro("acme").await;
    for flow in ["subscription_update", "subscription_cancel"] {
        app.open_portal(&token, &json!({ "flow": flow })).await.ok();
        let asked = last_portal_request(&app).await;
        assert_eq!(asked["flow_data"], json!({ "type": flow, flow: { "subscription": subscription } }));
    }
    app.stop().await;
}

async fn the_21st_call_in_a_minute_waits(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    for call in 1..=20 {
        let answer = app.open_portal(&token, &json!({})).await;
        assert_eq!(answer.status, 409, "call {call}");
    }
    let portal = app.open_portal(&token, &json!({})).await;
    portal.assert_is(429, "throttled");
    assert_eq!(portal.header("retry-after"), Some("3"));
    app.check_out(&token, &json!({})).await.assert_is(429, "throttled");
    app.open_portal(&app.token("birch"), &json!({})).await.assert_is(409, "no_customer");

    app.clock.advance_seconds(3);
    app.open_portal(&token, &json!({})).await.assert_is(409, "no_customer");
    app.line("billing", |line| line["event"] == "throttled" && line["tenant_id"] == "acme").await;
    app.stop().await;
}

#[tokio::test]
async fn the_wishes_reach_stripe() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    app.check_out(&token, &json!({})).await.ok();

    app.open_portal(&token, &json!({})).await.ok();
    let asked = last_portal_request(&app).await;
    assert_eq!(asked["return_url"], "https://app.example.com/billing");
    assert!(asked["locale"].is_null() && asked["flow_data"].is_null(), "{asked}");

    let wishes = json!({ "return_path": "/settings?tab=billing", "locale": "de", "flow": null });
    app.open_portal(&token, &wishes).await.ok();
    let asked = last_portal_request(&app).await;
    assert_eq!(asked["return_url"], "https://app.example.com/settings?tab=billing");
    assert_eq!(asked["locale"], "de");
    app.stop().await;
}

#[tokio::test]
async fn no_body_is_no_wishes() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    app.check_out(&token, &json!({})).await.ok();
    for path in [PORTAL, PORTAL.trim_end_matches('/')] {
        app.call(app.request(Method::POST, path).bearer_auth(&token)).await.ok();
    }
    app.stop().await;
}

#[tokio::test]
async fn a_body_that_makes_no_sense_is_told_so() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    for body in [
        json!({ "return_path": "//evil.example" }),
        json!({ "return_path": "https://evil.example" }),
        json!({ "return_path": "/\\evil.example" }),
        json!({ "return_path": "/a\nb" }),
        // What Stripe takes for no URL.
        json!({ "return_path": "/a`b" }),
        json!({ "return_path": "/100%" }),
        json!({ "return_path": "" }),
        json!({ "return_path": 7 }),
        json!({ "flow": "customer_update" }),
        json!({ "locale": "xx" }),
        json!({ "customer": "cus_somebody_else" }),
        json!([]),
        json!("text"),
    ] {
        app.open_portal(&token, &body).await.assert_is(400, "invalid_request");
    }
    let post = || app.request(Method::POST, PORTAL).bearer_auth(&token);
    let json_type = ("Content-Type", "application/json");
    app.call(post().header(json_type.0, json_type.1).body("{")).await.assert_is(400, "invalid_request");
    app.call(post().header("Content-Type", "text/plain").body("{}"))
        .await
        .assert_is(415, "unsupported_media_type");
    app.call(post().header(json_type.0, json_type.1).body(" ".repeat(16 * 1024 + 1)))
        .await
        .assert_is(413, "too_large");
    app.stop().await;
}

#[tokio::test]
async fn checks_come_in_their_order() {
    let unset = ("--stripe-secret-key", "");
    let app = TestApp::start_with(Database::Sqlite, &[unset, ("--throttle-per-minute", "1")]).await;
    app.open_portal("", &json!({})).await.assert_is(401, "not_authenticated");
    app.open_portal(&app.token("acme"), &json!({})).await.assert_is(503, "billing_not_configured");
    app.open_portal(&app.token("acme"), &json!({})).await.assert_is(429, "throttled");
    app.open_portal("", &json!({})).await.assert_is(401, "not_authenticated");
    app.open_portal(&app.token("acme"), &json!("nonsense")).await.assert_is(429, "throttled");
    app.stop().await;
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_counted_and_told() {
    let app = TestApp::start_with(Database::Sqlite, &[("--throttle-per-minute", "1")]).await;
    let token = app.token("acme");
    app.open_portal(&token, &json!("nonsense")).await.assert_is(400, "invalid_request");
    app.open_portal(&token, &json!("nonsense")).await.assert_is(429, "throttled");
    let told: Vec<Value> = app.lines("billing").into_iter().map(|line| line["event"].clone()).collect();
    assert_eq!(told, ["portal.create.start", "portal.create.failure", "throttled"]);
    app.stop().await;
}

#[tokio::test]
async fn a_portal_that_was_never_configured_is_503() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    app.check_out(&token, &json!({})).await.ok();
    app.stripe.forget_portal_configuration().await;
    app.open_portal(&token, &json!({})).await.assert_is(503, "billing_not_configured");
    app.stop().await;
}

#[tokio::test]
async fn a_customer_that_was_deleted_unheard_leaves_its_tenant_free_to_buy_again() {
    let app = TestApp::start(Database::Sqlite).await;
    app.make_pro("acme").await;
    let token = app.token("acme");
    let customer = app.customer_of("acme").await;
    // The first backfill would bring what no delivery does.
    app.until_backfilled().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.api("DELETE", &format!("/v1/customers/{customer}"), "").await;
    app.open_portal(&token, &json!({})).await.assert_is(409, "no_customer");
    app.until_plan("acme", "free").await;
    let told = app.line("subscription_state", |line| line["event"] == "customer.unlinked").await;
    assert_eq!((&told["reason"], &told["level"]), (&json!("resource_missing"), &json!("warn")));
    app.check_out(&token, &json!({})).await.ok();
    assert_ne!(app.customer_of("acme").await, customer);
    app.stop().await;
}

#[tokio::test]
async fn a_key_of_another_account_lets_no_customer_go() {
    let app = TestApp::start(Database::Sqlite).await;
    for tenant in ["acme", "birch"] {
        app.check_out(&app.token(tenant), &json!({})).await.ok();
        let customer = app.customer_of(tenant).await;
        app.stripe.forget("customers", &customer).await;
    }
    let customer = app.customer_of("acme").await;
    let wish = json!({ "plan": "team" });
    app.check_out(&app.token("acme"), &wish).await.assert_is(503, "billing_not_configured");
    assert_eq!(app.customer_of("acme").await, customer);
    app.stop().await;
}

#[tokio::test]
async fn a_customer_that_stripe_has_never_heard_of_is_told_and_kept() {
    let app = TestApp::start(Database::Sqlite).await;
    app.make_pro("acme").await;
    let customer = app.customer_of("acme").await;
    app.stripe.forget("customers", &customer).await;
    app.open_portal(&app.token("acme"), &json!({})).await.assert_is(409, "no_customer");
    assert_eq!(app.customer_of("acme").await, customer, "the key may be of another account");
    app.until_plan("acme", "pro").await;
    app.stop().await;
}

async fn last_portal_request(app: &TestApp) -> Value {
    let requests = app.stripe.requests_to("POST", "/v1/billing_portal/sessions").await;
    requests.last().expect("a portal request")["params"].clone()
}
