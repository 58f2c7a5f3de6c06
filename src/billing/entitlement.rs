//! A tenant's entitlement, which the rest of the product asks for.

use super::{Billing, BillingError};
use crate::domain::ids::TenantId;
use crate::domain::plan::Entitlement;

/// Computes the tenant's current entitlement from the database. Never calls Stripe.
pub async fn entitlement(billing: &Billing, tenant: &TenantId) -> Result<Entitlement, BillingError> {
    let billing_state = billing.store.billing_state(tenant).await?;
    let catalog = &billing.policy.catalog;
    let by_key = catalog.prices_not_configured_by_id(&billing_state.subscriptions);
    let known = billing.store.known_prices(&by_key).await?;
    Ok(catalog.entitlement(&billing_state, &known))
}
