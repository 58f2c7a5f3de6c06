//! Replicas notify each other of changes over PostgreSQL. The clock stands still, so no replica
//! polls: a change reaches a stream only by a notification.

use reqwest::{Client, RequestBuilder};
use serde_json::Value;

use crate::streams::subscription_stream::quantity_update;
use crate::support::app::{TestApp, eventually};
use crate::support::database::Database;
use crate::support::event_stream::{EventStream, STREAM};
use crate::support::proxy::PostgresProxy;

/// Two replicas: one receives the webhooks, the other has an open stream.
struct TwoReplicas {
    app: TestApp,
    subscription: String,
    stream: EventStream,
}

impl TwoReplicas {
    async fn start(mut app: TestApp) -> Self {
        let subscription = app.subscribe_to_pro("acme").await;
        let other = app.start_replica().await;
        wait_until_both_listen(&app).await;
        let mut stream = EventStream::open(stream_request_at(&other, &app.token("acme"))).await;
        stream.next_subscription().await;
        Self { app, subscription, stream }
    }

    async fn deliver(&self, quantity: i64) {
        self.app.deliver(&quantity_update(&self.app, &self.subscription, quantity).await).await.ok();
    }

    async fn wait_for(&mut self, quantity: i64) -> Value {
        self.stream.wait_for(|subscription| subscription["quantity"] == quantity).await
    }

    /// Several changes one by one: a new listener reads everything once, which could hide a lost
    /// first notification.
    async fn assert_notifications_arrive(&mut self, first: i64) {
        for quantity in first..first + 4 {
            self.deliver(quantity).await;
            self.wait_for(quantity).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notification_reaches_other_replica_also_after_reconnect() {
    let mut replicas = TwoReplicas::start(TestApp::start(Database::Postgres).await).await;
    replicas.assert_notifications_arrive(10).await;
    replicas.app.database.disconnect_listeners().await;
    wait_until_both_listen(&replicas.app).await;
    replicas.assert_notifications_arrive(20).await;
    replicas.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_notification_is_polled_and_dead_listener_replaced() {
    let mut app = TestApp::start(Database::Postgres).await;
    app.stop_service().await;
    let proxy = PostgresProxy::start(&app.database.url).await;
    app.start_service_with("--database-url", &proxy.url).await;
    let mut replicas = TwoReplicas::start(app).await;
    replicas.assert_notifications_arrive(10).await;

    proxy.silence_listeners();
    let listened = proxy.listener_count();
    replicas.deliver(20).await;
    replicas.app.clock.advance_seconds(5);
    replicas.wait_for(20).await;

    let are_replaced = || async { (proxy.listener_count() == listened + 2).then_some(()) };
    eventually("both listen on new connections", are_replaced).await;
    replicas.assert_notifications_arrive(30).await;
    replicas.app.stop().await;
}

async fn wait_until_both_listen(app: &TestApp) {
    eventually("both replicas listen", || async {
        (app.database.listening_replicas().await == 2).then_some(())
    })
    .await;
}

fn stream_request_at(url: &str, token: &str) -> RequestBuilder {
    Client::new().get(format!("{url}{STREAM}")).bearer_auth(token)
}
