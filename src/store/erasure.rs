//! Erasing a tenant: its rows are deleted, or kept without anything that names it.

use std::collections::BTreeSet;

use entity::{checkout, customer, event, refresh, subscription, tenant, transition};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::{ExprTrait, Query};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::tables::rows;
use super::{Store, StoreError, Transaction};
use crate::domain::event::{Event, Subject};
use crate::domain::ids::{CustomerId, DeploymentId, SessionId, TenantId};
use crate::domain::outcome::{Outcome, TENANT_ERASED};
use crate::domain::tenant::CheckoutStatus;
use crate::domain::unit_of_work::cause;

/// How many rows of the inbox and the journal are looked at together: enough that a way to the database and back is a small
/// part of the work, few enough for a short transaction.
const PAGE: u64 = 500;

/// How many payloads are in memory at a time. Each has at most 1 MiB.
const PAYLOADS: usize = 32;

/// What has no tenant and has kept its payload.
const UNSETTLED: [Outcome; 4] = [Outcome::Parked, Outcome::Quarantined, Outcome::Failed, Outcome::Dead];

/// The journal's entry that an erasure leaves, under the tenant's alias.
const ERASED_ENTRY: &str = "tenant.erased";

/// Whose rows are erased.
#[derive(Debug, Clone)]
pub struct ErasureScope {
    /// The tenant.
    pub tenant: TenantId,
    /// The customers that are or were the tenant's, and never another tenant's.
    pub own: BTreeSet<CustomerId>,
    /// The customers that are or were the tenant's, and are or were another one's, too. The rows of
    /// the other tenants are not erased.
    pub moved: BTreeSet<CustomerId>,
    /// The one of the moved customers that the tenant has now.
    pub moved_here: Option<CustomerId>,
    /// Events without a tenant whose payload names the tenant.
    pub events: BTreeSet<String>,
}

/// How many rows of a kind are erased.
#[derive(Debug, Clone, Copy)]
pub struct ErasedLinks {
    /// Subscriptions.
    pub subscriptions: u64,
    /// Checkouts.
    pub checkouts: u64,
}

/// Rows that are to be erased, of those up to the last one.
#[derive(Debug)]
pub struct ErasurePage<K> {
    /// Their keys.
    pub found: Vec<K>,
    /// The last that was looked at.
    pub last: K,
}

/// An event without a tenant that names one.
#[derive(Debug)]
pub struct NamingEvent {
    /// `evt_...`
    pub id: String,
    /// Its customer, if the event makes it the tenant's: by metadata, and in our own account.
    pub customer: Option<CustomerId>,
}

impl ErasureScope {
    fn has(&self, tenant: Option<&str>, customer: Option<&str>) -> bool {
        let is_in = |customers: &BTreeSet<CustomerId>| {
            customer.is_some_and(|id| customers.iter().any(|known| known.as_str() == id))
        };
        let is_tenants = tenant == Some(self.tenant.as_str());
        is_in(&self.own) || is_tenants && (customer.is_none() || is_in(&self.moved))
    }

    /// The customers that end with the tenant: no event links them again.
    pub fn ended_customers(&self) -> BTreeSet<CustomerId> {
        self.own.iter().chain(&self.moved_here).cloned().collect()
    }
}

impl Store {
    /// Every customer that a row of the tenant's names.
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

    /// Those of these customers for which a row names another tenant than this one.
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

    /// An erased tenant, which a checkout can still name by its alias, is not another one.
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

    /// The events that wait for a tenant, or belong to none, and name this one of our deployment.
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
        for ids in ids.chunks(PAYLOADS) {
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

    /// The sessions that can still be paid, and link a customer to the tenant then.
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

    /// The next events after one of them, by their ids. None if there are none.
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
            .limit(PAGE)
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

    /// The next entries of the journal.
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
            .limit(PAGE)
            .into_tuple()
            .all(&self.db)
            .await?;
        let erased = page.iter().filter(|(_, tenant, customer)| scope.has(Some(tenant), Some(customer)));
        let found = erased.map(|(id, ..)| *id).collect();
        Ok(page.last().map(|(last, ..)| ErasurePage { found, last: *last }))
    }

