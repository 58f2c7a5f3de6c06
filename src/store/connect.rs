//! Opens the database.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectOptions, Database, DatabaseConnection};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteLockingMode};
use sqlx::{ConnectOptions as _, Connection, SqliteConnection};
use tokio::sync::Semaphore;

use super::failover::Failover;
use super::pool_hooks::{after_release, before_acquire};
use super::traced::{Server, Traced};
use super::wal::Wal;
use super::{Store, StoreError, connect_failure};
use crate::domain::database_url::DatabaseUrl;

/// How long a caller waits for a connection: long enough for a burst to pass, short enough that
/// Stripe, which gives up after 10 s or more, still gets a 503.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// A replica that freezes while it holds a lock blocks the others for seconds, not forever.
const POSTGRES_TIMEOUTS: [(&str, &str); 3] =
    [("statement_timeout", "5s"), ("lock_timeout", "5s"), ("idle_in_transaction_session_timeout", "15s")];

/// The transactions rely on it: a statement sees what was committed before it started. A role or a
/// database may have another default.
const POSTGRES_ISOLATION: (&str, &str) = ("default_transaction_isolation", "read committed");

/// PostgreSQL's default of 4 assumes a spinning disk. Our statements read a few rows through
/// indexes, from memory or an SSD; with the default, PostgreSQL scans whole tables instead.
const POSTGRES_PAGE_COST: (&str, &str) = ("random_page_cost", "1.1");

/// Of one replica, in addition to [`BATCH_CONNECTIONS`]. PostgreSQL allows 100 connections in total
/// by default.
const POSTGRES_CONNECTIONS: u32 = 10;

/// The number of ingest lanes on PostgreSQL. Measured from 1 to 4 on two cores: with more than 2,
/// batches are smaller and cost more than the overlap gains.
pub const POSTGRES_LANES: usize = 2;

/// Each lane uses one connection at a time, and a released one is checked before it can be used
/// again. When the server stops responding, each connection with a pending response is held until
/// the timeout of the batch, and then for `PENDING_RESPONSE_TIMEOUT` of
/// [`pool_hooks`](super::pool_hooks).
#[allow(clippy::cast_possible_truncation, reason = "a small number")]
const BATCH_CONNECTIONS: u32 = 3 * POSTGRES_LANES as u32;

/// How long to wait for another process to close the SQLite file. Shorter than [`ACQUIRE_TIMEOUT`],
/// so that the error says that the file is locked.
const EXCLUSIVE_LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// The pages that a few batches read and write.
const SQLITE_WRITER_CACHE_KIB: u32 = 4096;

/// SQLite's default. Each batch invalidates the cache of a reader.
const SQLITE_READER_CACHE_KIB: u32 = 2000;

/// Each is a thread of our own process. More readers than cores are not faster.
const SQLITE_READERS: u32 = 4;

/// How many rows SQLite's thread reads ahead of the caller: as many as a batch reads at once, so
/// that the two threads do not take turns.
const SQLITE_READ_AHEAD_ROWS: usize = 256;

/// In pages of 4 KiB, four times SQLite's default. A page that several batches change is written to
/// the file once.
const SQLITE_WAL_AUTOCHECKPOINT_PAGES: &str = "4000";

fn postgres(url: &DatabaseUrl) -> Result<PgConnectOptions, StoreError> {
    Ok(with_settings(url.expose().parse()?))
}

/// The database as spans name it. The path of a SQLite file is left out.
fn server(url: &DatabaseUrl) -> Server {
    if url.is_sqlite() {
        return Server { system: "sqlite", namespace: None, address: None, port: None };
    }
    let options = url.expose().parse::<PgConnectOptions>().ok();
    let options = options.as_ref();
    Server {
        system: "postgresql",
        namespace: options.and_then(PgConnectOptions::get_database).map(str::to_owned),
        address: options.map(|options| options.get_host().to_owned()),
        port: options.map(PgConnectOptions::get_port),
    }
}

/// The database for the log, without credentials and options.
pub fn describe(url: &DatabaseUrl) -> String {
    let server = server(url);
    match (server.address, server.port) {
        (Some(host), Some(port)) => {
            format!("postgres://{host}:{port}/{}", server.namespace.unwrap_or_default())
        }
        _ if url.is_sqlite() => url.expose().split('?').next().unwrap_or_default().to_owned(),
        _ => "postgres".to_owned(),
    }
}

impl Store {
    /// Connects, and creates a SQLite file that does not exist.
    pub async fn connect(url: &DatabaseUrl) -> Result<Self, StoreError> {
        Self::open(url, true).await
    }

    /// Fails if the SQLite file does not exist.
    pub async fn connect_existing(url: &DatabaseUrl) -> Result<Self, StoreError> {
        Self::open(url, false).await
    }

