//! Filling a unit of work under lock, and writing back what changed in it.

use std::collections::BTreeSet;

use entity::{checkout, customer, refresh, subscription, tenant};
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::insert::Existing;
use super::lengths::{any_of, list, one_of};
use super::{StoreError, Transaction, rows};
use crate::domain::event::{Event, Session, Subject};
use crate::domain::ids::{CustomerId, EventId, SessionId, SubscriptionId, TenantId};
use crate::domain::journey::Traceparent;
use crate::domain::unit_of_work::{Changes, UnitOfWork};

/// What a unit of work is about. Everything in it is locked in one order, so that two replicas cannot block each other:
/// customers first, then tenants, each by id.
#[derive(Debug, Default)]
pub struct Touched {
    customers: BTreeSet<CustomerId>,
    tenants: BTreeSet<TenantId>,
    subscriptions: BTreeSet<SubscriptionId>,
    sessions: BTreeSet<SessionId>,
    journeys: Vec<Traceparent>,
    /// The seconds that snapshots are of.
    seconds: BTreeSet<(SubscriptionId, i64)>,
    /// Customers that these events can link or end, so that what is parked for them is wanted.
    decided: BTreeSet<CustomerId>,
}

impl Touched {
    /// What these events are about.
    pub fn by<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut touched = Self::default();
        for event in events {
            touched.customers.extend(event.customer().cloned());
            touched.subscriptions.extend(event.subscription().cloned());
            touched.journeys.extend(event.named_journey());
            if let Some(tags) = event.tags() {
                touched.tenants.extend(tags.tenant.clone());
            }
            if let Subject::Checkout(_, session) = &event.subject {
                touched.sessions.insert(session.id.clone());
                touched.tenants.extend(session.client_reference.clone());
            }
            if let Subject::Subscription(_, snapshot) = &event.subject {
                touched.seconds.insert((snapshot.id.clone(), event.created));
            }
            if decides_on_its_customer(event) {
                touched.decided.extend(event.customer().cloned());
            }
        }
        touched
    }

    /// A checkout session that Stripe calls complete, and the customer of its subscription.
    pub fn session(session: &Session, customer: &CustomerId) -> Self {
        Self {
            customers: [customer.clone()].into(),
            subscriptions: session.subscription.iter().cloned().collect(),
            sessions: [session.id.clone()].into(),
            ..Self::default()
        }
    }

    /// A customer's subscriptions, as Stripe answers with them.
    pub fn subscriptions<'a>(
        customer: &CustomerId,
        subscriptions: impl Iterator<Item = &'a SubscriptionId>,
    ) -> Self {
        Self {
            customers: [customer.clone()].into(),
            subscriptions: subscriptions.cloned().collect(),
            ..Self::default()
        }
    }

    /// A tenant and a customer that are to be linked.
    pub fn pair(tenant: &TenantId, customer: &CustomerId) -> Self {
        Self::pairs([(tenant, customer)])
    }

    /// Many of them.
    pub fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a TenantId, &'a CustomerId)>) -> Self {
        let (tenants, customers): (BTreeSet<_>, BTreeSet<_>) =
            pairs.into_iter().map(|(tenant, customer)| (tenant.clone(), customer.clone())).unzip();
        Self { tenants, decided: customers.clone(), customers, ..Self::default() }
    }
}

/// Whether an event can link its customer to a tenant, or ends it.
fn decides_on_its_customer(event: &Event) -> bool {
    let names_a_tenant = event.tags().is_some_and(|tags| tags.tenant.is_some());
    names_a_tenant || matches!(event.subject, Subject::Checkout(..) | Subject::CustomerDeleted(_))
}

