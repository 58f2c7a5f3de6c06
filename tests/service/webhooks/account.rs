//! Events and keys of another Stripe account.

use serde_json::{Value, json};

use crate::support::app::{TestApp, eventually, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    event_of_another_account_is_quarantined,
    events_with_account_are_quarantined_until_ours_is_known,
    configured_account_is_compared_and_remembered,
    service_stops_when_key_is_of_another_account,
    mistyped_account_is_not_remembered,
);

async fn own_account(app: &TestApp) -> String {
    app.stripe.api("GET", "/v1/account", "").await["id"].as_str().expect("an account").to_owned()
}

/// The event of a purchase by the tenant, with these top-level fields, such as `account` and
/// `context`.
fn purchase(app: &TestApp, tenant: &str, fields: &Value) -> Value {
    let mut event = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["id"] = json!(format!("sub_{tenant}"));
        object["customer"] = json!(format!("cus_{tenant}"));
        object["metadata"] = json!({ "tenant_id": tenant });
    });
    for (name, value) in fields.as_object().expect("an object") {
        event[name] = value.clone();
    }
    event
}

async fn wait_until_account_is_known(app: &TestApp) {
    eventually("the account is stored", || async {
        let rows = app.database.rows::<entity::installation::Entity>().await;
        rows.into_iter().find_map(|row| row.account_id)
    })
    .await;
}

async fn event_of_another_account_is_quarantined(database: Database) {
    let app = TestApp::start(database).await;
    let own = own_account(&app).await;
    for (tenant, fields) in [
        ("e", json!({ "context": own })),
        ("f", json!({ "account": own, "context": own })),
        ("g", json!({ "context": null })),
    ] {
        eventually("the service knows its account", || async {
            let event = purchase(&app, tenant, &fields);
            app.deliver(&event).await.ok();
            (app.outcome_of(&event).await.0 == "applied").then_some(())
        })
        .await;
        assert_eq!(app.subscription(&app.token(tenant)).await.ok()["plan"], "pro");
    }
    for (tenant, fields) in [
        ("a", json!({ "context": "acct_1SisterBusiness" })),
        ("b", json!({ "context": "acct_1Connected", "account": "acct_1Connected" })),
        ("c", json!({ "context": format!("{own}/acct_1Connected") })),
        ("d", json!({ "account": "acct_1Connected", "context": own })),
    ] {
        let event = purchase(&app, tenant, &fields);
        app.deliver(&event).await.ok();
        assert_eq!(app.outcome_of(&event).await, ("quarantined".into(), Some("foreign_account".into())));
        assert_eq!(app.subscription(&app.token(tenant)).await.ok()["access"], false);
    }
    app.stop().await;
}

async fn events_with_account_are_quarantined_until_ours_is_known(database: Database) {
    let mut app = TestApp::without_service(database, &[]).await;
    let forbidden = json!({ "match": "GET /v1/account", "kind": "status", "status": 403 });
    app.stripe.inject_fault(&forbidden).await;
    app.start_service().await;
    let ours = purchase(&app, "acme", &json!({ "context": "acct_1Ours" }));
    let foreign =
        purchase(&app, "birch", &json!({ "account": "acct_1Connected", "context": "acct_1Connected" }));
    for event in [&ours, &foreign] {
        app.deliver(event).await.ok();
        assert_eq!(app.outcome_of(event).await, ("quarantined".into(), Some("account_unknown".into())));
    }
    let doctor = app.run_command(&["doctor"]);
    let report = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(report.contains("yellow  account") && report.contains("set STRIPE_ACCOUNT"), "{report}");

    app.stop_service().await;
    app.start_service_with("--stripe-account", "acct_1Ours").await;
    eventually("both are retried", || async {
        let outcomes = (app.outcome_of(&ours).await.0, app.outcome_of(&foreign).await.1);
        (outcomes == ("applied".into(), Some("foreign_account".into()))).then_some(())
    })
    .await;
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "pro");
    assert_eq!(app.subscription(&app.token("birch")).await.ok()["access"], false);
    app.stop().await;
}

async fn configured_account_is_compared_and_remembered(database: Database) {
    let mut app = TestApp::without_service(database, &[("--stripe-account", "acct_1Asserted")]).await;
    let forbidden = json!({ "match": "GET /v1/account", "kind": "status", "status": 403 });
    app.stripe.inject_fault(&forbidden).await;
    app.start_service().await;
    let event = purchase(&app, "acme", &json!({ "context": "acct_1Asserted" }));
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await.0, "applied");
    wait_until_account_is_known(&app).await;
    app.stop_service().await;
    app.start_service_with("--stripe-account", "").await;
    let event = purchase(&app, "birch", &json!({ "context": "acct_1Asserted" }));
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await.0, "applied");
    app.stop().await;
}

async fn service_stops_when_key_is_of_another_account(database: Database) {
    let mut app = TestApp::start(database).await;
    wait_until_account_is_known(&app).await;
    app.stop_service().await;
    app.database.execute("UPDATE installation SET account_id = 'acct_1Other'").await;
    let doctor = app.run_command(&["doctor"]);
    let report = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(report.contains("red     account"), "{report}");
    app.stripe
        .inject_fault(&json!({ "match": "GET /v1/account", "kind": "status", "status": 429, "times": 1 }))
        .await;
    app.start_service_process(&[]).await;
    assert_eq!(app.exit_code().await, Some(2));
    let stderr = app.stderr();
    assert!(stderr.contains(&own_account(&app).await) && stderr.contains("acct_1Other"), "{stderr}");
    app.stop().await;
}

async fn mistyped_account_is_not_remembered(database: Database) {
    let mut app = TestApp::without_service(database, &[("--stripe-account", "acct_1Mistyped")]).await;
    app.start_service_process(&[]).await;
    assert_eq!(app.exit_code().await, Some(2));
    app.start_service_with("--stripe-account", &own_account(&app).await).await;
    wait_until_account_is_known(&app).await;
    app.stop().await;
}
