//! Tenants, read.

use entity::tenant;
use sea_orm::EntityTrait;

use super::{Store, StoreError, rows};
use crate::domain::ids::TenantId;
use crate::domain::tenant::Tenant;

impl Store {
    /// The tenant, if anything has ever happened to its billing.
    pub async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        let row = tenant::Entity::find_by_id(id.as_str()).one(&self.db).await?;
        row.as_ref().map(rows::tenant).transpose()
    }
}
