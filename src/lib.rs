//! Billhook: Stripe billing for multi-tenant SaaS. Checkout, the hosted Customer Portal, verified
//! webhooks, and the entitlements of each tenant.

pub mod billing;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod http;
pub mod ingest;
pub mod server;
pub mod store;
pub mod stripe;
pub mod telemetry;
