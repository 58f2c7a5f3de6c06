//! SQLite and PostgreSQL, with a new database for each test.

use std::env;

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database as Connection, DatabaseConnection, DbBackend, EntityTrait,
    PrimaryKeyTrait, Statement,
};
use tempfile::TempDir;
use uuid::Uuid;

#[derive(Debug, Clone, Copy)]
pub enum Database {
    Sqlite,
    Postgres,
}

/// One test's database.
pub struct TestDatabase {
    pub url: String,
    /// On PostgreSQL, the URL of the server and the name of the database to drop.
    server: Option<(String, String)>,
}

/// Runs each test on SQLite and on PostgreSQL.
macro_rules! on_both_databases {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            use crate::support::database::Database;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test(Database::Sqlite).await; })+
        }

        mod postgres {
            use crate::support::database::Database;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test(Database::Postgres).await; })+
        }
    };
}
pub(crate) use on_both_databases;

impl TestDatabase {
    pub async fn create(database: Database, dir: &TempDir) -> Self {
        match database {
            Database::Sqlite => {
                let file = dir.path().join("billhook.db");
                Self { url: format!("sqlite://{}", file.display()), server: None }
            }
            Database::Postgres => Self::on_postgres().await,
        }
    }

    async fn on_postgres() -> Self {
        let server = env::var("BILLHOOK_TEST_POSTGRES")
            .expect("BILLHOOK_TEST_POSTGRES names a PostgreSQL server: run the tests with `make test`");
        let name = format!("billhook_{}", Uuid::new_v4().simple());
        let (base, _) = server.rsplit_once('/').expect("the server's URL ends in a database");
        let url = format!("{base}/{name}");
        execute_on_server(&server, &format!("CREATE DATABASE {name}")).await;
        Self { url, server: Some((server, name)) }
    }

    pub async fn row<E>(&self, id: &str) -> Option<E::Model>
    where
        E: EntityTrait,
        E::PrimaryKey: PrimaryKeyTrait<ValueType = String>,
    {
        let connection = self.connect().await;
        let row = E::find_by_id(id.to_owned()).one(&connection).await.expect("rows are read");
        connection.close().await.expect("the connection closes");
        row
    }

    pub async fn rows<E: EntityTrait>(&self) -> Vec<E::Model> {
        let connection = self.connect().await;
        let rows = E::find().all(&connection).await.expect("rows are read");
        connection.close().await.expect("the connection closes");
        rows
    }

    /// Makes the database reject every subscription in the status `poisoned`.
    pub async fn reject_poisoned_subscriptions(&self) {
        let statement = if self.server.is_some() {
            "ALTER TABLE subscription ADD CONSTRAINT poison CHECK (status <> 'poisoned')"
        } else {
            "CREATE TRIGGER poison BEFORE INSERT ON subscription WHEN NEW.status = 'poisoned' \
             BEGIN SELECT RAISE(ABORT, 'poison'); END"
        };
        self.execute(statement).await;
    }

    pub async fn accept_poisoned_subscriptions(&self) {
        let postgres = "ALTER TABLE subscription DROP CONSTRAINT poison";
        self.execute(if self.server.is_some() { postgres } else { "DROP TRIGGER poison" }).await;
    }

    /// Makes the database reject every event that is stored as failed. PostgreSQL fails with a
    /// serialization failure, as in a conflict with another transaction, SQLite with a constraint.
    pub async fn reject_failed_events(&self) {
        let statement = if self.server.is_some() {
            "CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = 'serialization_failure'; END $$; \
             CREATE TRIGGER conflict BEFORE INSERT ON event FOR EACH ROW WHEN (NEW.outcome = 'failed') \
                 EXECUTE FUNCTION conflict()"
        } else {
            "CREATE TRIGGER conflict BEFORE INSERT ON event WHEN NEW.outcome = 'failed' \
             BEGIN SELECT RAISE(ABORT, 'conflict'); END"
        };
        self.execute(statement).await;
    }

    pub async fn accept_failed_events(&self) {
        let postgres = "DROP TRIGGER conflict ON event";
        self.execute(if self.server.is_some() { postgres } else { "DROP TRIGGER conflict" }).await;
    }

    /// Executes a statement on its own connection.
    pub async fn execute(&self, statement: &str) {
        let connection = self.connect().await;
        connection.execute_unprepared(statement).await.expect("the statement succeeds");
        connection.close().await.expect("the connection closes");
    }

    pub async fn connect(&self) -> DatabaseConnection {
        Connection::connect(connect_options(&self.url)).await.expect("the database accepts the connection")
    }

    /// Creates SQLite's file if it is missing.
    pub async fn create_and_connect(&self) -> DatabaseConnection {
        let url = if self.server.is_some() { self.url.clone() } else { format!("{}?mode=rwc", self.url) };
        Connection::connect(connect_options(&url)).await.expect("the database accepts the connection")
    }

    /// Bytes as an SQL literal.
    pub fn bytes_literal(&self, bytes: &[u8]) -> String {
        let digits = hex::encode(bytes);
        if self.server.is_some() { format!("'\\x{digits}'::bytea") } else { format!("x'{digits}'") }
    }

    /// The number of replicas that `LISTEN` for notifications.
    pub async fn listening_replicas(&self) -> i64 {
        self.count_sessions("query LIKE 'LISTEN %'").await
    }

    /// The number of sessions that wait for a lock.
    pub async fn blocked_sessions(&self) -> i64 {
        self.count_sessions("wait_event_type = 'Lock'").await
    }

    async fn count_sessions(&self, condition: &str) -> i64 {
        let count = format!(
            "SELECT count(*) AS sessions FROM pg_stat_activity \
             WHERE datname = current_database() AND {condition}"
        );
        let connection = self.connect().await;
        let row = connection.query_one_raw(Statement::from_string(DbBackend::Postgres, count)).await;
        connection.close().await.expect("the connection closes");
        row.expect("the query succeeds").expect("a row").try_get("", "sessions").expect("a number")
    }

    /// Terminates the connections on which replicas `LISTEN`.
    pub async fn disconnect_listeners(&self) {
        let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND query LIKE 'LISTEN %'";
        self.execute(terminate).await;
    }

    /// Makes the database unusable while the service runs: drops PostgreSQL's database, or SQLite's
    /// tables.
    pub async fn destroy(&self) {
        if self.server.is_some() {
            return self.drop().await;
        }
        let connection = self.connect().await;
        for table in ["event", "subscription", "tenant", "customer", "seaql_migrations"] {
            let drop = format!("DROP TABLE {table}");
            connection.execute_unprepared(&drop).await.expect("the table is dropped");
        }
        connection.close().await.expect("the connection closes");
    }

    /// Creates PostgreSQL's dropped database again, empty.
    pub async fn recreate(&self) {
        if let Some((server, name)) = &self.server {
            execute_on_server(server, &format!("CREATE DATABASE {name}")).await;
        }
    }

    /// Drops PostgreSQL's database and terminates its connections.
    pub async fn drop(&self) {
        if let Some((server, name)) = &self.server {
            execute_on_server(server, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        }
    }
}

/// A pool without the task that closes old and idle connections: that task sometimes runs away and
/// keeps the runtime from ending. The service's pool has none either.
pub fn connect_options(url: &str) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options.idle_timeout(None).max_lifetime(None);
    options
}

async fn execute_on_server(server: &str, statement: &str) {
    let connection = Connection::connect(connect_options(server))
        .await
        .expect("the PostgreSQL server accepts the connection");
    connection.execute_unprepared(statement).await.expect("the statement succeeds");
    connection.close().await.expect("the connection closes");
}
