//! The database, SQLite or PostgreSQL. Takes and returns domain types. Nothing outside this folder
//! knows a table.
//!
//! Start reading at [`Store`], which starts transactions. `batch_load` and `batch_save` are the hot
//! path: the SQL that reads and writes a batch of events. `tables` has a file for each table or
//! query. `connect` opens the database, and `migrate` runs the migrations. `error` describes how an
//! error gets from the database to the caller.

mod batch_load;
mod batch_save;
mod batch_scope;
mod change_listener;
mod claim_window;
mod coalesced_reads;
mod connect;
mod connect_failure;
mod copy;
mod erasure;
mod error;
mod failover;
mod migrate;
mod pool_hooks;
mod retry_on_conflict;
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

pub use batch_load::LoadedBatch;
pub use batch_save::InboxRow;
pub use batch_scope::BatchScope;
pub use change_listener::{ChangeListener, TenantKey};
pub use claim_window::ClaimWindow;
pub use connect::{POSTGRES_LANES, describe};
pub use copy::{CopyError, DatabaseCopy};
pub use erasure::{ErasedLinks, ErasureScope};
pub use error::{StoreError, StoreErrorKind};
pub use retry_on_conflict::{MayConflict, retry_on_conflict};
pub use tables::backfill::Watermark;
pub use tables::deployment::{DeploymentConflict, OtherDeployment};
pub use tables::gap_recovery::{GapRecovery, GapStep};
pub use tables::inbox::{EventFilter, InboxEvent};
pub use tables::lease::Lease;
pub use tables::mode::{AccountConflict, ModeConflict};
pub use tables::observations::{RejectedWebhooks, VerifiedWebhooks};
pub use tables::refreshes::{LinkRefresh, RefreshJob};
pub use tables::retries::RetryJob;
pub use tables::timeline::{Timeline, TimelineEntry};

use coalesced_reads::CoalescedReads;
use tables::known_prices::KnownPriceCache;
use traced::Traced;
use wal::Wal;
use write_health::WriteHealth;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    db: Traced<DatabaseConnection>,
    /// For transactions. On SQLite this is one connection: only one transaction can write at a
    /// time, and the connection's page cache stays valid while no other connection writes.
    writer: Traced<DatabaseConnection>,
    /// For the transactions of batches. On PostgreSQL this is a separate pool, since the lanes have
    /// a runtime of their own.
    batches: Traced<DatabaseConnection>,
    coalesced_reads: Arc<Mutex<CoalescedReads>>,
    known_prices: Arc<KnownPriceCache>,
    /// SQLite only.
    wal: Option<Wal>,
    write_health: Arc<WriteHealth>,
}

/// Rolled back when dropped.
#[derive(Debug)]
pub struct Transaction {
    db: Traced<DatabaseTransaction>,
    store: Store,
    /// Only rows of batches count.
    written_rows: usize,
    written_prices: KnownPrices,
}

impl Store {
    /// Whether several transactions can write at the same time.
    pub fn has_concurrent_writers(&self) -> bool {
        self.db.get_database_backend() == DbBackend::Postgres
    }

    /// Starts a transaction that will write. On SQLite it takes the write lock at once: a
    /// transaction that reads first may be unable to get the lock later.
    pub async fn begin(&self) -> Result<Transaction, StoreError> {
        if !self.has_concurrent_writers() {
            return self.begin_on(&self.writer).await;
        }
        // A caller can be cancelled while PostgreSQL runs BEGIN. sqlx does not know of the
        // transaction yet and would return the connection to the pool without a rollback. In a
        // task, BEGIN always completes.
        let store = self.clone();
        let begin = tokio::spawn(async move { store.begin_on(&store.writer).await }.in_current_span());
        match begin.await.map_err(JoinError::try_into_panic) {
            Ok(result) => result,
            Err(Ok(panic)) => resume_unwind(panic),
            Err(Err(_)) => Err(StoreError::unavailable("the service is stopping")),
        }
    }

    /// Starts the transaction of a batch. All calls must come from one runtime, since the runtime
    /// that opens a connection to PostgreSQL drives it. If a cancelled call leaves a transaction
    /// open, the next batch on its connection rolls it back.
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
    pub async fn commit(self) -> Result<(), StoreError> {
        let Self { db, store, written_rows, written_prices } = self;
        let committed = db.commit().await.map_err(StoreError::from);
        committed.inspect_err(|error| store.write_health.record_failure(error))?;
        store.known_prices.add_committed(&written_prices);
        if let Some(wal) = store.wal {
            // A transaction that is no batch writes few rows.
            wal.note_written(written_rows.max(1));
        }
        Ok(())
    }
}
