//! Locks and reads the rows of a batch.
//!
//! One statement locks the customers, a second one locks the tenants and reads most of the rest.
//! Parked events, prices, and the events of a tie are read after it. The two cannot be one: a
//! statement of PostgreSQL sees only rows that were committed before it started, not those that
//! another transaction commits while it waits for a lock
//! (<https://www.postgresql.org/docs/current/transaction-iso.html#XACT-READ-COMMITTED>). A
//! transaction that changes a customer's subscriptions, tenant or checkouts holds the customer's
//! lock, so the second statement sees its changes. The only exception is a checkout that is being
//! inserted, whose session has no events yet.

use std::collections::{BTreeSet, HashMap, HashSet};

use entity::{checkout, customer, subscription, tenant};
use sea_orm::{ConnectionTrait, EntityTrait, QueryResult};
use serde::Deserialize;

use super::batch_scope::BatchScope;
use super::sql::{Sql, json_rows, list};
use super::tables::rows;
use super::{StoreError, Transaction};
use crate::domain::batch::Batch;
use crate::domain::ids::{CustomerId, EventId, SessionId, SubscriptionId, TenantId};

/// `$1`: customer ids.
const LOCK_CUSTOMERS: Sql = Sql {
    postgres: r#"
SELECT COALESCE(json_agg(locked), '[]')::text AS customers
FROM (SELECT * FROM "customer" WHERE id = ANY($1::text[]) ORDER BY id FOR UPDATE) AS locked"#,
    sqlite: r#"
SELECT json_group_array(json_object(
    'id', id, 'deleted_at_ms', deleted_at_ms, 'withheld_at_ms', withheld_at_ms, 'asked_at_ms', asked_at_ms,
    'deployment_id', deployment_id, 'named_tenant_id', named_tenant_id)) AS customers
FROM "customer" WHERE id IN (SELECT value FROM json_each(?1))"#,
};

/// `$1`: the ids of new customers, in lock order.
const INSERT_CUSTOMERS: Sql = Sql {
    postgres: r#"
INSERT INTO "customer" (id) SELECT unnest($1::text[]) ON CONFLICT (id) DO NOTHING"#,
    sqlite: r#"
INSERT INTO "customer" (id) SELECT value FROM json_each(?1) WHERE TRUE ON CONFLICT (id) DO NOTHING"#,
};

/// `$1`: customer ids, `$2`: tenant ids, `$3`: subscription ids, `$4`: session ids, `$5`: journey
/// ids, `$6`: event ids.
///
/// For a session, it also reads the tenant of its checkout, and the checkout that the tenant's
/// journey started with.
const LOAD_BATCH: Sql = Sql {
    postgres: r#"
WITH locked_tenant AS MATERIALIZED (
    SELECT * FROM "tenant"
    WHERE stripe_customer_id = ANY($1::text[])
        OR id = ANY($2::text[])
        OR id = ANY(ARRAY(SELECT tenant_id FROM checkout WHERE session_id = ANY($4::text[])))
    ORDER BY id
    FOR UPDATE
)
SELECT
    (SELECT COALESCE(json_agg(t), '[]')::text FROM locked_tenant AS t) AS tenants,
    (SELECT COALESCE(json_agg(s), '[]')::text FROM subscription AS s
        WHERE s.customer_id = ANY($1::text[]) OR s.id = ANY($3::text[])) AS subscriptions,
    (SELECT COALESCE(json_agg(c), '[]')::text FROM checkout AS c
        WHERE c.session_id = ANY($4::text[])
            OR c.subscription_id = ANY($3::text[])
            OR c.journey_id = ANY($5::text[])
            OR c.journey_id = ANY(ARRAY(
                SELECT journey_id FROM locked_tenant WHERE cardinality($4::text[]) > 0))) AS checkouts,
    (SELECT COALESCE(json_agg(e), '[]')::text
        FROM (SELECT id, tenant_id FROM event WHERE id = ANY($6::text[])) AS e) AS known_events"#,
    sqlite: r#"
WITH locked_tenant AS MATERIALIZED (
    SELECT * FROM "tenant"
    WHERE stripe_customer_id IN (SELECT value FROM json_each(?1))
        OR id IN (SELECT value FROM json_each(?2))
        OR id IN (SELECT tenant_id FROM checkout WHERE session_id IN (SELECT value FROM json_each(?4)))
)
SELECT
    (SELECT json_group_array(json_object(
        'id', id, 'stripe_customer_id', stripe_customer_id, 'customer_generation', customer_generation,
        'journey_id', journey_id, 'journey_traceparent', journey_traceparent,
        'journey_began_at_ms', journey_began_at_ms, 'created_at_ms', created_at_ms,
        'updated_at_ms', updated_at_ms)) FROM locked_tenant) AS tenants,
    (SELECT json_group_array(json_object(
        'id', id, 'customer_id', customer_id, 'tenant_id', tenant_id, 'status', status,
        'started_at', started_at, 'items', items, 'current_period_end', current_period_end,
        'trial_end', trial_end, 'cancel_at', cancel_at,
        'cancel_at_period_end', json(iif(cancel_at_period_end, 'true', 'false')), 'ended_at', ended_at,
        'as_of', as_of, 'revision', revision, 'awaiting_payment', json(iif(awaiting_payment, 'true', 'false')),
        'payment_problem', payment_problem, 'payment_noted_at', payment_noted_at, 'paid_at', paid_at,
        'updated_at_ms', updated_at_ms)) FROM subscription
        WHERE customer_id IN (SELECT value FROM json_each(?1))
            OR id IN (SELECT value FROM json_each(?3))) AS subscriptions,
    (SELECT json_group_array(json_object(
        'session_id', session_id, 'tenant_id', tenant_id, 'customer_id', customer_id, 'plan', plan,
        'price_id', price_id, 'success_path', success_path, 'cancel_path', cancel_path, 'status', status,
        'subscription_id', subscription_id, 'journey_id', journey_id, 'traceparent', traceparent,
        'created_at_ms', created_at_ms, 'updated_at_ms', updated_at_ms)) FROM checkout
        WHERE session_id IN (SELECT value FROM json_each(?4))
            OR subscription_id IN (SELECT value FROM json_each(?3))
            OR journey_id IN (SELECT value FROM json_each(?5))
            OR journey_id IN (
                SELECT journey_id FROM locked_tenant WHERE json_array_length(?4) > 0)) AS checkouts,
    (SELECT json_group_array(json_object('id', id, 'tenant_id', tenant_id))
        FROM event WHERE id IN (SELECT value FROM json_each(?6))) AS known_events"#,
};

