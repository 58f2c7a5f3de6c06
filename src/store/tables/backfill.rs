//! The progress of the backfill.

use entity::{backfill, event, lease};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use crate::store::{Lease, Store, StoreError};

/// The id of the single row.
pub(in crate::store) const ROW_ID: i64 = 1;

/// A watermark may be ahead of Stripe's time by the difference between the clocks of its servers,
/// but not by more.
const MAX_CLOCK_SKEW_SECONDS: i64 = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// Every event up to this time, in Stripe's seconds, is in the inbox, as far as Stripe listed
    /// it then.
    pub at: i64,
    /// When a run last caught up, in Unix milliseconds.
    pub finished_at_ms: i64,
    /// The events before this time, in Stripe's seconds, that Stripe no longer lists were made up
    /// for by a gap recovery.
    pub leapt_at: i64,
}

impl Store {
    pub async fn watermark(&self) -> Result<Option<Watermark>, StoreError> {
        let row = backfill::Entity::find_by_id(ROW_ID).one(&self.db).await?;
        Ok(row.map(|row| Watermark {
            at: row.watermark,
            finished_at_ms: row.finished_at_ms,
            leapt_at: row.leapt_at,
        }))
    }

    /// Inserts the watermark if there is none. A new installation starts now, since earlier events
    /// do not concern it. An inbox from before the watermark existed is checked for as long as
    /// Stripe lists events.
    pub async fn init_watermark(&self, now: i64, listed_seconds: i64) -> Result<(), StoreError> {
        let is_new = event::Entity::find().select_only().column(event::Column::Id).limit(1);
        let is_new = is_new.into_tuple::<String>().one(&self.db).await?.is_none();
        let at = if is_new { now } else { now - listed_seconds };
        let first = backfill::ActiveModel {
            id: Set(ROW_ID),
            watermark: Set(at),
            finished_at_ms: Set(0),
            leapt_at: Set(now),
        };
        backfill::Entity::insert(first)
            .on_conflict_do_nothing_on([backfill::Column::Id])
            .exec_without_returning(&self.writer)
            .await?;
        Ok(())
    }

    /// Advances the watermark, but never back. Returns `false` and does nothing if the lease is
    /// lost. `finished_at_ms` is set if the run has caught up: a watermark far beyond `at` then
    /// comes from a wrong clock, and is moved back.
    pub async fn advance_watermark(
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
        let latest = finished_at_ms.map_or(i64::MAX, |_| at + MAX_CLOCK_SKEW_SECONDS);
        let is_moved = Expr::col(At).lt(at).or(Expr::col(At).gt(latest));
        let later = Expr::case(is_moved, at).finally(Expr::col(At));
        let finished = finished_at_ms.map_or_else(|| Expr::col(FinishedAtMs), Expr::val);
        let moved = backfill::Entity::update_many()
            .col_expr(At, later.into())
            .col_expr(FinishedAtMs, finished)
            .filter(Id.eq(ROW_ID))
            .filter(is_ours)
            .exec(&self.writer)
            .await?;
        Ok(moved.rows_affected == 1)
    }
}
