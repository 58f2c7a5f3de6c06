//! Filling a unit of work under lock, and writing back what changed in it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use entity::{checkout, customer, refresh, subscription, tenant};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Condition, SelectStatement};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QueryResult, QuerySelect, QueryTrait,
};
use serde::Serialize;

use super::insert::Existing;
use super::lists::{List, any_in, one_of};
use super::reads::Reads;
use super::writes::Writes;
use super::{InboxRow, StoreError, Transaction, rows};
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

impl Touched {
    /// What [`checkouts`] are looked for by.
    fn lists_of_checkouts(&self) -> Vec<List> {
        let journeys = self.journeys.iter().map(|journey| journey.journey_id().to_string());
        vec![List::of(&self.sessions), List::of(&self.subscriptions), List::of(journeys)]
    }
}

/// Customers, by their ids.
static CUSTOMERS: LazyLock<Reads<1>> = LazyLock::new(|| {
    Reads::of(|backend| {
        let wanted = any_in(backend, [customer::Column::Id]);
        let locked =
            customer::Entity::find().filter(wanted).order_by_asc(customer::Column::Id).lock_exclusive();
        [locked.into_query()]
    })
});

/// Tenants by their customers or ids, subscriptions by theirs, and [`checkouts`].
static TOUCHED: LazyLock<Reads<3>> = LazyLock::new(|| {
    Reads::of(|backend| {
        let wanted = any_in(backend, [tenant::Column::StripeCustomerId, tenant::Column::Id]);
        let tenants = tenant::Entity::find().filter(wanted).order_by_asc(tenant::Column::Id).lock_exclusive();
        let wanted = any_in(backend, [subscription::Column::CustomerId, subscription::Column::Id]);
        let subscriptions = subscription::Entity::find().filter(wanted);
        [tenants.into_query(), subscriptions.into_query(), checkouts(backend)]
    })
});

/// [`checkouts`] alone.
static CHECKOUTS: LazyLock<Reads<1>> = LazyLock::new(|| Reads::of(|backend| [checkouts(backend)]));

/// Checkouts, by their sessions, subscriptions or journeys.
fn checkouts(backend: DbBackend) -> SelectStatement {
    use checkout::Column::{JourneyId, SessionId, SubscriptionId};
    checkout::Entity::find().filter(any_in(backend, [SessionId, SubscriptionId, JourneyId])).into_query()
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
        let of_sessions = self.tenants_of_sessions(&touched.sessions).await?;
        let tenants =
            touched.tenants.iter().map(TenantId::as_str).chain(of_sessions.iter().map(String::as_str));
        let (tenants, customers_list) = (List::of(tenants), List::of(&touched.customers));
        let subscriptions = List::of(&touched.subscriptions);
        let [tenants, subscriptions, checkouts] = self
            .read(
                &TOUCHED,
                [
                    vec![customers_list.clone(), tenants],
                    vec![customers_list, subscriptions.clone()],
                    touched.lists_of_checkouts(),
                ],
            )
            .await?;
        let tenants: Vec<tenant::Model> = models(&tenants)?;
        let subscriptions: Vec<subscription::Model> = models(&subscriptions)?;
        let mut checkouts: Vec<checkout::Model> = models(&checkouts)?;
        if !touched.sessions.is_empty() {
            checkouts.extend(self.checkouts_of_journeys(&tenants).await?);
        }
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
        let [of_waiting] = self.read(&CHECKOUTS, [Touched::by(&waiting).lists_of_checkouts()]).await?;
        for row in models(&of_waiting)? {
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
        writes.insert_events(inbox)?;
        writes.announce(entitlements);
        self.carry_out(writes).await
    }

    pub(super) fn one_of<V: Serialize>(
        &self,
        column: impl ColumnTrait,
        values: impl IntoIterator<Item = V>,
    ) -> Option<Condition> {
        one_of(self.db.get_database_backend(), column, values)
    }

    /// Locks the customers, and puts those in their place that have no row, so that two replicas cannot both be first. Of
    /// those there is nothing to read.
    ///
    /// Whoever is second with a new one begins again. It would have to lock its row behind rows that it holds, out of order.
    async fn lock_customers(&self, ids: &BTreeSet<CustomerId>) -> Result<Vec<customer::Model>, StoreError> {
        let [locked] = self.read(&CUSTOMERS, [vec![List::of(ids)]]).await?;
        let locked: Vec<customer::Model> = models(&locked)?;
        let known: BTreeSet<&str> = locked.iter().map(|row| row.id.as_str()).collect();
        let place = |id: &CustomerId| customer::ActiveModel {
            id: Set(id.to_string()),
            deleted_at_ms: Set(None),
            withheld_at_ms: Set(None),
        };
        let places = ids.iter().filter(|id| !known.contains(id.as_str())).map(place);
        let mut writes = self.writes();
        writes.insert(places, &Existing::Kept { key: customer::Column::Id })?;
        self.carry_out(writes).await?;
        Ok(locked)
    }

    /// The tenants that our own checkouts were made for, whatever their events say.
    async fn tenants_of_sessions(&self, sessions: &BTreeSet<SessionId>) -> Result<Vec<String>, StoreError> {
        let sessions = sessions.iter().map(SessionId::as_str);
        let Some(ours) = self.one_of(checkout::Column::SessionId, sessions) else { return Ok(Vec::new()) };
        let tenants = checkout::Entity::find().select_only().column(checkout::Column::TenantId).filter(ours);
        Ok(tenants.into_tuple().all(&self.db).await?)
    }

    /// The checkouts that the tenants' journeys began with: of one that a session is of now the later one is to stand.
    async fn checkouts_of_journeys(
        &self,
        tenants: &[tenant::Model],
    ) -> Result<Vec<checkout::Model>, StoreError> {
        let journeys = tenants.iter().filter_map(|tenant| tenant.journey_id.as_deref());
        let Some(theirs) = self.one_of(checkout::Column::JourneyId, journeys) else { return Ok(Vec::new()) };
        Ok(checkout::Entity::find().filter(theirs).all(&self.db).await?)
    }

    async fn write_tombstones(&self, ids: &BTreeSet<CustomerId>, now_ms: i64) -> Result<(), StoreError> {
        let Some(these) = self.one_of(customer::Column::Id, ids.iter().map(CustomerId::as_str)) else {
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
        if let Some(these) = self.one_of(subscription::Column::Id, ids) {
            subscription::Entity::delete_many().filter(these).exec(&self.db).await?;
        }
        Ok(())
    }
}

fn models<M: FromQueryResult>(rows: &[QueryResult]) -> Result<Vec<M>, StoreError> {
    Ok(rows.iter().map(|row| M::from_query_result(row, "")).collect::<Result<_, _>>()?)
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

#[cfg(test)]
mod tests {
    use sea_orm::Statement;

    use super::*;
    use crate::store::connect::tests::empty_sqlite;

    #[tokio::test]
    async fn what_is_touched_is_found_in_indexes() {
        let (store, _dir) = empty_sqlite().await;
        store.migrate().await.expect("the migrations run");
        for read in CUSTOMERS.sqlite.split("; ").chain(TOUCHED.sqlite.split("; ")) {
            let explain = format!("EXPLAIN QUERY PLAN {read}");
            let plan = store.db.query_all_raw(Statement::from_string(DbBackend::Sqlite, explain)).await;
            for step in plan.expect("a plan") {
                let step: String = step.try_get("", "detail").expect("a step");
                assert!(!step.starts_with("SCAN") || step.contains("json_each"), "{step} for {read}");
            }
        }
    }
}
