//! The one answer that the rest of a product asks for.

use super::{Billing, BillingError};
use crate::domain::ids::TenantId;
use crate::domain::plan::Entitlement;
use crate::domain::subscription::Subscription;

/// What the tenant is entitled to right now. The store's answer: Stripe is never asked.
pub async fn entitlement(billing: &Billing, tenant: &TenantId) -> Result<Entitlement, BillingError> {
    Ok(billing.policy.catalog.entitlement(&subscriptions(billing, tenant).await?))
}

/// All subscriptions that the tenant has or had.
pub async fn subscriptions(billing: &Billing, tenant: &TenantId) -> Result<Vec<Subscription>, BillingError> {
    Ok(billing.store.subscriptions(tenant).await?)
}
