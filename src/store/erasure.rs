//! Erases a tenant: deletes its rows, or removes from them what identifies the tenant.

use std::collections::BTreeSet;

use entity::{checkout, customer, event, refresh, subscription, tenant, transition};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::{ExprTrait, Query};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::tables::rows;
use super::{Store, StoreError, Transaction};
use crate::domain::batch::cause;
use crate::domain::event::{Event, Subject};
use crate::domain::ids::{CustomerId, DeploymentId, SessionId, TenantId};
use crate::domain::outcome::{Outcome, TENANT_ERASED};
use crate::domain::tenant::CheckoutStatus;

/// Rows of the inbox or the journal. Large enough that the round trips are a small part of the
/// work, small enough for a short transaction.
const PAGE_ROWS: u64 = 500;

/// Each payload has at most 1 MiB.
const MAX_PAYLOADS_IN_MEMORY: usize = 32;

/// Events with these outcomes can be without a tenant and still have a payload.
const UNSETTLED: [Outcome; 4] = [Outcome::Parked, Outcome::Quarantined, Outcome::Failed, Outcome::Dead];

/// The journal entry of an erasure, under the tenant's alias.
const ERASED_ENTRY: &str = "tenant.erased";

#[derive(Debug, Clone)]
pub struct ErasureScope {
    pub tenant: TenantId,
    /// Customers that are or were linked to this tenant only.
    pub own: BTreeSet<CustomerId>,
    /// Customers that are or were linked to this tenant and to others. The rows of the other
    /// tenants are kept.
    pub moved: BTreeSet<CustomerId>,
    /// The one of `moved` that is linked to this tenant now.
    pub moved_here: Option<CustomerId>,
    /// Events without a tenant that name this one in their payload.
    pub events: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy)]
pub struct ErasedLinks {
    pub subscriptions: u64,
    pub checkouts: u64,
}

/// The rows of one page that have to be erased.
#[derive(Debug)]
pub struct ErasurePage<K> {
    pub found: Vec<K>,
    /// The last row of the page, erased or not.
    pub last: K,
}

/// An event without a tenant that names one in its payload.
#[derive(Debug)]
pub struct NamingEvent {
    pub id: String,
    /// The event's customer, if the event would link it to the tenant: by metadata, and in our own
    /// account.
    pub customer: Option<CustomerId>,
}

impl ErasureScope {
    fn has(&self, tenant: Option<&str>, customer: Option<&str>) -> bool {
        let is_in = |customers: &BTreeSet<CustomerId>| {
            customer.is_some_and(|id| customers.iter().any(|known| known.as_str() == id))
        };
        let is_of_tenant = tenant == Some(self.tenant.as_str());
        is_in(&self.own) || is_of_tenant && (customer.is_none() || is_in(&self.moved))
    }

    /// The customers that get a tombstone, so that no event links them again.
    pub fn ended_customers(&self) -> BTreeSet<CustomerId> {
        self.own.iter().chain(&self.moved_here).cloned().collect()
    }
}

impl Store {
    /// All customers in rows of the tenant.
    pub async fn customers_ever_of(&self, id: &TenantId) -> Result<BTreeSet<CustomerId>, StoreError> {
        let mut found = self
            .customers_in::<tenant::Entity>(tenant::Column::Id, tenant::Column::StripeCustomerId, id)
            .await?;
        {
            use subscription::Column::{CustomerId, TenantId};
            found.extend(self.customers_in::<subscription::Entity>(TenantId, CustomerId, id).await?);
        }
        {
            use checkout::Column::{CustomerId, TenantId};
            found.extend(self.customers_in::<checkout::Entity>(TenantId, CustomerId, id).await?);
        }
        {
            use event::Column::{CustomerId, TenantId};
            found.extend(self.customers_in::<event::Entity>(TenantId, CustomerId, id).await?);
        }
        {
            use transition::Column::{CustomerId, TenantId};
            found.extend(self.customers_in::<transition::Entity>(TenantId, CustomerId, id).await?);
        }
        {
            use customer::Column::{Id, NamedTenantId};
            found.extend(self.customers_in::<customer::Entity>(NamedTenantId, Id, id).await?);
        }
        found.iter().map(|id| rows::id("customer", id)).collect()
    }

    async fn customers_in<E: EntityTrait>(
        &self,
        tenant_column: E::Column,
        customer_column: E::Column,
        tenant: &TenantId,
    ) -> Result<Vec<String>, StoreError> {
        let named = E::find()
            .select_only()
            .column(customer_column)
            .distinct()
            .filter(tenant_column.eq(tenant.as_str()))
            .filter(customer_column.is_not_null());
        Ok(named.into_tuple().all(&self.db).await?)
    }

