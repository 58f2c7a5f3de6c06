//! What Billhook knows about billing, with no database, no network, no clock and no async: pure functions over
//! parsed values. Times are Stripe's, in whole Unix seconds.

pub mod address;
pub mod client_address;
pub mod event;
pub mod ids;
pub mod journey;
mod json;
pub mod known_prices;
pub mod mode;
pub mod ordering;
pub mod outcome;
pub mod plan;
pub mod refresh;
pub mod retention;
pub mod signature;
pub mod subscription;
pub mod tenant;
pub mod token;
pub mod unit_of_work;
pub mod webhook_secret;
pub mod webhook_url;
