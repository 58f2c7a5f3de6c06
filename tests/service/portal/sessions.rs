//! Opening the Customer Portal.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, ended_spans};
use crate::support::database::{Database, on_both_databases};
use crate::support::event_stream::{EventStream, STREAM};

on_both_databases!(
    portal_without_customer_is_rejected,
    flow_opens_for_subscription_that_grants_the_plan,
    card_flow_opens_portal_home_if_subscription_has_own_card,
    unpaid_subscription_leads_to_its_open_invoice,
    unpaid_subscription_without_open_invoice_opens_portal,
    cancel_flow_opens_for_subscription_that_grants_nothing,
    cancel_flow_opens_plain_portal_when_already_canceling,
    disabled_flow_opens_plain_portal,
    portal_uses_named_configuration,
    ended_subscription_with_open_invoice_can_be_managed,
    call_21_in_a_minute_is_throttled,
);

const PORTAL: &str = "/api/billing/create-portal-session/";

async fn portal_without_customer_is_rejected(database: Database) {
    let app = TestApp::start(database).await;
    app.open_portal(&app.token("acme"), &json!({})).await.assert_problem(409, "no_customer");
    let failure = app.wait_for_line("billing", |line| line["event"] == "portal.create.failure").await;
    assert_eq!((&failure["outcome"], &failure["level"]), (&json!("no_customer"), &json!("warn")));
    app.stop().await;
}

async fn flow_opens_for_subscription_that_grants_the_plan(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    app.check_out(&token, &json!({})).await.ok();
    for flow in ["subscription_update", "subscription_cancel"] {
        app.open_portal(&token, &json!({ "flow": flow })).await.assert_problem(409, "no_subscription");
    }
    app.open_portal(&token, &json!({ "flow": "payment_method_update" })).await.ok();

    let subscription = app.subscribe_to_pro("acme").await;
    for flow in ["subscription_update", "subscription_cancel"] {
        app.open_portal(&token, &json!({ "flow": flow })).await.ok();
        let request = last_portal_request(&app).await;
        assert_eq!(request["flow_data"], json!({ "type": flow, flow: { "subscription": subscription } }));
    }
    app.stop().await;
}

async fn make_past_due(app: &TestApp, tenant: &str) -> String {
    let subscription = app.subscribe_to_pro(tenant).await;
    app.stripe.update_subscription(&subscription, &json!({ "card": "declined", "renew": true })).await;
    app.wait_for_subscription(tenant, |subscription| subscription["status"] == "past_due").await;
    subscription
}

async fn make_unpaid(app: &TestApp, tenant: &str) -> String {
    let subscription = make_past_due(app, tenant).await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "unpaid" })).await;
    app.wait_for_subscription(tenant, |subscription| subscription["status"] == "unpaid").await;
    subscription
}

/// Opens the portal for a flow. Returns its URL and the reason in the log.
async fn open_flow(app: &TestApp, tenant: &str, flow: &str) -> (String, Value) {
    let opened = app.open_portal(&app.token(tenant), &json!({ "flow": flow })).await.ok();
    let is_success = |line: &&Value| line["event"] == "portal.create.success" && line["tenant_id"] == tenant;
    let lines = app.lines("billing");
    let last = lines.iter().rfind(is_success).expect("the success is logged");
    (opened["url"].as_str().expect("a URL").to_owned(), last["reason"].clone())
}

async fn card_flow_opens_portal_home_if_subscription_has_own_card(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = make_past_due(&app, "acme").await;
    let (url, reason) = open_flow(&app, "acme", "payment_method_update").await;
    assert!(last_portal_request(&app).await["flow_data"].is_null());
    assert_eq!(reason, "card_is_on_subscription");

    // Stripe's card flow changes the customer's card.
    assert!(app.stripe.submit_form(&url, "action=update_card").await);
    app.stripe.update_subscription(&subscription, &json!({ "retry_payment": true })).await;
    let at_stripe = app.stripe.api("GET", &format!("/v1/subscriptions/{subscription}"), "").await;
    assert_eq!(at_stripe["status"], "past_due", "the subscription's own card is charged");

    let update = format!("action=update_subscription_card&subscription={subscription}");
    assert!(app.stripe.submit_form(&url, &update).await);
    app.stripe.update_subscription(&subscription, &json!({ "retry_payment": true })).await;
    app.wait_for_subscription("acme", |subscription| subscription["status"] == "active").await;
    app.stop().await;
}

