//! A checkout that was completed with its money on the way grants nothing until the money has come. Its event may never come:
//! it is missed in a long absence, or the invoice is voided, of which no event that we handle tells. So whenever Stripe is asked
//! about such a subscription, its latest invoice decides.

use std::collections::{BTreeMap, BTreeSet};

use super::{Billing, BillingError};
use crate::domain::ids::{InvoiceId, SubscriptionId};
use crate::domain::subscription::Snapshot;
use crate::stripe::{Deadline, Stripe, StripeError};

/// Of these subscriptions, those that a first payment is awaited for although Stripe says that they are in good standing and
/// that nothing is owed on their latest invoice.
pub(super) async fn settled_by_invoice(
    billing: &Billing,
    stripe: &Stripe,
    snapshots: &[Snapshot],
    deadline: Deadline,
) -> Result<BTreeSet<SubscriptionId>, BillingError> {
    let in_good_standing = snapshots.iter().filter(|one| one.state.status.is_in_good_standing());
    let invoices: BTreeMap<&SubscriptionId, &InvoiceId> =
        in_good_standing.filter_map(|one| Some((&one.id, one.latest_invoice.as_ref()?))).collect();
    let awaiting = billing.store.awaiting_payment(invoices.keys().copied()).await?;
    let mut settled = BTreeSet::new();
    for (id, invoice) in invoices.into_iter().filter(|(id, _)| awaiting.contains(id)) {
        match stripe.is_invoice_settled(invoice, deadline).await {
            Ok(true) => _ = settled.insert(id.clone()),
            Ok(false) => {}
            // A restricted key may not be allowed to read invoices; all else that Stripe said stands.
            Err(error @ StripeError::Rejected(_)) => {
                tracing::warn!(%error, subscription = %id, "cannot read the latest invoice; access stays withheld");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(settled)
}
