//! Tenant isolation: in random scenarios with two tenants, neither sees anything of the other in a
//! response, on a stream, through an ETag or through an unexplained change of its own state, and no
//! log line, span or row names both.
//!
//! Start reading at `simulation`. A caller may choose its request's trace with `traceparent`. No
//! scenario uses another tenant's trace.

mod actions;
mod final_checks;
mod leak_detector;
mod requests;
mod scenario;
mod simulation;
mod stream_reader;

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};
use crate::support::event_stream::{EventStream, STREAM};
use crate::support::random_cases::{Cases, run_cases};

on_both_databases!(
    random_scenarios_leak_nothing_between_two_tenants,
    relinked_customer_moves_its_subscription_but_not_its_history,
);

/// A scenario makes about two hundred requests.
const CASES: Cases = Cases { seed_variable: "BILLHOOK_ISOLATION_SEED", default_count: 5, soak_count: 60 };

async fn random_scenarios_leak_nothing_between_two_tenants(database: Database) {
    run_cases(CASES, scenario::scenario(), async |scenario| simulation::run(database, scenario).await).await;
}

async fn relinked_customer_moves_its_subscription_but_not_its_history(database: Database) {
    let app = TestApp::start(database).await;
    let incomplete = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        (object["status"], object["metadata"]) = (json!("incomplete"), json!({ "tenant_id": "acme" }));
    });
    app.deliver(&incomplete).await.ok();
    // Stripe does not know the customer, so the checkout creates another for the tenant.
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    assert_ne!(app.customer_of("acme").await, "cus_webhook");
    let stream_request = |tenant| app.request(reqwest::Method::GET, STREAM).bearer_auth(app.token(tenant));
    let mut acme = EventStream::open(stream_request("acme")).await;
    assert_eq!(acme.next_subscription().await["status"], "incomplete");

    let linked = app.run_command(&["tenant", "link", "birch", "cus_webhook"]);
    assert!(linked.status.success(), "{linked:?}");
    // On SQLite the stream is not notified of a command and finds the change at its next poll.
    app.clock.advance_seconds(5);
    assert_eq!(acme.next_subscription().await["status"], Value::Null);
    let paid = stripe_event("customer.subscription.updated", app.clock_seconds() + 1, |object| {
        object["metadata"] = json!({ "tenant_id": "acme" });
    });
    app.deliver(&paid).await.ok();
    assert_eq!(app.subscription(&app.token("birch")).await.ok()["plan"], "pro");
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["status"], Value::Null);

    let journey_of =
        async |tenant| app.database.row::<entity::tenant::Entity>(tenant).await.expect("a tenant").journey_id;
    let line = app.wait_for_line("subscription_state", |line| line["stripe_event_id"] == paid["id"]).await;
    assert_eq!(
        (&line["tenant_id"], line["journey_id"].as_str().map(str::to_owned)),
        (&json!("birch"), journey_of("birch").await)
    );
    assert_ne!(journey_of("birch").await, journey_of("acme").await);
    app.stop().await;
}

/// Both have no subscription, so that their responses differ only in the tenant.
#[tokio::test]
async fn etags_of_tenants_with_equal_state_differ() {
    let app = TestApp::start(Database::Sqlite).await;
    let [acme, birch] = ["acme", "birch"].map(|tenant| app.token(tenant));
    let (acme_response, birch_response) = (app.subscription(&acme).await, app.subscription(&birch).await);
    let [etag, other_etag] =
        [&acme_response, &birch_response].map(|response| response.header("etag").expect("an ETag"));
    assert_ne!(etag, other_etag);
    let again = app.subscription_if_none_match(&acme, other_etag).await;
    assert_eq!((again.header("etag"), again.ok()), (Some(etag), acme_response.ok()));
    assert_eq!(app.subscription_if_none_match(&acme, &format!("{other_etag}, {etag}")).await.status, 304);
    app.stop().await;
}
