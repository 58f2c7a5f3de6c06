//! Streams of more tenants than one statement reads.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::streams::subscription_stream::stream_request;
use crate::support::api_response::ApiResponse;
use crate::support::app::{TestApp, eventually, stripe_event};
use crate::support::database::{Database, TestDatabase};
use crate::support::event_stream::EventStream;
use crate::support::proxy::PostgresProxy;

/// More than one statement reads and fewer than two.
const TENANTS: usize = 200;

/// The number of events sent concurrently. The queue is bounded.
const CONCURRENT_EVENTS: usize = 50;

fn tenants() -> impl Iterator<Item = String> {
    (0..TENANTS).map(|number| format!("tenant{number}"))
}

async fn open_all(app: &TestApp) -> Vec<Result<EventStream, ApiResponse>> {
    let tokens: Vec<_> = tenants().map(|tenant| app.token(&tenant)).collect();
    join_all(tokens.iter().map(|token| EventStream::try_open(stream_request(app, token)))).await
}

async fn wait_for_plan_on_each(streams: &mut [EventStream], plan: &str) {
    for (stream, tenant) in streams.iter_mut().zip(tenants()) {
        let subscription = stream.wait_for(|subscription| subscription["plan"] == plan).await;
        assert_eq!(subscription["tenant"], tenant);
    }
}

/// A new subscription of the tenant.
fn subscription_created(app: &TestApp, tenant: &str) -> Value {
    stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["id"] = json!(format!("sub_{tenant}"));
        object["customer"] = json!(format!("cus_{tenant}"));
        object["metadata"] = json!({ "tenant_id": tenant });
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_many_tenants_each_receive_their_changes() {
    let app = TestApp::start(Database::Sqlite).await;
    let mut streams: Vec<_> =
        open_all(&app).await.into_iter().map(|opened| opened.expect("the stream opens")).collect();
    wait_for_plan_on_each(&mut streams, "free").await;

    let events: Vec<_> = tenants().map(|tenant| subscription_created(&app, &tenant)).collect();
    for events in events.chunks(CONCURRENT_EVENTS) {
        app.deliver_all(events).await.iter().for_each(|response| _ = response.ok());
    }
    wait_for_plan_on_each(&mut streams, "pro").await;

    // No notification reports this change, so one poll reads all tenants.
    app.database.execute("UPDATE subscription SET status = 'canceled'").await;
    app.clock.advance_seconds(5);
    wait_for_plan_on_each(&mut streams, "free").await;
    drop(streams);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_database_rejects_streams_before_request_timeout() {
    let dir = TempDir::new().expect("a directory");
    let database = TestDatabase::create(Database::Postgres, &dir).await;
    let proxy = PostgresProxy::start(&database.url).await;
    let settings = [("--database-url", proxy.url.as_str())];
    let app = TestApp::start_process_with(Database::Sqlite, &settings, &[]).await;

    // No stream is open yet: a prepared statement would not be sent as text again, and the proxy
    // would not match it.
    proxy.block_on_statement("\"subscription\"");
    for refused in open_all(&app).await {
        let refused = refused.expect_err("the database is stalled");
        refused.assert_problem(503, "unavailable");
        assert_eq!(refused.header("retry-after"), Some("5"));
    }
    let stderr = app.wait_for_stderr("streams are not up to date error=\"the database took too long\"").await;
    assert!(!stderr.contains("a request timed out"), "{stderr}");

    proxy.unblock();
    let acme = app.token("acme");
    eventually("a stream opens", || async { EventStream::try_open(stream_request(&app, &acme)).await.ok() })
        .await;
    app.stop().await;
    database.drop().await;
}
