//! Webhooks: which events are accepted, what they change, and when the service asks Stripe.

pub mod account;
pub mod backfill;
pub mod customer_metadata;
pub mod deployment;
pub mod first_payment;
pub mod hostile_bodies;
pub mod known_prices;
pub mod legacy_ids;
pub mod payloads;
pub mod random_lifecycles;
pub mod receiving;
pub mod refresh;
pub mod restore;
pub mod retry;
pub mod second_customer;
pub mod secret_roll;
pub mod signature_log;
pub mod subscription_items;
pub mod unlink;
pub mod webhook_admission;
pub mod wrong_secret;