/// `$1`: session ids, `$2`: subscription ids, `$3`: journey ids.
const CHECKOUTS: Sql = Sql {
    postgres: r#"
SELECT * FROM "checkout"
WHERE session_id = ANY($1::text[]) OR subscription_id = ANY($2::text[]) OR journey_id = ANY($3::text[])"#,
    sqlite: r#"
SELECT * FROM "checkout"
WHERE session_id IN (SELECT value FROM json_each(?1))
    OR subscription_id IN (SELECT value FROM json_each(?2))
    OR journey_id IN (SELECT value FROM json_each(?3))"#,
};

#[derive(Debug)]
pub struct LoadedBatch {
    pub batch: Batch,
    /// The delivered events that are in the inbox already, with their tenants.
    pub known_events: HashMap<EventId, Option<TenantId>>,
}

#[derive(Deserialize)]
struct KnownEvent {
    id: String,
    tenant_id: Option<String>,
}

impl Transaction {
    pub async fn load_batch(&self, scope: &BatchScope) -> Result<Batch, StoreError> {
        Ok(self.load_batch_and_known_events(scope).await?.batch)
    }

    pub async fn load_batch_and_known_events(&self, scope: &BatchScope) -> Result<LoadedBatch, StoreError> {
        let customers = self.lock_customers(&scope.customers).await?;
        let loaded = self.load_rows(scope).await?;
        let mut batch = read_batch(&customers, &loaded)?;
        let mut parked = Vec::new();
        for customer in batch.customers_without_tenant(scope.customers_to_unpark.iter()) {
            parked.extend(self.parked(customer).await?);
        }
        // The parked events may need further checkouts and prices.
        let parked_scope = BatchScope::events(&parked);
        for row in self.checkouts_of(&parked_scope).await? {
            batch.add_checkout(rows::checkout(&row)?);
        }
        let prices = scope.prices.union(&parked_scope.prices).cloned().collect();
        batch.add_known_prices(&self.known_prices(&prices).await?);
        for event in parked {
            batch.add_parked(event);
        }
        for (id, payment, at) in self.payments(&batch, &scope.subscriptions).await? {
            batch.remember_payment(&id, payment, at);
        }
        for (id, candidate) in self.candidates(&batch, &scope.snapshot_times).await? {
            batch.add_candidate(&id, candidate);
        }
        Ok(LoadedBatch { batch, known_events: known_events(&loaded)? })
    }

