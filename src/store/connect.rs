//! Opening the database and bringing it up to date.

use std::sync::Arc;
use std::time::Duration;

use migration::{Migrator, MigratorTrait, SchemaManager};
use sea_orm::sea_query::{Expr, ExprTrait, Order, Query};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseTransaction, DbBackend};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteLockingMode};
use sqlx::{ConnectOptions as _, Connection, SqliteConnection};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::failover::Failover;
use super::silence::{is_alive, is_reusable};
use super::traced::{Server, Traced};
use super::wal::Wal;
use super::{Store, StoreError, connect_failure};
use crate::domain::database_url::DatabaseUrl;

/// How long a request may wait for a connection: long enough for a burst to pass, short enough that Stripe, which
/// gives up after 10 s or more, still gets an honest 503.
pub(super) const ACQUIRE: Duration = Duration::from_secs(5);

/// What no statement of ours may exceed on PostgreSQL, so that a replica that froze with a lock in its hand holds up
/// the others for seconds and not for good.
const TIME_LIMITS: [(&str, &str); 3] =
    [("statement_timeout", "5s"), ("lock_timeout", "5s"), ("idle_in_transaction_session_timeout", "15s")];

/// The isolation that transactions here are written for: a statement sees what was committed until it began. A role or a
/// database may have another default.
const ISOLATION: (&str, &str) = ("default_transaction_isolation", "read committed");

/// What else PostgreSQL is told of our statements. They look for a few rows, whose pages are in memory or on a disk without
/// an arm; by default it takes each page that an index leads to for four times as dear, and reads whole tables instead.
const PAGE_COST: (&str, &str) = ("random_page_cost", "1.1");

/// How many connections to PostgreSQL one replica holds, beside those of the batches. It allows a hundred in all by default.
const CONNECTIONS: u32 = 10;

/// How many lanes apply batches on PostgreSQL. Measured from 1 to 4 on two cores: with more than 2 the batches are smaller and
/// cost more than the overlap gains.
pub const POSTGRES_LANES: usize = 2;

/// How many connections the batches have. Each lane uses one at a time, and one that is returned is tested before it can be
/// used again. When the server goes silent, each connection that was asked something is held until the batch's timeout, and
/// then for [`LAST_ANSWER`](super::silence).
#[allow(clippy::cast_possible_truncation, reason = "a few")]
const CONNECTIONS_OF_BATCHES: u32 = 3 * POSTGRES_LANES as u32;

/// How long a file that another process has open is waited for: shorter than [`ACQUIRE`], so that the reason is not lost.
const EXCLUSIVE_LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// What the connection that writes to SQLite remembers of the file, in KiB: the pages that a few batches touch.
const SQLITE_WRITER_CACHE: u32 = 4096;

/// What each that reads remembers, in KiB: SQLite's own default. It is out of date with the next batch.
const SQLITE_READER_CACHE: u32 = 2000;

/// How many connections read from SQLite. Each is a thread of our own process, and more of them than cores read no faster.
const SQLITE_READERS: u32 = 4;

/// How many rows SQLite's thread reads ahead of whoever asked: as many as a batch asks for at once, so that the two need
/// not take turns.
const SQLITE_ROWS: usize = 256;

/// After how many pages in its log (of 4 KiB) SQLite writes them to where they belong. Four times its default: pages that
/// one batch after another changes are written once for all of them.
const SQLITE_WAL_PAGES: &str = "4000";

/// How often the migrations are begun. One that needs a table for itself can be in the way of a replica that writes, and the
/// database undoes either of them.
const MIGRATION_TRIES: u32 = 5;

/// The pause before they are begun again.
const MIGRATION_PAUSE: Duration = Duration::from_millis(500);

/// The advisory lock that one migrating replica holds at a time: "billhook" in bytes.
const MIGRATION_LOCK: i64 = i64::from_be_bytes(*b"billhook");

/// How PostgreSQL is connected to.
fn postgres(url: &DatabaseUrl) -> Result<PgConnectOptions, StoreError> {
    Ok(with_settings(url.expose().parse()?))
}

