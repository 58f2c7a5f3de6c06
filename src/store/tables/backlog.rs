//! What waits in the database, and how many hold it: for whoever watches.

use entity::{backfill, event, refresh};
use sea_orm::{ColumnTrait, DbBackend, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect};

use crate::domain::outcome::Outcome;
use crate::store::traced::Traced;
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::{Backlog, Connections, Waiting};

/// The outcomes that are not the end.
const WAITING: [Outcome; 3] = [Outcome::Failed, Outcome::Parked, Outcome::Dead];

impl Store {
    /// What waits, counted over an index.
    pub async fn backlog(&self, now_ms: i64) -> Result<Backlog, StoreError> {
        let found: Vec<(String, i64, i64)> = event::Entity::find()
            .select_only()
            .column(event::Column::Outcome)
            .column_as(event::Column::Outcome.count(), "events")
            .column_as(event::Column::ReceivedAtMs.min(), "oldest_at_ms")
            .filter(event::Column::Outcome.is_in(WAITING.map(Outcome::as_str)))
            .group_by(event::Column::Outcome)
            .into_tuple()
            .all(&self.db)
            .await?;
        let of = |outcome: Outcome| {
            let row = found.iter().find(|(word, ..)| word == outcome.as_str());
            let (events, oldest_ms) =
                row.map_or((0, 0), |(_, events, oldest_at_ms)| (*events, now_ms - oldest_at_ms));
            Waiting {
                outcome,
                events: u64::try_from(events).unwrap_or_default(),
                oldest_ms: oldest_ms.max(0),
            }
        };
        let finished_at_ms: Option<i64> = backfill::Entity::find()
            .select_only()
            .column(backfill::Column::FinishedAtMs)
            .filter(backfill::Column::FinishedAtMs.gt(0))
            .into_tuple()
            .one(&self.db)
            .await?;
        Ok(Backlog {
            waiting: WAITING.map(of).to_vec(),
            refreshes: refresh::Entity::find().count(&self.db).await?,
            backfilled_ms: finished_at_ms.map(|at_ms| (now_ms - at_ms).max(0)),
        })
    }

    /// The connections that are held: of SQLite those that read and the one that writes, of PostgreSQL those of the batches and
    /// all others.
    pub fn connections(&self) -> Connections {
        let pools = [&self.db, &self.batches].map(Traced::untraced);
        let [all, batches] = pools.map(|db| match db.get_database_backend() {
            DbBackend::Postgres => counted(db.get_postgres_connection_pool()),
            _ => counted(db.get_sqlite_connection_pool()),
        });
        Connections {
            used: all.used + batches.used,
            idle: all.idle + batches.idle,
            most: all.most + batches.most,
        }
    }
}

fn counted<DB: sqlx::Database>(pool: &sqlx::Pool<DB>) -> Connections {
    let held = pool.size();
    let idle = u32::try_from(pool.num_idle()).unwrap_or(held).min(held);
    Connections { used: held - idle, idle, most: pool.options().get_max_connections() }
}