    /// Connects to a SQLite file and locks it. Fails while another connection has it open.
    ///
    /// In WAL mode a connection holds a shared lock until it is closed, so the exclusive lock fails
    /// while a service runs (<https://www.sqlite.org/wal.html>, 3.3 and 6).
    pub async fn connect_exclusively(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let options = sqlite_options(url, 1, SQLITE_WRITER_CACHE_KIB, |sqlite| {
            sqlite
                .create_if_missing(false)
                .locking_mode(SqliteLockingMode::Exclusive)
                .busy_timeout(EXCLUSIVE_LOCK_TIMEOUT)
        });
        let db =
            Traced::new(connect_sqlite(options, missing_file(url)).await?, server(url), Failover::default());
        Ok(Self::new(db.clone(), db.clone(), db, None))
    }

    fn new(
        db: Traced<DatabaseConnection>,
        writer: Traced<DatabaseConnection>,
        batches: Traced<DatabaseConnection>,
        wal: Option<Wal>,
    ) -> Self {
        Self {
            db,
            writer,
            batches,
            coalesced_reads: Arc::default(),
            known_prices: Arc::default(),
            wal,
            write_health: Arc::default(),
        }
    }

    async fn open(url: &DatabaseUrl, create: bool) -> Result<Self, StoreError> {
        if url.is_sqlite() { Self::open_sqlite(url, create).await } else { Self::open_postgres(url).await }
    }

    async fn open_postgres(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let failover = Failover::default();
        let db = match Database::connect(postgres_options(url, POSTGRES_CONNECTIONS, &failover)?).await {
            Ok(db) => Traced::new(db, server(url), failover.clone()),
            Err(error) => {
                let reason = connect_failure::of_postgres(&error, &postgres(url)?).await;
                return Err(StoreError::unavailable(reason));
            }
        };
        let mut options = postgres_options(url, BATCH_CONNECTIONS, &failover)?;
        // The runtime of the lanes has to open these: the runtime that opens a connection drives
        // it.
        options.connect_lazy(true);
        let batches = Traced::new(Database::connect(options).await?, server(url), failover);
        Ok(Self::new(db.clone(), db, batches, None))
    }

    async fn open_sqlite(url: &DatabaseUrl, create: bool) -> Result<Self, StoreError> {
        // The writer creates the file, so it connects first.
        let writer =
            sqlite_options(url, 1, SQLITE_WRITER_CACHE_KIB, move |sqlite| sqlite.create_if_missing(create));
        let missing = if create { None } else { missing_file(url) };
        let writer = Traced::new(connect_sqlite(writer, missing).await?, server(url), Failover::default());
        let readers = sqlite_options(url, SQLITE_READERS, SQLITE_READER_CACHE_KIB, |sqlite| {
            sqlite.create_if_missing(false).pragma("query_only", "ON")
        });
        let readers = Database::connect(readers).await?;
        let wal = Wal::checkpointed_by(readers.clone());
        let readers = Traced::new(readers, server(url), Failover::default());
        Ok(Self::new(readers, writer.clone(), writer, Some(wal)))
    }
}

/// `missing` is the file that does not exist and may not be created.
async fn connect_sqlite(
    options: ConnectOptions,
    missing: Option<PathBuf>,
) -> Result<DatabaseConnection, StoreError> {
    Database::connect(options).await.map_err(|error| match missing {
        Some(file) => StoreError::unavailable(format_args!("the file {} does not exist", file.display())),
        None => connect_failure::of_sqlite(&error).map_or_else(|| error.into(), StoreError::unavailable),
    })
}

/// The SQLite file of the URL, if it does not exist.
fn missing_file(url: &DatabaseUrl) -> Option<PathBuf> {
    let options: SqliteConnectOptions = url.expose().parse().ok()?;
    let file = options.get_filename();
    (!file.exists()).then(|| file.to_owned())
}

fn pool_options(url: &DatabaseUrl, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url.expose());
    options.max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT).sqlx_logging(false);
    // With either limit set, sqlx runs a task that closes old and idle connections. If a connection
    // is released at the same time, the task can count 2^64 idle connections and loop forever, on a
    // full core and through shutdown (<https://github.com/launchbadge/sqlx/issues/3645>).
    options.idle_timeout(None).max_lifetime(None);
    options
}

