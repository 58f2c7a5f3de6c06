//! The deployment of Billhook that the database belongs to, and the customers of other deployments
//! on the same Stripe account.

use entity::{customer, deployment, event};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{ExprTrait, OnConflict, Query};
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect};

use super::retries::mark_for_retry;
use super::rows;
use crate::domain::ids::DeploymentId;
use crate::domain::outcome::{FOREIGN_DEPLOYMENT, Outcome};
use crate::store::{Store, StoreError};

/// The id of the single row.
const ROW_ID: i64 = 1;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "BILLHOOK_DEPLOYMENT_ID is {asserted}, but the database belongs to the deployment {database}: unset it, or run \
     `billhook deployment adopt {asserted} --yes`"
)]
pub struct DeploymentConflict {
    /// `BILLHOOK_DEPLOYMENT_ID`
    pub asserted: DeploymentId,
    pub database: DeploymentId,
}

/// Another deployment, known from its customers in our events.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct OtherDeployment {
    pub deployment_id: String,
    pub customers: i64,
}

impl Store {
    /// The database's deployment. The first caller sets it, to the configured id or to a new one.
    pub async fn bind_deployment(
        &self,
        asserted: Option<&DeploymentId>,
    ) -> Result<Result<DeploymentId, DeploymentConflict>, StoreError> {
        if let Some(database) = self.deployment().await? {
            return Ok(match asserted {
                Some(asserted) if *asserted != database => {
                    Err(DeploymentConflict { asserted: asserted.clone(), database })
                }
                _ => Ok(database),
            });
        }
        let first = asserted.map_or_else(new_deployment_id, ToString::to_string);
        let first = deployment::ActiveModel { id: Set(ROW_ID), deployment_id: Set(first) };
        deployment::Entity::insert(first)
            .on_conflict_do_nothing_on([deployment::Column::Id])
            .exec_without_returning(&self.writer)
            .await?;
        // Another replica may have inserted its own.
        Box::pin(self.bind_deployment(asserted)).await
    }

    pub async fn deployment(&self) -> Result<Option<DeploymentId>, StoreError> {
        let row = deployment::Entity::find_by_id(ROW_ID).one(&self.db).await?;
        row.map(|row| rows::id("deployment", &row.deployment_id)).transpose()
    }

    /// The database's deployment, or a new one that is not stored.
    pub async fn deployment_or_new(&self) -> Result<DeploymentId, StoreError> {
        match self.deployment().await? {
            Some(deployment) => Ok(deployment),
            None => rows::id("deployment", &new_deployment_id()),
        }
    }

    pub async fn other_deployments(&self) -> Result<Vec<OtherDeployment>, StoreError> {
        let others = customer::Entity::find()
            .select_only()
            .column(customer::Column::DeploymentId)
            .column_as(customer::Column::Id.count(), "customers")
            .filter(customer::Column::DeploymentId.is_not_null())
            .group_by(customer::Column::DeploymentId)
            .order_by_asc(customer::Column::DeploymentId);
        Ok(others.into_model().all(&self.db).await?)
    }

    /// Changes the database's deployment. The customers of `id` become ours, and their events are
    /// retried. Returns the number of these events.
    pub async fn adopt_deployment(&self, id: &DeploymentId, now_ms: i64) -> Result<u64, StoreError> {
        let transaction = self.begin().await?;
        let ours = deployment::ActiveModel { id: Set(ROW_ID), deployment_id: Set(id.to_string()) };
        deployment::Entity::insert(ours)
            .on_conflict(
                OnConflict::column(deployment::Column::Id)
                    .update_column(deployment::Column::DeploymentId)
                    .to_owned(),
            )
            .exec_without_returning(&transaction.db)
            .await?;
        let adopted_customers = customer::Column::DeploymentId.eq(id.as_str());
        let customers = Query::select()
            .column(customer::Column::Id)
            .from(customer::Entity)
            .and_where(adopted_customers.clone())
            .to_owned();
        let adopted_events = event::Column::Reason
            .eq(FOREIGN_DEPLOYMENT)
            .and(event::Column::CustomerId.in_subquery(customers));
        let events = mark_for_retry(&transaction.db, adopted_events, [Outcome::Quarantined], now_ms).await?;
        customer::Entity::update_many()
            .set(customer::ActiveModel { deployment_id: Set(None), ..Default::default() })
            .filter(adopted_customers)
            .exec(&transaction.db)
            .await?;
        transaction.commit().await?;
        Ok(events)
    }
}

fn new_deployment_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
