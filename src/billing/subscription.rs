//! The one answer that the rest of a product asks for.

use super::{Billing, BillingError};
use crate::domain::ids::TenantId;
use crate::domain::plan::Entitlement;

/// What the tenant is entitled to right now. The store's answer: Stripe is never asked.
pub async fn entitlement(billing: &Billing, tenant: &TenantId) -> Result<Entitlement, BillingError> {
    let holdings = billing.store.holdings(tenant).await?;
    let catalog = &billing.policy.catalog;
    let by_key = catalog.prices_found_by_key(&holdings.subscriptions);
    let known = billing.store.known_prices(&by_key).await?;
    Ok(catalog.entitlement(&holdings, &known))
}
