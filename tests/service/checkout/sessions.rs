//! Starting a checkout.

use serde_json::{Value, json};

use crate::checkout::checkout_refresh::before_the_payment;
use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    a_customer_that_stripe_has_never_heard_of_is_made_anew_at_the_next_checkout,
    a_customer_that_was_deleted_unheard_is_buried_and_made_anew_at_the_next_checkout,
    the_first_checkout_makes_the_tenants_customer_and_tags_everything,
    two_first_checkouts_at_once_make_one_customer,
    an_open_session_that_asks_for_the_same_is_handed_out_again,
    an_open_session_that_asks_for_something_else_is_closed_first,
    a_session_that_was_paid_before_its_webhook_came_is_taken_over,
    a_session_known_to_be_paid_is_asked_for_its_subscription,
    a_subscription_that_may_have_been_paid_since_is_asked_about_before_another_is_sold,
    a_failed_checkouts_trace_id_leads_to_its_log_lines,
    a_tenant_with_a_subscription_cannot_buy_a_second_one,
    a_tenant_whose_subscription_ended_can_buy_again,
    money_on_its_way_grants_nothing_until_it_has_come,
);

async fn the_first_checkout_makes_the_tenants_customer_and_tags_everything(database: Database) {
    let app = TestApp::start(database).await;
    let bought = app.check_out(&app.token("acme"), &json!({ "plan": "pro" })).await.ok();

    let requests = app.stripe.requests().await;
    let told: Vec<String> = requests.iter().map(route).collect();
    assert_eq!(told, ["POST /v1/customers", "POST /v1/checkout/sessions"]);
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
        "no trace headers to Stripe"
    );

    let success = app.line("billing", |line| line["event"] == "checkout.create.success").await;
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

async fn two_first_checkouts_at_once_make_one_customer(database: Database) {
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
    assert_eq!(open, 1, "only one page can be paid: {sessions:?}");
    app.stop().await;
}

async fn an_open_session_that_asks_for_the_same_is_handed_out_again(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    let first = app.check_out(&token, &json!({})).await.ok();
    let second = app.check_out(&token, &json!({})).await.ok();
    assert_eq!(first, second);
    assert_eq!(app.stripe.requests_to("POST", "/v1/checkout/sessions").await.len(), 1);
    app.stop().await;
}

async fn an_open_session_that_asks_for_something_else_is_closed_first(database: Database) {
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

async fn a_session_that_was_paid_before_its_webhook_came_is_taken_over(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    // The first backfill would bring what no delivery does.
    app.until_backfilled().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    let bought = app.check_out(&token, &json!({})).await.ok();
    app.stripe.pay(bought["session_id"].as_str().expect("a session")).await;

    app.check_out(&token, &json!({})).await.assert_is(409, "already_subscribed");
    let pro = app.subscription(&token).await.ok();
    assert_eq!((&pro["plan"], &pro["status"]), (&json!("pro"), &json!("active")));

    let asked = app.stripe.requests().await.len();
    app.check_out(&token, &json!({})).await.assert_is(409, "already_subscribed");
    assert_eq!(app.stripe.requests().await.len(), asked, "what is known is not asked again");
    app.stop().await;
}

async fn a_session_known_to_be_paid_is_asked_for_its_subscription(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    // The first backfill would bring what no delivery does.
    app.until_backfilled().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    let bought = app.check_out(&token, &json!({})).await.ok();
    let session = bought["session_id"].as_str().expect("a session");
    app.stripe.pay(session).await;

    // Of the three events only the session's arrives.
    let object = app.stripe.api("GET", &format!("/v1/checkout/sessions/{session}"), "").await;
    let completed =
        stripe_event("checkout.session.completed", app.clock_seconds(), |it| *it = object.clone());
    app.deliver(&completed).await.ok();
    assert_eq!(app.subscription(&token).await.ok()["plan"], "free");

    app.check_out(&token, &json!({})).await.assert_is(409, "already_subscribed");
    assert_eq!(app.subscription(&token).await.ok()["plan"], "pro");
    assert_eq!(app.stripe.requests_to("POST", "/v1/checkout/sessions").await.len(), 1);
    app.stop().await;
}

async fn a_subscription_that_may_have_been_paid_since_is_asked_about_before_another_is_sold(
    database: Database,
) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    // The first backfill would bring what no delivery does.
    app.until_backfilled().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    let bought = app.check_out(&token, &json!({})).await.ok();
    let session = bought["session_id"].as_str().expect("a session");
    app.stripe.pay(session).await;
    before_the_payment(&app, session).await;
    assert_eq!(app.subscription(&token).await.ok()["status"], "incomplete");

    app.check_out(&token, &json!({})).await.assert_is(409, "already_subscribed");
    assert_eq!(app.stripe.requests_to("POST", "/v1/checkout/sessions").await.len(), 1);
    app.stop().await;
}

async fn a_failed_checkouts_trace_id_leads_to_its_log_lines(database: Database) {
    let app = TestApp::start(database).await;
    app.make_pro("acme").await;
    let refused = app.check_out(&app.token("acme"), &json!({})).await;
    let failure = app.line("billing", |line| line["event"] == "checkout.create.failure").await;
    assert_eq!(refused.json()["trace_id"], failure["trace_id"]);
    app.stop().await;
}

async fn a_tenant_with_a_subscription_cannot_buy_a_second_one(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    let token = app.token("acme");
    for status in ["active", "past_due", "unpaid", "paused"] {
        app.stripe.change(&subscription, &json!({ "status": status })).await;
        app.until("acme", |answer| answer["status"] == status).await;
        app.check_out(&token, &json!({ "plan": "team" })).await.assert_is(409, "already_subscribed");
    }
    app.stop().await;
}