impl Transaction {
    /// Locks and reads what is touched.
    pub async fn unit_of_work(&self, touched: &Touched) -> Result<UnitOfWork, StoreError> {
        let customers = self.lock_customers(&touched.customers).await?;
        let marked = |is: fn(&customer::Model) -> bool| {
            let marked = customers.iter().filter(move |row| is(row));
            marked.map(|row| rows::id("customer", &row.id)).collect::<Result<Vec<CustomerId>, _>>()
        };
        let tenants = self.lock_tenants(touched, self.tenants_of_sessions(&touched.sessions).await?).await?;
        let subscriptions = self.touched_subscriptions(touched).await?;
        let checkouts = self.touched_checkouts(touched, &tenants).await?;
        let mut work = UnitOfWork::begin(
            marked(|row| row.deleted_at_ms.is_some())?,
            tenants.iter().map(rows::tenant).collect::<Result<Vec<_>, _>>()?,
            subscriptions.iter().map(rows::subscription).collect::<Result<Vec<_>, _>>()?,
            checkouts.iter().map(rows::checkout).collect::<Result<Vec<_>, _>>()?,
        );
        marked(|row| row.withheld_at_ms.is_some())?.into_iter().for_each(|id| work.withhold(id));
        let unlinked: Vec<CustomerId> = work.unlinked(touched.decided.iter()).cloned().collect();
        let mut waiting = Vec::new();
        for customer in unlinked {
            waiting.extend(self.parked(&customer).await?);
        }
        // What was paid on a page of ours for a customer that had lost its tenant closes its checkout when its wait is over.
        for row in self.touched_checkouts(&Touched::by(&waiting), &[]).await? {
            work.add_checkout(rows::checkout(&row)?);
        }
        for event in waiting {
            work.park(event);
        }
        for (id, payment, at) in self.payments(&work, &touched.subscriptions).await? {
            work.remember_payment(&id, payment, at);
        }
        for (id, contender) in self.contenders(&work, &touched.seconds).await? {
            work.contend(&id, contender);
        }
        Ok(work)
    }

    /// Writes back what changed, and announces it to the other replicas. `trace_of` tells in which trace an event was processed, or, without one, in which
    /// trace we are.
    pub async fn write(
        &self,
        work: &UnitOfWork,
        trace_of: impl Fn(Option<&EventId>) -> Option<Traceparent>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let Changes {
            tombstones,
            withheld,
            tenants,
            new_tenants,
            subscriptions,
            dropped,
            entitlements,
            checkouts,
            journal,
            unparked,
            refreshes,
        } = work.changes();
        self.write_tombstones(tombstones, now_ms).await?;
        self.write_withheld(work, withheld, now_ms).await?;
        self.drop_subscriptions(dropped).await?;
        let rows_of = |ids: Vec<&TenantId>| {
            let tenants = ids.into_iter().filter_map(|id| work.tenant(id));
            tenants.map(|tenant| rows::tenant_row(tenant, now_ms)).collect::<Vec<_>>()
        };
        // One that another transaction has inserted since is a lost race, and must not be written over.
        self.insert(rows_of(new_tenants.iter().collect()), Existing::Refused).await?;
        self.update_tenants(rows_of(tenants.difference(new_tenants).collect())).await?;
        let subscriptions = subscriptions.iter().filter_map(|id| work.held(id));
        self.write_subscriptions(
            subscriptions.map(|held| rows::subscription_row(held, now_ms)).collect::<Result<_, _>>()?,
        )
        .await?;
        let checkouts = checkouts.iter().filter_map(|id| work.checkout(id));
        self.write_checkouts(checkouts.map(|checkout| rows::checkout_row(checkout, now_ms)).collect())
            .await?;
        self.append_journal(journal, &trace_of, now_ms).await?;
        self.insert_refreshes(refreshes, trace_of, now_ms).await?;
        self.settle_unparked(unparked).await?;
        self.announce(entitlements).await
    }

    /// Locks the customers, and puts those in their place that have no row, so that two replicas cannot both be first. Of
    /// those there is nothing to read.
    ///
    /// Whoever is second with a new one begins again. It would have to lock its row behind rows that it holds, out of order.
    async fn lock_customers(&self, ids: &BTreeSet<CustomerId>) -> Result<Vec<customer::Model>, StoreError> {
        let Some(wanted) = one_of(customer::Column::Id, ids.iter().map(CustomerId::as_str)) else {
            return Ok(Vec::new());
        };
        let locked =
            customer::Entity::find().filter(wanted).order_by_asc(customer::Column::Id).lock_exclusive();
        let locked = locked.all(&self.db).await?;
        let known: BTreeSet<&str> = locked.iter().map(|row| row.id.as_str()).collect();
        let place = |id: &CustomerId| customer::ActiveModel {
            id: Set(id.to_string()),
            deleted_at_ms: Set(None),
            withheld_at_ms: Set(None),
        };
        let places = ids.iter().filter(|id| !known.contains(id.as_str())).map(place);
        self.insert_new(
            customer::Column::Id,
            places.collect(),
            "a customer of the batch is new elsewhere too",
        )
        .await?;
        Ok(locked)
    }

