//! Two deployments on one Stripe account, each with its own database and with tenants of the same
//! names.

use serde_json::{Value, json};

use crate::support::app::{DEPLOYMENT, TestApp, WEBHOOK, eventually, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    purchase_in_one_deployment_grants_nothing_in_the_other,
    linked_customer_is_ours_despite_foreign_metadata,
    lookup_does_not_link_customer_of_other_deployment,
    events_parked_before_deployment_is_known_are_quarantined,
    adopted_deployment_brings_its_customers,
    generated_deployment_id_is_kept,
    command_refuses_database_of_another_deployment,
);

/// Starts another deployment on the same account.
async fn other_deployment(app: &TestApp, database: Database) -> TestApp {
    let settings = [("--deployment-id", "dev"), ("--stripe-api-base", app.stripe.url.as_str())];
    let other = TestApp::start_with(database, &settings).await;
    app.stripe.add_webhook_endpoint(&other.url_of(WEBHOOK)).await;
    other
}

/// The event of a purchase by the deployment's tenant `acme`.
fn purchase_of(app: &TestApp, deployment: &str) -> Value {
    stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["id"] = json!("sub_foreign");
        object["customer"] = json!("cus_foreign");
        object["metadata"] = json!({ "tenant_id": "acme", "deployment_id": deployment });
    })
}

/// A later update of the same subscription, whose object lacks our metadata.
fn change(app: &TestApp) -> Value {
    stripe_event("customer.subscription.updated", app.clock_seconds() + 1, |object| {
        object["id"] = json!("sub_foreign");
        object["customer"] = json!("cus_foreign");
        object["metadata"] = json!({});
    })
}

fn quarantined() -> (String, Option<String>) {
    ("quarantined".into(), Some("foreign_deployment".into()))
}

async fn purchase_in_one_deployment_grants_nothing_in_the_other(database: Database) {
    let staging = TestApp::start(database).await;
    let dev = other_deployment(&staging, database).await;
    staging.subscribe_to_pro("acme").await;
    dev.wait_for_line("subscription_state", |line| {
        line["event"] == "event.quarantined" && line["stripe_event_type"] == "customer.subscription.created"
    })
    .await;
    assert_eq!(dev.subscription(&dev.token("acme")).await.ok()["plan"], "free");

    let bought = dev.check_out(&dev.token("acme"), &json!({})).await.ok();
    staging.stripe.pay(bought["session_id"].as_str().expect("a session")).await;
    dev.wait_for_plan("acme", "pro").await;
    assert_ne!(dev.customer_of("acme").await, staging.customer_of("acme").await);
    let parked = dev.lines("subscription_state").into_iter().filter(|line| line["event"] == "event.parked");
    assert_eq!(parked.count(), 0);
    dev.stop().await;
    staging.stop().await;
}

async fn linked_customer_is_ours_despite_foreign_metadata(database: Database) {
    let app = TestApp::start(database).await;
    let linked = app.run_command(&["tenant", "link", "acme", "cus_foreign"]);
    assert!(linked.status.success(), "{linked:?}");
    let event = purchase_of(&app, "dev");
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await.0, "applied");
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "pro");
    app.stop().await;
}

async fn lookup_does_not_link_customer_of_other_deployment(database: Database) {
    let mut app = TestApp::without_service(database, &[]).await;
    app.stripe.inject_fault(&json!({ "events": "hidden" })).await;
    let metadata = "metadata[tenant_id]=acme&metadata[deployment_id]=dev";
    let customer = app.stripe.api("POST", "/v1/customers", metadata).await["id"].clone();
    let customer = customer.as_str().expect("an id");
    app.start_service().await;
    app.wait_for_backfill().await;
    app.stripe.subscribe_customer(customer).await;
    app.wait_for_line("subscription_state", |line| line["event"] == "event.parked").await;
    app.clock.advance_seconds(60);
    eventually("the customer has been looked up", || async {
        let row = app.database.row::<entity::customer::Entity>(customer).await?;
        row.asked_at_ms.and(row.deployment_id)
    })
    .await;
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "free");
    let events = app.database.rows::<entity::event::Entity>().await;
    let of_customer = events.iter().filter(|event| event.customer_id.as_deref() == Some(customer));
    let outcomes: std::collections::BTreeSet<_> = of_customer.map(|event| event.outcome.as_str()).collect();
    assert_eq!(outcomes, ["quarantined"].into(), "parked events are quarantined, too");
    app.stop().await;
}

