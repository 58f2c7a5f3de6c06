//! The billing rules, as pure functions over parsed values: no database, no network, no clock and
//! no async. Times are Stripe's, in whole Unix seconds.
//!
//! Start reading at `event`, which parses Stripe's events, and `batch`, which applies a batch of
//! them to the stored rows by the rules in `subscription`, `same_second` and `plan`. `signature`
//! and `token` authenticate webhooks and API requests. The parsed types of configuration values
//! (URLs, keys, secrets, logs) are here too, since all layers use them.

pub mod api_base;
pub mod app_url;
pub mod batch;
pub mod client_address;
pub mod database_url;
pub mod event;
pub mod eviction;
pub mod ids;
pub mod journey;
mod json;
pub mod jwks_url;
pub mod known_prices;
pub mod locale;
pub mod log_config;
pub mod metadata;
pub mod mode;
pub mod outcome;
pub mod plan;
pub mod previous_attributes;
pub mod refresh;
pub mod retention;
pub mod same_second;
pub mod secret_key;
pub mod secure_url;
pub mod signature;
pub mod subscription;
pub mod tenant;
pub mod token;
pub mod trusted_proxies;
pub mod webhook_secret;
pub mod webhook_url;
