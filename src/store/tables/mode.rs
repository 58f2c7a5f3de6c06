//! Whether the database holds test or live data, and of which account: remembered with the first key it is used with, and
//! guarded ever after, so that test customers never meet a live key, nor customers another account's key.

use entity::installation;
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::rows;
use crate::domain::ids::AccountId;
use crate::domain::mode::Mode;
use crate::store::{Store, StoreError};

/// The one row's id.
const ONLY: i64 = 1;

/// The key and the database belong to different worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "STRIPE_SECRET_KEY is a {key} mode key, but the database of DATABASE_URL holds {database} mode data: \
     use a {database} mode key, or another database"
)]
pub struct ModeConflict {
    /// The key's mode.
    pub key: Mode,
    /// The database's mode.
    pub database: Mode,
}

/// The key and the database belong to different accounts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the Stripe account is {own}, but STRIPE_ACCOUNT or the database of DATABASE_URL says {database}: correct \
     STRIPE_ACCOUNT, use a key of {database}, or another database"
)]
pub struct AccountConflict {
    /// The account of the key, or of `STRIPE_ACCOUNT`.
    pub own: AccountId,
    /// The database's account.
    pub database: AccountId,
}

impl Store {
    /// The mode that the database remembers.
    pub async fn mode(&self) -> Result<Option<Mode>, StoreError> {
        let Some(row) = installation::Entity::find_by_id(ONLY).one(&self.db).await? else { return Ok(None) };
        let mode = Mode::parse(&row.mode);
        mode.map(Some).ok_or_else(|| StoreError::unreadable("the row of installation has an unknown mode"))
    }

    /// Remembers the key's mode, or holds it against the one that is remembered.
    pub async fn claim_mode(&self, key: Mode) -> Result<Result<(), ModeConflict>, StoreError> {
        let mode = Set(key.as_str().to_owned());
        let first = installation::ActiveModel { id: Set(ONLY), mode, account_id: Set(None) };
        installation::Entity::insert(first)
            .on_conflict_do_nothing_on([installation::Column::Id])
            .exec_without_returning(&self.writer)
            .await?;
        Ok(match self.mode().await? {
            Some(database) if database != key => Err(ModeConflict { key, database }),
            _ => Ok(()),
        })
    }

    /// The account that the database remembers.
    pub async fn account(&self) -> Result<Option<AccountId>, StoreError> {
        let row = installation::Entity::find_by_id(ONLY).one(&self.db).await?;
        let account = row.and_then(|row| row.account_id);
        account.map(|account| rows::id("installation", &account)).transpose()
    }

    /// Remembers the account, or holds it against the one that is remembered.
    pub async fn claim_account(&self, own: &AccountId) -> Result<Result<(), AccountConflict>, StoreError> {
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