async fn a_tenant_whose_subscription_ended_can_buy_again(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    app.stripe.change(&subscription, &json!({ "status": "canceled" })).await;
    app.until_plan("acme", "free").await;

    let again = app.make_pro("acme").await;
    assert_ne!(subscription, again);
    assert_eq!(app.stripe.requests_to("POST", "/v1/customers").await.len(), 1, "the customer is kept");
    app.stop().await;
}

async fn money_on_its_way_grants_nothing_until_it_has_come(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    let bought = app.check_out(&token, &json!({})).await.ok();
    let session = bought["session_id"].as_str().expect("a session");
    app.stripe.pay_with(session, "delayed").await;
    app.line("subscription_state", |line| {
        line["stripe_event_type"] == "checkout.session.completed" && line["outcome"] == "applied"
    })
    .await;

    let waiting = app.until("acme", |answer| answer["access"] == false && !answer["status"].is_null()).await;
    assert_eq!(waiting["plan"], "free", "{waiting}");
    app.check_out(&token, &json!({})).await.assert_is(409, "already_subscribed");

    app.stripe.settle(session, true).await;
    app.until_plan("acme", "pro").await;
    app.stop().await;
}

#[tokio::test]
async fn a_first_payment_that_never_came_stands_in_nobodys_way() {
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
async fn the_page_of_a_customer_that_the_tenant_has_lost_is_not_handed_out_again() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    let lost = app.check_out(&token, &json!({})).await.ok();
    let customer = app.customer_of("acme").await;
    app.stripe.api("DELETE", &format!("/v1/customers/{customer}"), "").await;
    app.line("subscription_state", |line| line["event"] == "customer.unlinked").await;

    let again = app.check_out(&token, &json!({})).await.ok();
    assert_ne!(lost["session_id"], again["session_id"]);
    assert_ne!(app.customer_of("acme").await, customer);
    app.stop().await;
}

/// A tenant that was Pro once, and then lost its customer at Stripe without any event telling us.
async fn bereft(database: Database, lose: impl AsyncFnOnce(&TestApp, &str)) -> (TestApp, String) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    app.stripe.change(&subscription, &json!({ "status": "canceled" })).await;
    app.until_plan("acme", "free").await;
    // The first backfill would bring what no delivery does.
    app.until_backfilled().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    let customer = app.customer_of("acme").await;
    lose(&app, &customer).await;
    (app, customer)
}

async fn a_customer_that_stripe_has_never_heard_of_is_made_anew_at_the_next_checkout(database: Database) {
    let forget = async |app: &TestApp, customer: &str| app.stripe.forget("customers", customer).await;
    let (app, lost) = bereft(database, forget).await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    assert_ne!(app.customer_of("acme").await, lost);
    let told = app.line("subscription_state", |line| line["event"] == "customer.unlinked").await;
    assert_eq!((&told["level"], &told["reason"]), (&json!("warn"), &json!("resource_missing")));
    assert_eq!((&told["tenant_id"], &told["customer_id"]), (&json!("acme"), &json!(lost)));
    let row = app.database.row::<entity::customer::Entity>(&lost).await.expect("its place");
    assert!(row.deleted_at_ms.is_none(), "the key may be of another account: nothing is buried");
    app.stop().await;
}

async fn a_customer_that_was_deleted_unheard_is_buried_and_made_anew_at_the_next_checkout(
    database: Database,
) {
    let delete = async |app: &TestApp, customer: &str| {
        app.stripe.api("DELETE", &format!("/v1/customers/{customer}"), "").await;
    };
    let (app, lost) = bereft(database, delete).await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    assert_ne!(app.customer_of("acme").await, lost);
    let row = app.database.row::<entity::customer::Entity>(&lost).await.expect("its place");
    assert!(row.deleted_at_ms.is_some());
    app.stop().await;
}

#[tokio::test]
async fn a_plan_that_is_not_sold_is_an_invalid_request() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    for plan in ["gold", "free", "", "Pro"] {
        app.check_out(&token, &json!({ "plan": plan })).await.assert_is(400, "invalid_request");
    }
    assert!(app.stripe.requests().await.is_empty(), "Stripe was not asked");
    app.stop().await;
}

#[tokio::test]
async fn a_price_may_be_named_by_its_id() {
    let plans = ("--plans", "pro=price_pro_yearly");
    let app = TestApp::start_with(Database::Sqlite, &[plans]).await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    let sessions = app.stripe.requests_to("POST", "/v1/checkout/sessions").await;
    assert_eq!(sessions[0]["params"]["line_items"][0]["price"], "price_pro_yearly");
    app.stop().await;
}

#[tokio::test]
async fn price_is_sold_by_a_key_that_may_not_read_prices() {
    let app = TestApp::start_with(Database::Sqlite, &[("--plans", "pro=price_pro_yearly")]).await;
    app.stripe.fault(&json!({ "match": "GET /v1/prices", "kind": "status", "status": 403 })).await;
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    app.stop().await;
}

#[tokio::test]
async fn lookup_key_that_looks_like_an_id_is_sold() {
    let app = TestApp::start_with(Database::Sqlite, &[("--plans", "pro=price_gold")]).await;
    app.check_out(&app.token("acme"), &json!({})).await.assert_is(503, "billing_not_configured");
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
async fn without_their_configuration_checkout_and_portal_are_503() {
    for missing in ["--stripe-secret-key", "--app-url", "--plans"] {
        let app = TestApp::start_with(Database::Sqlite, &[(missing, "")]).await;
        app.check_out(&app.token("acme"), &json!({})).await.assert_is(503, "billing_not_configured");
        let portal = app.open_portal(&app.token("acme"), &json!({})).await;
        if missing == "--plans" {
            portal.assert_is(409, "no_customer");
        } else {
            portal.assert_is(503, "billing_not_configured");
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
