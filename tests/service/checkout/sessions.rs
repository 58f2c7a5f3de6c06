//! Creating checkout sessions.

use serde_json::{Value, json};

use crate::checkout::checkout_refresh::deliver_events_before_payment;
use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    checkout_recreates_customer_unknown_to_stripe,
    checkout_recreates_customer_deleted_without_event,
    first_checkout_creates_customer_and_sets_metadata,
    concurrent_first_checkouts_create_one_customer,
    open_session_for_same_plan_is_reused,
    open_session_for_other_plan_is_expired_first,
    checkout_applies_session_paid_before_its_webhook,
    checkout_fetches_subscription_of_paid_session,
    checkout_refreshes_incomplete_subscription_before_selling,
    failed_checkout_trace_id_matches_its_log_line,
    tenant_with_subscription_cannot_buy_a_second_one,
    tenant_with_ended_subscription_can_buy_again,
    delayed_payment_grants_access_only_once_it_arrives,
);

async fn first_checkout_creates_customer_and_sets_metadata(database: Database) {
    let app = TestApp::start(database).await;
    let bought = app.check_out(&app.token("acme"), &json!({ "plan": "pro" })).await.ok();

    let requests = app.stripe.requests().await;
    let routes: Vec<String> = requests.iter().map(route).collect();
    assert_eq!(routes, ["POST /v1/customers", "POST /v1/checkout/sessions"]);
    let [customer, session] = requests.as_slice() else { unreachable!() };

    assert_eq!(
        customer["params"],
        json!({ "metadata": { "tenant_id": "acme", "deployment_id": "staging" } })
    );
    assert_eq!(header(customer, "idempotency-key"), "billhook-customer-staging-test-acme-0");
    assert_eq!(header(customer, "stripe-version"), "2026-09-30.endive");
    assert!(header(session, "idempotency-key").starts_with("billhook-"));
    assert!(
        requests.iter().all(|request| request["headers"]["traceparent"].is_null()),
        "Stripe gets no trace headers"
    );

    let success = app.wait_for_line("billing", |line| line["event"] == "checkout.create.success").await;
    let params = &session["params"];
    assert_eq!((&params["mode"], &params["client_reference_id"]), (&json!("subscription"), &json!("acme")));
    assert_eq!(params["line_items"][0]["price"], "price_pro_monthly");
    assert_eq!(
        (&params["success_url"], &params["cancel_url"]),
        (
            &json!("https://app.example.com/billing?checkout=success&session_id={CHECKOUT_SESSION_ID}"),
            &json!("https://app.example.com/billing?checkout=canceled")
        )
    );
    assert_eq!(params["metadata"], params["subscription_data"]["metadata"]);
    assert_eq!(params["metadata"]["tenant_id"], "acme");
    assert_eq!(params["metadata"]["journey_id"], success["journey_id"]);
    let traceparent = params["metadata"]["traceparent"].as_str().expect("a traceparent");
    assert!(traceparent.contains(success["journey_id"].as_str().expect("a journey")), "{traceparent}");
    assert_eq!(success["trace_id"], success["journey_id"], "a journey's id is the trace id of its checkout");
    assert!(bought["session_id"].as_str().expect("a session").starts_with("cs_test_"));
    app.stop().await;
}

async fn concurrent_first_checkouts_create_one_customer(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    let body = json!({});
    let (one, other) = tokio::join!(app.check_out(&token, &body), app.check_out(&token, &body));
    one.ok();
    other.ok();
    let customers = app.stripe.api("GET", "/v1/customers", "").await;
    assert_eq!(customers["data"].as_array().map(Vec::len), Some(1), "{customers}");
    let sessions = app.stripe.api("GET", "/v1/checkout/sessions", "").await;
    let sessions = sessions["data"].as_array().expect("sessions");
    let open = sessions.iter().filter(|session| session["status"] == "open").count();
    assert_eq!(open, 1, "only one session can be paid: {sessions:?}");
    app.stop().await;
}

async fn open_session_for_same_plan_is_reused(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    let first = app.check_out(&token, &json!({})).await.ok();
    let second = app.check_out(&token, &json!({})).await.ok();
    assert_eq!(first, second);
    assert_eq!(app.stripe.requests_to("POST", "/v1/checkout/sessions").await.len(), 1);
    app.stop().await;
}

async fn open_session_for_other_plan_is_expired_first(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    let pro = app.check_out(&token, &json!({})).await.ok();
    let team = app.check_out(&token, &json!({ "plan": "team" })).await.ok();
    assert_ne!(pro["session_id"], team["session_id"]);

    let closed = format!("/v1/checkout/sessions/{}", pro["session_id"].as_str().expect("a session"));
    assert_eq!(app.stripe.api("GET", &closed, "").await["status"], "expired");
    assert_eq!(app.stripe.requests_to("POST", "/v1/customers").await.len(), 1, "the customer is kept");
    app.stop().await;
}

