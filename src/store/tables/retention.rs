//! Deletes the payloads of old events. Their ids are kept forever, so that a late duplicate is
//! recognised.

use entity::{event, retention};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::domain::outcome::Outcome;
use crate::store::{Store, StoreError};

/// The id of the single row.
const ROW_ID: i64 = 1;

/// Events that were received within this time lose their payloads in one statement: at most a
/// second of the worst burst.
const SLICE_MS: i64 = 1000;

/// The payloads of `failed`, `dead` and `parked` events are kept, since they may be needed again.
const SETTLED: [Outcome; 4] = [Outcome::Applied, Outcome::Stale, Outcome::Ignored, Outcome::Quarantined];

impl Store {
    /// Deletes the payloads of the oldest slice of settled events that were received before
    /// `before_ms`. Returns their number, or `None` if no payload is left to delete.
    pub async fn delete_old_payloads(&self, before_ms: i64) -> Result<Option<u64>, StoreError> {
        let from_ms = self.deleted_before_ms().await?;
        let Some(oldest_ms) = self.oldest_settled_ms(from_ms, before_ms).await? else {
            self.save_deleted_before(before_ms.max(from_ms)).await?;
            return Ok(None);
        };
        let until_ms = before_ms.min(oldest_ms + SLICE_MS);
        let deleted = event::Entity::update_many()
            .set(event::ActiveModel { payload: Set(None), ..Default::default() })
            .filter(event::Column::Outcome.is_in(SETTLED.map(Outcome::as_str)))
            .filter(event::Column::ReceivedAtMs.gte(oldest_ms))
            .filter(event::Column::ReceivedAtMs.lt(until_ms))
            .filter(event::Column::Payload.is_not_null())
            .exec(&self.writer)
            .await?;
        // Last, so that an interrupted slice is repeated.
        self.save_deleted_before(until_ms).await?;
        Ok(Some(deleted.rows_affected))
    }

    /// The number of payloads that can be deleted.
    pub async fn count_old_payloads(&self, before_ms: i64) -> Result<u64, StoreError> {
        use sea_orm::PaginatorTrait;
        let from_ms = self.deleted_before_ms().await?;
        let old = event::Entity::find()
            .filter(event::Column::Outcome.is_in(SETTLED.map(Outcome::as_str)))
            .filter(event::Column::ReceivedAtMs.gte(from_ms))
            .filter(event::Column::ReceivedAtMs.lt(before_ms))
            .filter(event::Column::Payload.is_not_null());
        Ok(old.count(&self.db).await?)
    }

    async fn deleted_before_ms(&self) -> Result<i64, StoreError> {
        let row = retention::Entity::find_by_id(ROW_ID).one(&self.db).await?;
        Ok(row.map_or(0, |row| row.dropped_before_ms))
    }

    /// When the oldest settled event in the range was received. One index seek for each outcome.
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

    async fn save_deleted_before(&self, before_ms: i64) -> Result<(), StoreError> {
        let row = retention::ActiveModel { id: Set(ROW_ID), dropped_before_ms: Set(before_ms) };
        let replaced = OnConflict::column(retention::Column::Id)
            .update_column(retention::Column::DroppedBeforeMs)
            .to_owned();
        retention::Entity::insert(row).on_conflict(replaced).exec_without_returning(&self.writer).await?;
        Ok(())
    }
}