/// How spans name the database. Of a SQLite file nothing is told: its path is the machine's own affair.
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
    /// Connects, and makes a SQLite file that is not there.
    pub async fn connect(url: &DatabaseUrl) -> Result<Self, StoreError> {
        Self::open(url, true).await
    }

    /// Connects to what is there.
    pub async fn connect_existing(url: &DatabaseUrl) -> Result<Self, StoreError> {
        Self::open(url, false).await
    }

    /// Connects to a SQLite file that no other connection has open, and keeps others out of it.
    ///
    /// A connection to a file with a log (`-wal`) holds a shared lock for as long as it lives, so that the exclusive one fails
    /// while a service runs (<https://www.sqlite.org/wal.html>, 3.3 and 6).
    pub async fn connect_exclusively(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let options = sqlite_options(url, 1, SQLITE_WRITER_CACHE, |sqlite| {
            sqlite
                .create_if_missing(false)
                .locking_mode(SqliteLockingMode::Exclusive)
                .busy_timeout(EXCLUSIVE_LOCK_TIMEOUT)
        });
        let db = Database::connect(options).await.map_err(|error| {
            connect_failure::of_sqlite(&error).map_or_else(|| error.into(), StoreError::unreachable)
        })?;
        let db = Traced::new(db, server(url), Failover::default());
        Ok(Self {
            db: db.clone(),
            batches: db.clone(),
            writer: db,
            shared_reads: Arc::default(),
            known_prices: Arc::default(),
            wal: None,
            write_health: Arc::default(),
        })
    }

    async fn open(url: &DatabaseUrl, create: bool) -> Result<Self, StoreError> {
        if url.is_sqlite() { Self::open_sqlite(url, create).await } else { Self::open_postgres(url).await }
    }

    async fn open_postgres(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let failover = Failover::default();
        let db = match Database::connect(postgres_options(url, CONNECTIONS, &failover)?).await {
            Ok(db) => db,
            Err(error) => {
                let why = connect_failure::of_postgres(&error, &postgres(url)?).await;
                return Err(StoreError::unreachable(why));
            }
        };
        let db = Traced::new(db, server(url), failover.clone());
        // They are made where they are needed: a connection is waited for by the runtime in which it was made.
        let mut of_batches = postgres_options(url, CONNECTIONS_OF_BATCHES, &failover)?;
        of_batches.connect_lazy(true);
        let batches = Traced::new(Database::connect(of_batches).await?, server(url), failover);
        Ok(Self {
            writer: db.clone(),
            db,
            batches,
            shared_reads: Arc::default(),
            known_prices: Arc::default(),
            wal: None,
            write_health: Arc::default(),
        })
    }

    async fn open_sqlite(url: &DatabaseUrl, create: bool) -> Result<Self, StoreError> {
        // The one that writes makes the file.
        let writer =
            sqlite_options(url, 1, SQLITE_WRITER_CACHE, move |sqlite| sqlite.create_if_missing(create));
        let writer = Database::connect(writer).await.map_err(|error| {
            connect_failure::of_sqlite(&error).map_or_else(|| error.into(), StoreError::unreachable)
        })?;
        let readers = sqlite_options(url, SQLITE_READERS, SQLITE_READER_CACHE, |sqlite| {
            sqlite.create_if_missing(false).pragma("query_only", "ON")
        });
        let db = Database::connect(readers).await?;
        let wal = Some(Wal::written_back_by(db.clone()));
        let writer = Traced::new(writer, server(url), Failover::default());
        Ok(Self {
            db: Traced::new(db, server(url), Failover::default()),
            batches: writer.clone(),
            writer,
            shared_reads: Arc::default(),
            known_prices: Arc::default(),
            wal,
            write_health: Arc::default(),
        })
    }

    /// Runs the migrations that are missing. Replicas that start at once wait for each other: the migrations run in
    /// one transaction, under SQLite's write lock or an advisory lock of PostgreSQL's.
    ///
    /// Fails where a newer build has migrated already. What this one would do to its tables nobody has thought of. Fails as
    /// well while the database is being filled from another one.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.migrate_schema().await?;
        self.check_copy().await
    }

    /// The same, also in the middle of a copy.
    pub(super) async fn migrate_schema(&self) -> Result<(), StoreError> {
        for _ in 1..MIGRATION_TRIES {
            match self.migrate_once().await {
                Err(error) if error.failure().is_conflict() => sleep(MIGRATION_PAUSE).await,
                result => return result,
            }
        }
        self.migrate_once().await
    }

    async fn migrate_once(&self) -> Result<(), StoreError> {
        let transaction = self.begin().await?;
        if self.db.get_database_backend() == DbBackend::Postgres {
            // A migration may take its time, and a replica may wait for another's.
            transaction
                .db
                .execute_unprepared("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
                .await?;
            let lock = Query::select()
                .expr(Expr::cust_with_values("pg_advisory_xact_lock($1)", [MIGRATION_LOCK]))
                .to_owned();
            transaction.db.query_one(&lock).await?;
        }
        let database = transaction.db.untraced();
        if let Some(migration) = unknown_migration(database).await? {
            return Err(StoreError::newer(migration));
        }
        Migrator::up(database, None).await?;
        transaction.commit().await
    }

    /// Whether the database answers and has every migration that this build knows.
    pub async fn is_migrated(&self) -> Result<bool, StoreError> {
        if !SchemaManager::new(self.db.untraced()).has_table("seaql_migrations").await? {
            return Ok(false);
        }
        let count =
            Query::select().expr_as(Expr::cust("COUNT(*)"), "applied").from("seaql_migrations").to_owned();
        let Some(row) = self.db.query_one(&count).await? else { return Ok(false) };
        let applied: i64 = row.try_get("", "applied")?;
        Ok(usize::try_from(applied).is_ok_and(|applied| applied >= Migrator::migrations().len()))
    }
}

