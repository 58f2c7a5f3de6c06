//! Writing back what changed in a unit of work.

use std::collections::BTreeSet;

use entity::{checkout, customer, refresh, subscription, tenant};
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::insert::Existing;
use super::tables::rows;
use super::writes::Writes;
use super::{InboxRow, StoreError, Transaction};
use crate::domain::ids::{CustomerId, EventId, SubscriptionId, TenantId};
use crate::domain::journey::Traceparent;
use crate::domain::unit_of_work::{Changes, UnitOfWork};

impl Transaction {
    /// Writes back what changed, puts the events that changed it into the inbox, and announces it to the other replicas.
    /// `trace_of` tells in which trace an event was processed, or, without one, in which trace we are.
    pub async fn write(
        &self,
        work: &UnitOfWork,
        inbox: &[InboxRow<'_>],
        trace_of: impl Fn(Option<&EventId>) -> Option<Traceparent>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let Changes {
            tombstones,
            withheld,
            reassigned,
            tenants,
            new_tenants,
            subscriptions,
            dropped,
            entitlements,
            checkouts,
            journal,
            unparked,
            refreshes,
            known_prices,
        } = work.changes();
        self.write_tombstones(tombstones, now_ms).await?;
        self.write_withheld(work, withheld, now_ms).await?;
        self.write_reassigned(work, reassigned).await?;
        self.drop_subscriptions(dropped).await?;
        self.settle_unparked(unparked).await?;
        let mut writes = self.writes();
        let rows_of = |ids: Vec<&TenantId>| {
            let tenants = ids.into_iter().filter_map(|id| work.tenant(id));
            tenants.map(|tenant| rows::tenant_row(tenant, now_ms)).collect::<Vec<_>>()
        };
        // One that another transaction has inserted since is a lost race, and must not be written over.
        writes.insert(rows_of(new_tenants.iter().collect()), &Existing::Refused)?;
        writes.update_tenants(rows_of(tenants.difference(new_tenants).collect()))?;
        let subscriptions = subscriptions.iter().filter_map(|id| work.held(id));
        let subscriptions: Result<_, _> =
            subscriptions.map(|held| rows::subscription_row(held, now_ms)).collect();
        writes.write_subscriptions(subscriptions?)?;
        let checkouts = checkouts.iter().filter_map(|id| work.checkout(id));
        writes.write_checkouts(checkouts.map(|checkout| rows::checkout_row(checkout, now_ms)).collect())?;
        writes.append_journal(journal, &trace_of, now_ms)?;
        writes.insert_refreshes(refreshes, trace_of, now_ms)?;
        writes.insert_known_prices(known_prices)?;
        writes.insert_events(inbox)?;
        writes.announce(entitlements);
        self.carry_out(writes).await?;
        self.has_written_known_prices(known_prices);
        Ok(())
    }

    async fn write_tombstones(&self, ids: &BTreeSet<CustomerId>, now_ms: i64) -> Result<(), StoreError> {
        let Some(these) = self.db.one_of(customer::Column::Id, ids.iter().map(CustomerId::as_str)) else {
            return Ok(());
        };
        customer::Entity::update_many()
            .set(customer::ActiveModel { deleted_at_ms: Set(Some(now_ms)), ..Default::default() })
            .filter(these)
            .exec(&self.db)
            .await?;
        Ok(())
    }

    async fn write_withheld(
        &self,
        work: &UnitOfWork,
        ids: &BTreeSet<CustomerId>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        for id in ids {
            let since_ms = work.is_withheld(id).then_some(now_ms);
            customer::Entity::update_many()
                .set(customer::ActiveModel { withheld_at_ms: Set(since_ms), ..Default::default() })
                .filter(customer::Column::Id.eq(id.as_str()))
                .exec(&self.db)
                .await?;
            // What was to be asked about it would be answered to nobody.
            if since_ms.is_some() {
                let questions =
                    refresh::Entity::delete_many().filter(refresh::Column::CustomerId.eq(id.as_str()));
                questions.exec(&self.db).await?;
            }
        }
        Ok(())
    }

    async fn write_reassigned(
        &self,
        work: &UnitOfWork,
        ids: &BTreeSet<CustomerId>,
    ) -> Result<(), StoreError> {
        for id in ids {
            let row = customer::ActiveModel {
                deployment_id: Set(work.foreign_deployment(id).map(ToString::to_string)),
                named_tenant_id: Set(work.named_tenant(id).map(ToString::to_string)),
                ..Default::default()
            };
            customer::Entity::update_many()
                .set(row)
                .filter(customer::Column::Id.eq(id.as_str()))
                .exec(&self.db)
                .await?;
        }
        Ok(())
    }

    async fn drop_subscriptions(&self, ids: &BTreeSet<SubscriptionId>) -> Result<(), StoreError> {
        let ids = ids.iter().map(SubscriptionId::as_str);
        if let Some(these) = self.db.one_of(subscription::Column::Id, ids) {
            subscription::Entity::delete_many().filter(these).exec(&self.db).await?;
        }
        Ok(())
    }
}

impl Writes {
    /// Writes tenants whose rows we hold locked.
    fn update_tenants(&mut self, rows: Vec<tenant::ActiveModel>) -> Result<(), StoreError> {
        use tenant::Column::{
            CustomerGeneration, Id, JourneyBeganAtMs, JourneyId, JourneyTraceparent, StripeCustomerId,
            UpdatedAtMs,
        };
        let columns = vec![
            StripeCustomerId,
            CustomerGeneration,
            JourneyId,
            JourneyTraceparent,
            JourneyBeganAtMs,
            UpdatedAtMs,
        ];
        self.insert(rows, &Existing::Changed { key: Id, columns, raised: None })
    }

    fn write_subscriptions(&mut self, rows: Vec<subscription::ActiveModel>) -> Result<(), StoreError> {
        use sea_orm::Iterable;
        use subscription::Column;
        let columns = Column::iter().filter(|column| !matches!(column, Column::Id)).collect();
        self.insert(rows, &Existing::Changed { key: Column::Id, columns, raised: None })
    }

    fn write_checkouts(&mut self, rows: Vec<checkout::ActiveModel>) -> Result<(), StoreError> {
        use checkout::Column::{SessionId, Status, SubscriptionId, UpdatedAtMs};
        let columns = vec![Status, SubscriptionId, UpdatedAtMs];
        self.insert(rows, &Existing::Changed { key: SessionId, columns, raised: None })
    }
}
