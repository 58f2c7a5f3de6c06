//! The tables: one file for each table, or for each question that needs several; `rows` turns rows into domain types.
//!
//! Start reading at `subscriptions` and `events`. What a batch reads and writes is not here but in `batch_load` and `batch_save`,
//! and erasing and copying, which need all tables, in `erasure` and `copy`. The files add methods to [`Store`](super::Store) and [`Transaction`](super::Transaction). The columns are those of the
//! `entity` crate, and the tables those that the `migration` crate makes.

pub(super) mod backfill;
pub(super) mod backlog;
pub(super) mod checkouts;
pub(super) mod deployment;
pub(super) mod events;
pub(super) mod gap_recovery;
pub(super) mod inbox;
pub(super) mod known_prices;
pub(super) mod lease;
pub(super) mod mode;
pub(super) mod observations;
pub(super) mod other_customers;
pub(super) mod parked_customers;
pub(super) mod refreshes;
pub(super) mod retention;
pub(super) mod retries;
pub(super) mod rows;
pub(super) mod subscriptions;
pub(super) mod tenants;
pub(super) mod timeline;
