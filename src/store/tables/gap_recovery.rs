//! How far the recovery from a gap has come that is longer than Stripe lists events for.

use entity::{backfill, gap_recovery};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::backfill::ONLY;
use super::rows;
use crate::domain::ids::{SubscriptionId, TenantId};
use crate::store::{Store, StoreError};

/// A recovery that is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapRecovery {
    /// When it started, in Stripe's seconds. Whatever happened later is in Stripe's list of events.
    pub started_at: i64,
    /// What is done next.
    pub step: GapStep,
}

/// The steps of a recovery in their order, each from after what is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GapStep {
    /// Asking about the customer of every linked tenant, by the tenants' ids.
    Customers {
        /// The last tenant that is done.
        after: Option<TenantId>,
    },
    /// Linking the tenants that subscriptions name, in the order in which Stripe lists them.
    Subscriptions {
        /// The last subscription that is done.
        after: Option<SubscriptionId>,
    },
}

const CUSTOMERS: &str = "customers";
const SUBSCRIPTIONS: &str = "subscriptions";

impl Store {
    /// The recovery that is not finished, if there is one.
    pub async fn gap_recovery(&self) -> Result<Option<GapRecovery>, StoreError> {
        let Some(row) = gap_recovery::Entity::find_by_id(ONLY).one(&self.db).await? else { return Ok(None) };
        let after = row.after.as_deref();
        let step = match row.step.as_str() {
            CUSTOMERS => {
                GapStep::Customers { after: after.map(|text| rows::id("gap_recovery", text)).transpose()? }
            }
            SUBSCRIPTIONS => GapStep::Subscriptions {
                after: after.map(|text| rows::id("gap_recovery", text)).transpose()?,
            },
            _ => return Err(StoreError::unreadable("the row of gap_recovery has an unknown step")),
        };
        Ok(Some(GapRecovery { started_at: row.started_at, step }))
    }

    /// Stores how far a recovery has come.
    pub async fn save_gap_recovery(&self, recovery: &GapRecovery) -> Result<(), StoreError> {
        use gap_recovery::Column::{After, Id, StartedAt, Step};
        let (step, after) = match &recovery.step {
            GapStep::Customers { after } => (CUSTOMERS, after.as_ref().map(ToString::to_string)),
            GapStep::Subscriptions { after } => (SUBSCRIPTIONS, after.as_ref().map(ToString::to_string)),
        };
        let row = gap_recovery::ActiveModel {
            id: Set(ONLY),
            started_at: Set(recovery.started_at),
            step: Set(step.to_owned()),
            after: Set(after),
        };
        let replaced = OnConflict::column(Id).update_columns([StartedAt, Step, After]).to_owned();
        gap_recovery::Entity::insert(row).on_conflict(replaced).exec_without_returning(&self.writer).await?;
        Ok(())
    }

    /// Ends a recovery: what was missed before it started is made up for.
    pub async fn finish_gap_recovery(&self, started_at: i64) -> Result<(), StoreError> {
        let transaction = self.begin().await?;
        backfill::Entity::update_many()
            .set(backfill::ActiveModel { leapt_at: Set(started_at), ..Default::default() })
            .filter(backfill::Column::Id.eq(ONLY))
            .exec(&transaction.db)
            .await?;
        gap_recovery::Entity::delete_by_id(ONLY).exec(&transaction.db).await?;
        transaction.commit().await
    }
}