async fn unpaid_subscription_leads_to_its_open_invoice(database: Database) {
    let app = TestApp::start(database).await;
    make_unpaid(&app, "acme").await;
    let (url, reason) = open_flow(&app, "acme", "payment_method_update").await;
    assert!(url.starts_with(&format!("{}/i/acct_", app.stripe.url)), "{url}");
    assert_eq!(reason, "open_invoice");
    assert!(app.stripe.requests_to("POST", "/v1/billing_portal/sessions").await.is_empty());

    assert!(app.stripe.submit_form(&url, "action=pay").await);
    app.wait_for_plan("acme", "pro").await;
    let secret = url.rsplit_once('/').expect("a path").1;
    let logs_and_spans = format!("{:?} {:?}", app.all_lines(), ended_spans());
    assert!(
        logs_and_spans.contains("invoice opened") && !logs_and_spans.contains(secret),
        "the URL appears in no log or span"
    );
    app.stop().await;
}

async fn unpaid_subscription_without_open_invoice_opens_portal(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = make_unpaid(&app, "acme").await;
    let refused = json!({ "match": "GET /v1/invoices", "kind": "status", "status": 403, "times": 1 });
    app.stripe.inject_fault(&refused).await;
    let portal = format!("{}/p/session/", app.stripe.url);
    assert!(
        open_flow(&app, "acme", "payment_method_update").await.0.starts_with(&portal),
        "the key may not read invoices"
    );

    let at_stripe = app.stripe.api("GET", &format!("/v1/subscriptions/{subscription}"), "").await;
    let invoice = at_stripe["latest_invoice"].as_str().expect("an invoice");
    app.stripe.api("POST", &format!("/v1/invoices/{invoice}/void"), "").await;
    assert!(open_flow(&app, "acme", "payment_method_update").await.0.starts_with(&portal), "nothing is owed");
    app.stop().await;
}

async fn cancel_flow_opens_for_subscription_that_grants_nothing(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    for status in ["unpaid", "paused", "incomplete"] {
        app.stripe.update_subscription(&subscription, &json!({ "status": status })).await;
        let response =
            app.wait_for_subscription("acme", |subscription| subscription["status"] == status).await;
        assert_eq!((&response["plan"], &response["can_manage"]), (&json!("free"), &json!(true)));
        let (url, reason) = open_flow(&app, "acme", "subscription_cancel").await;
        let flow = json!({
            "type": "subscription_cancel", "subscription_cancel": { "subscription": subscription },
        });
        assert_eq!((last_portal_request(&app).await["flow_data"].clone(), reason), (flow, Value::Null));
        open_flow(&app, "acme", "subscription_update").await;
        if status == "incomplete" {
            app.stripe.cancel_in_portal(&url, &subscription).await;
            app.wait_for_subscription("acme", |subscription| subscription["scheduled_cancel"] == true).await;
        }
    }
    app.stripe.update_subscription(&subscription, &json!({ "status": "canceled" })).await;
    app.wait_for_subscription("acme", |subscription| subscription["status"] == "canceled").await;
    let ended = app.open_portal(&app.token("acme"), &json!({ "flow": "subscription_cancel" })).await;
    ended.assert_problem(409, "no_subscription");
    app.stop().await;
}

async fn cancel_flow_opens_plain_portal_when_already_canceling(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let (url, _) = open_flow(&app, "acme", "subscription_cancel").await;
    app.stripe.cancel_in_portal(&url, &subscription).await;
    app.wait_for_subscription("acme", |subscription| subscription["scheduled_cancel"] == true).await;

    let (url, reason) = open_flow(&app, "acme", "subscription_cancel").await;
    assert_eq!(reason, "already_canceling");
    assert!(last_portal_request(&app).await["flow_data"].is_null());
    assert!(app.stripe.submit_form(&url, &format!("action=resume&subscription={subscription}")).await);
    app.wait_for_subscription("acme", |subscription| subscription["scheduled_cancel"] == false).await;
    assert_eq!(
        open_flow(&app, "acme", "subscription_cancel").await.1,
        Value::Null,
        "it can be canceled again"
    );
    app.stop().await;
}

