//! Customers: what a batch changes in them.

use entity::{customer, refresh};
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::domain::batch::{Batch, Changes};
use crate::domain::ids::CustomerId;
use crate::store::{StoreError, Transaction};

impl Transaction {
    pub(in crate::store) async fn save_customers(
        &self,
        batch: &Batch,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let Changes { tombstones, changed_unlink_marks, customer_notes, .. } = batch.changes();
        if !tombstones.is_empty() {
            customer::Entity::update_many()
                .set(customer::ActiveModel { deleted_at_ms: Set(Some(now_ms)), ..Default::default() })
                .filter(customer::Column::Id.is_in(tombstones.iter().map(CustomerId::as_str)))
                .exec(&self.db)
                .await?;
        }
        for id in changed_unlink_marks {
            let since_ms = batch.is_unlinked_by_operator(id).then_some(now_ms);
            let row = customer::ActiveModel { withheld_at_ms: Set(since_ms), ..Default::default() };
            self.update_customer(id, row).await?;
            // A refresh would read subscriptions that belong to no tenant.
            if since_ms.is_some() {
                let is_of_customer = refresh::Column::CustomerId.eq(id.as_str());
                refresh::Entity::delete_many().filter(is_of_customer).exec(&self.db).await?;
            }
        }
        for id in customer_notes {
            let row = customer::ActiveModel {
                deployment_id: Set(batch.foreign_deployment(id).map(ToString::to_string)),
                named_tenant_id: Set(batch.taken_tenant(id).map(ToString::to_string)),
                ..Default::default()
            };
            self.update_customer(id, row).await?;
        }
        Ok(())
    }

    async fn update_customer(&self, id: &CustomerId, row: customer::ActiveModel) -> Result<(), StoreError> {
        let is_customer = customer::Column::Id.eq(id.as_str());
        customer::Entity::update_many().set(row).filter(is_customer).exec(&self.db).await?;
        Ok(())
    }
}