async fn events_parked_before_deployment_is_known_are_quarantined(database: Database) {
    let app = TestApp::start(database).await;
    let changed = change(&app);
    app.deliver(&changed).await.ok();
    assert_eq!(app.outcome_of(&changed).await.0, "parked");
    let purchase = purchase_of(&app, "dev");
    app.deliver(&purchase).await.ok();
    assert_eq!(app.outcome_of(&purchase).await, quarantined());
    assert_eq!(app.outcome_of(&changed).await, quarantined());
    assert!(app.payload_of(&purchase).await.is_some() && app.payload_of(&changed).await.is_some());
    app.stop().await;
}

async fn adopted_deployment_brings_its_customers(database: Database) {
    let mut app = TestApp::start(database).await;
    let (purchase, changed) = (purchase_of(&app, "lost"), change(&app));
    for event in [&purchase, &changed] {
        app.deliver(event).await.ok();
        assert_eq!(app.outcome_of(event).await, quarantined());
    }
    let shown = app.run_command(&["deployment", "show", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown, json!({ "id": DEPLOYMENT, "others": [{ "id": "lost", "customers": 1 }] }));

    app.stop_service().await;
    let mistyped = app.run_command(&["deployment", "adopt", "lots"]);
    assert_eq!(mistyped.status.code(), Some(1), "{mistyped:?}");
    let adopted = app.run_command(&["deployment", "adopt", "lost"]);
    assert!(adopted.status.success(), "{adopted:?}");
    // The command went by the machine's clock, which is ahead of the test's.
    app.clock.advance_seconds(600);
    app.start_service_with("--deployment-id", "lost").await;
    app.wait_for_plan("acme", "pro").await;
    app.wait_for_outcome(&changed, "applied").await;
    assert_eq!(app.customer_of("acme").await, "cus_foreign");
    app.stop().await;
}

async fn generated_deployment_id_is_kept(database: Database) {
    let mut app = TestApp::start_with(database, &[("--deployment-id", "")]).await;
    let shown = || {
        let shown = app.run_command(&["deployment", "show", "--json"]);
        serde_json::from_slice::<Value>(&shown.stdout).expect("JSON")["id"].clone()
    };
    let first = shown();
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    let customers = app.stripe.requests_to("POST", "/v1/customers").await;
    assert_eq!(customers[0]["params"]["metadata"]["deployment_id"], first);
    let sessions = app.stripe.requests_to("POST", "/v1/checkout/sessions").await;
    assert_eq!(sessions[0]["params"]["metadata"]["deployment_id"], first);
    assert_eq!(sessions[0]["params"]["subscription_data"]["metadata"]["deployment_id"], first);
    app.stop_service().await;
    app.start_service().await;
    let shown = app.run_command(&["deployment", "show"]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.contains(first.as_str().expect("an id")), "{text}");
    app.stop().await;
}

async fn command_refuses_database_of_another_deployment(database: Database) {
    let mut app = TestApp::start(database).await;
    app.stop_service().await;
    let refused = app
        .run_command_with(&["tenant", "link", "acme", "cus_foreign"], &[("BILLHOOK_DEPLOYMENT_ID", "dev")]);
    assert_eq!(refused.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        stderr.contains("dev") && stderr.contains(DEPLOYMENT) && stderr.contains("deployment adopt dev"),
        "{stderr}"
    );
    app.stop().await;
}
