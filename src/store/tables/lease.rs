//! Leases, for work that only one replica does at a time. They use the database's clock, since the
//! replicas' clocks differ.

use std::time::Duration;

use entity::lease;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, SimpleExpr};
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter};
use uuid::Uuid;

use crate::store::{Store, StoreError};

/// The token identifies the holder.
#[derive(Debug)]
pub struct Lease {
    pub(in crate::store) name: &'static str,
    pub(in crate::store) token: String,
    duration: Duration,
}

impl Lease {
    /// `duration` starts with each [`acquire_lease`](Store::acquire_lease).
    pub fn new(name: &'static str, duration: Duration) -> Self {
        Self { name, token: Uuid::new_v4().to_string(), duration }
    }
}

impl Store {
    /// Acquires or renews the lease. `false`: another replica has it.
    pub async fn acquire_lease(&self, lease: &Lease) -> Result<bool, StoreError> {
        use lease::Column::{ExpiresAtMs, Name, Token};
        let now = self.database_now_ms();
        let duration_ms = i64::try_from(lease.duration.as_millis()).unwrap_or(i64::MAX);
        let expired = lease::ActiveModel {
            name: Set(lease.name.to_owned()),
            token: Set(lease.token.clone()),
            expires_at_ms: Set(0),
        };
        // The row exists from here on, so that a single update by the database's clock can acquire
        // the lease.
        lease::Entity::insert(expired)
            .on_conflict(OnConflict::column(Name).do_nothing().to_owned())
            .exec_without_returning(&self.writer)
            .await?;
        let is_free = Expr::col(ExpiresAtMs).lte(now.clone());
        let updated = lease::Entity::update_many()
            .col_expr(Token, Expr::val(lease.token.as_str()))
            .col_expr(ExpiresAtMs, now.add(duration_ms))
            .filter(Name.eq(lease.name))
            .filter(is_free.or(Token.eq(lease.token.as_str())))
            .exec(&self.writer)
            .await?;
        Ok(updated.rows_affected == 1)
    }

    /// Does nothing if another replica has the lease.
    pub async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        lease::Entity::update_many()
            .set(lease::ActiveModel { expires_at_ms: Set(0), ..Default::default() })
            .filter(lease::Column::Name.eq(lease.name))
            .filter(lease::Column::Token.eq(lease.token.as_str()))
            .exec(&self.writer)
            .await?;
        Ok(())
    }

    /// In Unix milliseconds.
    pub(in crate::store) fn database_now_ms(&self) -> SimpleExpr {
        match self.db.get_database_backend() {
            DbBackend::Sqlite => Expr::cust("CAST(unixepoch('subsec') * 1000 AS INTEGER)"),
            _ => Expr::cust("CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"),
        }
    }
}