async fn disabled_flow_opens_plain_portal(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    app.check_out(&app.token("birch"), &json!({})).await.ok();
    for (tenant, flow) in
        [("acme", "subscription_cancel"), ("acme", "subscription_update"), ("birch", "payment_method_update")]
    {
        app.stripe.configure_portal(&format!("features[{flow}][enabled]=false")).await;
        let (url, reason) = open_flow(&app, tenant, flow).await;
        assert!(url.starts_with(&format!("{}/p/session/", app.stripe.url)), "{url}");
        assert_eq!(reason, "flow_disabled", "{flow}");
        assert!(last_portal_request(&app).await["flow_data"].is_null());
    }
    app.stripe.configure_portal("features[subscription_cancel][enabled]=true").await;
    let body = json!({ "error": { "type": "invalid_request_error", "message": "canary" } }).to_string();
    let refusal = json!({ "match": "POST /v1/billing_portal/sessions", "kind": "status", "status": 400,
        "times": 1, "body": body });
    app.stripe.inject_fault(&refusal).await;
    assert_eq!(open_flow(&app, "acme", "subscription_cancel").await.1, "flow_rejected");
    // If Stripe rejects the plain portal, the request fails.
    app.stripe.inject_fault(&refusal).await;
    app.open_portal(&app.token("acme"), &json!({})).await.assert_problem(502, "stripe_rejected");
    app.stop().await;
}

async fn portal_uses_named_configuration(database: Database) {
    let mut app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    let configuration = app.stripe.create_portal_configuration().await;
    app.stop_service().await;
    app.start_service_with("--portal-configuration", &configuration).await;
    let (_, reason) = open_flow(&app, "acme", "subscription_cancel").await;
    assert_eq!(reason, "flow_disabled", "the configuration only has the card flow");
    for request in app.stripe.requests_to("POST", "/v1/billing_portal/sessions").await {
        assert_eq!(request["params"]["configuration"], configuration, "{request}");
    }

    app.stop_service().await;
    app.start_service_with("--portal-configuration", "bpc_of_another_account").await;
    for body in [json!({}), json!({ "flow": "subscription_cancel" })] {
        app.open_portal(&app.token("acme"), &body).await.assert_problem(503, "billing_not_configured");
    }
    app.stop().await;
}

async fn ended_subscription_with_open_invoice_can_be_managed(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    let mut stream = EventStream::open(app.request(Method::GET, STREAM).bearer_auth(&token)).await;
    assert_eq!(stream.next_subscription().await["can_manage"], false);
    let subscription = make_past_due(&app, "acme").await;
    stream.wait_for(|subscription| subscription["can_manage"] == true).await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "canceled" })).await;
    let ended = app.wait_for_subscription("acme", |subscription| subscription["status"] == "canceled").await;
    assert_eq!((&ended["plan"], &ended["can_manage"]), (&json!("free"), &json!(true)));
    let opened = app.open_portal(&token, &json!({})).await.ok();
    let page = reqwest::get(opened["url"].as_str().expect("a URL")).await.expect("the portal");
    let page = page.text().await.expect("text");
    let (_, invoice) = page.split_once(&format!("{}/i/", app.stripe.url)).expect("the open invoice");
    let invoice = invoice.split_once('"').expect("a link").0;
    assert!(app.stripe.submit_form(&format!("{}/i/{invoice}", app.stripe.url), "action=pay").await);
    app.wait_for_subscription("acme", |subscription| subscription["status"] == "canceled").await;
    app.stop().await;
}

