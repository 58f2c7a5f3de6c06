//! For the metrics: events and refreshes that wait, and the connections in use.

use entity::{backfill, event, refresh};
use sea_orm::{ColumnTrait, DbBackend, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect};

use crate::domain::outcome::Outcome;
use crate::store::traced::Traced;
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::{Backlog, PoolConnections, WaitingEvents};

/// The outcomes that are not final.
const WAITING: [Outcome; 3] = [Outcome::Failed, Outcome::Parked, Outcome::Dead];

impl Store {
    /// Counts with an index.
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
            WaitingEvents {
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

    /// Of all pools: the readers and the writer of SQLite, the batches' and the other connections
    /// of PostgreSQL.
    pub fn connections(&self) -> PoolConnections {
        let pools = [&self.db, &self.batches].map(Traced::untraced);
        let [all, batches] = pools.map(|db| match db.get_database_backend() {
            DbBackend::Postgres => count_connections(db.get_postgres_connection_pool()),
            _ => count_connections(db.get_sqlite_connection_pool()),
        });
        PoolConnections {
            used: all.used + batches.used,
            idle: all.idle + batches.idle,
            max: all.max + batches.max,
        }
    }
}

fn count_connections<DB: sqlx::Database>(pool: &sqlx::Pool<DB>) -> PoolConnections {
    let open = pool.size();
    let idle = u32::try_from(pool.num_idle()).unwrap_or(open).min(open);
    PoolConnections { used: open - idle, idle, max: pool.options().get_max_connections() }
}
