//! Webhooks: what is accepted, what it changes, and what is asked of Stripe where events do not say.

pub mod account;
pub mod backfill;
pub mod customer_metadata;
pub mod deployment;
pub mod first_payment;
pub mod flood;
pub mod hostile;
pub mod known_prices;
pub mod legacy_ids;
pub mod other_customer;
pub mod payloads;
pub mod random_lifecycles;
pub mod receiving;
pub mod refresh;
pub mod restore;
pub mod retry;
pub mod secret_roll;
pub mod subscription_items;
pub mod unlink;
pub mod webhook_admission;
pub mod wrong_secret;
