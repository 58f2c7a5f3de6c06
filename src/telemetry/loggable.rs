//! Words from outside, as logs and traces may show them.

use sha2::{Digest, Sha256};

/// The most characters of a text that we did not write ourselves: longer than any event type, request id or status
/// of Stripe's, short enough that a line stays a line.
const TEXT_LENGTH: usize = 200;

/// A user's or customer's id as logs and traces may show it. Users' ids, and customers' ids that their owner chose, can be
/// e-mail addresses: those are shown by the beginning of their hash, which still tells one from another.
pub fn loggable(id: &str) -> String {
    if id.contains('@') { format!("sha256:{}", hex::encode(&Sha256::digest(id)[..8])) } else { id.to_owned() }
}

/// A word from outside, of which only the characters of event types, request ids and statuses are kept.
pub(super) fn token(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.chars().take(TEXT_LENGTH).map(|c| if is_plain(c) { c } else { '?' }).collect()
}

/// A text of ours with something from outside in it, cut to its bound.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(TEXT_LENGTH).collect()
}
