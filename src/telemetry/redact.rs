//! Redaction of external text for logs and traces.

use sha2::{Digest, Sha256};

/// Longer than any event type, request id or status of Stripe's, and short enough for a log line.
const MAX_TEXT_CHARS: usize = 200;

/// Replaces an e-mail address by the beginning of its hash, which still distinguishes users. User
/// ids, and customer ids that the account owner chose, can be e-mail addresses.
pub fn hash_if_email(id: &str) -> String {
    if id.contains('@') { format!("sha256:{}", hex::encode(&Sha256::digest(id)[..8])) } else { id.to_owned() }
}

/// Keeps the characters of event types, request ids and statuses, and truncates to the bound.
pub(super) fn replace_special_chars(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.chars().take(MAX_TEXT_CHARS).map(|c| if is_plain(c) { c } else { '?' }).collect()
}

pub(super) fn truncate(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}
