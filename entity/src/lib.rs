//! SeaORM entities, one for each table of the `migration` crate. Stripe's times are Unix seconds.
//! Columns that end in `_ms` are our own times, in Unix milliseconds.

#![allow(missing_docs, reason = "the migrations describe the columns")]

pub mod backfill;
pub mod checkout;
pub mod customer;
pub mod database_copy;
pub mod deployment;
pub mod event;
pub mod gap_recovery;
pub mod installation;
pub mod known_price;
pub mod lease;
pub mod observation;
pub mod refresh;
pub mod retention;
pub mod subscription;
pub mod tenant;
pub mod transition;
