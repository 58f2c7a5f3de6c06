//! Opening the Customer Portal.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, ended_spans};
use crate::support::database::{Database, on_both_databases};
use crate::support::event_stream::{EventStream, STREAM};

on_both_databases!(
    a_tenant_without_a_customer_has_nothing_to_manage,
    a_flow_goes_to_the_subscription_that_grants_the_plan,
    card_flow_opens_home_where_subscription_card_is_changed,
    unpaid_subscription_leads_to_its_open_invoice,
    unpaid_subscription_without_open_invoice_opens_portal,
    cancel_flow_opens_for_subscription_that_grants_nothing,
    cancel_flow_opens_portal_when_end_is_set_already,
    flow_that_settings_disable_opens_plain_portal,
    portal_uses_configuration_that_is_named,
    ended_subscription_with_open_invoice_can_be_managed,
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

/// A tenant whose renewal was declined.
async fn make_past_due(app: &TestApp, tenant: &str) -> String {
    let subscription = app.make_pro(tenant).await;
    app.stripe.change(&subscription, &json!({ "card": "declined", "renew": true })).await;
    app.until(tenant, |answer| answer["status"] == "past_due").await;
    subscription
}

async fn make_unpaid(app: &TestApp, tenant: &str) -> String {
    let subscription = make_past_due(app, tenant).await;
    app.stripe.change(&subscription, &json!({ "status": "unpaid" })).await;
    app.until(tenant, |answer| answer["status"] == "unpaid").await;
    subscription
}

/// Opens the portal for one thing, and returns its URL and what the log says of it.
async fn open_flow(app: &TestApp, tenant: &str, flow: &str) -> (String, Value) {
    let opened = app.open_portal(&app.token(tenant), &json!({ "flow": flow })).await.ok();
    let is_success = |line: &&Value| line["event"] == "portal.create.success" && line["tenant_id"] == tenant;
    let lines = app.lines("billing");
    let last = lines.iter().rfind(is_success).expect("the success is logged");
    (opened["url"].as_str().expect("a URL").to_owned(), last["reason"].clone())
}

async fn card_flow_opens_home_where_subscription_card_is_changed(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = make_past_due(&app, "acme").await;
    let (url, reason) = open_flow(&app, "acme", "payment_method_update").await;
    assert!(last_portal_request(&app).await["flow_data"].is_null());
    assert_eq!(reason, "card_is_on_subscription");

    // What Stripe's own flow for a card does.
    assert!(app.stripe.press(&url, "action=update_card").await);
    app.stripe.change(&subscription, &json!({ "retry_payment": true })).await;
    let at_stripe = app.stripe.api("GET", &format!("/v1/subscriptions/{subscription}"), "").await;
    assert_eq!(at_stripe["status"], "past_due", "the subscription's own card is charged");

    let update = format!("action=update_subscription_card&subscription={subscription}");
    assert!(app.stripe.press(&url, &update).await);
    app.stripe.change(&subscription, &json!({ "retry_payment": true })).await;
    app.until("acme", |answer| answer["status"] == "active").await;
    app.stop().await;
}

async fn unpaid_subscription_leads_to_its_open_invoice(database: Database) {
    let app = TestApp::start(database).await;
    make_unpaid(&app, "acme").await;
    let (url, reason) = open_flow(&app, "acme", "payment_method_update").await;
    assert!(url.starts_with(&format!("{}/i/acct_", app.stripe.url)), "{url}");
    assert_eq!(reason, "open_invoice");
    assert!(app.stripe.requests_to("POST", "/v1/billing_portal/sessions").await.is_empty());

    assert!(app.stripe.press(&url, "action=pay").await);
    app.until_plan("acme", "pro").await;
    let secret = url.rsplit_once('/').expect("a path").1;
    let told = format!("{:?} {:?}", app.all_lines(), ended_spans());
    assert!(told.contains("invoice opened") && !told.contains(secret), "the URL is the caller's alone");
    app.stop().await;
}

async fn unpaid_subscription_without_open_invoice_opens_portal(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = make_unpaid(&app, "acme").await;
    let refused = json!({ "match": "GET /v1/invoices", "kind": "status", "status": 403, "times": 1 });
    app.stripe.fault(&refused).await;
    let portal = format!("{}/p/session/", app.stripe.url);
    assert!(open_flow(&app, "acme", "payment_method_update").await.0.starts_with(&portal), "it may not look");

    let at_stripe = app.stripe.api("GET", &format!("/v1/subscriptions/{subscription}"), "").await;
    let invoice = at_stripe["latest_invoice"].as_str().expect("an invoice");
    app.stripe.api("POST", &format!("/v1/invoices/{invoice}/void"), "").await;
    assert!(open_flow(&app, "acme", "payment_method_update").await.0.starts_with(&portal), "nothing is owed");
    app.stop().await;
}

async fn cancel_flow_opens_for_subscription_that_grants_nothing(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    for status in ["unpaid", "paused", "incomplete"] {
        app.stripe.change(&subscription, &json!({ "status": status })).await;
        let answer = app.until("acme", |answer| answer["status"] == status).await;
        assert_eq!((&answer["plan"], &answer["can_manage"]), (&json!("free"), &json!(true)));
        let (url, reason) = open_flow(&app, "acme", "subscription_cancel").await;
        let flow = json!({
            "type": "subscription_cancel", "subscription_cancel": { "subscription": subscription },
        });
        assert_eq!((last_portal_request(&app).await["flow_data"].clone(), reason), (flow, Value::Null));
        open_flow(&app, "acme", "subscription_update").await;
        if status == "incomplete" {
            app.stripe.cancel_in_portal(&url, &subscription).await;
            app.until("acme", |answer| answer["scheduled_cancel"] == true).await;
        }
    }
    app.stripe.change(&subscription, &json!({ "status": "canceled" })).await;
    app.until("acme", |answer| answer["status"] == "canceled").await;
    let over = app.open_portal(&app.token("acme"), &json!({ "flow": "subscription_cancel" })).await;
    over.assert_is(409, "no_subscription");
    app.stop().await;
}

async fn cancel_flow_opens_portal_when_end_is_set_already(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    let (url, _) = open_flow(&app, "acme", "subscription_cancel").await;
    app.stripe.cancel_in_portal(&url, &subscription).await;
    app.until("acme", |answer| answer["scheduled_cancel"] == true).await;

    let (url, reason) = open_flow(&app, "acme", "subscription_cancel").await;
    assert_eq!(reason, "already_canceling");
    assert!(last_portal_request(&app).await["flow_data"].is_null());
    assert!(app.stripe.press(&url, &format!("action=resume&subscription={subscription}")).await);
    app.until("acme", |answer| answer["scheduled_cancel"] == false).await;
    assert_eq!(
        open_flow(&app, "acme", "subscription_cancel").await.1,
        Value::Null,
        "it may be cancelled again"
    );
    app.stop().await;
}

async fn flow_that_settings_disable_opens_plain_portal(database: Database) {
    let app = TestApp::start(database).await;
    app.make_pro("acme").await;
    app.check_out(&app.token("birch"), &json!({})).await.ok();
    for (tenant, flow) in
        [("acme", "subscription_cancel"), ("acme", "subscription_update"), ("birch", "payment_method_update")]
    {
        app.stripe.set_portal(&format!("features[{flow}][enabled]=false")).await;
        let (url, reason) = open_flow(&app, tenant, flow).await;
        assert!(url.starts_with(&format!("{}/p/session/", app.stripe.url)), "{url}");
        assert_eq!(reason, "flow_disabled", "{flow}");
        assert!(last_portal_request(&app).await["flow_data"].is_null());
    }
    app.stripe.set_portal("features[subscription_cancel][enabled]=true").await;
    let body = json!({ "error": { "type": "invalid_request_error", "message": "canary" } }).to_string();
    let refusal = json!({ "match": "POST /v1/billing_portal/sessions", "kind": "status", "status": 400,
        "times": 1, "body": body });
    app.stripe.fault(&refusal).await;
    assert_eq!(open_flow(&app, "acme", "subscription_cancel").await.1, "flow_rejected");
    // A refusal of the plain portal is one.
    app.stripe.fault(&refusal).await;
    app.open_portal(&app.token("acme"), &json!({})).await.assert_is(502, "stripe_rejected");
    app.stop().await;
}

async fn portal_uses_configuration_that_is_named(database: Database) {
    let mut app = TestApp::start(database).await;
    app.make_pro("acme").await;
    let configuration = app.stripe.create_portal_configuration().await;
    app.go_down().await;
    app.come_back_with("--portal-configuration", &configuration).await;
    let (_, reason) = open_flow(&app, "acme", "subscription_cancel").await;
    assert_eq!(reason, "flow_disabled", "it only takes cards");
    for asked in app.stripe.requests_to("POST", "/v1/billing_portal/sessions").await {
        assert_eq!(asked["params"]["configuration"], configuration, "{asked}");
    }

    app.go_down().await;
    app.come_back_with("--portal-configuration", "bpc_of_another_account").await;
    for body in [json!({}), json!({ "flow": "subscription_cancel" })] {
        app.open_portal(&app.token("acme"), &body).await.assert_is(503, "billing_not_configured");
    }
    app.stop().await;
}

async fn ended_subscription_with_open_invoice_can_be_managed(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    let mut stream = EventStream::open(app.request(Method::GET, STREAM).bearer_auth(&token)).await;
    assert_eq!(stream.next_subscription().await["can_manage"], false);
    let subscription = make_past_due(&app, "acme").await;
    stream.until(|answer| answer["can_manage"] == true).await;
    app.stripe.change(&subscription, &json!({ "status": "canceled" })).await;
    let ended = app.until("acme", |answer| answer["status"] == "canceled").await;
    assert_eq!((&ended["plan"], &ended["can_manage"]), (&json!("free"), &json!(true)));
    let opened = app.open_portal(&token, &json!({})).await.ok();
    let page = reqwest::get(opened["url"].as_str().expect("a URL")).await.expect("the portal");
    let page = page.text().await.expect("text");
    let (_, invoice) = page.split_once(&format!("{}/i/", app.stripe.url)).expect("the open invoice");
    let invoice = invoice.split_once('"').expect("a link").0;
    assert!(app.stripe.press(&format!("{}/i/{invoice}", app.stripe.url), "action=pay").await);
    app.until("acme", |answer| answer["status"] == "canceled").await;
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
