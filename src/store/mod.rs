//! The database. Takes and returns domain types; nothing outside this folder knows a table.
//!
//! Start reading at [`Store`], which opens transactions. `batch_load` and `batch_save` are the two halves of the hot path: what
//! a batch of events reads, and what it writes. `tables` has one file for each table or question about tables, and `connect`
//! opens the database and brings it up to date. Everything works on SQLite and PostgreSQL.

mod announce;
mod batch_load;
mod batch_save;
mod connect;
mod connect_failure;
mod copy;
mod due;
mod erasure;
mod error;
mod failover;
mod insert;
mod lists;
mod reads;
mod retry_on_conflict;
mod shared_reads;
mod silence;
mod tables;
mod traced;
mod wal;
mod write_health;
mod writes;

use std::panic::resume_unwind;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, SqliteTransactionMode,
    TransactionOptions,
};
use tokio::task::JoinError;
use tracing::Instrument;

use crate::domain::known_prices::KnownPrices;

pub use announce::{Announcements, TenantKey};
pub use batch_load::Touched;
pub use connect::describe;
pub use copy::{CopyError, DatabaseCopy};
pub use due::Due;
pub use erasure::{ErasedLinks, ErasureScope};
pub use error::{StoreError, StoreFailure};
pub use retry_on_conflict::{MayConflict, retry_on_conflict};
pub use tables::backfill::Watermark;
pub use tables::deployment::{DeploymentConflict, OtherDeployment};
pub use tables::events::InboxRow;
pub use tables::gap_recovery::{GapRecovery, GapStep};
pub use tables::inbox::{InboxEvent, WantedEvents};
pub use tables::lease::Lease;
pub use tables::mode::{AccountConflict, ModeConflict};
pub use tables::observations::{RefusedWebhooks, VerifiedWebhooks};
pub use tables::refreshes::{ClaimedRefresh, OpenLink};
pub use tables::retries::ClaimedEvent;
pub use tables::timeline::{Timeline, TimelineEntry};

use shared_reads::SharedReads;
use tables::known_prices::KnownPriceCache;
use traced::Traced;
use wal::Wal;
use write_health::WriteHealth;

/// The database, behind pools of connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    db: Traced<DatabaseConnection>,
    /// Where transactions begin. On SQLite one connection of their own: only one of them can write at a time, and what it
    /// remembers of the file is good for as long as nobody else writes.
    writer: Traced<DatabaseConnection>,
    /// Where the transactions of batches begin. On PostgreSQL connections of their own, which are used in another runtime.
    batches: Traced<DatabaseConnection>,
    /// Who waits for what another's statement may read as well.
    shared_reads: Arc<Mutex<SharedReads>>,
    /// The lookup keys of prices that were read lately.
    known_prices: Arc<KnownPriceCache>,
    /// SQLite's.
    wal: Option<Wal>,
    write_health: Arc<WriteHealth>,
}

/// A transaction; dropping it undoes it.
#[derive(Debug)]
pub struct Transaction {
    db: Traced<DatabaseTransaction>,
    wal: Option<Wal>,
    write_health: Arc<WriteHealth>,
    /// How many rows it has written by way of [`Writes`](writes::Writes).
    rows: AtomicUsize,
    /// The lookup keys of prices that were read lately.
    known_prices: Arc<KnownPriceCache>,
    /// Those that it has written.
    written_known_prices: Mutex<KnownPrices>,
}

impl Store {
    /// Whether one transaction can write while another does.
    pub fn writes_side_by_side(&self) -> bool {
        self.db.get_database_backend() == DbBackend::Postgres
    }

    /// Begins a transaction that will write. On SQLite it takes the write lock at once, since one that reads first
    /// and writes later can find itself unable to.
    pub async fn begin(&self) -> Result<Transaction, StoreError> {
        if !self.writes_side_by_side() {
            return self.begin_on(&self.writer).await;
        }
        // Whoever leaves while PostgreSQL begins it would leave it open, on a connection that is then another's, whose statement
        // would not last: sqlx undoes what has begun, and that it has not been told yet. So it begins in a task of its own.
        let store = self.clone();
        let beginning = tokio::spawn(async move { store.begin_on(&store.writer).await }.in_current_span());
        match beginning.await.map_err(JoinError::try_into_panic) {
            Ok(begun) => begun,
            Err(Ok(panic)) => resume_unwind(panic),
            Err(Err(_)) => Err(StoreError::broken("the service is about to end")),
        }
    }

    /// Begins a transaction of a batch. All of them have to be begun in the same runtime, since a connection to PostgreSQL is
    /// waited for by the one in which it was made. Of one that is left open the next batch makes its own.
    pub async fn begin_batch(&self) -> Result<Transaction, StoreError> {
        self.begin_on(&self.batches).await
    }

    async fn begin_on(&self, connections: &Traced<DatabaseConnection>) -> Result<Transaction, StoreError> {
        let options = TransactionOptions {
            sqlite_transaction_mode: (self.db.get_database_backend() == DbBackend::Sqlite)
                .then_some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        Ok(Transaction {
            db: connections.begin_with_options(options).await?,
            wal: self.wal.clone(),
            write_health: self.write_health.clone(),
            rows: AtomicUsize::new(0),
            known_prices: self.known_prices.clone(),
            written_known_prices: Mutex::default(),
        })
    }
}

impl Transaction {
    /// Notes lookup keys that it has written, for when it is committed.
    fn has_written_known_prices(&self, known: &KnownPrices) {
        self.written_known_prices.lock().unwrap_or_else(PoisonError::into_inner).merge(known);
    }

    /// Makes it last.
    pub async fn commit(self) -> Result<(), StoreError> {
        let committed = self.db.commit().await.map_err(StoreError::from);
        committed.inspect_err(|error| self.write_health.note_failure(error))?;
        let written = self.written_known_prices.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.known_prices.keep_committed(&written);
        if let Some(wal) = self.wal {
            // Others that write have a statement or two.
            wal.has_grown(self.rows.into_inner().max(1));
        }
        Ok(())
    }
}
