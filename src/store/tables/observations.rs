//! The times when something was first and last seen. A small table that is written rarely.

use entity::observation;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::domain::ids::SecretName;
use crate::domain::webhook_secret::SecretFingerprint;
use crate::store::{Store, StoreError};

/// Followed by the fingerprint of the secret. The detail is the secret's name.
const VERIFIED_PREFIX: &str = "webhook_verified:";

/// Followed by the reason.
const REJECTED_PREFIX: &str = "webhook_refused:";

/// The times of webhooks that one secret verified, in Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedWebhooks {
    /// The secret's name at the last time.
    pub secret_name: String,
    pub first_at_ms: i64,
    pub last_at_ms: i64,
}

/// The last webhook that was rejected for a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedWebhooks {
    /// As in logs and metrics.
    pub reason: String,
    /// In Unix milliseconds.
    pub last_at_ms: i64,
}

impl Store {
    pub async fn record_verified_webhooks(
        &self,
        fingerprint: SecretFingerprint,
        name: &SecretName,
        first_at_ms: i64,
        last_at_ms: i64,
    ) -> Result<(), StoreError> {
        self.record_observation(
            &format!("{VERIFIED_PREFIX}{fingerprint}"),
            first_at_ms,
            last_at_ms,
            Some(name.as_str()),
        )
        .await
    }

    pub async fn record_rejected_webhooks(&self, reason: &str, last_at_ms: i64) -> Result<(), StoreError> {
        self.record_observation(&format!("{REJECTED_PREFIX}{reason}"), last_at_ms, last_at_ms, None).await
    }

    /// The latest comes first.
    pub async fn verified_webhooks(&self) -> Result<Vec<VerifiedWebhooks>, StoreError> {
        let read = |row: observation::Model| VerifiedWebhooks {
            secret_name: row.detail.unwrap_or_default(),
            first_at_ms: row.first_at_ms,
            last_at_ms: row.last_at_ms,
        };
        Ok(self.observations(VERIFIED_PREFIX).await?.into_iter().map(read).collect())
    }

    /// The latest comes first.
    pub async fn rejected_webhooks(&self) -> Result<Vec<RejectedWebhooks>, StoreError> {
        let read = |row: observation::Model| RejectedWebhooks {
            reason: row.name.trim_start_matches(REJECTED_PREFIX).to_owned(),
            last_at_ms: row.last_at_ms,
        };
        Ok(self.observations(REJECTED_PREFIX).await?.into_iter().map(read).collect())
    }

    async fn observations(&self, prefix: &str) -> Result<Vec<observation::Model>, StoreError> {
        let seen = observation::Entity::find()
            .filter(observation::Column::Name.starts_with(prefix))
            .order_by_desc(observation::Column::LastAtMs);
        Ok(seen.all(&self.db).await?)
    }

    /// Keeps the first time, and never sets the last time back: replicas write in any order.
    pub(in crate::store) async fn record_observation(
        &self,
        name: &str,
        first_at_ms: i64,
        last_at_ms: i64,
        detail: Option<&str>,
    ) -> Result<(), StoreError> {
        let row = observation::ActiveModel {
            name: Set(name.to_owned()),
            first_at_ms: Set(first_at_ms),
            last_at_ms: Set(last_at_ms),
            detail: Set(detail.map(str::to_owned)),
        };
        let is_later = Expr::col((observation::Entity, observation::Column::LastAtMs)).lte(last_at_ms);
        let repeated = OnConflict::column(observation::Column::Name)
            .update_columns([observation::Column::LastAtMs, observation::Column::Detail])
            .action_and_where(is_later)
            .to_owned();
        observation::Entity::insert(row).on_conflict(repeated).exec_without_returning(&self.writer).await?;
        Ok(())
    }
}
