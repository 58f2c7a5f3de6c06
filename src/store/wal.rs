//! Checkpoints of SQLite's WAL in the background. By default SQLite runs a checkpoint in the commit
//! that makes the WAL too long, and every caller of that commit waits for it. A PASSIVE checkpoint
//! on another connection blocks no one
//! (<https://www.sqlite.org/pragma.html#pragma_wal_checkpoint>).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use tokio::sync::mpsc;

/// In pages of 4 KiB: SQLite's default.
const CHECKPOINT_PAGES: i64 = 1000;

/// How many rows are written between two checks of the WAL's length. A single event writes 3 rows,
/// which change about 15 pages. In a larger batch, each event changes fewer.
const CHECK_INTERVAL_ROWS: usize = 200;

/// Wakes the task that runs checkpoints. Cheap to clone. The task ends when the last clone is
/// dropped.
#[derive(Debug, Clone)]
pub(super) struct Wal {
    wakeup: mpsc::Sender<()>,
    /// Written since the last wakeup.
    rows: Arc<AtomicUsize>,
}

impl Wal {
    /// Starts the task.
    pub(super) fn checkpointed_by(connections: DatabaseConnection) -> Self {
        let (wakeup, mut wakeups) = mpsc::channel(1);
        tokio::spawn(async move {
            while wakeups.recv().await.is_some() {
                if let Err(error) = checkpoint_if_long(&connections).await {
                    // A later commit will run the checkpoint.
                    tracing::warn!(%error, "could not checkpoint SQLite's WAL");
                }
            }
        });
        Self { wakeup, rows: Arc::default() }
    }

    /// Called after a commit.
    pub(super) fn note_written(&self, rows: usize) {
        if self.rows.fetch_add(rows, Ordering::Relaxed) + rows >= CHECK_INTERVAL_ROWS {
            self.rows.store(0, Ordering::Relaxed);
            // Fails if a wakeup is pending.
            let _ = self.wakeup.try_send(());
        }
    }
}

async fn checkpoint_if_long(connections: &DatabaseConnection) -> Result<(), DbErr> {
    if checkpoint(connections, "NOOP").await? >= CHECKPOINT_PAGES {
        checkpoint(connections, "PASSIVE").await?;
    }
    Ok(())
}

/// Returns how many pages of the WAL are not yet in the database file.
async fn checkpoint(connections: &DatabaseConnection, mode: &str) -> Result<i64, DbErr> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    let row = connections.query_one_raw(Statement::from_string(DbBackend::Sqlite, sql)).await?;
    let Some(row) = row else { return Ok(0) };
    let [in_wal, checkpointed]: [i64; 2] = [row.try_get_by_index(1)?, row.try_get_by_index(2)?];
    Ok(in_wal - checkpointed)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use sea_orm::sea_query::Query;

    use super::*;
    use crate::store::connect::tests::empty_sqlite;

    #[tokio::test]
    async fn commit_of_many_pages_is_checkpointed_in_background() {
        let (store, _dir) = empty_sqlite().await;
        store.writer.execute_unprepared("CREATE TABLE a (b BLOB)").await.expect("a table");
        let large = Query::insert()
            .into_table("a")
            .columns(["b"])
            .values_panic([vec![1_u8; 5 << 20].into()])
            .to_owned();
        let mut transaction = store.begin().await.expect("a transaction");
        transaction.db.execute(&large).await.expect("the row is inserted");
        transaction.written_rows = CHECK_INTERVAL_ROWS;
        transaction.commit().await.expect("the transaction commits");
        let started = Instant::now();
        let readers = store.db.untraced();
        while checkpoint(readers, "NOOP").await.expect("a length") >= CHECKPOINT_PAGES {
            assert!(started.elapsed() < Duration::from_mins(1), "no checkpoint");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
