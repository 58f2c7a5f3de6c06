//! Random ids in Stripe's format: a prefix for the type, then letters and digits.

use rand::distr::{Alphanumeric, SampleString};

/// `length` random base62 characters.
pub(crate) fn random(length: usize) -> String {
    Alphanumeric.sample_string(&mut rand::rng(), length)
}

/// The long form (`evt_1...`, `sub_1...`), used for events, subscriptions and invoices among
/// others.
pub(crate) fn long(prefix: &str) -> String {
    format!("{prefix}_1{}", random(23))
}

/// The short form, used for customers, requests and subscription items (`cus_...`, `req_...`,
/// `si_...`).
pub(crate) fn short(prefix: &str) -> String {
    format!("{prefix}_{}", random(14))
}
