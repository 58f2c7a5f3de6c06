//! The mode (test or live) and the Stripe account of the database's data. The first key sets them.
//! Later keys must have the same mode and account, so that a key never meets customers of another
//! mode or account.

use entity::installation;
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::rows;
use crate::domain::ids::AccountId;
use crate::domain::mode::Mode;
use crate::store::{Store, StoreError};

/// The id of the single row.
const ROW_ID: i64 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "STRIPE_SECRET_KEY is a {key} mode key, but the database of DATABASE_URL holds {database} mode data: \
     use a {database} mode key, or another database"
)]
pub struct ModeConflict {
    pub key: Mode,
    pub database: Mode,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the Stripe account is {own}, but STRIPE_ACCOUNT or the database of DATABASE_URL says {database}: correct \
     STRIPE_ACCOUNT, use a key of {database}, or another database"
)]
pub struct AccountConflict {
    /// The account of the key, or of `STRIPE_ACCOUNT`.
    pub own: AccountId,
    pub database: AccountId,
}

impl Store {
    /// `None` until [`bind_mode`](Self::bind_mode) was called.
    pub async fn mode(&self) -> Result<Option<Mode>, StoreError> {
        let Some(row) = installation::Entity::find_by_id(ROW_ID).one(&self.db).await? else {
            return Ok(None);
        };
        let mode = Mode::parse(&row.mode);
        mode.map(Some).ok_or_else(|| StoreError::rejected("the row of installation has an unknown mode"))
    }

    /// Stores the key's mode, or compares it with the stored one.
    pub async fn bind_mode(&self, key: Mode) -> Result<Result<(), ModeConflict>, StoreError> {
        let mode = Set(key.as_str().to_owned());
        let first = installation::ActiveModel { id: Set(ROW_ID), mode, account_id: Set(None) };
        installation::Entity::insert(first)
            .on_conflict_do_nothing_on([installation::Column::Id])
            .exec_without_returning(&self.writer)
            .await?;
        Ok(match self.mode().await? {
            Some(database) if database != key => Err(ModeConflict { key, database }),
            _ => Ok(()),
        })
    }

    /// `None` until [`bind_account`](Self::bind_account) was called.
    pub async fn account(&self) -> Result<Option<AccountId>, StoreError> {
        let row = installation::Entity::find_by_id(ROW_ID).one(&self.db).await?;
        let account = row.and_then(|row| row.account_id);
        account.map(|account| rows::id("installation", &account)).transpose()
    }

    /// Stores the account, or compares it with the stored one.
    pub async fn bind_account(&self, own: &AccountId) -> Result<Result<(), AccountConflict>, StoreError> {
        installation::Entity::update_many()
            .set(installation::ActiveModel { account_id: Set(Some(own.to_string())), ..Default::default() })
            .filter(installation::Column::AccountId.is_null())
            .exec(&self.writer)
            .await?;
        Ok(match self.account().await? {
            Some(database) if database != *own => Err(AccountConflict { own: own.clone(), database }),
            _ => Ok(()),
        })
    }
}