fn postgres_options(
    url: &DatabaseUrl,
    connections: u32,
    failover: &Failover,
) -> Result<ConnectOptions, StoreError> {
    let mut options = pool_options(url, connections);
    // sqlx's own test has no timeout but that of the acquisition, which leaves no time to connect
    // again.
    options.test_before_acquire(false);
    let reconnect_options = Arc::new(postgres(url)?);
    let acquired_failover = failover.clone();
    options.map_sqlx_postgres_before_acquire(move |connection, metadata| {
        Box::pin(before_acquire(connection, metadata, acquired_failover.clone(), reconnect_options.clone()))
    });
    let abandoned = Arc::new(Semaphore::new(connections as usize));
    let released_failover = failover.clone();
    options.map_sqlx_postgres_pool_opts(move |pool| {
        let (failover, abandoned) = (released_failover.clone(), abandoned.clone());
        pool.after_release(move |connection, metadata| {
            Box::pin(after_release(connection, metadata, failover.clone(), abandoned.clone()))
        })
    });
    options.map_sqlx_postgres_opts(with_settings);
    Ok(options)
}

fn with_settings(postgres: PgConnectOptions) -> PgConnectOptions {
    // `Traced` records statements.
    let postgres =
        postgres.options(POSTGRES_TIMEOUTS).options([POSTGRES_ISOLATION]).disable_statement_logging();
    // The last value wins. The operator's, in the URL, must not be overwritten.
    let is_in_url = postgres.get_options().is_some_and(|options| options.contains(POSTGRES_PAGE_COST.0));
    if is_in_url { postgres } else { postgres.options([POSTGRES_PAGE_COST]) }
}

fn sqlite_options(
    url: &DatabaseUrl,
    connections: u32,
    cache_kib: u32,
    customize: impl Fn(SqliteConnectOptions) -> SqliteConnectOptions + Send + Sync + 'static,
) -> ConnectOptions {
    let mut options = pool_options(url, connections);
    // The connection is within this process.
    options.test_before_acquire(false);
    options.map_sqlx_sqlite_opts(move |sqlite| {
        use sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
        // FULL: an event that Stripe got a 2xx for must survive a power failure. With WAL and
        // NORMAL it might not.
        let sqlite = sqlite
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(ACQUIRE_TIMEOUT)
            .foreign_keys(true)
            .row_buffer_size(SQLITE_READ_AHEAD_ROWS)
            .pragma("cache_size", format!("-{cache_kib}"))
            .pragma("wal_autocheckpoint", SQLITE_WAL_AUTOCHECKPOINT_PAGES);
        customize(sqlite)
    });
    options.map_sqlx_sqlite_pool_opts(|pool| {
        pool.after_release(|connection, _| Box::pin(has_no_open_transaction(connection)))
    });
    options
}

/// Whether a SQLite connection may be used again.
///
/// If the disk is full at a commit, SQLite rolls the transaction back. sqlx's own rollback then
/// fails, and sqlx still counts an open transaction. It starts each later transaction as a
/// savepoint, and after one of them is rolled back, later commits store nothing and return no
/// error.
async fn has_no_open_transaction(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // A rollback may be queued: the ping waits for it.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

#[cfg(test)]
pub(super) mod tests {
    use sea_orm::ConnectionTrait;
    use sea_orm::sea_query::{Expr, Query};
    use tempfile::TempDir;

    use super::*;

    pub(in crate::store) async fn empty_sqlite() -> (Store, TempDir) {
        let dir = tempfile::tempdir().expect("a directory");
        let url = DatabaseUrl::parse(&format!("sqlite://{}/billhook.db", dir.path().display()));
        (Store::connect(&url.expect("a URL")).await.expect("the database opens"), dir)
    }

    #[tokio::test]
    async fn pool_has_no_maintenance_task() {
        let (store, _dir) = empty_sqlite().await;
        for db in [&store.db, &store.writer] {
            let options = db.untraced().get_sqlite_connection_pool().options();
            assert_eq!((options.get_idle_timeout(), options.get_max_lifetime()), (None, None));
            assert_eq!(options.get_min_connections(), 0);
        }
    }

    #[tokio::test]
    async fn sqlite_has_one_connection_that_writes() {
        let (store, _dir) = empty_sqlite().await;
        assert_eq!(store.writer.untraced().get_sqlite_connection_pool().options().get_max_connections(), 1);
        let table = "CREATE TABLE a (b TEXT)";
        store.db.execute_unprepared(table).await.expect_err("a reader cannot write");
        store.writer.execute_unprepared(table).await.expect("the writer can");
    }

    /// Up to 3.51.2 SQLite could lose pages if one connection ran a checkpoint while another wrote
    /// (<https://www.sqlite.org/wal.html>).
    #[tokio::test]
    async fn sqlite_version_has_the_checkpoint_fix() {
        let connection = Database::connect("sqlite::memory:").await.expect("a database");
        let query = Query::select().expr(Expr::cust("sqlite_version()")).to_owned();
        let version = connection.query_one(&query).await.expect("a result").expect("a row");
        let version: String = version.try_get_by_index(0).expect("text");
        let numbers: Vec<u32> = version.split('.').map(|number| number.parse().expect("a number")).collect();
        assert!(numbers >= vec![3, 51, 3], "{version}");
    }
}