    /// The given customers that also have rows of another tenant.
    pub async fn customers_of_others(
        &self,
        customers: &BTreeSet<CustomerId>,
        tenant: &TenantId,
    ) -> Result<BTreeSet<CustomerId>, StoreError> {
        let mut found = self
            .customers_not_of::<tenant::Entity>(
                tenant::Column::Id,
                tenant::Column::StripeCustomerId,
                customers,
                tenant,
            )
            .await?;
        {
            use subscription::Column::{CustomerId, TenantId};
            let of_others =
                self.customers_not_of::<subscription::Entity>(TenantId, CustomerId, customers, tenant);
            found.extend(of_others.await?);
        }
        {
            use checkout::Column::{CustomerId, TenantId};
            let of_others =
                self.customers_not_of::<checkout::Entity>(TenantId, CustomerId, customers, tenant);
            found.extend(of_others.await?);
        }
        {
            use event::Column::{CustomerId, TenantId};
            let of_others = self.customers_not_of::<event::Entity>(TenantId, CustomerId, customers, tenant);
            found.extend(of_others.await?);
        }
        {
            use transition::Column::{CustomerId, TenantId};
            let of_others =
                self.customers_not_of::<transition::Entity>(TenantId, CustomerId, customers, tenant);
            found.extend(of_others.await?);
        }
        found.iter().map(|id| rows::id("customer", id)).collect()
    }

    /// The alias of an erased tenant, which a checkout can still have, does not count as another
    /// tenant.
    async fn customers_not_of<E: EntityTrait>(
        &self,
        tenant_column: E::Column,
        customer_column: E::Column,
        customers: &BTreeSet<CustomerId>,
        tenant: &TenantId,
    ) -> Result<Vec<String>, StoreError> {
        if customers.is_empty() {
            return Ok(Vec::new());
        }
        let aliases = Query::select()
            .column(transition::Column::TenantId)
            .from(transition::Entity)
            .and_where(transition::Column::Entry.eq(ERASED_ENTRY))
            .to_owned();
        let named = E::find()
            .select_only()
            .column(customer_column)
            .distinct()
            .filter(customer_column.is_in(customers.iter().map(CustomerId::as_str)))
            .filter(tenant_column.ne(tenant.as_str()))
            .filter(tenant_column.not_in_subquery(aliases));
        Ok(named.into_tuple().all(&self.db).await?)
    }

    /// The events without a tenant that name this one, of our deployment, in their payload.
    pub async fn events_naming(
        &self,
        tenant: &TenantId,
        deployment: &DeploymentId,
    ) -> Result<Vec<NamingEvent>, StoreError> {
        let ids: Vec<String> = event::Entity::find()
            .select_only()
            .column(event::Column::Id)
            .filter(event::Column::Outcome.is_in(UNSETTLED.map(Outcome::as_str)))
            .filter(event::Column::TenantId.is_null())
            .filter(event::Column::Payload.is_not_null())
            .into_tuple()
            .all(&self.db)
            .await?;
        let mut naming = Vec::new();
        for ids in ids.chunks(MAX_PAYLOADS_IN_MEMORY) {
            let payloads: Vec<(String, String, Option<Vec<u8>>)> = event::Entity::find()
                .select_only()
                .columns([event::Column::Id, event::Column::Outcome, event::Column::Payload])
                .filter(event::Column::Id.is_in(ids))
                .into_tuple()
                .all(&self.db)
                .await?;
            naming.extend(payloads.into_iter().filter_map(|(id, outcome, payload)| {
                naming_event(id, outcome == Outcome::Quarantined.as_str(), &payload?, tenant, deployment)
            }));
        }
        Ok(naming)
    }

    /// Sessions that can still be paid and would then link a customer to the tenant.
    pub async fn open_sessions(&self, scope: &ErasureScope) -> Result<Vec<SessionId>, StoreError> {
        let open: Vec<String> = checkout::Entity::find()
            .select_only()
            .column(checkout::Column::SessionId)
            .filter(ended_checkouts(scope))
            .filter(checkout::Column::Status.eq(CheckoutStatus::Open.as_str()))
            .into_tuple()
            .all(&self.db)
            .await?;
        open.iter().map(|id| rows::id("checkout", id)).collect()
    }

