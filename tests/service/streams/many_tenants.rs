//! Streams of more tenants than are read at once.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::streams::subscription_stream::following;
use crate::support::answer::Answer;
use crate::support::app::{TestApp, eventually, stripe_event};
use crate::support::database::{Database, Fresh};
use crate::support::event_stream::EventStream;
use crate::support::proxy::Road;

/// Two statements' worth, and not a full second one.
const TENANTS: usize = 200;

/// Events that are sent at once: there is a bound on how many may wait.
const AT_ONCE: usize = 50;

fn tenants() -> impl Iterator<Item = String> {
    (0..TENANTS).map(|number| format!("tenant{number}"))
}

async fn open_all(app: &TestApp) -> Vec<Result<EventStream, Answer>> {
    let tokens: Vec<_> = tenants().map(|tenant| app.token(&tenant)).collect();
    join_all(tokens.iter().map(|token| EventStream::try_open(following(app, token)))).await
}

async fn each_hears(streams: &mut [EventStream], plan: &str) {
    for (stream, tenant) in streams.iter_mut().zip(tenants()) {
        let heard = stream.until(|answer| answer["plan"] == plan).await;
        assert_eq!(heard["tenant"], tenant);
    }
}

/// A subscription of a tenant's own.
fn begun(app: &TestApp, tenant: &str) -> Value {
    stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["id"] = json!(format!("sub_{tenant}"));
        object["customer"] = json!(format!("cus_{tenant}"));
        object["metadata"] = json!({ "tenant_id": tenant });
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_tenants_are_followed_each_hears_of_its_changes() {
    let app = TestApp::start(Database::Sqlite).await;
    let mut streams: Vec<_> =
        open_all(&app).await.into_iter().map(|opened| opened.expect("there is room")).collect();
    each_hears(&mut streams, "free").await;

    let events: Vec<_> = tenants().map(|tenant| begun(&app, &tenant)).collect();
    for events in events.chunks(AT_ONCE) {
        app.deliver_all(events).await.iter().for_each(|answer| _ = answer.ok());
    }
    each_hears(&mut streams, "pro").await;

    // Nobody tells of this, and all are read in one round.
    app.database.execute("UPDATE subscription SET status = 'canceled'").await;
    app.clock.advance_seconds(5);
    each_hears(&mut streams, "free").await;
    drop(streams);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_stands_still_all_who_open_a_stream_are_told_before_we_lose_patience() {
    let dir = TempDir::new().expect("a directory");
    let database = Fresh::make(Database::Postgres, &dir).await;
    let road = Road::to(&database.url).await;
    let by_road = [("--database-url", road.url.as_str())];
    let app = TestApp::start_process_with(Database::Sqlite, &by_road, &[]).await;

    // No stream was opened before: a statement that is prepared already would not be sent as text again.
    road.block_at("\"subscription\"");
    for refused in open_all(&app).await {
        let refused = refused.expect_err("nothing to tell");
        refused.assert_is(503, "unavailable");
        assert_eq!(refused.header("retry-after"), Some("5"));
    }
    let told = app.until_printed("streams are not up to date error=\"the database took too long\"").await;
    assert!(!told.contains("an answer took too long"), "{told}");

    road.clear();
    let acme = app.token("acme");
    eventually("a stream opens", || async { EventStream::try_open(following(&app, &acme)).await.ok() }).await;
    app.stop().await;
    database.drop().await;
}
