//! How long the payloads of events are kept. Their ids are kept for good, so that a late repeat is still known.

use entity::{event, retention};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::domain::outcome::Outcome;
use crate::store::{Store, StoreError};

/// The one row's id.
const ONLY: i64 = 1;

/// How much is dropped at once, by the time of its coming, in milliseconds: a second of the worst burst.
const SLICE_MS: i64 = 1000;

/// What nobody needs the payload of any more. What failed or was given up may be tried again, and what is parked waits for
/// its customer.
const SETTLED: [Outcome; 4] = [Outcome::Applied, Outcome::Stale, Outcome::Ignored, Outcome::Quarantined];

impl Store {
    /// Drops a slice of the payloads of what was settled and came before that time, the oldest first. How many; none when
    /// nothing is left to be dropped.
    pub async fn drop_old_payloads(&self, before_ms: i64) -> Result<Option<u64>, StoreError> {
        let from_ms = self.dropped_before_ms().await?;
        let Some(oldest_ms) = self.oldest_settled_ms(from_ms, before_ms).await? else {
            self.note_dropped(before_ms.max(from_ms)).await?;
            return Ok(None);
        };
        let until_ms = before_ms.min(oldest_ms + SLICE_MS);
        let dropped = event::Entity::update_many()
            .set(event::ActiveModel { payload: Set(None), ..Default::default() })
            .filter(event::Column::Outcome.is_in(SETTLED.map(Outcome::as_str)))
            .filter(event::Column::ReceivedAtMs.gte(oldest_ms))
            .filter(event::Column::ReceivedAtMs.lt(until_ms))
            .filter(event::Column::Payload.is_not_null())
            .exec(&self.writer)
            .await?;
        // Afterwards: whoever is killed in between drops the slice once more.
        self.note_dropped(until_ms).await?;
        Ok(Some(dropped.rows_affected))
    }

    /// How many payloads there are to be dropped, of what came before that time.
    pub async fn count_old_payloads(&self, before_ms: i64) -> Result<u64, StoreError> {
        use sea_orm::PaginatorTrait;
        let from_ms = self.dropped_before_ms().await?;
        let old = event::Entity::find()
            .filter(event::Column::Outcome.is_in(SETTLED.map(Outcome::as_str)))
            .filter(event::Column::ReceivedAtMs.gte(from_ms))
            .filter(event::Column::ReceivedAtMs.lt(before_ms))
            .filter(event::Column::Payload.is_not_null());
        Ok(old.count(&self.db).await?)
    }

    async fn dropped_before_ms(&self) -> Result<i64, StoreError> {
        let row = retention::Entity::find_by_id(ONLY).one(&self.db).await?;
        Ok(row.map_or(0, |row| row.dropped_before_ms))
    }

    /// When the oldest settled event came that is to be looked at: one seek in the index for each outcome.
    async fn oldest_settled_ms(&self, from_ms: i64, before_ms: i64) -> Result<Option<i64>, StoreError> {
        let mut oldest: Option<i64> = None;
        for outcome in SETTLED {
            let found: Option<i64> = event::Entity::find()
                .select_only()
                .column(event::Column::ReceivedAtMs)
                .filter(event::Column::Outcome.eq(outcome.as_str()))
                .filter(event::Column::ReceivedAtMs.gte(from_ms))
                .filter(event::Column::ReceivedAtMs.lt(before_ms))
                .order_by_asc(event::Column::ReceivedAtMs)
                .limit(1)
                .into_tuple()
                .one(&self.db)
                .await?;
            oldest = oldest.into_iter().chain(found).min();
        }
        Ok(oldest)
    }

    async fn note_dropped(&self, before_ms: i64) -> Result<(), StoreError> {
        let row = retention::ActiveModel { id: Set(ONLY), dropped_before_ms: Set(before_ms) };
        let noted = OnConflict::column(retention::Column::Id)
            .update_column(retention::Column::DroppedBeforeMs)
            .to_owned();
        retention::Entity::insert(row).on_conflict(noted).exec_without_returning(&self.writer).await?;
        Ok(())
    }
}
