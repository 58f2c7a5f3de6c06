//! Both databases, a fresh one for each test.

use std::env;

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database as Connection, DatabaseConnection, DbBackend, EntityTrait,
    PrimaryKeyTrait, Statement,
};
use tempfile::TempDir;
use uuid::Uuid;

/// Which database a story is told on.
#[derive(Debug, Clone, Copy)]
pub enum Database {
    Sqlite,
    Postgres,
}

/// A database of one test's own.
pub struct Fresh {
    pub url: String,
    /// The server's own URL and the database's name, where there is one to drop.
    server: Option<(String, String)>,
}

/// Tells each story on SQLite and on PostgreSQL.
macro_rules! on_both_databases {
    ($($story:ident),+ $(,)?) => {
        mod sqlite {
            use crate::support::database::Database;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() { super::$story(Database::Sqlite).await; })+
        }

        mod postgres {
            use crate::support::database::Database;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() { super::$story(Database::Postgres).await; })+
        }
    };
}
pub(crate) use on_both_databases;

impl Fresh {
    pub async fn make(database: Database, dir: &TempDir) -> Self {
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
        administrate(&server, &format!("CREATE DATABASE {name}")).await;
        Self { url, server: Some((server, name)) }
    }

    /// A row, by its id.
    pub async fn row<E>(&self, id: &str) -> Option<E::Model>
    where
        E: EntityTrait,
        E::PrimaryKey: PrimaryKeyTrait<ValueType = String>,
    {
        let connection = self.connect().await;
        let row = E::find_by_id(id.to_owned()).one(&connection).await.expect("the table is read");
        connection.close().await.expect("the connection closes");
        row
    }

    /// All rows of a small table.
    pub async fn rows<E: EntityTrait>(&self) -> Vec<E::Model> {
        let connection = self.connect().await;
        let rows = E::find().all(&connection).await.expect("the table is read");
        connection.close().await.expect("the connection closes");
        rows
    }

    /// Makes the database refuse every subscription in the status `poisoned`.
    pub async fn poison(&self) {
        let statement = if self.server.is_some() {
            "ALTER TABLE subscription ADD CONSTRAINT poison CHECK (status <> 'poisoned')"
        } else {
            "CREATE TRIGGER poison BEFORE INSERT ON subscription WHEN NEW.status = 'poisoned' \
             BEGIN SELECT RAISE(ABORT, 'poison'); END"
        };
        self.execute(statement).await;
    }

    /// Undoes the poisoning.
    pub async fn heal(&self) {
        let postgres = "ALTER TABLE subscription DROP CONSTRAINT poison";
        self.execute(if self.server.is_some() { postgres } else { "DROP TRIGGER poison" }).await;
    }

    /// Makes the database refuse every event that is stored as failed: PostgreSQL with a serialization failure, as if
    /// another transaction were in the way, SQLite with a constraint.
    pub async fn refuse_failed_events(&self) {
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

    /// Undoes that.
    pub async fn take_failed_events(&self) {
        let postgres = "DROP TRIGGER conflict ON event";
        self.execute(if self.server.is_some() { postgres } else { "DROP TRIGGER conflict" }).await;
    }

    /// Changes something behind the service's back.
    pub async fn execute(&self, statement: &str) {
        let connection = self.connect().await;
        connection.execute_unprepared(statement).await.expect("the statement is carried out");
        connection.close().await.expect("the connection closes");
    }

    pub async fn connect(&self) -> DatabaseConnection {
        Connection::connect(unattended(&self.url)).await.expect("the database answers")
    }

    /// The same, where SQLite's file is not there yet.
    pub async fn make_and_connect(&self) -> DatabaseConnection {
        let url = if self.server.is_some() { self.url.clone() } else { format!("{}?mode=rwc", self.url) };
        Connection::connect(unattended(&url)).await.expect("the database answers")
    }

    /// Bytes, as the database writes them in a statement.
    pub fn bytes(&self, bytes: &[u8]) -> String {
        let digits = hex::encode(bytes);
        if self.server.is_some() { format!("'\\x{digits}'::bytea") } else { format!("x'{digits}'") }
    }

    /// How many replicas listen to each other.
    pub async fn listening_replicas(&self) -> i64 {
        let listening = "SELECT count(*) AS listening FROM pg_stat_activity \
                         WHERE datname = current_database() AND query LIKE 'LISTEN %'";
        let connection = self.connect().await;
        let row = connection.query_one_raw(Statement::from_string(DbBackend::Postgres, listening)).await;
        connection.close().await.expect("the connection closes");
        row.expect("the server tells").expect("a row").try_get("", "listening").expect("a number")
    }

    /// Breaks the connections on which replicas listen.
    pub async fn cut_listeners_off(&self) {
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND query LIKE 'LISTEN %'";
        self.execute(cut).await;
    }

    /// Makes the database unusable: PostgreSQL's is dropped under the service's feet, SQLite's loses its tables.
    pub async fn lose(&self) {
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

    /// Makes it once more where it was taken away, with nothing in it.
    pub async fn make_anew(&self) {
        if let Some((server, name)) = &self.server {
            administrate(server, &format!("CREATE DATABASE {name}")).await;
        }
    }

    /// Takes the database away, with whoever is connected.
    pub async fn drop(&self) {
        if let Some((server, name)) = &self.server {
            administrate(server, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        }
    }
}

/// A pool without the task that looks for aged and idle connections, which now and then runs wild and lets no runtime end:
/// the service's has none either.
pub fn unattended(url: &str) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options.idle_timeout(None).max_lifetime(None);
    options
}

async fn administrate(server: &str, statement: &str) {
    let connection = Connection::connect(unattended(server)).await.expect("the PostgreSQL server answers");
    connection.execute_unprepared(statement).await.expect("the statement is carried out");
    connection.close().await.expect("the connection closes");
}
