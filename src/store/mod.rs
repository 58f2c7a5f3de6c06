//! The database. Takes and returns domain types; nothing outside this folder knows a table.
//!
//! Start reading at [`Store`], which starts transactions. `batch_load` and `batch_save` are the two halves of the hot path: what
//! a batch of events reads, and what it writes, as SQL. `tables` has one file for each table or question about tables, and `connect`
//! opens the database and brings it up to date. Everything works on SQLite and PostgreSQL.

mod announce;
mod batch_load;
mod batch_save;
mod batch_scope;
mod connect;
mod connect_failure;
mod copy;
mod due;
mod erasure;
mod error;
mod failover;
mod retry_on_conflict;
mod shared_reads;
mod silence;
mod sql;
mod tables;
mod traced;
mod wal;
mod write_health;

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, SqliteTransactionMode,
    TransactionOptions,
};
use tokio::task::JoinError;
use tracing::Instrument;

use crate::domain::known_prices::KnownPrices;

pub use announce::{Announcements, TenantKey};
pub use batch_load::LoadedBatch;
pub use batch_save::InboxRow;
pub use batch_scope::BatchScope;
pub use connect::{POSTGRES_LANES, describe};
pub use copy::{CopyError, DatabaseCopy};
pub use due::Due;
pub use erasure::{ErasedLinks, ErasureScope};
pub use error::{StoreError, StoreFailure};
pub use retry_on_conflict::{MayConflict, retry_on_conflict};
pub use tables::backfill::Watermark;
pub use tables::deployment::{DeploymentConflict, OtherDeployment};
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
    /// Where transactions start. On SQLite this is one connection: only one transaction can write at a time, and the pages
    /// that a connection has cached stay valid while no other one writes.
    writer: Traced<DatabaseConnection>,
    /// Where the transactions of batches start. On PostgreSQL these are connections of their own, used in another runtime.
    batches: Traced<DatabaseConnection>,
    /// The requests that wait for a shared statement.
    shared_reads: Arc<Mutex<SharedReads>>,
    /// The lookup keys of prices that were read lately.
    known_prices: Arc<KnownPriceCache>,
    /// SQLite's.
    wal: Option<Wal>,
    write_health: Arc<WriteHealth>,
}

/// A transaction. Dropping it rolls it back.
#[derive(Debug)]
pub struct Transaction {
    db: Traced<DatabaseTransaction>,
    store: Store,
    /// How many rows it has written as a batch.
    written_rows: usize,
    /// The lookup keys that it has written.
    written_prices: KnownPrices,
}

impl Store {
    /// Whether several transactions can write at the same time.
    pub fn has_concurrent_writers(&self) -> bool {
        self.db.get_database_backend() == DbBackend::Postgres
    }

    /// Starts a transaction that will write. On SQLite it takes the write lock at once: a transaction that reads first and
    /// writes later can find that it cannot get the lock.
    pub async fn begin(&self) -> Result<Transaction, StoreError> {
        if !self.has_concurrent_writers() {
            return self.begin_on(&self.writer).await;
        }
        // A caller that is cancelled while PostgreSQL starts the transaction would leave it open, on a connection that the next
        // caller gets: sqlx rolls back what has started, and does not know of it yet. So it starts in a task of its own.
        let store = self.clone();
        let beginning = tokio::spawn(async move { store.begin_on(&store.writer).await }.in_current_span());
        match beginning.await.map_err(JoinError::try_into_panic) {
            Ok(begun) => begun,
            Err(Ok(panic)) => resume_unwind(panic),
            Err(Err(_)) => Err(StoreError::broken("the service is about to end")),
        }
    }

    /// Starts the transaction of a batch. All of them must start in the same runtime, since a connection to PostgreSQL is
    /// driven by the one that opened it. If a transaction is left open, the next batch on its connection rolls it back.
    pub async fn begin_batch(&self) -> Result<Transaction, StoreError> {
        self.begin_on(&self.batches).await
    }

    async fn begin_on(&self, connections: &Traced<DatabaseConnection>) -> Result<Transaction, StoreError> {
        let options = TransactionOptions {
            sqlite_transaction_mode: (!self.has_concurrent_writers())
                .then_some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        Ok(Transaction {
            db: connections.begin_with_options(options).await?,
            store: self.clone(),
            written_rows: 0,
            written_prices: KnownPrices::default(),
        })
    }
}

impl Transaction {
    /// Commits it.
    pub async fn commit(self) -> Result<(), StoreError> {
        let Self { db, store, written_rows, written_prices } = self;
        let committed = db.commit().await.map_err(StoreError::from);
        committed.inspect_err(|error| store.write_health.note_failure(error))?;
        store.known_prices.keep_committed(&written_prices);
        if let Some(wal) = store.wal {
            // Other transactions have a statement or two.
            wal.has_grown(written_rows.max(1));
        }
        Ok(())
    }
}