async fn checkout_applies_session_paid_before_its_webhook(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    // Wait for the first backfill, which would apply the dropped events.
    app.wait_for_backfill().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    let bought = app.check_out(&token, &json!({})).await.ok();
    app.stripe.pay(bought["session_id"].as_str().expect("a session")).await;

    app.check_out(&token, &json!({})).await.assert_problem(409, "already_subscribed");
    let pro = app.subscription(&token).await.ok();
    assert_eq!((&pro["plan"], &pro["status"]), (&json!("pro"), &json!("active")));

    let requests_before = app.stripe.requests().await.len();
    app.check_out(&token, &json!({})).await.assert_problem(409, "already_subscribed");
    assert_eq!(
        app.stripe.requests().await.len(),
        requests_before,
        "a known subscription is not fetched again"
    );
    app.stop().await;
}

async fn checkout_fetches_subscription_of_paid_session(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    // Wait for the first backfill, which would apply the dropped events.
    app.wait_for_backfill().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    let bought = app.check_out(&token, &json!({})).await.ok();
    let session = bought["session_id"].as_str().expect("a session");
    app.stripe.pay(session).await;

    // Of the three events of the purchase only the session's arrives.
    let object = app.stripe.api("GET", &format!("/v1/checkout/sessions/{session}"), "").await;
    let completed =
        stripe_event("checkout.session.completed", app.clock_seconds(), |it| *it = object.clone());
    app.deliver(&completed).await.ok();
    assert_eq!(app.subscription(&token).await.ok()["plan"], "free");

    app.check_out(&token, &json!({})).await.assert_problem(409, "already_subscribed");
    assert_eq!(app.subscription(&token).await.ok()["plan"], "pro");
    assert_eq!(app.stripe.requests_to("POST", "/v1/checkout/sessions").await.len(), 1);
    app.stop().await;
}

async fn checkout_refreshes_incomplete_subscription_before_selling(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    // Wait for the first backfill, which would apply the dropped events.
    app.wait_for_backfill().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    let bought = app.check_out(&token, &json!({})).await.ok();
    let session = bought["session_id"].as_str().expect("a session");
    app.stripe.pay(session).await;
    deliver_events_before_payment(&app, session).await;
    assert_eq!(app.subscription(&token).await.ok()["status"], "incomplete");

    app.check_out(&token, &json!({})).await.assert_problem(409, "already_subscribed");
    assert_eq!(app.stripe.requests_to("POST", "/v1/checkout/sessions").await.len(), 1);
    app.stop().await;
}

async fn failed_checkout_trace_id_matches_its_log_line(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    let response = app.check_out(&app.token("acme"), &json!({})).await;
    let failure = app.wait_for_line("billing", |line| line["event"] == "checkout.create.failure").await;
    assert_eq!(response.json()["trace_id"], failure["trace_id"]);
    app.stop().await;
}

async fn tenant_with_subscription_cannot_buy_a_second_one(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let token = app.token("acme");
    for status in ["active", "past_due", "unpaid", "paused"] {
        app.stripe.update_subscription(&subscription, &json!({ "status": status })).await;
        app.wait_for_subscription("acme", |subscription| subscription["status"] == status).await;
        app.check_out(&token, &json!({ "plan": "team" })).await.assert_problem(409, "already_subscribed");
    }
    app.stop().await;
}

async fn tenant_with_ended_subscription_can_buy_again(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "canceled" })).await;
    app.wait_for_plan("acme", "free").await;

    let again = app.subscribe_to_pro("acme").await;
    assert_ne!(subscription, again);
    assert_eq!(app.stripe.requests_to("POST", "/v1/customers").await.len(), 1, "the customer is kept");
    app.stop().await;
}

async fn delayed_payment_grants_access_only_once_it_arrives(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    let bought = app.check_out(&token, &json!({})).await.ok();
    let session = bought["session_id"].as_str().expect("a session");
    app.stripe.pay_with(session, "delayed").await;
    app.wait_for_line("subscription_state", |line| {
        line["stripe_event_type"] == "checkout.session.completed" && line["outcome"] == "applied"
    })
    .await;

    let unpaid = app
        .wait_for_subscription("acme", |subscription| {
            subscription["access"] == false && !subscription["status"].is_null()
        })
        .await;
    assert_eq!(unpaid["plan"], "free", "{unpaid}");
    app.check_out(&token, &json!({})).await.assert_problem(409, "already_subscribed");

    app.stripe.settle(session, true).await;
    app.wait_for_plan("acme", "pro").await;
    app.stop().await;
}

#[tokio::test]
async fn incomplete_subscription_does_not_block_checkout() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    app.check_out(&token, &json!({})).await.ok();
    let incomplete = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["status"] = json!("incomplete");
    });
    let incomplete = app.for_customer_of("acme", incomplete).await;
    app.deliver(&incomplete).await.ok();
    assert_eq!(app.subscription(&token).await.ok()["status"], "incomplete");
    app.check_out(&token, &json!({})).await.ok();
    app.stop().await;
}

#[tokio::test]
async fn session_of_deleted_customer_is_not_reused() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    let lost = app.check_out(&token, &json!({})).await.ok();
    let customer = app.customer_of("acme").await;
    app.stripe.api("DELETE", &format!("/v1/customers/{customer}"), "").await;
    app.wait_for_line("subscription_state", |line| line["event"] == "customer.unlinked").await;

    let again = app.check_out(&token, &json!({})).await.ok();
    assert_ne!(lost["session_id"], again["session_id"]);
    assert_ne!(app.customer_of("acme").await, customer);
    app.stop().await;
}

