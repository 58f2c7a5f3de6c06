use super::ids::{DeploymentId, TenantId};
use super::journey::Traceparent;

/// The `metadata` that Billhook writes to Stripe objects, read back. A missing or invalid value is
/// `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `tenant_id`
    pub tenant: Option<TenantId>,
    /// `traceparent`: the origin of the checkout's journey.
    pub journey: Option<Traceparent>,
    /// `deployment_id`: the deployment that wrote the metadata.
    pub deployment: Option<DeploymentId>,
}

impl Metadata {
    /// The tenant, unless another deployment wrote the metadata: its tenants are different ones,
    /// even with the same id.
    pub fn tenant_of(self, deployment: &DeploymentId) -> Option<TenantId> {
        let is_foreign = self.deployment.is_some_and(|named| named != *deployment);
        self.tenant.filter(|_| !is_foreign)
    }
}
