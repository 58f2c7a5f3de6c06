//! The progress of a gap recovery: what replaces the backfill after a gap that is longer than
//! Stripe lists events for.

use entity::{backfill, gap_recovery};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::backfill::ROW_ID;
use super::rows;
use crate::domain::ids::{SubscriptionId, TenantId};
use crate::store::{Store, StoreError};

/// An unfinished recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapRecovery {
    /// In Stripe's seconds. Later events are in Stripe's list.
    pub started_at: i64,
    pub step: GapStep,
}

/// The steps in their order, each with its progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GapStep {
    /// Refreshes the customer of every linked tenant, by tenant id.
    Customers { after: Option<TenantId> },
    /// Links the tenants that subscriptions name, in the order in which Stripe lists them.
    Subscriptions { after: Option<SubscriptionId> },
}

const CUSTOMERS: &str = "customers";
const SUBSCRIPTIONS: &str = "subscriptions";

impl Store {
    pub async fn gap_recovery(&self) -> Result<Option<GapRecovery>, StoreError> {
        let Some(row) = gap_recovery::Entity::find_by_id(ROW_ID).one(&self.db).await? else {
            return Ok(None);
        };
        let after = row.after.as_deref();
        let step = match row.step.as_str() {
            CUSTOMERS => {
                GapStep::Customers { after: after.map(|text| rows::id("gap_recovery", text)).transpose()? }
            }
            SUBSCRIPTIONS => GapStep::Subscriptions {
                after: after.map(|text| rows::id("gap_recovery", text)).transpose()?,
            },
            _ => return Err(StoreError::rejected("the row of gap_recovery has an unknown step")),
        };
        Ok(Some(GapRecovery { started_at: row.started_at, step }))
    }

    pub async fn save_gap_recovery(&self, recovery: &GapRecovery) -> Result<(), StoreError> {
        use gap_recovery::Column::{After, Id, StartedAt, Step};
        let (step, after) = match &recovery.step {
            GapStep::Customers { after } => (CUSTOMERS, after.as_ref().map(ToString::to_string)),
            GapStep::Subscriptions { after } => (SUBSCRIPTIONS, after.as_ref().map(ToString::to_string)),
        };
        let row = gap_recovery::ActiveModel {
            id: Set(ROW_ID),
            started_at: Set(recovery.started_at),
            step: Set(step.to_owned()),
            after: Set(after),
        };
        let replaced = OnConflict::column(Id).update_columns([StartedAt, Step, After]).to_owned();
        gap_recovery::Entity::insert(row).on_conflict(replaced).exec_without_returning(&self.writer).await?;
        Ok(())
    }

    /// Deletes the recovery, and records that the events before its start are made up for.
    pub async fn finish_gap_recovery(&self, started_at: i64) -> Result<(), StoreError> {
        let transaction = self.begin().await?;
        backfill::Entity::update_many()
            .set(backfill::ActiveModel { leapt_at: Set(started_at), ..Default::default() })
            .filter(backfill::Column::Id.eq(ROW_ID))
            .exec(&transaction.db)
            .await?;
        gap_recovery::Entity::delete_by_id(ROW_ID).exec(&transaction.db).await?;
        transaction.commit().await
    }
}
