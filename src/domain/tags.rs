//! What Billhook writes into the `metadata` of Stripe's objects.

use super::ids::{DeploymentId, TenantId};
use super::journey::Traceparent;

/// What Billhook writes into an object's `metadata`, read back. Anything that is not ours to read is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags {
    /// `tenant_id`
    pub tenant: Option<TenantId>,
    /// `traceparent`: the origin of the checkout's journey.
    pub journey: Option<Traceparent>,
    /// `deployment_id`: the deployment that wrote them.
    pub deployment: Option<DeploymentId>,
}

impl Tags {
    /// The tenant, unless another deployment than this one wrote them: its tenants are others, even of the same name.
    pub fn tenant_of(self, deployment: &DeploymentId) -> Option<TenantId> {
        let is_foreign = self.deployment.is_some_and(|named| named != *deployment);
        self.tenant.filter(|_| !is_foreign)
    }
}
