//! Connecting to PostgreSQL: error messages, and independence of the server's default isolation
//! level.

use billhook::domain::database_url::DatabaseUrl;
use billhook::domain::event::Event;
use billhook::store::{BatchScope, Store};

use crate::postgres_server::{PostgresServer, connect_store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_connection_names_its_cause() {
    let postgres = PostgresServer::start().await;
    postgres.execute("CREATE ROLE locked LOGIN PASSWORD 'right'").await;
    postgres.require_password_for("locked").await;
    let port = postgres.port();
    for (url, cause) in [
        (
            format!("postgres://locked:wr%40ng@127.0.0.1:{port}/postgres"),
            format!("PostgreSQL at 127.0.0.1:{port} rejected the password of user locked"),
        ),
        (
            format!("postgres://billhook@127.0.0.1:{port}/nowhere"),
            format!("PostgreSQL at 127.0.0.1:{port} has no database nowhere"),
        ),
        (
            format!("postgres://billhook@127.0.0.1:{port}/postgres?sslmode=verify-full"),
            format!("TLS with PostgreSQL at 127.0.0.1:{port} failed"),
        ),
        (
            "postgres://billhook@127.0.0.1:1/postgres".to_owned(),
            "connection refused at 127.0.0.1:1".to_owned(),
        ),
        (
            "postgres://billhook@nowhere.invalid/postgres".to_owned(),
            "cannot connect to nowhere.invalid:5432".to_owned(),
        ),
    ] {
        let url = DatabaseUrl::parse(&url).expect("a URL");
        let error = Store::connect(&url).await.expect_err("it cannot be connected to").to_string();
        assert!(error.contains(&cause), "{error}");
        for driver_text in ["wr@ng", "error returned from database", "Connection Error", "pool"] {
            assert!(!error.contains(driver_text), "{error}");
        }
    }
}

/// Each statement sees what other transactions committed before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serializable_default_leaves_transactions_read_committed() {
    let postgres = PostgresServer::start().await;
    postgres.execute("ALTER DATABASE postgres SET default_transaction_isolation = 'serializable'").await;
    let serializable_url =
        format!("{}?options=-c%20default_transaction_isolation%3Dserializable", postgres.url());
    connect_store(&postgres.url()).await.migrate().await.expect("the migrations run");
    for (url, id) in [(postgres.url(), "evt_1"), (serializable_url, "evt_2")] {
        let store = connect_store(&url).await;
        let event = format!(
            r#"{{"id": "{id}", "object": "event", "type": "invoice.upcoming", "created": 1, "data": {{"object": {{}}}}}}"#
        );
        let event = Event::read(event.as_bytes()).expect("an event");
        let scope = BatchScope::deliveries([&event].into_iter());
        for transaction in [store.begin_batch().await, store.begin().await] {
            let transaction = transaction.expect("a transaction");
            postgres.execute("DELETE FROM event").await;
            let known =
                transaction.load_batch_and_known_events(&scope).await.expect("an answer").known_events;
            assert!(known.is_empty());
            let insert = format!(
                "INSERT INTO event (id, event_type, created, outcome, received_at_ms) \
                 VALUES ('{id}', 'invoice.paid', 1, 'ignored', 1)"
            );
            postgres.execute(&insert).await;
            let known =
                transaction.load_batch_and_known_events(&scope).await.expect("an answer").known_events;
            assert!(known.contains_key(&event.id), "{url}");
        }
    }
}