    /// Locks and returns the rows of customers, and inserts missing ones, so that two transactions
    /// cannot both be the first for a customer. If another transaction was faster, this one has to
    /// start again, because it would lock that row out of order.
    async fn lock_customers(&self, ids: &BTreeSet<CustomerId>) -> Result<Vec<customer::Model>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let backend = self.db.get_database_backend();
        let ids = || ids.iter().map(CustomerId::as_str);
        let locked = self.query_one_row(LOCK_CUSTOMERS.bind(backend, [list(backend, ids())])).await?;
        let locked: Vec<customer::Model> = json_rows(&locked, "customers")?;
        let known: HashSet<&str> = locked.iter().map(|row| row.id.as_str()).collect();
        let new: Vec<&str> = ids().filter(|id| !known.contains(id)).collect();
        if !new.is_empty() {
            let count = new.len() as u64;
            let inserted = self.db.execute_raw(INSERT_CUSTOMERS.bind(backend, [list(backend, new)])).await?;
            if inserted.rows_affected() != count {
                return Err(StoreError::duplicate_key("another transaction has inserted a customer"));
            }
        }
        Ok(locked)
    }

    async fn load_rows(&self, scope: &BatchScope) -> Result<QueryResult, StoreError> {
        let backend = self.db.get_database_backend();
        let values = [
            list(backend, scope.customers.iter().map(CustomerId::as_str)),
            list(backend, scope.tenants.iter().map(TenantId::as_str)),
            list(backend, scope.subscriptions.iter().map(SubscriptionId::as_str)),
            list(backend, scope.sessions.iter().map(SessionId::as_str)),
            list(backend, &scope.journeys),
            list(backend, scope.delivered.iter().map(EventId::as_str)),
        ];
        self.query_one_row(LOAD_BATCH.bind(backend, values)).await
    }

    async fn checkouts_of(&self, scope: &BatchScope) -> Result<Vec<checkout::Model>, StoreError> {
        let BatchScope { sessions, subscriptions, journeys, .. } = scope;
        if sessions.is_empty() && subscriptions.is_empty() && journeys.is_empty() {
            return Ok(Vec::new());
        }
        let backend = self.db.get_database_backend();
        let values = [
            list(backend, sessions.iter().map(SessionId::as_str)),
            list(backend, subscriptions.iter().map(SubscriptionId::as_str)),
            list(backend, journeys),
        ];
        Ok(checkout::Entity::find().from_raw_sql(CHECKOUTS.bind(backend, values)).all(&self.db).await?)
    }
}

fn read_batch(customers: &[customer::Model], loaded: &QueryResult) -> Result<Batch, StoreError> {
    let tenants: Vec<tenant::Model> = json_rows(loaded, "tenants")?;
    let subscriptions: Vec<subscription::Model> = json_rows(loaded, "subscriptions")?;
    let checkouts: Vec<checkout::Model> = json_rows(loaded, "checkouts")?;
    let deleted = customers.iter().filter(|row| row.deleted_at_ms.is_some());
    let mut batch = Batch::new(
        deleted.map(|row| rows::id("customer", &row.id)).collect::<Result<Vec<_>, _>>()?,
        tenants.iter().map(rows::tenant).collect::<Result<Vec<_>, _>>()?,
        subscriptions.iter().map(rows::subscription).collect::<Result<Vec<_>, _>>()?,
        checkouts.iter().map(rows::checkout).collect::<Result<Vec<_>, _>>()?,
    );
    for row in customers {
        let id = || rows::id("customer", &row.id);
        if row.withheld_at_ms.is_some() {
            batch.add_unlinked_by_operator(id()?);
        }
        if let Some(deployment) = &row.deployment_id {
            batch.add_foreign(id()?, rows::id("customer", deployment)?);
        }
        if let Some(tenant) = &row.named_tenant_id {
            batch.add_taken_tenant(id()?, rows::tenant_id("customer", tenant)?);
        }
    }
    Ok(batch)
}

