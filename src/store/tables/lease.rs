//! Leases: what one replica does at a time. They run on the database's clock, since replicas' clocks differ.

use std::time::Duration;

use entity::lease;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, SimpleExpr};
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter};
use uuid::Uuid;

use crate::store::{Store, StoreError};

/// A lease as one replica asks for it. The token tells its holder from the next one.
#[derive(Debug)]
pub struct Lease {
    pub(in crate::store) name: &'static str,
    pub(in crate::store) token: String,
    length: Duration,
}

impl Lease {
    /// A lease of that name, which lasts so long unless it is taken again.
    pub fn new(name: &'static str, length: Duration) -> Self {
        Self { name, token: Uuid::new_v4().to_string(), length }
    }
}

impl Store {
    /// Takes the lease, or takes it again. `false`: another replica has it.
    pub async fn take_lease(&self, lease: &Lease) -> Result<bool, StoreError> {
        use lease::Column::{ExpiresAtMs, Name, Token};
        let now = self.database_now_ms();
        let length_ms = i64::try_from(lease.length.as_millis()).unwrap_or(i64::MAX);
        let place = lease::ActiveModel {
            name: Set(lease.name.to_owned()),
            token: Set(lease.token.clone()),
            expires_at_ms: Set(0),
        };
        // The place first, so that what follows is one update that the database's clock decides.
        lease::Entity::insert(place)
            .on_conflict(OnConflict::column(Name).do_nothing().to_owned())
            .exec_without_returning(&self.writer)
            .await?;
        let free = Expr::col(ExpiresAtMs).lte(now.clone());
        let taken = lease::Entity::update_many()
            .col_expr(Token, Expr::val(lease.token.as_str()))
            .col_expr(ExpiresAtMs, now.add(length_ms))
            .filter(Name.eq(lease.name))
            .filter(free.or(Token.eq(lease.token.as_str())))
            .exec(&self.writer)
            .await?;
        Ok(taken.rows_affected == 1)
    }

    /// Gives the lease back, if it is still ours.
    pub async fn give_lease_back(&self, lease: &Lease) -> Result<(), StoreError> {
        lease::Entity::update_many()
            .set(lease::ActiveModel { expires_at_ms: Set(0), ..Default::default() })
            .filter(lease::Column::Name.eq(lease.name))
            .filter(lease::Column::Token.eq(lease.token.as_str()))
            .exec(&self.writer)
            .await?;
        Ok(())
    }

    /// The database's own time, in Unix milliseconds.
    pub(in crate::store) fn database_now_ms(&self) -> SimpleExpr {
        match self.db.get_database_backend() {
            DbBackend::Sqlite => Expr::cust("CAST(unixepoch('subsec') * 1000 AS INTEGER)"),
            _ => Expr::cust("CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"),
        }
    }
}