/// A tenant whose subscription has ended and whose customer then disappears from Stripe without an
/// event.
async fn tenant_with_lost_customer(
    database: Database,
    lose: impl AsyncFnOnce(&TestApp, &str),
) -> (TestApp, String) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "canceled" })).await;
    app.wait_for_plan("acme", "free").await;
    // Wait for the first backfill, which would apply the dropped events.
    app.wait_for_backfill().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    let customer = app.customer_of("acme").await;
    lose(&app, &customer).await;
    (app, customer)
}

async fn checkout_recreates_customer_unknown_to_stripe(database: Database) {
    let forget = async |app: &TestApp, customer: &str| app.stripe.remove("customers", customer).await;
    let (app, lost) = tenant_with_lost_customer(database, forget).await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    assert_ne!(app.customer_of("acme").await, lost);
    let unlinked = app.wait_for_line("subscription_state", |line| line["event"] == "customer.unlinked").await;
    assert_eq!((&unlinked["level"], &unlinked["reason"]), (&json!("warn"), &json!("resource_missing")));
    assert_eq!((&unlinked["tenant_id"], &unlinked["customer_id"]), (&json!("acme"), &json!(lost)));
    let row = app.database.row::<entity::customer::Entity>(&lost).await.expect("the customer's row");
    assert!(
        row.deleted_at_ms.is_none(),
        "the key may be of another account, so the customer is not marked as deleted"
    );
    app.stop().await;
}

async fn checkout_recreates_customer_deleted_without_event(database: Database) {
    let delete = async |app: &TestApp, customer: &str| {
        app.stripe.api("DELETE", &format!("/v1/customers/{customer}"), "").await;
    };
    let (app, lost) = tenant_with_lost_customer(database, delete).await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    assert_ne!(app.customer_of("acme").await, lost);
    let row = app.database.row::<entity::customer::Entity>(&lost).await.expect("the customer's row");
    assert!(row.deleted_at_ms.is_some());
    app.stop().await;
}

#[tokio::test]
async fn unknown_plan_is_an_invalid_request() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    for plan in ["gold", "free", "", "Pro"] {
        app.check_out(&token, &json!({ "plan": plan })).await.assert_problem(400, "invalid_request");
    }
    assert!(app.stripe.requests().await.is_empty(), "Stripe was not called");
    app.stop().await;
}

#[tokio::test]
async fn price_can_be_configured_by_id() {
    let plans = ("--plans", "pro=price_pro_yearly");
    let app = TestApp::start_with(Database::Sqlite, &[plans]).await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    let sessions = app.stripe.requests_to("POST", "/v1/checkout/sessions").await;
    assert_eq!(sessions[0]["params"]["line_items"][0]["price"], "price_pro_yearly");
    app.stop().await;
}

#[tokio::test]
async fn price_id_is_sold_with_key_that_cannot_read_prices() {
    let app = TestApp::start_with(Database::Sqlite, &[("--plans", "pro=price_pro_yearly")]).await;
    app.stripe.inject_fault(&json!({ "match": "GET /v1/prices", "kind": "status", "status": 403 })).await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    app.stop().await;
}

#[tokio::test]
async fn lookup_key_that_looks_like_an_id_is_sold() {
    let app = TestApp::start_with(Database::Sqlite, &[("--plans", "pro=price_gold")]).await;
    app.check_out(&app.token("acme"), &json!({})).await.assert_problem(503, "billing_not_configured");
    let price = app.stripe.replace_price("price_gold").await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    let sessions = app.stripe.requests_to("POST", "/v1/checkout/sessions").await;
    let sold = sessions.last().expect("a session");
    assert_eq!(sold["params"]["line_items"][0]["price"], price);
    let doctor = app.run_command_with(&["doctor"], &[("BILLHOOK_PLANS", "pro=price_gold")]);
    let report = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(report.contains("prices") && !report.contains("price_gold"), "{report}");
    app.stop().await;
}

#[tokio::test]
async fn checkout_and_portal_without_configuration_return_503() {
    for missing in ["--stripe-secret-key", "--app-url", "--plans"] {
        let app = TestApp::start_with(Database::Sqlite, &[(missing, "")]).await;
        app.check_out(&app.token("acme"), &json!({})).await.assert_problem(503, "billing_not_configured");
        let portal = app.open_portal(&app.token("acme"), &json!({})).await;
        if missing == "--plans" {
            portal.assert_problem(409, "no_customer");
        } else {
            portal.assert_problem(503, "billing_not_configured");
        }
        app.stop().await;
    }
}

fn route(request: &Value) -> String {
    format!(
        "{} {}",
        request["method"].as_str().unwrap_or_default(),
        request["path"].as_str().unwrap_or_default()
    )
}

fn header<'a>(request: &'a Value, name: &str) -> &'a str {
    request["headers"][name].as_str().unwrap_or_default()
}
