//! The first tables: the installation's mode, tenants, customers, subscriptions, the inbox of
//! events, checkouts and the journal.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, boolean, pk_auto, string, string_null, text};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [installation(), tenant(), customer(), subscription(), event(), checkout(), transition()]
        {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["transition", "checkout", "event", "subscription", "customer", "tenant", "installation"]
        {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

/// A single row: the mode (test or live) of the data.
fn installation() -> TableCreateStatement {
    Table::create().table("installation").col(big_integer("id").primary_key()).col(string("mode")).to_owned()
}

/// The SaaS's customer organisations. The unique index lets two concurrent first checkouts use only
/// one customer.
fn tenant() -> TableCreateStatement {
    Table::create()
        .table("tenant")
        .col(string("id").primary_key())
        .col(string_null("stripe_customer_id").unique_key())
        .col(big_integer("customer_generation"))
        .col(string_null("journey_id"))
        .col(string_null("journey_traceparent"))
        .col(big_integer_null("journey_began_at_ms"))
        .col(big_integer("created_at_ms"))
        .col(big_integer("updated_at_ms"))
        .to_owned()
}

/// All customers that Stripe has named. Every transaction on a customer locks its row. A deleted
/// customer stays as a tombstone.
fn customer() -> TableCreateStatement {
    Table::create()
        .table("customer")
        .col(string("id").primary_key())
        .col(big_integer_null("deleted_at_ms"))
        .to_owned()
}

fn subscription() -> TableCreateStatement {
    Table::create()
        .table("subscription")
        .col(string("id").primary_key())
        .col(string("customer_id"))
        .col(string("tenant_id"))
        .col(string("status"))
        .col(big_integer_null("started_at"))
        .col(text("items"))
        .col(big_integer_null("current_period_end"))
        .col(big_integer_null("trial_end"))
        .col(big_integer_null("cancel_at"))
        .col(boolean("cancel_at_period_end"))
        .col(big_integer_null("ended_at"))
        .col(big_integer("as_of"))
        .col(big_integer("revision"))
        .col(boolean("awaiting_payment"))
        .col(string_null("payment_problem"))
        .col(big_integer_null("payment_noted_at"))
        .col(big_integer_null("paid_at"))
        .col(big_integer("updated_at_ms"))
        .to_owned()
}

/// The inbox: all events with their outcomes.
fn event() -> TableCreateStatement {
    Table::create()
        .table("event")
        .col(string("id").primary_key())
        .col(string("event_type"))
        .col(string_null("api_version"))
        .col(big_integer("created"))
        .col(string_null("stripe_request_id"))
        .col(string_null("customer_id"))
        .col(string_null("subscription_id"))
        .col(string_null("tenant_id"))
        .col(string_null("journey_id"))
        .col(string_null("trace_id"))
        .col(string("outcome"))
        .col(string_null("reason"))
        .col(ColumnDef::new("payload").blob().null())
        .col(big_integer("received_at_ms"))
        .to_owned()
}

/// Checkout sessions that Billhook created. Their URLs are not stored, since anyone with a URL can
/// pay for the tenant.
fn checkout() -> TableCreateStatement {
    Table::create()
        .table("checkout")
        .col(string("session_id").primary_key())
        .col(string("tenant_id"))
        .col(string("customer_id"))
        .col(string("plan"))
        .col(string("success_path"))
        .col(string("cancel_path"))
        .col(string("status"))
        .col(string_null("subscription_id"))
        .col(string("journey_id"))
        .col(string("traceparent"))
        .col(big_integer("created_at_ms"))
        .col(big_integer("updated_at_ms"))
        .to_owned()
}

/// The journal: every change of a tenant's billing, with its event and its trace. Append-only.
fn transition() -> TableCreateStatement {
    Table::create()
        .table("transition")
        .col(pk_auto("id").big_integer())
        .col(string("entry"))
        .col(string("tenant_id"))
        .col(string("customer_id"))
        .col(string_null("subscription_id"))
        .col(string_null("from_status"))
        .col(string_null("to_status"))
        .col(string("cause"))
        .col(string_null("event_id"))
        .col(big_integer("created"))
        .col(string_null("journey_id"))
        .col(string_null("trace_id"))
        .col(big_integer("recorded_at_ms"))
        .to_owned()
}

fn indexes() -> Vec<IndexCreateStatement> {
    let index = |table: &'static str, columns: &[&'static str]| {
        let mut index = Index::create();
        index.name(format!("ix_{table}_{}", columns.join("_"))).table(table);
        for column in columns {
            index.col(*column);
        }
        index.take()
    };
    vec![
        index("subscription", &["customer_id"]),
        index("subscription", &["tenant_id"]),
        // Parked events of a customer, and failed events to retry.
        index("event", &["customer_id", "outcome"]),
        index("event", &["outcome", "received_at_ms"]),
        // A subscription's snapshots of one second, and a tenant's timeline.
        index("event", &["subscription_id", "created"]),
        index("event", &["tenant_id", "received_at_ms"]),
        index("checkout", &["tenant_id", "created_at_ms"]),
        index("checkout", &["subscription_id"]),
        index("checkout", &["journey_id"]),
        index("transition", &["tenant_id", "recorded_at_ms"]),
        index("transition", &["subscription_id"]),
    ]
}
