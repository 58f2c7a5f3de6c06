//! The migrations of Billhook's database, for SQLite and PostgreSQL.
//!
//! Stripe's times are Unix seconds and have Stripe's names. Our own times are Unix milliseconds and
//! end in `_ms`. Both are integers, which both databases compare, sort and index in the same way.
//!
//! A migration only adds tables and columns, and an insert may leave out an added column: replicas
//! of the previous version still run while the first replica of the new version migrates. A
//! released migration is never edited.

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
