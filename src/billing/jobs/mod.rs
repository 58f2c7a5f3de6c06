//! The work that no request waits for: one file for each job, and `refresh_log`, which is what a refresh reports.
//!
//! Start reading at [`run`], which runs all of them, and at `schedule`, the loop that each of them runs in. Every replica
//! runs every job; what only one may do at a time is guarded by a lease or by a claim on a row. The record of webhooks, which
//! is stored now and then, stands in `webhook_record` beside this folder.

mod account;
mod backfill;
mod parked_customers;
pub(super) mod price_check;
pub(super) mod refresh;
mod refresh_log;
mod retention;
mod retry;
pub(super) mod schedule;
mod stream_updates;

use std::sync::Arc;

use super::{Billing, webhook_record};
use crate::ingest::Ingest;
use crate::store::AccountConflict;

pub use account::known_account;
use backfill::Backfill;
pub use backfill::LISTED_SECONDS;

/// Runs every job until the service stops. Fails when the key turns out to be of another account than the database: what
/// was begun is undone by its transaction, and begun again by the next process.
pub async fn run(
    billing: Arc<Billing>,
    ingest: Ingest,
    stopping: impl Future<Output = ()>,
) -> Result<(), AccountConflict> {
    let backfill = Backfill::new(&billing, ingest);
    let jobs = async {
        tokio::join!(
            refresh::run(&billing),
            retry::run(&billing),
            retention::run(&billing),
            price_check::run(&billing),
            webhook_record::run(&billing),
            parked_customers::run(&billing),
            backfill.run(),
            stream_updates::read(&billing),
            stream_updates::listen(&billing),
            stream_updates::follow_commits(&billing)
        );
    };
    let result = tokio::select! {
        () = jobs => Ok(()),
        conflict = account::guard(&billing) => Err(conflict),
        () = stopping => Ok(()),
    };
    // The server waits for the requests in progress, and an open stream would let it wait for an hour.
    billing.streams.end();
    backfill.give_way().await;
    result
}