    /// The page of events after `after`, by id. `None` at the end.
    pub async fn next_events(
        &self,
        scope: &ErasureScope,
        after: &str,
    ) -> Result<Option<ErasurePage<String>>, StoreError> {
        use event::Column::{CustomerId, Id, TenantId};
        let page: Vec<(String, Option<String>, Option<String>)> = event::Entity::find()
            .select_only()
            .columns([Id, TenantId, CustomerId])
            .filter(Id.gt(after))
            .order_by_asc(Id)
            .limit(PAGE_ROWS)
            .into_tuple()
            .all(&self.db)
            .await?;
        let is_erased = |(id, tenant, customer): &(String, Option<String>, Option<String>)| {
            let found = scope.events.contains(id) || scope.has(tenant.as_deref(), customer.as_deref());
            found.then(|| id.clone())
        };
        let found = page.iter().filter_map(is_erased).collect();
        Ok(page.last().map(|(last, ..)| ErasurePage { found, last: last.clone() }))
    }

    /// The page of journal entries after `after`. `None` at the end.
    pub async fn next_entries(
        &self,
        scope: &ErasureScope,
        after: i64,
    ) -> Result<Option<ErasurePage<i64>>, StoreError> {
        use transition::Column::{CustomerId, Id, TenantId};
        let page: Vec<(i64, String, String)> = transition::Entity::find()
            .select_only()
            .columns([Id, TenantId, CustomerId])
            .filter(Id.gt(after))
            .order_by_asc(Id)
            .limit(PAGE_ROWS)
            .into_tuple()
            .all(&self.db)
            .await?;
        let erased = page.iter().filter(|(_, tenant, customer)| scope.has(Some(tenant), Some(customer)));
        let found = erased.map(|(id, ..)| *id).collect();
        Ok(page.last().map(|(last, ..)| ErasurePage { found, last: *last }))
    }

    /// Deletes the events' payloads and the columns that identify the tenant. Keeps their ids, so
    /// that duplicates are recognised.
    pub async fn erase_events(
        &self,
        ids: &[String],
        scope: &ErasureScope,
        alias: &TenantId,
    ) -> Result<(), StoreError> {
        let these = || event::Entity::update_many().filter(event::Column::Id.is_in(ids));
        let anonymized = event::ActiveModel {
            stripe_request_id: Set(None),
            customer_id: Set(None),
            subscription_id: Set(None),
            journey_id: Set(None),
            trace_id: Set(None),
            span_id: Set(None),
            payload: Set(None),
            retry_at_ms: Set(None),
            ..Default::default()
        };
        let settled = event::ActiveModel {
            outcome: Set(Outcome::Ignored.as_str().to_owned()),
            reason: Set(Some(TENANT_ERASED.to_owned())),
            ..Default::default()
        };
        let renamed = event::ActiveModel { tenant_id: Set(Some(alias.to_string())), ..Default::default() };
        let is_of_tenant =
            event::Column::TenantId.is_null().or(event::Column::TenantId.eq(scope.tenant.as_str()));
        let is_unsettled = event::Column::Outcome.is_in(UNSETTLED.map(Outcome::as_str));
        let transaction = self.begin().await?;
        these().set(settled).filter(is_unsettled).exec(&transaction.db).await?;
        these().set(renamed).filter(is_of_tenant).exec(&transaction.db).await?;
        these().set(anonymized).exec(&transaction.db).await?;
        transaction.commit().await
    }

    /// Removes the columns that identify the tenant from journal entries.
    pub async fn erase_entries(
        &self,
        ids: &[i64],
        scope: &ErasureScope,
        alias: &TenantId,
    ) -> Result<(), StoreError> {
        let these = || transition::Entity::update_many().filter(transition::Column::Id.is_in(ids.to_vec()));
        let anonymized = transition::ActiveModel {
            customer_id: Set(alias.to_string()),
            subscription_id: Set(None),
            journey_id: Set(None),
            trace_id: Set(None),
            ..Default::default()
        };
        let renamed = transition::ActiveModel { tenant_id: Set(alias.to_string()), ..Default::default() };
        let is_of_tenant = transition::Column::TenantId.eq(scope.tenant.as_str());
        let transaction = self.begin().await?;
        these().set(anonymized).exec(&transaction.db).await?;
        these().set(renamed).filter(is_of_tenant).exec(&transaction.db).await?;
        transaction.commit().await
    }
}

