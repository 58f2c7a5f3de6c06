//! A customer that Stripe knows no more, although no event told us: deleted while we could not be reached for longer
//! than Stripe lists events, or never of the key's account.

use super::commit::commit;
use super::{Billing, BillingError};
use crate::domain::ids::{CustomerId, TenantId};
use crate::domain::unit_of_work::{Cause, cause};
use crate::store::retry_on_conflict;
use crate::store::{BatchScope, StoreError};
use crate::stripe::{CustomerStanding, Deadline, Stripe};
use crate::telemetry::loggable::loggable;

/// How many other customers are looked at before the key is taken to be of the right account.
const WITNESSES: u64 = 3;

/// A tenant and the customer that Stripe says it does not have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspect<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) customer: &'a CustomerId,
}

impl Suspect<'_> {
    /// Ends the customer as its event would have, if it was deleted. Whether it was.
    pub(super) async fn end_if_deleted(
        self,
        billing: &Billing,
        stripe: &Stripe,
        deadline: Deadline,
    ) -> Result<bool, BillingError> {
        let standing = self.standing(stripe, deadline).await?;
        if standing == CustomerStanding::Deleted {
            retry_on_conflict(|| self.free(billing, standing)).await?;
        }
        Ok(standing == CustomerStanding::Deleted)
    }

    /// Takes the customer from its tenant, which is about to buy and must not be held up by it. Whether the tenant is
    /// free now.
    ///
    /// Fails if the key turns out to be of an account that has none of our customers.
    pub(super) async fn let_go(
        self,
        billing: &Billing,
        stripe: &Stripe,
        deadline: Deadline,
    ) -> Result<bool, BillingError> {
        let standing = self.standing(stripe, deadline).await?;
        match standing {
            CustomerStanding::Living => return Ok(false),
            CustomerStanding::Unknown if !self.has_our_customers(billing, stripe, deadline).await? => {
                tracing::error!("STRIPE_SECRET_KEY is of an account that has none of our customers");
                return Err(BillingError::NotConfigured(
                    "STRIPE_SECRET_KEY of the account that has our customers",
                ));
            }
            CustomerStanding::Unknown | CustomerStanding::Deleted => {}
        }
        retry_on_conflict(|| self.free(billing, standing)).await?;
        Ok(true)
    }

    async fn standing(self, stripe: &Stripe, deadline: Deadline) -> Result<CustomerStanding, BillingError> {
        let Self { tenant, customer } = self;
        let standing = stripe.customer_standing(customer, deadline).await?.value;
        tracing::error!(%tenant, customer = loggable(customer.as_str()), ?standing, "Stripe says that it does not have the tenant's customer");
        Ok(standing)
    }

    /// Whether the key's account has others of our customers, or there are none to look for.
    async fn has_our_customers(
        self,
        billing: &Billing,
        stripe: &Stripe,
        deadline: Deadline,
    ) -> Result<bool, BillingError> {
        let others = billing.store.latest_customers(self.customer, WITNESSES).await?;
        for other in &others {
            if stripe.customer_standing(other, deadline).await?.value != CustomerStanding::Unknown {
                return Ok(true);
            }
        }
        Ok(others.is_empty())
    }

    async fn free(self, billing: &Billing, standing: CustomerStanding) -> Result<(), StoreError> {
        let transaction = billing.store.begin().await?;
        let mut work = transaction.unit_of_work(&BatchScope::pair(self.tenant, self.customer)).await?;
        let cause = Cause { name: cause::RESOURCE_MISSING, event: None, at: billing.clock.now_seconds() };
        if standing == CustomerStanding::Deleted {
            work.end_customer(self.customer, cause);
        } else {
            work.free_tenant_of(self.customer, cause);
        }
        commit(billing, transaction, &work).await
    }
}
