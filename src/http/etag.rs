//! Entity tags (RFC 9110, section 8.8.3).

use sha2::{Digest, Sha256};

/// A strong entity tag: half of the body's SHA-256.
pub(super) fn of(bytes: &[u8]) -> String {
    format!("\"{}\"", hex::encode(&Sha256::digest(bytes)[..16]))
}

/// Whether `If-None-Match` contains the tag, by weak comparison (RFC 9110, section 13.1.2).
pub(super) fn matches(if_none_match: &str, etag: &str) -> bool {
    if_none_match.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == etag)
}
