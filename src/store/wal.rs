//! SQLite's log, written back beside the commits. SQLite itself does so in the commit that makes the log too long, and all
//! who wait for that commit wait for the whole log. Another connection can do it meanwhile and hold up nobody (PASSIVE,
//! <https://www.sqlite.org/pragma.html#pragma_wal_checkpoint>): what came since is all that is left to the commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use tokio::sync::mpsc;

/// After how many pages (of 4 KiB) they are written back: SQLite's own default.
const PAGES: i64 = 1000;

/// After how many rows the log is looked at. An event alone writes three, which change some fifteen pages; of many at once
/// each changes fewer.
const ROWS: usize = 200;

/// Tells that there may be something to be written back. Cheap to clone; when the last clone is gone nobody does so any more.
#[derive(Debug, Clone)]
pub(super) struct Wal {
    told: mpsc::Sender<()>,
    /// Written since it was told.
    rows: Arc<AtomicUsize>,
}

impl Wal {
    /// Has one of these connections write back, in a task of its own.
    pub(super) fn written_back_by(connections: DatabaseConnection) -> Self {
        let (told, mut grown) = mpsc::channel(1);
        tokio::spawn(async move {
            while grown.recv().await.is_some() {
                if let Err(error) = write_back(&connections).await {
                    // A commit will have to do it.
                    tracing::warn!(%error, "SQLite's log could not be written back");
                }
            }
        });
        Self { told, rows: Arc::default() }
    }

    /// So many rows were written, and are committed.
    pub(super) fn has_grown(&self, rows: usize) {
        if self.rows.fetch_add(rows, Ordering::Relaxed) + rows >= ROWS {
            self.rows.store(0, Ordering::Relaxed);
            // To be told twice is as good as once.
            let _ = self.told.try_send(());
        }
    }
}

async fn write_back(connections: &DatabaseConnection) -> Result<(), DbErr> {
    if checkpoint(connections, "NOOP").await? >= PAGES {
        checkpoint(connections, "PASSIVE").await?;
    }
    Ok(())
}

/// Returns how many pages are left in the log that stand nowhere else.
async fn checkpoint(connections: &DatabaseConnection, how: &str) -> Result<i64, DbErr> {
    let sql = format!("PRAGMA wal_checkpoint({how})");
    let row = connections.query_one_raw(Statement::from_string(DbBackend::Sqlite, sql)).await?;
    let Some(row) = row else { return Ok(0) };
    let [logged, written_back]: [i64; 2] = [row.try_get_by_index(1)?, row.try_get_by_index(2)?];
    Ok(logged - written_back)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use sea_orm::sea_query::Query;

    use super::*;
    use crate::store::connect::tests::empty_sqlite;

    #[tokio::test]
    async fn what_is_committed_is_written_back_by_somebody_else() {
        let (store, _dir) = empty_sqlite().await;
        let made = store.writer.execute_unprepared("CREATE TABLE a (b BLOB)").await;
        made.expect("the table is made");
        let large = Query::insert()
            .into_table("a")
            .columns(["b"])
            .values_panic([vec![1_u8; 5 << 20].into()])
            .to_owned();
        let mut transaction = store.begin().await.expect("it begins");
        transaction.db.execute(&large).await.expect("it is inserted");
        transaction.written_rows = ROWS;
        transaction.commit().await.expect("it is committed");
        let began = Instant::now();
        let readers = store.db.untraced();
        while checkpoint(readers, "NOOP").await.expect("an answer") >= PAGES {
            assert!(began.elapsed() < Duration::from_mins(1), "it is written back");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
