//! When something was first and last seen: a small table that is written rarely.

use entity::observation;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::domain::ids::SecretName;
use crate::domain::webhook_secret::SecretFingerprint;
use crate::store::{Store, StoreError};

/// Before the fingerprint of the secret that verified webhooks; the detail is its name.
const VERIFIED: &str = "webhook_verified:";

/// Before the reason for which webhooks were refused.
const REFUSED: &str = "webhook_refused:";

/// When webhooks were verified by one secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedWebhooks {
    /// What the secret was called then.
    pub secret_name: String,
    /// The first time, in Unix milliseconds.
    pub first_at_ms: i64,
    /// The last time, in Unix milliseconds.
    pub last_at_ms: i64,
}

/// When webhooks were last refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedWebhooks {
    /// The reason, as in logs and metrics.
    pub reason: String,
    /// The last time, in Unix milliseconds.
    pub last_at_ms: i64,
}

impl Store {
    /// Notes that a secret verified webhooks.
    pub async fn note_verified_webhooks(
        &self,
        fingerprint: SecretFingerprint,
        name: &SecretName,
        first_at_ms: i64,
        last_at_ms: i64,
    ) -> Result<(), StoreError> {
        self.observe(&format!("{VERIFIED}{fingerprint}"), first_at_ms, last_at_ms, Some(name.as_str())).await
    }

    /// Notes that webhooks were refused.
    pub async fn note_refused_webhooks(&self, reason: &str, last_at_ms: i64) -> Result<(), StoreError> {
        self.observe(&format!("{REFUSED}{reason}"), last_at_ms, last_at_ms, None).await
    }

    /// When webhooks were verified, by which secret; the latest first.
    pub async fn verified_webhooks(&self) -> Result<Vec<VerifiedWebhooks>, StoreError> {
        let read = |row: observation::Model| VerifiedWebhooks {
            secret_name: row.detail.unwrap_or_default(),
            first_at_ms: row.first_at_ms,
            last_at_ms: row.last_at_ms,
        };
        Ok(self.observations(VERIFIED).await?.into_iter().map(read).collect())
    }

    /// When webhooks were last refused, for which reason; the latest first.
    pub async fn refused_webhooks(&self) -> Result<Vec<RefusedWebhooks>, StoreError> {
        let read = |row: observation::Model| RefusedWebhooks {
            reason: row.name.trim_start_matches(REFUSED).to_owned(),
            last_at_ms: row.last_at_ms,
        };
        Ok(self.observations(REFUSED).await?.into_iter().map(read).collect())
    }

    async fn observations(&self, prefix: &str) -> Result<Vec<observation::Model>, StoreError> {
        let seen = observation::Entity::find()
            .filter(observation::Column::Name.starts_with(prefix))
            .order_by_desc(observation::Column::LastAtMs);
        Ok(seen.all(&self.db).await?)
    }

    /// Notes that something was seen. The first time is kept, and the last never goes back: replicas write in any order.
    pub(in crate::store) async fn observe(
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
        let seen_again = OnConflict::column(observation::Column::Name)
            .update_columns([observation::Column::LastAtMs, observation::Column::Detail])
            .action_and_where(is_later)
            .to_owned();
        observation::Entity::insert(row).on_conflict(seen_again).exec_without_returning(&self.writer).await?;
        Ok(())
    }
}
