//! The tenant's subscription, read and followed.

pub mod announcements;
pub mod many_tenants;
pub mod stalled_clients;
pub mod subscription;
pub mod subscription_stream;
