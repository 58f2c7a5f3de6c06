//! Committing a batch that no event started.

use super::Billing;
use crate::domain::batch::Batch;
use crate::store::{StoreError, Transaction};
use crate::telemetry::spans;

/// Writes the changes of the batch, commits, and then reports them.
pub(super) async fn commit(
    billing: &Billing,
    mut transaction: Transaction,
    batch: &Batch,
) -> Result<(), StoreError> {
    let trace = spans::current_trace();
    transaction.save_batch(batch, &[], |_| trace, billing.clock.now_ms()).await?;
    transaction.commit().await?;
    billing.reporter.report_changes(batch.changes(), trace);
    Ok(())
}
