//! Ids that look like Stripe's: a prefix that names the kind, then letters and digits that say nothing.

use rand::distr::{Alphanumeric, SampleString};

/// So many random base62 characters.
pub(crate) fn random(length: usize) -> String {
    Alphanumeric.sample_string(&mut rand::rng(), length)
}

/// The long form (`evt_1...`, `sub_1...`), used for what happens: events, subscriptions, invoices.
pub(crate) fn long(prefix: &str) -> String {
    format!("{prefix}_1{}", random(23))
}

/// The short form (`cus_...`, `req_...`), used for what is.
pub(crate) fn short(prefix: &str) -> String {
    format!("{prefix}_{}", random(14))
}