impl Transaction {
    /// Deletes the tenant with its subscriptions, refreshes and checkouts, and turns its customers
    /// into tombstones. The caller has locked the rows.
    pub async fn erase_links(
        &mut self,
        scope: &ErasureScope,
        alias: &TenantId,
        now_ms: i64,
    ) -> Result<ErasedLinks, StoreError> {
        self.mark_customers_deleted(&scope.ended_customers(), now_ms).await?;
        customer::Entity::update_many()
            .set(customer::ActiveModel { named_tenant_id: Set(None), ..Default::default() })
            .filter(customer::Column::NamedTenantId.eq(scope.tenant.as_str()))
            .exec(&self.db)
            .await?;
        let own = scope.own.iter().map(CustomerId::as_str);
        let of_tenant = Condition::any()
            .add(subscription::Column::CustomerId.is_in(own.clone()))
            .add(subscription::Column::TenantId.eq(scope.tenant.as_str()));
        let subscriptions = subscription::Entity::delete_many().filter(of_tenant).exec(&self.db).await?;
        let of_tenant = Condition::any()
            .add(refresh::Column::CustomerId.is_in(own))
            .add(refresh::Column::TenantId.eq(scope.tenant.as_str()));
        refresh::Entity::delete_many().filter(of_tenant).exec(&self.db).await?;
        let checkouts = self.erase_checkouts(scope, alias).await?;
        tenant::Entity::delete_by_id(scope.tenant.as_str()).exec(&self.db).await?;
        self.insert_erased_entry(alias, now_ms).await?;
        self.notify_changed(&scope.tenant).await?;
        Ok(ErasedLinks { subscriptions: subscriptions.rows_affected, checkouts })
    }

    async fn mark_customers_deleted(
        &self,
        ids: &BTreeSet<CustomerId>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        customer::Entity::update_many()
            .set(customer::ActiveModel { deleted_at_ms: Set(Some(now_ms)), ..Default::default() })
            .filter(customer::Column::Id.is_in(ids.iter().map(CustomerId::as_str)))
            .filter(customer::Column::DeletedAtMs.is_null())
            .exec(&self.db)
            .await?;
        Ok(())
    }

    /// Deletes the checkouts of customers that get a tombstone. Checkouts of other moved customers
    /// are kept under the alias, since the customer's current tenant needs them.
    async fn erase_checkouts(&self, scope: &ErasureScope, alias: &TenantId) -> Result<u64, StoreError> {
        let erased = checkout::Entity::delete_many().filter(ended_checkouts(scope)).exec(&self.db).await?;
        let renamed = checkout::ActiveModel {
            tenant_id: Set(alias.to_string()),
            success_path: Set("/".to_owned()),
            cancel_path: Set("/".to_owned()),
            ..Default::default()
        };
        let renamed = checkout::Entity::update_many()
            .set(renamed)
            .filter(checkout::Column::TenantId.eq(scope.tenant.as_str()))
            .exec(&self.db)
            .await?;
        Ok(erased.rows_affected + renamed.rows_affected)
    }

    async fn insert_erased_entry(&self, alias: &TenantId, now_ms: i64) -> Result<(), StoreError> {
        let entry = transition::ActiveModel {
            id: NotSet,
            entry: Set(ERASED_ENTRY.to_owned()),
            tenant_id: Set(alias.to_string()),
            customer_id: Set(alias.to_string()),
            subscription_id: Set(None),
            from_status: Set(None),
            to_status: Set(None),
            cause: Set(cause::OPERATOR.to_owned()),
            event_id: Set(None),
            created: Set(now_ms / 1000),
            journey_id: Set(None),
            trace_id: Set(None),
            recorded_at_ms: Set(now_ms),
        };
        transition::Entity::insert(entry).exec_without_returning(&self.db).await?;
        Ok(())
    }
}

/// The checkouts of the customers that get a tombstone.
fn ended_checkouts(scope: &ErasureScope) -> Condition {
    use checkout::Column::{CustomerId, TenantId};
    let own = Condition::any().add(CustomerId.is_in(scope.own.iter().map(ToString::to_string)));
    let moved_here = scope
        .moved_here
        .as_ref()
        .map(|customer| TenantId.eq(scope.tenant.as_str()).and(CustomerId.eq(customer.as_str())));
    own.add_option(moved_here)
}

/// `None` if the event does not name the tenant, or names the tenant with this id of another
/// deployment. A `client_reference_id` names the tenant but does not link the customer, since
/// anyone can write it.
fn naming_event(
    id: String,
    is_quarantined: bool,
    payload: &[u8],
    tenant: &TenantId,
    deployment: &DeploymentId,
) -> Option<NamingEvent> {
    let event = Event::read(payload).ok()?;
    if event
        .metadata()
        .and_then(|metadata| metadata.deployment.as_ref())
        .is_some_and(|named| named != deployment)
    {
        return None;
    }
    let is_tagged = event.metadata().is_some_and(|metadata| metadata.tenant.as_ref() == Some(tenant));
    let is_referenced = match &event.subject {
        Subject::Checkout(_, session) => session.client_reference.as_ref() == Some(tenant),
        _ => false,
    };
    let customer = event.customer().filter(|_| is_tagged && !is_quarantined).cloned();
    (is_tagged || is_referenced).then_some(NamingEvent { id, customer })
}
