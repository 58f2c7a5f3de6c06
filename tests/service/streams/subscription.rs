//! Reading what a tenant is entitled to.

use serde_json::json;

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    one_tenant_never_sees_another,
    an_etag_stands_until_the_answer_changes,
    other_services_read_any_tenant,
    a_trial_grants_the_plan_and_says_when_it_ends,
    past_due_grants_unless_it_is_told_not_to,
);

async fn one_tenant_never_sees_another(database: Database) {
    let app = TestApp::start(database).await;
    app.make_pro("acme").await;
    let birch = app.subscription(&app.token("birch")).await.ok();
    assert_eq!((&birch["tenant"], &birch["plan"]), (&json!("birch"), &json!("free")));
    app.open_portal(&app.token("birch"), &json!({})).await.assert_is(409, "no_customer");
    app.subscription_of("acme", &app.token("birch")).await.assert_is(403, "not_allowed");
    app.subscription_of("acme", &app.token("acme")).await.assert_is(403, "not_allowed");
    app.stop().await;
}

async fn an_etag_stands_until_the_answer_changes(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    let free = app.subscription(&token).await;
    let etag = free.header("etag").expect("an ETag").to_owned();
    assert_eq!(free.header("cache-control"), Some("no-store"));

    for known in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
        let same = app.subscription_unless(&token, &known).await;
        assert_eq!((same.status.as_u16(), same.text.as_str()), (304, ""), "{known}");
        assert_eq!(same.header("etag"), Some(etag.as_str()));
    }
    let other = app.subscription(&app.token("birch")).await;
    assert_ne!(other.header("etag"), Some(etag.as_str()), "the answer names its tenant");

    app.make_pro("acme").await;
    let changed = app.subscription_unless(&token, &etag).await;
    assert_eq!(changed.ok()["plan"], "pro");
    assert_ne!(changed.header("etag"), Some(etag.as_str()));
    app.stop().await;
}

async fn other_services_read_any_tenant(database: Database) {
    let app = TestApp::start(database).await;
    app.make_pro("acme").await;
    let service = app.service_token();
    let mut by_service = app.subscription_of("acme", &service).await.ok();
    assert_eq!(by_service["may_manage"].take(), false, "a service acts for none");
    by_service["may_manage"] = true.into();
    assert_eq!(by_service, app.subscription(&app.token("acme")).await.ok(), "else they are told the same");
    assert_eq!(app.subscription_of("nobody", &service).await.ok()["plan"], "free");
    for impossible in ["a%20b", "%2e%2e%2fetc", &"t".repeat(64), "%00", "%FF"] {
        app.subscription_of(impossible, &service).await.assert_is(404, "not_found");
    }
    app.stop().await;
}

async fn a_trial_grants_the_plan_and_says_when_it_ends(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    app.stripe.change(&subscription, &json!({ "status": "trialing" })).await;
    let trial = app.until("acme", |answer| answer["status"] == "trialing").await;
    assert_eq!((&trial["plan"], &trial["access"]), (&json!("pro"), &json!(true)));

    let trial_end = app.clock_seconds() + 86_400;
    let event = stripe_event("customer.subscription.updated", trial_end, |object| {
        object["id"] = json!(subscription);
        object["status"] = json!("trialing");
        object["trial_end"] = json!(trial_end);
    });
    let event = app.for_customer_of("acme", event).await;
    app.deliver(&event).await.ok();
    let trial = app.until("acme", |answer| !answer["trial_end"].is_null()).await;
    assert!(trial["trial_end"].as_str().expect("a time").ends_with('Z'), "{trial}");
    app.stop().await;
}

async fn past_due_grants_unless_it_is_told_not_to(database: Database) {
    for (grants, plan) in [("true", "pro"), ("false", "free")] {
        let app = TestApp::start_with(database, &[("--past-due-grants", grants)]).await;
        let subscription = app.make_pro("acme").await;
        app.stripe.change(&subscription, &json!({ "status": "past_due" })).await;
        let late = app.until("acme", |answer| answer["status"] == "past_due").await;
        assert_eq!((&late["plan"], &late["can_manage"]), (&json!(plan), &json!(true)));
        app.stop().await;
    }
}
