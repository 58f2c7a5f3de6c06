//! Which deployment of Billhook this database belongs to, and which customers belong to other deployments on the same
//! Stripe account.

use entity::{customer, deployment, event};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{ExprTrait, OnConflict, Query};
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect};

use super::retries::make_due;
use super::rows;
use crate::domain::ids::DeploymentId;
use crate::domain::outcome::{FOREIGN_DEPLOYMENT, Outcome};
use crate::store::{Store, StoreError};

/// The one row's id.
const ONLY: i64 = 1;

/// The configuration names another deployment than the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "BILLHOOK_DEPLOYMENT_ID is {asserted}, but the database belongs to the deployment {database}: unset it, or run \
     `billhook deployment adopt {asserted} --yes`"
)]
pub struct DeploymentConflict {
    /// `BILLHOOK_DEPLOYMENT_ID`
    pub asserted: DeploymentId,
    /// The database's deployment.
    pub database: DeploymentId,
}

/// Another deployment whose customers were seen here.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct OtherDeployment {
    /// Its id.
    pub deployment_id: String,
    /// How many of its customers were seen.
    pub customers: i64,
}

impl Store {
    /// The database's deployment. The first caller decides: by its configuration, else with a new id.
    pub async fn claim_deployment(
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
        let first = deployment::ActiveModel { id: Set(ONLY), deployment_id: Set(first) };
        deployment::Entity::insert(first)
            .on_conflict_do_nothing_on([deployment::Column::Id])
            .exec_without_returning(&self.writer)
            .await?;
        // Another replica may have been faster.
        Box::pin(self.claim_deployment(asserted)).await
    }

    /// The database's deployment, once it has one.
    pub async fn deployment(&self) -> Result<Option<DeploymentId>, StoreError> {
        let row = deployment::Entity::find_by_id(ONLY).one(&self.db).await?;
        row.map(|row| rows::id("deployment", &row.deployment_id)).transpose()
    }

    /// The database's deployment, or a new one that is not stored.
    pub async fn deployment_or_new(&self) -> Result<DeploymentId, StoreError> {
        match self.deployment().await? {
            Some(deployment) => Ok(deployment),
            None => rows::id("deployment", &new_deployment_id()),
        }
    }

    /// The other deployments whose customers were seen, with how many there are of each.
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

    /// Makes this database that of another deployment: its customers are ours from now on, and its events are due to be
    /// applied. Returns how many events those are.
    pub async fn adopt_deployment(&self, id: &DeploymentId, now_ms: i64) -> Result<u64, StoreError> {
        let transaction = self.begin().await?;
        let ours = deployment::ActiveModel { id: Set(ONLY), deployment_id: Set(id.to_string()) };
        deployment::Entity::insert(ours)
            .on_conflict(
                OnConflict::column(deployment::Column::Id)
                    .update_column(deployment::Column::DeploymentId)
                    .to_owned(),
            )
            .exec_without_returning(&transaction.db)
            .await?;
        let its_customers = customer::Column::DeploymentId.eq(id.as_str());
        let customers = Query::select()
            .column(customer::Column::Id)
            .from(customer::Entity)
            .and_where(its_customers.clone())
            .to_owned();
        let its_events = event::Column::Reason
            .eq(FOREIGN_DEPLOYMENT)
            .and(event::Column::CustomerId.in_subquery(customers));
        let events = make_due(&transaction.db, its_events, [Outcome::Quarantined], now_ms).await?;
        customer::Entity::update_many()
            .set(customer::ActiveModel { deployment_id: Set(None), ..Default::default() })
            .filter(its_customers)
            .exec(&transaction.db)
            .await?;
        transaction.commit().await?;
        Ok(events)
    }
}

fn new_deployment_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
