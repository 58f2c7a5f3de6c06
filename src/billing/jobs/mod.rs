//! The background jobs, one file each, and `refresh_log`, which writes the log lines of a refresh.
//!
//! Start reading at [`run`], which runs all of them, and at `schedule`, the loop that each of them
//! runs in. Every replica runs every job; a lease or a claim on a row guards work that only one
//! replica may do at a time. The job that stores the webhook record is in `webhook_record`, outside
//! this folder.

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
pub use backfill::EVENT_LIST_SECONDS;

/// Runs every job until the service stops. Fails if the key belongs to another account than the
/// database. Unfinished work is rolled back with its transaction and started again by the next
/// process.
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
            stream_updates::publish_changes(&billing),
            stream_updates::follow_replicas(&billing),
            stream_updates::follow_commits(&billing)
        );
    };
    let result = tokio::select! {
        () = jobs => Ok(()),
        conflict = account::guard(&billing) => Err(conflict),
        () = stopping => Ok(()),
    };
    // The server waits for requests in progress, and an open stream can last an hour.
    billing.streams.close_all();
    backfill.release_lease().await;
    result
}
