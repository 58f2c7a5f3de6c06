//! `billhook reconcile`: compares the database with Stripe.

use serde_json::json;

use crate::support::app::TestApp;
use crate::support::command_output::read_output;
use crate::support::database::{Database, on_both_databases};

on_both_databases!(reconcile_reports_drift_and_apply_fixes_it, reconcile_compares_only_chosen_tenant);

async fn reconcile_reports_drift_and_apply_fixes_it(database: Database) {
    let app = TestApp::start(database).await;
    let (acme, birch) = (app.subscribe_to_pro("acme").await, app.subscribe_to_pro("birch").await);
    app.subscribe_to_pro("cedar").await;
    app.wait_for_refreshes().await;
    let (code, out, err) = read_output(&app.run_command(&["reconcile"]));
    assert_eq!((code, out.as_str()), (Some(0), "0 of 3 tenants differed from Stripe\n"), "{err}");

    app.stripe
        .update_subscription(&acme, &json!({ "status": "past_due", "quantity": 3, "silently": true }))
        .await;
    app.database.execute(&format!("DELETE FROM subscription WHERE id = '{birch}'")).await;
    for _ in 0..2 {
        let (code, out, err) = read_output(&app.run_command(&["reconcile"]));
        assert_eq!(code, Some(1), "drift exits with 1");
        assert!(out.contains(&format!("{acme} status: active here, past_due at Stripe")), "{out}");
        assert!(out.contains(&format!("{acme} items: ")), "{out}");
        assert!(out.contains(&format!("{birch} is at Stripe, but not here")), "{out}");
        assert!(
            err.contains("2 of 3 tenants differed from Stripe; run `billhook reconcile --apply`"),
            "{err}"
        );
    }
    let (code, out, err) = read_output(&app.run_command(&["reconcile", "--apply"]));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("past_due at Stripe (fixed)"), "{out}");
    assert!(out.ends_with("2 of 3 tenants differed from Stripe and were fixed\n"), "{out}");
    app.wait_for_subscription("acme", |subscription| subscription["status"] == "past_due").await;
    app.wait_for_plan("birch", "pro").await;
    app.wait_for_line("subscription_state", |line| {
        line["reason"] == "refresh" && line["tenant_id"] == "birch"
    })
    .await;
    assert!(app.run_command(&["reconcile"]).status.success());
    app.stop().await;
}

async fn reconcile_compares_only_chosen_tenant(database: Database) {
    let app = TestApp::start(database).await;
    let (acme, birch) = (app.subscribe_to_pro("acme").await, app.subscribe_to_pro("birch").await);
    for subscription in [&acme, &birch] {
        app.stripe
            .update_subscription(subscription, &json!({ "status": "canceled", "silently": true }))
            .await;
    }
    let (code, out, err) = read_output(&app.run_command(&["reconcile", "--tenant", "acme", "--apply"]));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("1 of 1 tenant differed") && !out.contains(&birch), "{out}");
    app.wait_for_plan("acme", "free").await;
    app.wait_for_plan("birch", "pro").await;

    let (code, _, err) = read_output(&app.run_command(&["reconcile", "--tenant", "unknown"]));
    assert_eq!((code, err.contains("tenant unknown has no customer")), (Some(1), true), "{err}");
    let (code, _, err) = read_output(&app.run_command(&["reconcile", "--tenant", "a b"]));
    assert_eq!((code, err.contains("--tenant")), (Some(2), true), "{err}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconcile_reports_but_keeps_what_is_missing_at_stripe() {
    let app = TestApp::start(Database::Sqlite).await;
    let (acme, _) = (app.subscribe_to_pro("acme").await, app.subscribe_to_pro("birch").await);
    app.stripe.remove("subscriptions", &acme).await;
    app.stripe.remove("customers", &app.customer_of("birch").await).await;
    let (code, out, err) = read_output(&app.run_command(&["reconcile", "--apply"]));
    assert_eq!(code, Some(1));
    assert!(out.contains(&format!("{acme} is here, but not at Stripe\n")), "{out} {err}");
    assert!(
        out.contains("does not exist at Stripe: check that the key belongs to the right account\n"),
        "{out}"
    );
    assert!(err.contains("2 of 2 tenants differed from Stripe, 2 still do"), "{err}");
    app.wait_for_plan("acme", "pro").await;
    app.wait_for_plan("birch", "pro").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconcile_fails_when_stripe_is_unreachable() {
    let mut app = TestApp::start(Database::Sqlite).await;
    app.subscribe_to_pro("acme").await;
    app.stripe.stop().await;
    let (code, _, err) = read_output(&app.run_command(&["reconcile"]));
    assert_eq!(code, Some(1));
    assert!(err.contains("0 of 0 tenants differed from Stripe; 1 could not be compared"), "{err}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconcile_continues_after_tenant_it_cannot_compare() {
    let app = TestApp::start(Database::Sqlite).await;
    let (acme, birch) = (app.subscribe_to_pro("acme").await, app.subscribe_to_pro("birch").await);
    app.wait_for_refreshes().await;
    app.stripe.update_subscription(&birch, &json!({ "status": "canceled", "silently": true })).await;
    app.database.execute(&format!("UPDATE subscription SET status = 'a b' WHERE id = '{acme}'")).await;
    let (code, out, err) = read_output(&app.run_command(&["reconcile", "--apply"]));
    assert_eq!(code, Some(1));
    assert!(out.contains("could not be compared"), "{out}");
    assert!(err.contains("and was fixed; 1 could not be compared"), "{err}");
    app.wait_for_plan("birch", "free").await;
    app.stop().await;
}