    /// Deletes the payloads of events, and what identifies the tenant in them. Their ids stay, so that a repeat is still known.
    pub async fn erase_events(
        &self,
        ids: &[String],
        scope: &ErasureScope,
        alias: &TenantId,
    ) -> Result<(), StoreError> {
        let these = || event::Entity::update_many().filter(event::Column::Id.is_in(ids));
        let nameless = event::ActiveModel {
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
        let was_tenants =
            event::Column::TenantId.is_null().or(event::Column::TenantId.eq(scope.tenant.as_str()));
        let is_unsettled = event::Column::Outcome.is_in(UNSETTLED.map(Outcome::as_str));
        let transaction = self.begin().await?;
        these().set(settled).filter(is_unsettled).exec(&transaction.db).await?;
        these().set(renamed).filter(was_tenants).exec(&transaction.db).await?;
        these().set(nameless).exec(&transaction.db).await?;
        transaction.commit().await
    }

    /// Removes from entries of the journal what identifies the tenant.
    pub async fn erase_entries(
        &self,
        ids: &[i64],
        scope: &ErasureScope,
        alias: &TenantId,
    ) -> Result<(), StoreError> {
        let these = || transition::Entity::update_many().filter(transition::Column::Id.is_in(ids.to_vec()));
        let nameless = transition::ActiveModel {
            customer_id: Set(alias.to_string()),
            subscription_id: Set(None),
            journey_id: Set(None),
            trace_id: Set(None),
            ..Default::default()
        };
        let renamed = transition::ActiveModel { tenant_id: Set(alias.to_string()), ..Default::default() };
        let is_tenants = transition::Column::TenantId.eq(scope.tenant.as_str());
        let transaction = self.begin().await?;
        these().set(nameless).exec(&transaction.db).await?;
        these().set(renamed).filter(is_tenants).exec(&transaction.db).await?;
        transaction.commit().await
    }
}

impl Transaction {
    /// Deletes the tenant and what is held for it, and leaves a tombstone of each customer that ends
    /// with it. The rows are locked.
    pub async fn erase_links(
        &mut self,
        scope: &ErasureScope,
        alias: &TenantId,
        now_ms: i64,
    ) -> Result<ErasedLinks, StoreError> {
        self.bury_customers(&scope.ended_customers(), now_ms).await?;
        customer::Entity::update_many()
            .set(customer::ActiveModel { named_tenant_id: Set(None), ..Default::default() })
            .filter(customer::Column::NamedTenantId.eq(scope.tenant.as_str()))
            .exec(&self.db)
            .await?;
        let own = scope.own.iter().map(CustomerId::as_str);
        let held = Condition::any()
            .add(subscription::Column::CustomerId.is_in(own.clone()))
            .add(subscription::Column::TenantId.eq(scope.tenant.as_str()));
        let subscriptions = subscription::Entity::delete_many().filter(held).exec(&self.db).await?;
        let asked = Condition::any()
            .add(refresh::Column::CustomerId.is_in(own))
            .add(refresh::Column::TenantId.eq(scope.tenant.as_str()));
        refresh::Entity::delete_many().filter(asked).exec(&self.db).await?;
        let checkouts = self.erase_checkouts(scope, alias).await?;
        tenant::Entity::delete_by_id(scope.tenant.as_str()).exec(&self.db).await?;
        self.note_erasure(alias, now_ms).await?;
        self.announce(&scope.tenant).await?;
        Ok(ErasedLinks { subscriptions: subscriptions.rows_affected, checkouts })
    }

    async fn bury_customers(&self, ids: &BTreeSet<CustomerId>, now_ms: i64) -> Result<(), StoreError> {
        customer::Entity::update_many()
            .set(customer::ActiveModel { deleted_at_ms: Set(Some(now_ms)), ..Default::default() })
            .filter(customer::Column::Id.is_in(ids.iter().map(CustomerId::as_str)))
            .filter(customer::Column::DeletedAtMs.is_null())
            .exec(&self.db)
            .await?;
        Ok(())
    }

    /// Deletes those that end with the tenant. Those of a moved customer keep what it has at another
    /// tenant working.
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

    async fn note_erasure(&self, alias: &TenantId, now_ms: i64) -> Result<(), StoreError> {
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

/// The checkouts of the customers that end with the tenant.
fn ended_checkouts(scope: &ErasureScope) -> Condition {
    use checkout::Column::{CustomerId, TenantId};
    let own = Condition::any().add(CustomerId.is_in(scope.own.iter().map(ToString::to_string)));
    let moved_here = scope
        .moved_here
        .as_ref()
        .map(|customer| TenantId.eq(scope.tenant.as_str()).and(CustomerId.eq(customer.as_str())));
    own.add_option(moved_here)
}

/// What an event has to do with the tenant, if it names it. Anyone can write a `client_reference_id`:
/// it makes no customer the tenant's. Another deployment has its own tenant of this name.
fn naming_event(
    id: String,
    is_quarantined: bool,
    payload: &[u8],
    tenant: &TenantId,
    deployment: &DeploymentId,
) -> Option<NamingEvent> {
    let event = Event::read(payload).ok()?;
    if event.tags().and_then(|tags| tags.deployment.as_ref()).is_some_and(|named| named != deployment) {
        return None;
    }
    let is_tagged = event.tags().is_some_and(|tags| tags.tenant.as_ref() == Some(tenant));
    let is_referred_to = match &event.subject {
        Subject::Checkout(_, session) => session.client_reference.as_ref() == Some(tenant),
        _ => false,
    };
    let customer = event.customer().filter(|_| is_tagged && !is_quarantined).cloned();
    (is_tagged || is_referred_to).then_some(NamingEvent { id, customer })
}