async fn call_21_in_a_minute_is_throttled(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    for call in 1..=20 {
        let answer = app.open_portal(&token, &json!({})).await;
        assert_eq!(answer.status, 409, "call {call}");
    }
    let portal = app.open_portal(&token, &json!({})).await;
    portal.assert_problem(429, "throttled");
    assert_eq!(portal.header("retry-after"), Some("3"));
    app.check_out(&token, &json!({})).await.assert_problem(429, "throttled");
    app.open_portal(&app.token("birch"), &json!({})).await.assert_problem(409, "no_customer");

    app.clock.advance_seconds(3);
    app.open_portal(&token, &json!({})).await.assert_problem(409, "no_customer");
    app.wait_for_line("billing", |line| line["event"] == "throttled" && line["tenant_id"] == "acme").await;
    app.stop().await;
}

#[tokio::test]
async fn portal_options_reach_stripe() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    app.check_out(&token, &json!({})).await.ok();

    app.open_portal(&token, &json!({})).await.ok();
    let request = last_portal_request(&app).await;
    assert_eq!(request["return_url"], "https://app.example.com/billing");
    assert!(request["locale"].is_null() && request["flow_data"].is_null(), "{request}");

    let options = json!({ "return_path": "/settings?tab=billing", "locale": "de", "flow": null });
    app.open_portal(&token, &options).await.ok();
    let request = last_portal_request(&app).await;
    assert_eq!(request["return_url"], "https://app.example.com/settings?tab=billing");
    assert_eq!(request["locale"], "de");
    app.stop().await;
}

#[tokio::test]
async fn portal_opens_without_request_body() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    app.check_out(&token, &json!({})).await.ok();
    for path in [PORTAL, PORTAL.trim_end_matches('/')] {
        app.call(app.request(Method::POST, path).bearer_auth(&token)).await.ok();
    }
    app.stop().await;
}

#[tokio::test]
async fn invalid_portal_body_is_rejected() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    for body in [
        json!({ "return_path": "//evil.example" }),
        json!({ "return_path": "https://evil.example" }),
        json!({ "return_path": "/\\evil.example" }),
        json!({ "return_path": "/a\nb" }),
        // Stripe rejects these URLs.
        json!({ "return_path": "/a`b" }),
        json!({ "return_path": "/100%" }),
        json!({ "return_path": "" }),
        json!({ "return_path": 7 }),
        json!({ "flow": "customer_update" }),
        json!({ "locale": "xx" }),
        json!({ "customer": "cus_of_another_tenant" }),
        json!([]),
        json!("text"),
    ] {
        app.open_portal(&token, &body).await.assert_problem(400, "invalid_request");
    }
    let post = || app.request(Method::POST, PORTAL).bearer_auth(&token);
    let json_type = ("Content-Type", "application/json");
    app.call(post().header(json_type.0, json_type.1).body("{")).await.assert_problem(400, "invalid_request");
    app.call(post().header("Content-Type", "text/plain").body("{}"))
        .await
        .assert_problem(415, "unsupported_media_type");
    app.call(post().header(json_type.0, json_type.1).body(" ".repeat(16 * 1024 + 1)))
        .await
        .assert_problem(413, "too_large");
    app.stop().await;
}

#[tokio::test]
async fn requests_are_checked_in_a_fixed_order() {
    let unset = ("--stripe-secret-key", "");
    let app = TestApp::start_with(Database::Sqlite, &[unset, ("--throttle-per-minute", "1")]).await;
    app.open_portal("", &json!({})).await.assert_problem(401, "not_authenticated");
    app.open_portal(&app.token("acme"), &json!({})).await.assert_problem(503, "billing_not_configured");
    app.open_portal(&app.token("acme"), &json!({})).await.assert_problem(429, "throttled");
    app.open_portal("", &json!({})).await.assert_problem(401, "not_authenticated");
    app.open_portal(&app.token("acme"), &json!("nonsense")).await.assert_problem(429, "throttled");
    app.stop().await;
}

