//! Two tenants of one service, whatever they and others do: nothing of one is ever seen by the other. Not in an answer or
//! on a stream, by no ETag, in no line, span or row that tells of the other, and by no change where nothing was its own.
//!
//! One thing a caller may choose: by its `traceparent`, the trace that its request is told in. No tale chooses another's.

mod asking;
mod follower;
mod happening;
mod looking_back;
mod play;
mod tale;
mod witness;

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};
use crate::support::event_stream::{EventStream, STREAM};
use crate::support::random_cases::{Cases, tell_all};

on_both_databases!(
    whatever_two_tenants_do_nothing_of_one_is_seen_by_the_other,
    a_customer_that_comes_to_another_tenant_brings_what_it_has_and_leaves_its_past,
);

/// A tale is a conversation of some two hundred requests.
const CASES: Cases = Cases { seed_variable: "BILLHOOK_ISOLATION_SEED", ordinary: 5, soak: 60 };

async fn whatever_two_tenants_do_nothing_of_one_is_seen_by_the_other(database: Database) {
    tell_all(CASES, tale::tale(), async |tale| play::play(database, tale).await).await;
}

async fn a_customer_that_comes_to_another_tenant_brings_what_it_has_and_leaves_its_past(database: Database) {
    let app = TestApp::start(database).await;
    let begun = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        (object["status"], object["metadata"]) = (json!("incomplete"), json!({ "tenant_id": "acme" }));
    });
    app.deliver(&begun).await.ok();
    // Stripe does not know the customer, so that the tenant buys as another.
    app.check_out(&app.token("acme"), &json!({})).await.ok();
    assert_ne!(app.customer_of("acme").await, "cus_webhook");
    let following = |tenant| app.request(reqwest::Method::GET, STREAM).bearer_auth(app.token(tenant));
    let mut acme = EventStream::open(following("acme")).await;
    assert_eq!(acme.next_subscription().await["status"], "incomplete");

    let linked = app.run_command(&["tenant", "link", "birch", "cus_webhook"]);
    assert!(linked.status.success(), "{linked:?}");
    // On SQLite nothing tells of it, and it is found at the next look.
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
    let line = app.line("subscription_state", |line| line["stripe_event_id"] == paid["id"]).await;
    assert_eq!(
        (&line["tenant_id"], line["journey_id"].as_str().map(str::to_owned)),
        (&json!("birch"), journey_of("birch").await)
    );
    assert_ne!(journey_of("birch").await, journey_of("acme").await);
    app.stop().await;
}

/// Both have nothing, and are answered the same but for their names.
#[tokio::test]
async fn an_etag_of_anothers_is_none_of_ones_own_though_the_state_is_the_same() {
    let app = TestApp::start(Database::Sqlite).await;
    let [acme, birch] = ["acme", "birch"].map(|tenant| app.token(tenant));
    let (of_acme, of_birch) = (app.subscription(&acme).await, app.subscription(&birch).await);
    let [etag, others] = [&of_acme, &of_birch].map(|answer| answer.header("etag").expect("an ETag"));
    assert_ne!(etag, others);
    let again = app.subscription_unless(&acme, others).await;
    assert_eq!((again.header("etag"), again.ok()), (Some(etag), of_acme.ok()));
    assert_eq!(app.subscription_unless(&acme, &format!("{others}, {etag}")).await.status, 304);
    app.stop().await;
}
