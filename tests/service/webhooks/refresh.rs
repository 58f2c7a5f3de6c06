//! Asking Stripe where the events do not say.

use serde_json::{Value, json};

use crate::support::app::{LATER, STRIPE_KEY, TestApp, eventually, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    an_older_event_after_a_newer_is_asked_about_and_stripes_word_stands,
    a_session_that_comes_before_its_subscription_makes_the_tenant_pro,
    an_invoice_that_comes_before_its_subscription_makes_the_tenant_pro,
    linking_a_customer_brings_what_it_has_at_stripe,
    questions_outlive_a_restart_while_stripe_is_away,
    a_subscription_that_stripe_does_not_know_stays_as_it_is,
    a_second_subscription_is_told,
    of_several_replicas_one_asks,
);

/// An event about the tenant's subscription, made by Stripe so long after now.
async fn update(app: &TestApp, subscription: &str, seconds: i64, status: &str) -> Value {
    let event = stripe_event("customer.subscription.updated", app.clock_seconds() + seconds, |object| {
        object["id"] = json!(subscription);
        object["status"] = json!(status);
    });
    app.for_customer_of("acme", event).await
}

async fn an_older_event_after_a_newer_is_asked_about_and_stripes_word_stands(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    app.stripe.change(&subscription, &json!({ "status": "past_due", "silently": true })).await;

    let late = update(&app, &subscription, -3600, "trialing").await;
    app.deliver(&late).await.ok();
    assert_eq!(app.outcome_of(&late).await, ("stale".into(), Some("older".into())));
    app.until("acme", |answer| answer["status"] == "past_due").await;

    let told = app.line("subscription_state", |line| line["event"] == "refresh.changed").await;
    assert_eq!((&told["tenant_id"], &told["reason"]), (&json!("acme"), &json!("older")));
    assert_eq!((&told["subscription_id"], &told["stripe_event_id"]), (&json!(subscription), &late["id"]));
    assert!(told["stripe_request_id"].is_string() && told["journey_id"].is_string(), "{told}");
    let transition = app
        .line("subscription_state", |line| {
            line["event"] == "subscription.transition" && line["reason"] == "refresh"
        })
        .await;
    assert_eq!((&transition["from"], &transition["to"]), (&json!("active"), &json!("past_due")));
    assert_eq!(transition["trace_id"], told["trace_id"]);
    app.until_nothing_is_asked().await;
    app.stop().await;
}

async fn a_session_that_comes_before_its_subscription_makes_the_tenant_pro(database: Database) {
    beaten_by_one_event(database, "checkout.session.completed").await;
}

async fn an_invoice_that_comes_before_its_subscription_makes_the_tenant_pro(database: Database) {
    beaten_by_one_event(database, "invoice.paid").await;
}

/// All of a purchase's events are held back but one.
async fn beaten_by_one_event(database: Database, kind: &str) {
    let app = TestApp::start(database).await;
    // Or the first run would bring what is held back.
    app.until_backfilled().await;
    let bought = app.check_out(&app.token("acme"), &json!({})).await.ok();
    app.stripe.fault(&json!({ "deliveries": "hold" })).await;
    app.stripe.pay(bought["session_id"].as_str().expect("a session id")).await;
    app.stripe.resend(kind).await;
    app.until_plan("acme", "pro").await;
    let told = app.line("subscription_state", |line| line["event"] == "refresh.changed").await;
    assert_eq!(told["reason"], "subscription_not_held");

    app.stripe.all_is_well().await;
    app.line("subscription_state", |line| {
        line["stripe_event_type"] == "customer.subscription.created" && line["outcome"].is_string()
    })
    .await;
    app.until_nothing_is_asked().await;
    app.until_plan("acme", "pro").await;
    app.stop().await;
}

async fn linking_a_customer_brings_what_it_has_at_stripe(database: Database) {
    let app = TestApp::start(database).await;
    app.until_backfilled().await;
    // Bought long before anybody set up Billhook: no event of it will ever come.
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    let customer = app.stripe.customer_who_bought_elsewhere().await;

    let linked = app.run_command(&["tenant", "link", "acme", &customer]);
    assert!(linked.status.success(), "{linked:?}");
    // The command has the machine's clock, and the service one that stands still.
    app.clock.advance_seconds(60);
    app.until_plan("acme", "team").await;
    let told = app.line("subscription_state", |line| line["event"] == "refresh.changed").await;
    assert_eq!((&told["reason"], &told["customer_id"]), (&json!("linked"), &json!(customer)));
    app.stop().await;
}

