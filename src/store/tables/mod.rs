//! The tables: one file for each table or query. `rows` converts rows to domain types and back.
//!
//! Start reading at `subscriptions` and `events`. The files add methods to [`Store`](super::Store)
//! and [`Transaction`](super::Transaction). Batches are read and written in `batch_load` and
//! `batch_save`. Erasing a tenant and copying a database, which concern all tables, are in
//! `erasure` and `copy`. The columns are those of the `entity` crate.

pub(super) mod backfill;
pub(super) mod backlog;
pub(super) mod checkouts;
pub(super) mod customers;
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
