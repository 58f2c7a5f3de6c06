//! Holding what is here against what Stripe has, by hand.

use std::process::Output;

use serde_json::json;

use crate::support::app::TestApp;
use crate::support::database::{Database, on_both_databases};

on_both_databases!(drift_is_told_and_with_apply_mended, a_tenant_can_be_compared_alone);

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

async fn drift_is_told_and_with_apply_mended(database: Database) {
    let app = TestApp::start(database).await;
    let (acme, birch) = (app.make_pro("acme").await, app.make_pro("birch").await);
    app.make_pro("cedar").await;
    app.until_nothing_is_asked().await;
    let (code, out, err) = told(&app.run_command(&["reconcile"]));
    assert_eq!((code, out.as_str()), (Some(0), "0 of 3 tenants differed from Stripe\n"), "{err}");

    app.stripe.change(&acme, &json!({ "status": "past_due", "quantity": 3, "silently": true })).await;
    app.database.execute(&format!("DELETE FROM subscription WHERE id = '{birch}'")).await;
    for _ in 0..2 {
        let (code, out, err) = told(&app.run_command(&["reconcile"]));
        assert_eq!(code, Some(1), "a script can tell that there is drift");
        assert!(out.contains(&format!("{acme} status: active here, past_due at Stripe")), "{out}");
        assert!(out.contains(&format!("{acme} items: ")), "{out}");
        assert!(out.contains(&format!("{birch} is at Stripe, but not here")), "{out}");
        assert!(err.contains("2 of 3 tenants differed from Stripe; with --apply"), "{err}");
    }
    let (code, out, err) = told(&app.run_command(&["reconcile", "--apply"]));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("past_due at Stripe (mended)"), "{out}");
    assert!(out.ends_with("2 of 3 tenants differed from Stripe, and do no more\n"), "{out}");
    app.until("acme", |answer| answer["status"] == "past_due").await;
    app.until_plan("birch", "pro").await;
    app.line("subscription_state", |line| line["reason"] == "refresh" && line["tenant_id"] == "birch").await;
    assert!(app.run_command(&["reconcile"]).status.success());
    app.stop().await;
}

async fn a_tenant_can_be_compared_alone(database: Database) {
    let app = TestApp::start(database).await;
    let (acme, birch) = (app.make_pro("acme").await, app.make_pro("birch").await);
    for subscription in [&acme, &birch] {
        app.stripe.change(subscription, &json!({ "status": "canceled", "silently": true })).await;
    }
    let (code, out, err) = told(&app.run_command(&["reconcile", "--tenant", "acme", "--apply"]));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("1 of 1 tenants differed") && !out.contains(&birch), "{out}");
    app.until_plan("acme", "free").await;
    app.until_plan("birch", "pro").await;

    let (code, _, err) = told(&app.run_command(&["reconcile", "--tenant", "nobody"]));
    assert_eq!((code, err.contains("tenant nobody has no customer")), (Some(1), true), "{err}");
    let (code, _, err) = told(&app.run_command(&["reconcile", "--tenant", "a b"]));
    assert_eq!((code, err.contains("--tenant")), (Some(2), true), "{err}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stripe_does_not_have_is_told_and_left_to_a_person() {
    let app = TestApp::start(Database::Sqlite).await;
    let (acme, _) = (app.make_pro("acme").await, app.make_pro("birch").await);
    app.stripe.forget("subscriptions", &acme).await;
    app.stripe.forget("customers", &app.customer_of("birch").await).await;
    let (code, out, err) = told(&app.run_command(&["reconcile", "--apply"]));
    assert_eq!(code, Some(1));
    assert!(out.contains(&format!("{acme} is here, but not at Stripe\n")), "{out} {err}");
    assert!(out.contains("is not at Stripe: is the key of the right account?\n"), "{out}");
    assert!(err.contains("2 of 2 tenants differed from Stripe, 2 still do"), "{err}");
    app.until_plan("acme", "pro").await;
    app.until_plan("birch", "pro").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stripe_away_ends_the_run_with_a_sentence() {
    let mut app = TestApp::start(Database::Sqlite).await;
    app.make_pro("acme").await;
    app.stripe.go_away().await;
    let (code, _, err) = told(&app.run_command(&["reconcile"]));
    assert_eq!(code, Some(1));
    assert!(err.contains("0 of 0 tenants differed from Stripe; 1 could not be compared"), "{err}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_cannot_be_compared_holds_up_nobody() {
    let app = TestApp::start(Database::Sqlite).await;
    let (acme, birch) = (app.make_pro("acme").await, app.make_pro("birch").await);
    app.until_nothing_is_asked().await;
    app.stripe.change(&birch, &json!({ "status": "canceled", "silently": true })).await;
    app.database.execute(&format!("UPDATE subscription SET status = 'a b' WHERE id = '{acme}'")).await;
    let (code, out, err) = told(&app.run_command(&["reconcile", "--apply"]));
    assert_eq!(code, Some(1));
    assert!(out.contains("cannot be compared"), "{out}");
    assert!(err.contains("and do no more; 1 could not be compared"), "{err}");
    app.until_plan("birch", "free").await;
    app.stop().await;
}
