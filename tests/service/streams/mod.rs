//! The subscription endpoint and its event streams.

pub mod many_tenants;
pub mod notifications;
pub mod stalled_clients;
pub mod subscription;
pub mod subscription_stream;
