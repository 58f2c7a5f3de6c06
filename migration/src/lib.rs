//! The migrations that make Billhook's database, the same on SQLite and PostgreSQL.
//!
//! Stripe's times are whole Unix seconds and bear Stripe's names; our own are Unix milliseconds and end in `_ms`.
//! Both are plain integers, since they then compare, sort and index alike on both databases.
//!
//! A migration only adds, and what it adds to a table may be left out by who writes there: replicas of the version before
//! run on while the first of the new one migrates. What is in a release is never edited.

use sea_orm_migration::prelude::*;
pub use sea_orm_migration::{MigratorTrait, SchemaManager};

mod m20261123_000001_first;
mod m20261123_000002_background;
mod m20261125_000003_event_span;
mod m20261125_000004_retention;
mod m20261127_000005_withheld;
mod m20261128_000006_lean;
mod m20261130_000007_gap_recovery;
mod m20261130_000008_observation;
mod m20261130_000009_known_price;
mod m20261130_000010_account;
mod m20261130_000011_asked;
mod m20261130_000012_checkout_price;
mod m20261130_000013_deployment;
mod m20261130_000014_database_copy;
mod m20261130_000015_named_tenant;

/// Runs the migrations in order.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_first::Migration),
            Box::new(m20261123_000002_background::Migration),
            Box::new(m20261125_000003_event_span::Migration),
            Box::new(m20261125_000004_retention::Migration),
            Box::new(m20261127_000005_withheld::Migration),
            Box::new(m20261128_000006_lean::Migration),
            Box::new(m20261130_000007_gap_recovery::Migration),
            Box::new(m20261130_000008_observation::Migration),
            Box::new(m20261130_000009_known_price::Migration),
            Box::new(m20261130_000010_account::Migration),
            Box::new(m20261130_000011_asked::Migration),
            Box::new(m20261130_000012_checkout_price::Migration),
            Box::new(m20261130_000013_deployment::Migration),
            Box::new(m20261130_000014_database_copy::Migration),
            Box::new(m20261130_000015_named_tenant::Migration),
        ]
    }
}