async fn questions_outlive_a_restart_while_stripe_is_away(database: Database) {
    let mut app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    let refused =
        json!({ "match": "GET /v1/subscriptions", "kind": "status", "status": 429, "should_retry": false });
    app.stripe.fault(&refused).await;
    app.stripe.change(&subscription, &json!({ "status": "past_due", "silently": true })).await;
    app.deliver(&update(&app, &subscription, -3600, "trialing").await).await.ok();
    let failed = app.line("subscription_state", |line| line["event"] == "refresh.failed").await;
    assert_eq!(failed["level"], "error");
    assert!(failed["reason"].as_str().is_some_and(|reason| reason.contains("rate_limited")), "{failed}");
    let path = format!("/v1/subscriptions/{subscription}");
    let asked = app.stripe.requests_to("GET", &path).await.len();
    assert_eq!(asked, 1, "Stripe said not to try again");

    app.go_down().await;
    app.stripe.all_is_well().await;
    // Longer than a question is claimed for: it may have gone down before it put the question off.
    app.clock.advance_seconds(130);
    app.come_back().await;
    app.until("acme", |answer| answer["status"] == "past_due").await;
    app.until_nothing_is_asked().await;
    app.stop().await;
}

async fn a_subscription_that_stripe_does_not_know_stays_as_it_is(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    app.stripe.forget("subscriptions", &subscription).await;
    app.deliver(&update(&app, &subscription, -3600, "trialing").await).await.ok();
    let failed = app.line("subscription_state", |line| line["event"] == "refresh.failed").await;
    assert!(failed["reason"].as_str().is_some_and(|reason| reason.contains("resource_missing")), "{failed}");
    assert_eq!(app.questions().await, [subscription.as_str()], "the key may be of another account");
    app.database.execute("UPDATE refresh SET attempts = 21").await;
    app.clock.advance_seconds(300);
    app.until_nothing_is_asked().await;
    app.until_plan("acme", "pro").await;
    app.stop().await;
}

async fn a_second_subscription_is_told(database: Database) {
    let app = TestApp::start(database).await;
    app.make_pro("acme").await;
    let customer = app.customer_of("acme").await;
    app.stripe.buy_elsewhere(&customer).await;
    let told = app.line("subscription_state", |line| line["event"] == "subscription.doubled").await;
    assert_eq!((&told["level"], &told["tenant_id"]), (&json!("warn"), &json!("acme")));
    app.until_plan("acme", "team").await;
    app.stop().await;
}

#[tokio::test]
async fn many_doubts_about_one_subscription_are_one_question() {
    let app = TestApp::start(Database::Sqlite).await;
    let subscription = app.make_pro("acme").await;
    app.until_nothing_is_asked().await;
    let path = format!("/v1/subscriptions/{subscription}");
    app.stripe.fault(&json!({ "match": format!("GET {path}"), "kind": "status", "status": 400 })).await;
    for seconds in 1..=20 {
        app.deliver(&update(&app, &subscription, -3600 - seconds, "trialing").await).await.ok();
    }
    assert_eq!(app.questions().await, [subscription.as_str()]);
    app.stripe.all_is_well().await;
    let before = app.stripe.requests_to("GET", &path).await.len();
    app.clock.advance_seconds(600);
    app.until_nothing_is_asked().await;
    let asked = app.stripe.requests_to("GET", &path).await.len() - before;
    assert!(
        (1..=2).contains(&asked),
        "once, and once more if it was being asked when the last doubt came: {asked}"
    );
    app.stop().await;
}

async fn of_several_replicas_one_asks(database: Database) {
    let mut app = TestApp::start(database).await;
    app.start_replica().await;
    app.start_replica().await;
    let mut subscriptions = Vec::new();
    for number in 0..12 {
        subscriptions.push(app.make_pro(&format!("tenant-{number}")).await);
    }
    app.until_nothing_is_asked().await;
    let asked_of = async |subscription: &str| {
        app.stripe.requests_to("GET", &format!("/v1/subscriptions/{subscription}")).await.len()
    };
    let mut before = Vec::new();
    let mut late = Vec::new();
    for (number, subscription) in subscriptions.iter().enumerate() {
        before.push(asked_of(subscription).await);
        let event = stripe_event("customer.subscription.updated", app.clock_seconds() - 3600, |object| {
            object["id"] = json!(subscription);
            object["status"] = json!("trialing");
        });
        late.push(app.for_customer_of(&format!("tenant-{number}"), event).await);
    }
    for answer in app.deliver_all(&late).await {
        answer.ok();
    }
    app.until_nothing_is_asked().await;
    for (subscription, before) in subscriptions.iter().zip(before) {
        assert_eq!(asked_of(subscription).await - before, 1, "one replica asks, and once");
    }
    app.stop().await;
}

