//! The end of a transaction that no event started.

use super::Billing;
use crate::domain::unit_of_work::UnitOfWork;
use crate::store::{StoreError, Transaction};
use crate::telemetry::spans;

/// Writes what has changed, commits it, and then reports it.
pub(super) async fn commit(
    billing: &Billing,
    mut transaction: Transaction,
    work: &UnitOfWork,
) -> Result<(), StoreError> {
    let trace = spans::current_trace();
    transaction.save_batch(work, &[], |_| trace, billing.clock.now_ms()).await?;
    transaction.commit().await?;
    billing.reporter.report_changes(work.changes(), trace);
    Ok(())
}