    /// The tenants that our own checkouts were made for, whatever their events say.
    async fn tenants_of_sessions(&self, sessions: &BTreeSet<SessionId>) -> Result<Vec<String>, StoreError> {
        let sessions = sessions.iter().map(SessionId::as_str);
        let Some(ours) = one_of(checkout::Column::SessionId, sessions) else { return Ok(Vec::new()) };
        let tenants = checkout::Entity::find().select_only().column(checkout::Column::TenantId).filter(ours);
        Ok(tenants.into_tuple().all(&self.db).await?)
    }

    async fn lock_tenants(
        &self,
        touched: &Touched,
        of_sessions: Vec<String>,
    ) -> Result<Vec<tenant::Model>, StoreError> {
        let wanted = any_of([
            (tenant::Column::StripeCustomerId, list(touched.customers.iter().map(CustomerId::as_str))),
            (tenant::Column::Id, list(touched.tenants.iter().map(TenantId::to_string).chain(of_sessions))),
        ]);
        let Some(wanted) = wanted else { return Ok(Vec::new()) };
        let locked = tenant::Entity::find().filter(wanted).order_by_asc(tenant::Column::Id).lock_exclusive();
        Ok(locked.all(&self.db).await?)
    }

    async fn touched_subscriptions(&self, touched: &Touched) -> Result<Vec<subscription::Model>, StoreError> {
        let wanted = any_of([
            (subscription::Column::CustomerId, list(touched.customers.iter().map(CustomerId::as_str))),
            (subscription::Column::Id, list(touched.subscriptions.iter().map(SubscriptionId::as_str))),
        ]);
        let Some(wanted) = wanted else { return Ok(Vec::new()) };
        let held = subscription::Entity::find().filter(wanted);
        Ok(held.all(&self.db).await?)
    }

    /// With a session come the checkouts that its tenants' journeys began with: the later one is to stand.
    async fn touched_checkouts(
        &self,
        touched: &Touched,
        tenants: &[tenant::Model],
    ) -> Result<Vec<checkout::Model>, StoreError> {
        let Touched { sessions, subscriptions, journeys, .. } = touched;
        let of_tenants = tenants.iter().filter(|_| !sessions.is_empty());
        let of_tenants = of_tenants.filter_map(|tenant| tenant.journey_id.clone());
        let journeys = journeys.iter().map(|journey| journey.journey_id().to_string()).chain(of_tenants);
        let wanted = any_of([
            (checkout::Column::SessionId, list(sessions.iter().map(SessionId::as_str))),
            (checkout::Column::SubscriptionId, list(subscriptions.iter().map(SubscriptionId::as_str))),
            (checkout::Column::JourneyId, list(journeys)),
        ]);
        let Some(wanted) = wanted else { return Ok(Vec::new()) };
        let ours = checkout::Entity::find().filter(wanted);
        Ok(ours.all(&self.db).await?)
    }

    async fn write_tombstones(&self, ids: &BTreeSet<CustomerId>, now_ms: i64) -> Result<(), StoreError> {
        let Some(these) = one_of(customer::Column::Id, ids.iter().map(CustomerId::as_str)) else {
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

    async fn drop_subscriptions(&self, ids: &BTreeSet<SubscriptionId>) -> Result<(), StoreError> {
        let ids = ids.iter().map(SubscriptionId::as_str);
        if let Some(these) = one_of(subscription::Column::Id, ids) {
            subscription::Entity::delete_many().filter(these).exec(&self.db).await?;
        }
        Ok(())
    }

    /// Writes tenants whose rows we hold locked.
    async fn update_tenants(&self, rows: Vec<tenant::ActiveModel>) -> Result<(), StoreError> {
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
        self.insert(rows, Existing::Changed { key: Id, columns, raised: None }).await
    }

    async fn write_subscriptions(&self, rows: Vec<subscription::ActiveModel>) -> Result<(), StoreError> {
        use sea_orm::Iterable;
        use subscription::Column;
        let columns = Column::iter().filter(|column| !matches!(column, Column::Id)).collect();
        self.insert(rows, Existing::Changed { key: Column::Id, columns, raised: None }).await
    }

    async fn write_checkouts(&self, rows: Vec<checkout::ActiveModel>) -> Result<(), StoreError> {
        use checkout::Column::{SessionId, Status, SubscriptionId, UpdatedAtMs};
        let columns = vec![Status, SubscriptionId, UpdatedAtMs];
        self.insert(rows, Existing::Changed { key: SessionId, columns, raised: None }).await
    }
}
