//! The whole journey: checkout, payment, webhook, `pro`, portal, scheduled cancellation, end.

use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::database::{Database, on_both_databases};

on_both_databases!(tenant_buys_manages_and_cancels_subscription);

async fn tenant_buys_manages_and_cancels_subscription(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");

    let free = app.subscription(&token).await.ok();
    assert_eq!(
        free,
        json!({
            "tenant": "acme", "plan": "free", "access": false, "status": null, "price": null, "quantity": null,
            "current_period_end": null, "trial_end": null, "scheduled_cancel": false, "cancel_at": null,
            "can_manage": false, "may_manage": true, "as_of": null,
        })
    );

    let bought = app.check_out(&token, &json!({})).await.ok();
    let session = bought["session_id"].as_str().expect("a session");
    assert!(bought["url"].as_str().expect("a URL").starts_with(&app.stripe.url));
    app.stripe.pay(session).await;

    let pro = app.wait_for_plan("acme", "pro").await;
    assert_eq!((&pro["access"], &pro["status"]), (&json!(true), &json!("active")));
    assert_eq!((&pro["price"], &pro["quantity"]), (&json!("price_pro_monthly"), &json!(1)));
    assert_eq!((&pro["can_manage"], &pro["scheduled_cancel"]), (&json!(true), &json!(false)));
    let period_end = pro["current_period_end"].as_str().expect("a period end");
    assert!(period_end.ends_with('Z'), "{period_end}");

    let portal = app.open_portal(&token, &json!({})).await.ok();
    assert!(portal["url"].as_str().expect("a URL").starts_with(&app.stripe.url));

    let subscription = app.stripe.subscription_of_session(session).await;
    app.stripe.cancel_in_portal(portal["url"].as_str().expect("a URL"), &subscription).await;
    let ending =
        app.wait_for_subscription("acme", |subscription| subscription["scheduled_cancel"] == true).await;
    assert_eq!((&ending["plan"], &ending["cancel_at"]), (&json!("pro"), &pro["current_period_end"]));

    app.stripe.update_subscription(&subscription, &json!({ "status": "canceled" })).await;
    let ended = app.wait_for_plan("acme", "free").await;
    assert_eq!(
        (&ended["access"], &ended["status"], &ended["scheduled_cancel"], &ended["can_manage"]),
        (&json!(false), &json!("canceled"), &json!(false), &json!(true))
    );

    assert_log_files(&app).await;
    app.stop().await;
}

async fn assert_log_files(app: &TestApp) {
    let journey =
        app.wait_for_line("billing", |line| line["event"] == "checkout.create.success").await["journey_id"]
            .clone();
    assert!(journey.is_string());
    app.wait_for_line("subscription_state", |line| line["to"] == "canceled").await;

    let transitions: Vec<(Value, Value)> = app
        .lines("subscription_state")
        .into_iter()
        .filter(|line| line["event"] == "subscription.transition")
        .inspect(|line| assert_eq!((&line["tenant_id"], &line["journey_id"]), (&json!("acme"), &journey)))
        .map(|line| (line["from"].clone(), line["to"].clone()))
        .collect();
    assert_eq!(
        transitions,
        [
            (Value::Null, json!("active")),
            (json!("active"), json!("active")),
            (json!("active"), json!("canceled"))
        ]
    );

    let billing: Vec<Value> = app.lines("billing").into_iter().map(|line| line["event"].clone()).collect();
    let expected =
        ["checkout.create.start", "checkout.create.success", "portal.create.start", "portal.create.success"];
    assert_eq!(billing, expected);
    for line in app.lines("billing").iter().filter(|line| line["outcome"] == "success") {
        for field in ["tenant_id", "user_id", "customer_id", "stripe_request_id", "trace_id", "duration_ms"] {
            assert!(!line[field].is_null(), "{field} in {line}");
        }
    }
    for line in app.lines("webhook_signatures") {
        assert_eq!((&line["event"], &line["secret_name"]), (&json!("signature.accepted"), &json!("1")));
    }
}
