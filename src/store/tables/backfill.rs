//! How far the backfill has come.

use entity::{backfill, event, lease};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use crate::store::{Lease, Store, StoreError};

/// The one row's id.
pub(in crate::store) const ONLY: i64 = 1;

/// By how much a watermark may be ahead of Stripe's present: by what its servers' clocks differ, and no more.
const WRONG_SECONDS: i64 = 60;

/// How far the backfill has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// Up to which of Stripe's seconds every event is in the inbox, as far as Stripe showed it then.
    pub at: i64,
    /// When a run last reached the present, in Unix milliseconds.
    pub finished_at_ms: i64,
    /// Up to which of Stripe's seconds what was missed was made up for otherwise.
    pub leapt_at: i64,
}

impl Store {
    /// The watermark, once there is one.
    pub async fn watermark(&self) -> Result<Option<Watermark>, StoreError> {
        let row = backfill::Entity::find_by_id(ONLY).one(&self.db).await?;
        Ok(row.map(|row| Watermark {
            at: row.watermark,
            finished_at_ms: row.finished_at_ms,
            leapt_at: row.leapt_at,
        }))
    }

    /// Makes the watermark where there is none: now for a new installation, for what was before it is not ours to know. An
    /// inbox that was filled before there were watermarks is looked through for as long as Stripe lists events.
    pub async fn begin_watermark(&self, now: i64, listed_seconds: i64) -> Result<(), StoreError> {
        let is_new = event::Entity::find().select_only().column(event::Column::Id).limit(1);
        let is_new = is_new.into_tuple::<String>().one(&self.db).await?.is_none();
        let at = if is_new { now } else { now - listed_seconds };
        let first = backfill::ActiveModel {
            id: Set(ONLY),
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

    /// Moves the watermark on to one of Stripe's seconds; never back, and not by a replica that has lost its lease.
    /// `finished_at_ms` if that is the present: a watermark that lies far beyond it was set when a clock was wrong, and is
    /// the one that moves back. Whether the lease is ours.
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
        let latest = finished_at_ms.map_or(i64::MAX, |_| at + WRONG_SECONDS);
        let is_moved = Expr::col(At).lt(at).or(Expr::col(At).gt(latest));
        let later = Expr::case(is_moved, at).finally(Expr::col(At));
        let finished = finished_at_ms.map_or_else(|| Expr::col(FinishedAtMs), Expr::val);
        let moved = backfill::Entity::update_many()
            .col_expr(At, later.into())
            .col_expr(FinishedAtMs, finished)
            .filter(Id.eq(ONLY))
            .filter(is_ours)
            .exec(&self.writer)
            .await?;
        Ok(moved.rows_affected == 1)
    }
}