fn pool_options(url: &DatabaseUrl, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url.expose());
    options.max_connections(connections).acquire_timeout(ACQUIRE).sqlx_logging(false);
    // The pool's task that looks for aged and idle connections can take one that is just being given back for 2^64 of
    // them, and then holds a core, and the service when it is to stop, for good
    // (<https://github.com/launchbadge/sqlx/issues/3645>). With nothing to look for there is no task.
    options.idle_timeout(None).max_lifetime(None);
    options
}

fn postgres_options(
    url: &DatabaseUrl,
    connections: u32,
    failover: &Failover,
) -> Result<ConnectOptions, StoreError> {
    let mut options = pool_options(url, connections);
    // What sqlx does by itself may take all the time that there is for a connection, and leaves none for a new one.
    options.test_before_acquire(false);
    let anew = Arc::new(postgres(url)?);
    let of_acquired = failover.clone();
    options.map_sqlx_postgres_before_acquire(move |connection, metadata| {
        Box::pin(is_alive(connection, metadata, of_acquired.clone(), anew.clone()))
    });
    let places = Arc::new(Semaphore::new(connections as usize));
    let of_released = failover.clone();
    options.map_sqlx_postgres_pool_opts(move |pool| {
        let (failover, places) = (of_released.clone(), places.clone());
        pool.after_release(move |connection, metadata| {
            Box::pin(is_reusable(connection, metadata, failover.clone(), places.clone()))
        })
    });
    options.map_sqlx_postgres_opts(with_settings);
    Ok(options)
}

/// Statements are told in spans, and not by sqlx.
fn with_settings(postgres: PgConnectOptions) -> PgConnectOptions {
    let postgres = postgres.options(TIME_LIMITS).options([ISOLATION]).disable_statement_logging();
    // What is said later wins, and whoever has it in the URL knows the disk.
    let is_told = postgres.get_options().is_some_and(|told| told.contains(PAGE_COST.0));
    if is_told { postgres } else { postgres.options([PAGE_COST]) }
}

