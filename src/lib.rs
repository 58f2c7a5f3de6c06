//! Billhook: Stripe billing for multi-tenant SaaS. Checkout, the hosted Customer Portal, verified webhooks, and the
//! one answer that the rest of a product asks for: what is this tenant entitled to right now?

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