#[tokio::test]
async fn invalid_request_counts_against_quota_and_is_logged() {
    let app = TestApp::start_with(Database::Sqlite, &[("--throttle-per-minute", "1")]).await;
    let token = app.token("acme");
    app.open_portal(&token, &json!("nonsense")).await.assert_problem(400, "invalid_request");
    app.open_portal(&token, &json!("nonsense")).await.assert_problem(429, "throttled");
    let events: Vec<Value> = app.lines("billing").into_iter().map(|line| line["event"].clone()).collect();
    assert_eq!(events, ["portal.create.start", "portal.create.failure", "throttled"]);
    app.stop().await;
}

#[tokio::test]
async fn portal_never_configured_at_stripe_returns_503() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    app.check_out(&token, &json!({})).await.ok();
    app.stripe.remove_portal_configuration().await;
    app.open_portal(&token, &json!({})).await.assert_problem(503, "billing_not_configured");
    app.stop().await;
}

#[tokio::test]
async fn portal_unlinks_customer_deleted_without_event() {
    let app = TestApp::start(Database::Sqlite).await;
    app.subscribe_to_pro("acme").await;
    let token = app.token("acme");
    let customer = app.customer_of("acme").await;
    // Wait for the first backfill, which would apply the dropped events.
    app.wait_for_backfill().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.api("DELETE", &format!("/v1/customers/{customer}"), "").await;
    app.open_portal(&token, &json!({})).await.assert_problem(409, "no_customer");
    app.wait_for_plan("acme", "free").await;
    let unlinked = app.wait_for_line("subscription_state", |line| line["event"] == "customer.unlinked").await;
    assert_eq!((&unlinked["reason"], &unlinked["level"]), (&json!("resource_missing"), &json!("warn")));
    app.check_out(&token, &json!({})).await.ok();
    assert_ne!(app.customer_of("acme").await, customer);
    app.stop().await;
}

#[tokio::test]
async fn portal_asks_for_a_link_only_if_customer_is_unknown() {
    let app = TestApp::start_process(Database::Sqlite, &[]).await;
    for tenant in ["acme", "birch"] {
        app.check_out(&app.token(tenant), &json!({})).await.ok();
    }
    let (deleted, unknown) = (app.customer_of("acme").await, app.customer_of("birch").await);
    app.wait_for_backfill().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.api("DELETE", &format!("/v1/customers/{deleted}"), "").await;
    app.stripe.remove("customers", &unknown).await;
    for tenant in ["acme", "birch"] {
        app.open_portal(&app.token(tenant), &json!({})).await.assert_problem(409, "no_customer");
    }
    let printed = app.wait_for_stderr("link the tenant to an existing one").await;
    let advice: Vec<&str> = printed.lines().filter(|line| line.contains("link the tenant")).collect();
    assert!(advice.len() == 1 && advice[0].contains("birch"), "{advice:?}");
    app.stop().await;
}

#[tokio::test]
async fn key_of_another_account_unlinks_no_customer() {
    let app = TestApp::start(Database::Sqlite).await;
    for tenant in ["acme", "birch"] {
        app.check_out(&app.token(tenant), &json!({})).await.ok();
        let customer = app.customer_of(tenant).await;
        app.stripe.remove("customers", &customer).await;
    }
    let customer = app.customer_of("acme").await;
    let body = json!({ "plan": "team" });
    app.check_out(&app.token("acme"), &body).await.assert_problem(503, "billing_not_configured");
    assert_eq!(app.customer_of("acme").await, customer);
    app.stop().await;
}

#[tokio::test]
async fn portal_keeps_customer_unknown_to_stripe() {
    let app = TestApp::start(Database::Sqlite).await;
    app.subscribe_to_pro("acme").await;
    let customer = app.customer_of("acme").await;
    app.stripe.remove("customers", &customer).await;
    app.open_portal(&app.token("acme"), &json!({})).await.assert_problem(409, "no_customer");
    assert_eq!(app.customer_of("acme").await, customer, "the key may be of another account");
    app.wait_for_plan("acme", "pro").await;
    app.stop().await;
}

async fn last_portal_request(app: &TestApp) -> Value {
    let requests = app.stripe.requests_to("POST", "/v1/billing_portal/sessions").await;
    requests.last().expect("a portal request")["params"].clone()
}
