//! Filling a unit of work under lock.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use entity::{checkout, customer, subscription, tenant};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::SelectStatement;
use sea_orm::{
    DbBackend, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QueryResult, QuerySelect, QueryTrait,
};

use super::insert::Existing;
use super::lists::{List, any_in};
use super::reads::Reads;
use super::tables::rows;
use super::{StoreError, Transaction};
use crate::domain::event::{Event, Session, Subject};
use crate::domain::ids::{CustomerId, PriceId, SessionId, SubscriptionId, TenantId};
use crate::domain::journey::Traceparent;
use crate::domain::subscription::Snapshot;
use crate::domain::unit_of_work::UnitOfWork;

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
    /// The prices of snapshots' items, now and before.
    prices: BTreeSet<PriceId>,
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
                touched.prices.extend(snapshot.prices().cloned());
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
    pub fn subscriptions(customer: &CustomerId, snapshots: &[Snapshot]) -> Self {
        Self {
            customers: [customer.clone()].into(),
            subscriptions: snapshots.iter().map(|snapshot| snapshot.id.clone()).collect(),
            prices: snapshots.iter().flat_map(Snapshot::prices).cloned().collect(),
            ..Self::default()
        }
    }

    /// A tenant alone.
    pub fn tenant(tenant: &TenantId) -> Self {
        Self { tenants: [tenant.clone()].into(), ..Self::default() }
    }

    /// A customer, and what is parked for it.
    pub fn customer(customer: &CustomerId) -> Self {
        let customers = BTreeSet::from([customer.clone()]);
        Self { decided: customers.clone(), customers, ..Self::default() }
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

    /// A tenant that is erased, and its customers.
    pub fn erased(tenant: &TenantId, customers: &BTreeSet<CustomerId>) -> Self {
        Self { tenants: [tenant.clone()].into(), customers: customers.clone(), ..Self::default() }
    }

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
        let (tenants, subscriptions, checkouts) = self.touched(touched).await?;
        let mut work = UnitOfWork::begin(
            marked(|row| row.deleted_at_ms.is_some())?,
            tenants.iter().map(rows::tenant).collect::<Result<Vec<_>, _>>()?,
            subscriptions.iter().map(rows::subscription).collect::<Result<Vec<_>, _>>()?,
            checkouts.iter().map(rows::checkout).collect::<Result<Vec<_>, _>>()?,
        );
        marked(|row| row.withheld_at_ms.is_some())?.into_iter().for_each(|id| work.withhold(id));
        for row in &customers {
            if let Some(deployment) = &row.deployment_id {
                work.add_foreign(rows::id("customer", &row.id)?, rows::id("customer", deployment)?);
            }
            if let Some(tenant) = &row.named_tenant_id {
                work.add_named_tenant(rows::id("customer", &row.id)?, rows::tenant_id("customer", tenant)?);
            }
        }
        let unlinked: Vec<CustomerId> = work.unlinked(touched.decided.iter()).cloned().collect();
        let mut waiting = Vec::new();
        for customer in unlinked {
            waiting.extend(self.parked(&customer).await?);
        }
        // What was paid on a page of ours for a customer that had lost its tenant closes its checkout when its wait is over.
        let by_waiting = Touched::by(&waiting);
        let prices = touched.prices.union(&by_waiting.prices).cloned().collect();
        work.add_known_prices(&self.known_prices(&prices).await?);
        let [of_waiting] = self.read(&CHECKOUTS, [by_waiting.lists_of_checkouts()]).await?;
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
            asked_at_ms: NotSet,
            deployment_id: NotSet,
            named_tenant_id: NotSet,
        };
        let places = ids.iter().filter(|id| !known.contains(id.as_str())).map(place);
        let mut writes = self.writes();
        writes.insert(places, &Existing::Kept { key: customer::Column::Id })?;
        self.carry_out(writes).await?;
        Ok(locked)
    }

    /// Locks and reads tenants, and reads subscriptions and checkouts.
    async fn touched(
        &self,
        touched: &Touched,
    ) -> Result<(Vec<tenant::Model>, Vec<subscription::Model>, Vec<checkout::Model>), StoreError> {
        let of_sessions = self.tenants_of_sessions(&touched.sessions).await?;
        let tenants = touched.tenants.iter().map(TenantId::as_str);
        let tenants = List::of(tenants.chain(of_sessions.iter().map(String::as_str)));
        let customers = List::of(&touched.customers);
        let lists = [
            vec![customers.clone(), tenants],
            vec![customers, List::of(&touched.subscriptions)],
            touched.lists_of_checkouts(),
        ];
        let [tenants, subscriptions, checkouts] = self.read(&TOUCHED, lists).await?;
        let tenants: Vec<tenant::Model> = models(&tenants)?;
        let mut checkouts = models(&checkouts)?;
        if !touched.sessions.is_empty() {
            checkouts.extend(self.checkouts_of_journeys(&tenants).await?);
        }
        Ok((tenants, models(&subscriptions)?, checkouts))
    }

    /// The tenants that our own checkouts were made for, whatever their events say.
    async fn tenants_of_sessions(&self, sessions: &BTreeSet<SessionId>) -> Result<Vec<String>, StoreError> {
        let sessions = sessions.iter().map(SessionId::as_str);
        let Some(ours) = self.db.one_of(checkout::Column::SessionId, sessions) else { return Ok(Vec::new()) };
        let tenants = checkout::Entity::find().select_only().column(checkout::Column::TenantId).filter(ours);
        Ok(tenants.into_tuple().all(&self.db).await?)
    }

    /// The checkouts that the tenants' journeys began with: of one that a session is of now the later one is to stand.
    async fn checkouts_of_journeys(
        &self,
        tenants: &[tenant::Model],
    ) -> Result<Vec<checkout::Model>, StoreError> {
        let journeys = tenants.iter().filter_map(|tenant| tenant.journey_id.as_deref());
        let Some(theirs) = self.db.one_of(checkout::Column::JourneyId, journeys) else {
            return Ok(Vec::new());
        };
        Ok(checkout::Entity::find().filter(theirs).all(&self.db).await?)
    }
}

fn models<M: FromQueryResult>(rows: &[QueryResult]) -> Result<Vec<M>, StoreError> {
    Ok(rows.iter().map(|row| M::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectionTrait, Statement};

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
