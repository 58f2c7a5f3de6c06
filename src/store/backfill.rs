//! How far the backfill has come.

use entity::{backfill, event, lease};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Query};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::{Lease, Store, StoreError};

/// The one row's id.
const ONLY: i64 = 1;

/// How far the backfill has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// Up to which of Stripe's seconds every event is in the inbox, as far as Stripe showed it then.
    pub at: i64,
    /// When a run last reached the present, in Unix milliseconds.
    pub finished_at_ms: i64,
}

impl Store {
    /// The watermark, once there is one.
    pub async fn watermark(&self) -> Result<Option<Watermark>, StoreError> {
        let row = backfill::Entity::find_by_id(ONLY).one(&self.db).await?;
        Ok(row.map(|row| Watermark { at: row.watermark, finished_at_ms: row.finished_at_ms }))
    }

    /// When Stripe made the oldest event that we were ever told of, in Unix seconds.
    pub async fn oldest_event(&self) -> Result<Option<i64>, StoreError> {
        let oldest: Option<Option<i64>> = event::Entity::find()
            .select_only()
            .column_as(event::Column::Created.min(), "oldest")
            .into_tuple()
            .one(&self.db)
            .await?;
        Ok(oldest.flatten())
    }

    /// Moves the watermark on to one of Stripe's seconds; never back, and not by a replica that has lost its lease.
    /// `finished_at_ms` if that is the present. Whether the lease is ours.
    pub async fn move_watermark(
        &self,
        at: i64,
        finished_at_ms: Option<i64>,
        lease: &Lease,
    ) -> Result<bool, StoreError> {
        use backfill::Column::{FinishedAtMs, Id, Watermark as At};
        let is_ours = Expr::exists(
            Query::select()
                .expr(Expr::val(1))
                .from(lease::Entity)
                .and_where(lease::Column::Name.eq(lease.name))
                .and_where(lease::Column::Token.eq(lease.token.as_str()))
                .and_where(Expr::col(lease::Column::ExpiresAtMs).gt(self.database_now_ms()))
                .to_owned(),
        );
        let place = backfill::ActiveModel { id: Set(ONLY), watermark: Set(0), finished_at_ms: Set(0) };
        backfill::Entity::insert(place)
            .on_conflict(OnConflict::column(Id).do_nothing().to_owned())
            .exec_without_returning(&self.db)
            .await?;
        let later = Expr::case(Expr::col(At).lt(at), at).finally(Expr::col(At));
        let finished = finished_at_ms.map_or_else(|| Expr::col(FinishedAtMs), Expr::val);
        let moved = backfill::Entity::update_many()
            .col_expr(At, later.into())
            .col_expr(FinishedAtMs, finished)
            .filter(Id.eq(ONLY))
            .filter(is_ours)
            .exec(&self.db)
            .await?;
        Ok(moved.rows_affected == 1)
    }
}
