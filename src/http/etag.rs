//! Entity tags (RFC 9110, section 8.8.3).

use sha2::{Digest, Sha256};

/// A strong validator: half of the SHA-256.
pub(super) fn of(bytes: &[u8]) -> String {
    format!("\"{}\"", hex::encode(&Sha256::digest(bytes)[..16]))
}

/// Whether an `If-None-Match` names the tag; the comparison is the weak one (RFC 9110, section 13.1.2).
pub(super) fn is_named(if_none_match: &str, etag: &str) -> bool {
    if_none_match.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == etag)
}
