//! Webhook signatures.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Returns the value of the `Stripe-Signature` header.
///
/// Like the events of every Stripe test account, it also has an invalid `v0` beside the `v1`. A
/// verifier that accepts `v0` is open to downgrade attacks.
pub fn sign(secret: &str, timestamp_seconds: i64, body: &[u8]) -> String {
    let v1 = digest(secret, timestamp_seconds, body);
    let v0 = digest("not the secret", timestamp_seconds, body);
    format!("t={timestamp_seconds},v1={v1},v0={v0}")
}

fn digest(secret: &str, timestamp_seconds: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC accepts keys of any length");
    mac.update(timestamp_seconds.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}