/// The cache is in KiB.
fn sqlite_options(
    url: &DatabaseUrl,
    connections: u32,
    cache: u32,
    more: impl Fn(SqliteConnectOptions) -> SqliteConnectOptions + Send + Sync + 'static,
) -> ConnectOptions {
    let mut options = pool_options(url, connections);
    // Nobody hangs up within a process.
    options.test_before_acquire(false);
    options.map_sqlx_sqlite_opts(move |sqlite| {
        use sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
        // FULL: a 2xx to Stripe is a promise that must survive a power cut, which WAL with NORMAL would not.
        let sqlite = sqlite
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(ACQUIRE)
            .foreign_keys(true)
            .row_buffer_size(SQLITE_ROWS)
            .pragma("cache_size", format!("-{cache}"))
            .pragma("wal_autocheckpoint", SQLITE_WAL_PAGES);
        more(sqlite)
    });
    options.map_sqlx_sqlite_pool_opts(|pool| {
        pool.after_release(|connection, _| Box::pin(is_out_of_transactions(connection)))
    });
    options
}

/// The latest migration that the database has had and this build does not know.
async fn unknown_migration(database: &DatabaseTransaction) -> Result<Option<String>, StoreError> {
    if !SchemaManager::new(database).has_table("seaql_migrations").await? {
        return Ok(None);
    }
    let known: Vec<String> = Migrator::migrations().iter().map(|one| one.name().to_owned()).collect();
    let unknown = Query::select()
        .column("version")
        .from("seaql_migrations")
        .and_where(Expr::col("version").is_not_in(known))
        .order_by("version", Order::Desc)
        .limit(1)
        .to_owned();
    let row = database.query_one(&unknown).await?;
    Ok(row.map(|row| row.try_get("", "version")).transpose()?)
}

/// Whether a SQLite connection may be used again.
///
/// When a commit finds the disk full, SQLite undoes the transaction by itself. The driver's own undoing then fails, and
/// it goes on counting a transaction that is not there: what follows are savepoints, and once one of them is undone, the
/// commits of those after it make nothing last, and are no errors.
async fn is_out_of_transactions(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // It may yet be undone: behind what is on its way.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

#[cfg(test)]
pub(super) mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A SQLite file of a test's own, without tables.
    pub(in crate::store) async fn empty_sqlite() -> (Store, TempDir) {
        let dir = tempfile::tempdir().expect("a directory");
        let url = DatabaseUrl::parse(&format!("sqlite://{}/billhook.db", dir.path().display()));
        (Store::connect(&url.expect("a URL")).await.expect("the database opens"), dir)
    }

    #[tokio::test]
    async fn the_pool_has_no_task_that_can_run_wild() {
        let (store, _dir) = empty_sqlite().await;
        for db in [&store.db, &store.writer] {
            let options = db.untraced().get_sqlite_connection_pool().options();
            assert_eq!((options.get_idle_timeout(), options.get_max_lifetime()), (None, None));
            assert_eq!(options.get_min_connections(), 0);
        }
    }

    #[tokio::test]
    async fn only_one_connection_writes_to_sqlite() {
        let (store, _dir) = empty_sqlite().await;
        assert_eq!(store.writer.untraced().get_sqlite_connection_pool().options().get_max_connections(), 1);
        let table = "CREATE TABLE a (b TEXT)";
        store.db.execute_unprepared(table).await.expect_err("those that read cannot write");
        store.writer.execute_unprepared(table).await.expect("the one that writes can");
    }

    /// Up to 3.51.2 SQLite could lose pages if one connection wrote back the log while another wrote
    /// (<https://www.sqlite.org/wal.html>).
    #[tokio::test]
    async fn sqlite_writes_back_its_log_as_it_should() {
        let connection = Database::connect("sqlite::memory:").await.expect("a database");
        let asked = Query::select().expr(Expr::cust("sqlite_version()")).to_owned();
        let version = connection.query_one(&asked).await.expect("an answer").expect("a row");
        let version: String = version.try_get_by_index(0).expect("text");
        let numbers: Vec<u32> = version.split('.').map(|number| number.parse().expect("a number")).collect();
        assert!(numbers >= vec![3, 51, 3], "{version}");
    }
}
