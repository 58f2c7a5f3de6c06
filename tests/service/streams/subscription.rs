//! Reading a tenant's subscription.

use serde_json::json;

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    tenant_cannot_read_another_tenant,
    etag_matches_until_subscription_changes,
    service_token_reads_any_tenant,
    trial_grants_plan_and_reports_trial_end,
    past_due_grants_plan_unless_disabled,
);

async fn tenant_cannot_read_another_tenant(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    let birch = app.subscription(&app.token("birch")).await.ok();
    assert_eq!((&birch["tenant"], &birch["plan"]), (&json!("birch"), &json!("free")));
    app.open_portal(&app.token("birch"), &json!({})).await.assert_problem(409, "no_customer");
    app.tenant_subscription("acme", &app.token("birch")).await.assert_problem(403, "not_allowed");
    app.tenant_subscription("acme", &app.token("acme")).await.assert_problem(403, "not_allowed");
    app.stop().await;
}

async fn etag_matches_until_subscription_changes(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    let free = app.subscription(&token).await;
    let etag = free.header("etag").expect("an ETag").to_owned();
    assert_eq!(free.header("cache-control"), Some("no-store"));

    for known in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
        let same = app.subscription_if_none_match(&token, &known).await;
        assert_eq!((same.status.as_u16(), same.text.as_str()), (304, ""), "{known}");
        assert_eq!(same.header("etag"), Some(etag.as_str()));
    }
    let other = app.subscription(&app.token("birch")).await;
    assert_ne!(other.header("etag"), Some(etag.as_str()), "the response names its tenant");

    app.subscribe_to_pro("acme").await;
    let changed = app.subscription_if_none_match(&token, &etag).await;
    assert_eq!(changed.ok()["plan"], "pro");
    assert_ne!(changed.header("etag"), Some(etag.as_str()));
    app.stop().await;
}

async fn service_token_reads_any_tenant(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    let service = app.service_token();
    let mut by_service = app.tenant_subscription("acme", &service).await.ok();
    assert_eq!(by_service["may_manage"].take(), false, "a service acts for no user");
    by_service["may_manage"] = true.into();
    assert_eq!(
        by_service,
        app.subscription(&app.token("acme")).await.ok(),
        "otherwise both get the same response"
    );
    assert_eq!(app.tenant_subscription("unknown", &service).await.ok()["plan"], "free");
    for impossible in ["a%20b", "%2e%2e%2fetc", &"t".repeat(64), "%00", "%FF"] {
        app.tenant_subscription(impossible, &service).await.assert_problem(404, "not_found");
    }
    app.stop().await;
}

async fn trial_grants_plan_and_reports_trial_end(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "trialing" })).await;
    let trial = app.wait_for_subscription("acme", |subscription| subscription["status"] == "trialing").await;
    assert_eq!((&trial["plan"], &trial["access"]), (&json!("pro"), &json!(true)));

    let trial_end = app.clock_seconds() + 86_400;
    let event = stripe_event("customer.subscription.updated", trial_end, |object| {
        object["id"] = json!(subscription);
        object["status"] = json!("trialing");
        object["trial_end"] = json!(trial_end);
    });
    let event = app.for_customer_of("acme", event).await;
    app.deliver(&event).await.ok();
    let trial = app.wait_for_subscription("acme", |subscription| !subscription["trial_end"].is_null()).await;
    assert!(trial["trial_end"].as_str().expect("a time").ends_with('Z'), "{trial}");
    app.stop().await;
}

async fn past_due_grants_plan_unless_disabled(database: Database) {
    for (grants, plan) in [("true", "pro"), ("false", "free")] {
        let app = TestApp::start_with(database, &[("--past-due-grants", grants)]).await;
        let subscription = app.subscribe_to_pro("acme").await;
        app.stripe.update_subscription(&subscription, &json!({ "status": "past_due" })).await;
        let past_due =
            app.wait_for_subscription("acme", |subscription| subscription["status"] == "past_due").await;
        assert_eq!((&past_due["plan"], &past_due["can_manage"]), (&json!(plan), &json!(true)));
        app.stop().await;
    }
}
