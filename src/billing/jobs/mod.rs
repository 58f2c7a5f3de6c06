//! The work that no request waits for: one file for each job.
//!
//! Start reading at [`start`], which runs all of them, and at `schedule`, the loop that each of them runs in. Every replica
//! runs every job; what only one may do at a time is guarded by a lease or by a claim on a row.

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

use tokio::task::JoinHandle;

use super::{Billing, webhook_record};
use crate::ingest::Ingest;
use crate::store::AccountConflict;

pub use account::known_account;
use backfill::Backfill;
pub use backfill::LISTED_SECONDS;

/// Starts the background work. It ends when told to, or with a conflict when the key turns out to be of another account
/// than the database, wherever it is: what was begun is undone by its transaction, and begun again by the next process.
pub fn start(
    billing: Arc<Billing>,
    ingest: Ingest,
    told_to_stop: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<Option<AccountConflict>> {
    tokio::spawn(async move {
        let backfill = Backfill::new(&billing, ingest);
        let work = async {
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
        let conflict = tokio::select! {
            () = work => None,
            conflict = account::guard(&billing) => Some(conflict),
            () = told_to_stop => None,
        };
        // The server waits for what it is answering, and streams would let it wait for an hour.
        billing.streams.end();
        backfill.give_way().await;
        conflict
    })
}
