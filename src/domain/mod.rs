//! What Billhook knows about billing, with no database, no network, no clock and no async: pure functions over
//! parsed values. Times are Stripe's, in whole Unix seconds.
//!
//! Start reading at `event`, which reads what Stripe posts, and `unit_of_work`, which applies events to the rows of a batch.
//! `subscription`, `ordering` and `plan` are the rules that it applies, `signature` and `token` decide whom to believe. The
//! types that the configuration is read into (URLs, keys, secrets, log settings) are here too, since everything uses them.

pub mod address;
pub mod api_base;
pub mod client_address;
pub mod crowd;
pub mod database_url;
pub mod event;
pub mod ids;
pub mod journey;
mod json;
pub mod jwks_url;
pub mod known_prices;
pub mod locale;
pub mod log_settings;
pub mod mode;
pub mod ordering;
pub mod outcome;
pub mod plan;
pub mod previous;
pub mod refresh;
pub mod retention;
pub mod secret_key;
pub mod secure_url;
pub mod signature;
pub mod subscription;
pub mod tags;
pub mod tenant;
pub mod token;
pub mod trusted_proxies;
pub mod unit_of_work;
pub mod webhook_secret;
pub mod webhook_url;
