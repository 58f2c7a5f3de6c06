//! Replicas tell each other of changes. Here the clock stands still, and by itself no replica looks for what it was not
//! told: what is heard was announced.

use reqwest::{Client, RequestBuilder};
use serde_json::Value;

use crate::streams::subscription_stream::quantity_of;
use crate::support::app::{TestApp, eventually};
use crate::support::database::Database;
use crate::support::event_stream::{EventStream, STREAM};
use crate::support::proxy::Road;

/// Two replicas; a page follows at the one what the other takes.
struct Pair {
    app: TestApp,
    subscription: String,
    stream: EventStream,
}

impl Pair {
    async fn start(mut app: TestApp) -> Self {
        let subscription = app.make_pro("acme").await;
        let other = app.start_replica().await;
        until_both_listen(&app).await;
        let mut stream = EventStream::open(following_at(&other, &app.token("acme"))).await;
        stream.next_subscription().await;
        Self { app, subscription, stream }
    }

    async fn change(&self, quantity: i64) {
        self.app.deliver(&quantity_of(&self.app, &self.subscription, quantity).await).await.ok();
    }

    async fn hears(&mut self, quantity: i64) -> Value {
        self.stream.until(|answer| answer["quantity"] == quantity).await
    }

    /// One by one: when a listener is new everything is read once, which could stand for a first announcement.
    async fn hears_what_is_announced(&mut self, first: i64) {
        for quantity in first..first + 4 {
            self.change(quantity).await;
            self.hears(quantity).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_takes_another_tells_at_once_and_again_after_its_listener_was_cut_off() {
    let mut pair = Pair::start(TestApp::start(Database::Postgres).await).await;
    pair.hears_what_is_announced(10).await;
    pair.app.database.cut_listeners_off().await;
    until_both_listen(&pair.app).await;
    pair.hears_what_is_announced(20).await;
    pair.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_announcement_is_lost_is_found_by_looking_and_a_dead_listener_is_replaced() {
    let mut app = TestApp::start(Database::Postgres).await;
    app.go_down().await;
    let road = Road::to(&app.database.url).await;
    app.come_back_with("--database-url", &road.url).await;
    let mut pair = Pair::start(app).await;
    pair.hears_what_is_announced(10).await;

    road.silence_listeners();
    let listened = road.listeners();
    pair.change(20).await;
    pair.app.clock.advance_seconds(5);
    pair.hears(20).await;

    let replaced = || async { (road.listeners() == listened + 2).then_some(()) };
    eventually("both listen on connections that are alive", replaced).await;
    pair.hears_what_is_announced(30).await;
    pair.app.stop().await;
}

async fn until_both_listen(app: &TestApp) {
    eventually("both listen", || async { (app.database.listening_replicas().await == 2).then_some(()) })
        .await;
}

fn following_at(url: &str, token: &str) -> RequestBuilder {
    Client::new().get(format!("{url}{STREAM}")).bearer_auth(token)
}
