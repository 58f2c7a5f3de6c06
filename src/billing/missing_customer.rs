//! A linked customer that Stripe does not have, although no event reported its deletion: it was
//! deleted during a downtime longer than Stripe lists events, or never belonged to the key's
//! account.

use super::commit::commit;
use super::{Billing, BillingError};
use crate::domain::batch::{Cause, cause};
use crate::domain::ids::{CustomerId, TenantId};
use crate::store::{BatchScope, StoreError, retry_on_conflict};
use crate::stripe::{CustomerState, Deadline, Stripe};
use crate::telemetry::redact::hash_if_email;

/// How many other customers are looked up to find out whether the key belongs to the right account.
const OTHER_CUSTOMERS_TO_CHECK: u64 = 3;

#[derive(Debug, Clone, Copy)]
pub(super) struct MissingCustomer<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) customer: &'a CustomerId,
}

impl MissingCustomer<'_> {
    /// Records the deletion of a customer as its `customer.deleted` event would. Returns the state
    /// at Stripe.
    pub(super) async fn record_if_deleted(
        self,
        billing: &Billing,
        stripe: &Stripe,
        deadline: Deadline,
    ) -> Result<CustomerState, BillingError> {
        let state = self.state_at_stripe(stripe, deadline).await?;
        if state == CustomerState::Deleted {
            retry_on_conflict(|| self.record_or_unlink(billing, state)).await?;
        }
        Ok(state)
    }

    /// Unlinks the customer so that the tenant can buy. Returns `false` if the customer exists
    /// after all.
    ///
    /// Fails if the key belongs to an account that has none of our customers.
    pub(super) async fn unlink_missing(
        self,
        billing: &Billing,
        stripe: &Stripe,
        deadline: Deadline,
    ) -> Result<bool, BillingError> {
        let state = self.state_at_stripe(stripe, deadline).await?;
        match state {
            CustomerState::Exists => return Ok(false),
            CustomerState::Unknown if !self.has_our_customers(billing, stripe, deadline).await? => {
                tracing::error!("STRIPE_SECRET_KEY belongs to an account that has none of our customers");
                return Err(BillingError::NotConfigured(
                    "STRIPE_SECRET_KEY of the account that has our customers",
                ));
            }
            CustomerState::Unknown | CustomerState::Deleted => {}
        }
        retry_on_conflict(|| self.record_or_unlink(billing, state)).await?;
        Ok(true)
    }

    async fn state_at_stripe(
        self,
        stripe: &Stripe,
        deadline: Deadline,
    ) -> Result<CustomerState, BillingError> {
        let state = stripe.customer_state(self.customer, deadline).await?;
        tracing::error!(
            tenant = %self.tenant, customer = hash_if_email(self.customer.as_str()), state = state.as_str(),
            "Stripe reported the tenant's customer as missing"
        );
        Ok(state)
    }

    /// Whether the key's account has another of our customers, or we have no other.
    async fn has_our_customers(
        self,
        billing: &Billing,
        stripe: &Stripe,
        deadline: Deadline,
    ) -> Result<bool, BillingError> {
        let others = billing.store.latest_customers(self.customer, OTHER_CUSTOMERS_TO_CHECK).await?;
        for other in &others {
            if stripe.customer_state(other, deadline).await? != CustomerState::Unknown {
                return Ok(true);
            }
        }
        Ok(others.is_empty())
    }

    async fn record_or_unlink(self, billing: &Billing, state: CustomerState) -> Result<(), StoreError> {
        let transaction = billing.store.begin().await?;
        let mut batch = transaction.load_batch(&BatchScope::link(self.tenant, self.customer)).await?;
        let cause = Cause { name: cause::RESOURCE_MISSING, event: None, at: billing.clock.now_seconds() };
        if state == CustomerState::Deleted {
            batch.end_customer(self.customer, cause);
        } else {
            batch.free_tenant_of(self.customer, cause);
        }
        commit(billing, transaction, &batch).await
    }
}
