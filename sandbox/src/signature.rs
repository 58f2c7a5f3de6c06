//! How a webhook is signed.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The value of the `Stripe-Signature` header for these bytes, signed at that second with that secret.
///
/// Beside the `v1` that counts it has a `v0` that never does, as every event of a Stripe test account has: a
/// verifier that accepts it can be downgraded.
pub fn sign(secret: &str, timestamp_seconds: i64, body: &[u8]) -> String {
    let v1 = digest(secret, timestamp_seconds, body);
    let v0 = digest("not the secret", timestamp_seconds, body);
    format!("t={timestamp_seconds},v1={v1},v0={v0}")
}

fn digest(secret: &str, timestamp_seconds: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(timestamp_seconds.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}
