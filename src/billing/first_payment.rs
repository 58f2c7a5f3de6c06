//! Checkouts that were completed before their payment arrived (delayed debit). Such a subscription
//! grants nothing until the payment event comes, which may never happen: it can be lost in a long
//! downtime, and voiding an invoice sends no event that Billhook handles. So whenever Stripe is
//! asked about such a subscription, its latest invoice decides.

use std::collections::{BTreeMap, BTreeSet};

use super::{Billing, BillingError};
use crate::domain::ids::{InvoiceId, SubscriptionId};
use crate::domain::subscription::Snapshot;
use crate::stripe::{Deadline, Stripe, StripeError};

/// Returns those of the snapshots that still await their first payment here, although Stripe says
/// that they are in good standing and nothing is owed on their latest invoice.
pub(super) async fn with_paid_or_void_invoice(
    billing: &Billing,
    stripe: &Stripe,
    snapshots: &[Snapshot],
    deadline: Deadline,
) -> Result<BTreeSet<SubscriptionId>, BillingError> {
    let in_good_standing = snapshots.iter().filter(|one| one.state.status.is_in_good_standing());
    let invoices: BTreeMap<&SubscriptionId, &InvoiceId> =
        in_good_standing.filter_map(|one| Some((&one.id, one.latest_invoice.as_ref()?))).collect();
    let awaiting = billing.store.awaiting_payment(invoices.keys().copied()).await?;
    let mut paid_or_void = BTreeSet::new();
    for (id, invoice) in invoices.into_iter().filter(|(id, _)| awaiting.contains(id)) {
        match stripe.is_invoice_paid_or_void(invoice, deadline).await {
            Ok(true) => _ = paid_or_void.insert(id.clone()),
            Ok(false) => {}
            // A restricted key may not be allowed to read invoices. The rest of Stripe's response
            // still counts.
            Err(error @ StripeError::Rejected(_)) => {
                tracing::warn!(%error, subscription = %id, "could not read the latest invoice; access stays withheld");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(paid_or_void)
}