#[tokio::test]
async fn an_answer_that_an_event_overtook_is_asked_for_again() {
    let app = TestApp::start(Database::Sqlite).await;
    let subscription = app.make_pro("acme").await;
    let path = format!("/v1/subscriptions/{subscription}");
    let asked = || async { app.stripe.requests_to("GET", &path).await.len() };
    let before = asked().await;
    app.stripe.fault(&json!({ "match": format!("GET {path}"), "kind": "hang", "times": 1 })).await;
    app.deliver(&update(&app, &subscription, -3600, "trialing").await).await.ok();
    eventually("Stripe is being asked", || async { (asked().await > before).then_some(()) }).await;
    // The call is tried again when it has hung for long enough; until then there is time for an event.
    app.deliver(&update(&app, &subscription, LATER, "past_due").await).await.ok();
    app.until_nothing_is_asked().await;
    assert_eq!(asked().await - before, 3, "hung, overtaken, taken");
    app.until("acme", |answer| answer["status"] == "active").await;
    app.stop().await;
}

#[tokio::test]
async fn a_second_that_leads_in_a_circle_ends_as_stripe_says() {
    let app = TestApp::start(Database::Sqlite).await;
    let subscription = app.make_pro("acme").await;
    // The first backfill would bring what no delivery does.
    app.until_backfilled().await;
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.set_clock(&json!({ "stopped": true, "advance_seconds": 5 })).await;
    for price in ["price_team_monthly", "price_pro_monthly", "price_team_monthly"] {
        app.stripe.change(&subscription, &json!({ "price": price })).await;
    }
    let mut events = app.stripe.events().await;
    events.retain(|event| event["type"] == "customer.subscription.updated");
    events.truncate(3);
    for event in events {
        app.deliver(&event).await.ok();
    }
    app.line("subscription_state", |line| line["reason"] == "undecided_second" && line["level"] == "warn")
        .await;
    app.until_nothing_is_asked().await;
    app.until_plan("acme", "team").await;
    app.stop().await;
}

#[tokio::test]
async fn without_a_key_questions_wait_for_one() {
    let mut app = TestApp::start_with(Database::Sqlite, &[("--stripe-secret-key", "")]).await;
    let created = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["metadata"] = json!({ "tenant_id": "acme" });
    });
    app.deliver(&created).await.ok();
    app.until_plan("acme", "pro").await;
    assert_eq!(app.questions().await, ["cus_webhook"]);
    app.go_down().await;
    assert_eq!(app.questions().await, ["cus_webhook"]);
    app.come_back_with("--stripe-secret-key", STRIPE_KEY).await;
    app.line("subscription_state", |line| line["event"] == "refresh.failed" && line["reason"].is_string())
        .await;
    app.stop().await;
}

#[tokio::test]
async fn a_404_that_is_not_stripes_is_no_answer() {
    let app = TestApp::start(Database::Sqlite).await;
    let subscription = app.make_pro("acme").await;
    app.until_nothing_is_asked().await;
    app.stripe.change(&subscription, &json!({ "status": "canceled", "silently": true })).await;
    let gateway = json!({
        "match": "GET /v1/subscriptions", "kind": "status", "status": 404, "times": 1, "body": "<html>no route</html>",
    });
    app.stripe.fault(&gateway).await;
    app.deliver(&update(&app, &subscription, -3600, "trialing").await).await.ok();
    app.line("subscription_state", |line| line["event"] == "refresh.failed").await;
    app.clock.advance_seconds(600);
    app.until_plan("acme", "free").await;
    app.stop().await;
}

#[tokio::test]
async fn a_question_that_a_wrong_clock_has_put_off_for_a_day_is_asked() {
    let app = TestApp::start(Database::Sqlite).await;
    let subscription = app.make_pro("acme").await;
    app.until_nothing_is_asked().await;
    app.stripe.change(&subscription, &json!({ "status": "canceled", "silently": true })).await;
    // What a replica leaves whose clock is a day ahead, when it claims the question and dies.
    let customer = app.customer_of("acme").await;
    let at_ms = (app.clock_seconds() + 86_400) * 1000;
    app.database
        .execute(&format!(
            "INSERT INTO refresh VALUES ('{subscription}', '{customer}', 'acme', 'older', NULL, NULL, 1, 0, {at_ms})"
        ))
        .await;
    app.until_plan("acme", "free").await;
    app.until_nothing_is_asked().await;
    app.stop().await;
}

#[tokio::test]
async fn a_row_that_no_build_can_read_holds_up_nobody() {
    let app = TestApp::start(Database::Sqlite).await;
    let subscription = app.make_pro("acme").await;
    app.until_nothing_is_asked().await;
    for number in 0..8 {
        let row = format!("('sub_{number}', 'cus_{number}', 'acme', 'of_tomorrow', NULL, NULL, 1, 0, 0)");
        app.database.execute(&format!("INSERT INTO refresh VALUES {row}")).await;
    }
    app.stripe.change(&subscription, &json!({ "status": "canceled", "silently": true })).await;
    app.deliver(&update(&app, &subscription, -3600, "trialing").await).await.ok();
    app.until_plan("acme", "free").await;
    app.stop().await;
}