fn known_events(loaded: &QueryResult) -> Result<HashMap<EventId, Option<TenantId>>, StoreError> {
    let read = |KnownEvent { id, tenant_id }: KnownEvent| {
        let tenant = tenant_id.as_deref().map(|text| rows::tenant_id("event", text)).transpose()?;
        Ok((rows::id("event", &id)?, tenant))
    };
    json_rows(loaded, "known_events")?.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use sea_orm::{DbBackend, IntoActiveModel, Statement};

    use super::*;
    use crate::store::connect::tests::empty_sqlite;

    #[tokio::test]
    async fn loaded_rows_have_every_column() {
        let (store, _dir) = empty_sqlite().await;
        store.migrate().await.expect("the migrations run");
        let customer = customer::Model {
            id: "cus_a".to_owned(),
            deleted_at_ms: Some(1),
            withheld_at_ms: Some(2),
            asked_at_ms: Some(3),
            deployment_id: Some("d".to_owned()),
            named_tenant_id: Some("b".to_owned()),
        };
        let tenant = tenant::Model {
            id: "a".to_owned(),
            stripe_customer_id: Some("cus_a".to_owned()),
            customer_generation: 4,
            journey_id: Some("journey_a".to_owned()),
            journey_traceparent: Some("traceparent_a".to_owned()),
            journey_began_at_ms: Some(5),
            created_at_ms: 6,
            updated_at_ms: 7,
        };
        let subscription = subscription::Model {
            id: "sub_a".to_owned(),
            customer_id: "cus_a".to_owned(),
            tenant_id: "a".to_owned(),
            status: "active".to_owned(),
            started_at: Some(8),
            items: r#"[{"price":"\"ä"}]"#.to_owned(),
            current_period_end: Some(9),
            trial_end: Some(10),
            cancel_at: Some(11),
            cancel_at_period_end: true,
            ended_at: Some(12),
            as_of: 13,
            revision: 14,
            awaiting_payment: false,
            payment_problem: Some("failed".to_owned()),
            payment_noted_at: Some(15),
            paid_at: Some(16),
            updated_at_ms: 17,
        };
        let checkout = checkout::Model {
            session_id: "cs_a".to_owned(),
            tenant_id: "a".to_owned(),
            customer_id: "cus_a".to_owned(),
            plan: "pro".to_owned(),
            price_id: Some("price_a".to_owned()),
            success_path: "/s".to_owned(),
            cancel_path: "/c".to_owned(),
            status: "open".to_owned(),
            subscription_id: Some("sub_a".to_owned()),
            journey_id: "journey_a".to_owned(),
            traceparent: "traceparent_a".to_owned(),
            created_at_ms: 18,
            updated_at_ms: 19,
        };
        let db = &store.writer;
        let rows = (customer.clone(), tenant.clone(), subscription.clone(), checkout.clone());
        customer::Entity::insert(rows.0.into_active_model()).exec(db).await.expect("inserted");
        tenant::Entity::insert(rows.1.into_active_model()).exec(db).await.expect("inserted");
        subscription::Entity::insert(rows.2.into_active_model()).exec(db).await.expect("inserted");
        checkout::Entity::insert(rows.3.into_active_model()).exec(db).await.expect("inserted");

        let transaction = store.begin().await.expect("a transaction");
        let scope = BatchScope {
            customers: ["cus_a", "cus_new"].map(|id| CustomerId::parse(id).expect("an id")).into(),
            // The checkout is found by the tenant's journey.
            sessions: ["cs_unknown".parse().expect("an id")].into(),
            ..BatchScope::default()
        };
        let locked = transaction.lock_customers(&scope.customers).await.expect("locked");
        assert_eq!(locked, [customer]);
        let loaded = transaction.load_rows(&scope).await.expect("loaded");
        assert_eq!(json_rows::<tenant::Model>(&loaded, "tenants").expect("tenants"), [tenant]);
        let subscriptions = json_rows::<subscription::Model>(&loaded, "subscriptions");
        assert_eq!(subscriptions.expect("subscriptions"), [subscription]);
        assert_eq!(json_rows::<checkout::Model>(&loaded, "checkouts").expect("checkouts"), [checkout]);
        assert!(known_events(&loaded).expect("events").is_empty());
    }

    #[tokio::test]
    async fn statements_use_indexes() {
        let (store, _dir) = empty_sqlite().await;
        store.migrate().await.expect("the migrations run");
        for text in [LOCK_CUSTOMERS.sqlite, LOAD_BATCH.sqlite, CHECKOUTS.sqlite] {
            let explain = format!("EXPLAIN QUERY PLAN {text}");
            let plan = store.db.query_all_raw(Statement::from_string(DbBackend::Sqlite, explain)).await;
            for step in plan.expect("a plan") {
                let step: String = step.try_get("", "detail").expect("a step");
                let is_small = step.contains("json_each") || step.contains("locked_tenant");
                assert!(
                    !step.starts_with("SCAN") || is_small || step == "SCAN CONSTANT ROW",
                    "{step} for {text}"
                );
            }
        }
    }
}
