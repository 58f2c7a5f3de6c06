//! The signing secrets of a webhook endpoint: several during a roll
//! (<https://docs.stripe.com/webhooks#roll-endpoint-secrets>).

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::ids::SecretName;

/// Each secret costs one HMAC per webhook, and a rolled secret expires within a day.
const MAX_SECRETS: usize = 16;

/// Identifies a secret without revealing it: the first bytes of an HMAC keyed with it. A name does
/// not identify a secret, since a default name is a position in the list, which may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretFingerprint([u8; 8]);

impl fmt::Display for SecretFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// It cannot be printed, and is wiped from memory when dropped.
#[derive(Clone)]
struct WebhookSecret {
    name: SecretName,
    fingerprint: SecretFingerprint,
    key: Hmac<Sha256>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct WebhookSecrets(Arc<[WebhookSecret]>);

/// Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecrets {
    #[error("has an empty item between commas")]
    EmptyItem,
    #[error("has an item that is not of the form `whsec_...` or `name=whsec_...`")]
    NotASecret,
    #[error("has a secret whose name is not 1 to 32 lower-case letters, digits, `_` or `-`")]
    BadName,
    #[error(
        "has two secrets with the same name; a secret without a name is named after its position, from 1"
    )]
    DuplicateName,
    #[error("has the same secret twice")]
    DuplicateSecret,
    #[error("has more than {MAX_SECRETS} secrets")]
    TooMany,
}

impl WebhookSecrets {
    /// No secrets: no signature can be verified.
    pub fn none() -> Self {
        Self(Arc::new([]))
    }

    /// Parses a comma-separated list of `whsec_...` or `name=whsec_...`. A secret without a name is
    /// named after its position, from 1.
    pub fn parse(text: &str) -> Result<Self, InvalidSecrets> {
        let items: Vec<&str> = text.split(',').map(str::trim).collect();
        if items.len() > MAX_SECRETS {
            return Err(InvalidSecrets::TooMany);
        }
        let named = items.iter().zip(1..).map(|(item, position)| named(item, position));
        let named = named.collect::<Result<Vec<_>, _>>()?;
        for (index, (name, secret)) in named.iter().enumerate() {
            let earlier = &named[..index];
            if earlier.iter().any(|(other, _)| other == name) {
                return Err(InvalidSecrets::DuplicateName);
            }
            if earlier.iter().any(|(_, other)| other == secret) {
                return Err(InvalidSecrets::DuplicateSecret);
            }
        }
        let secrets = named.into_iter().map(|(name, secret)| WebhookSecret::new(name, secret));
        secrets.collect::<Result<_, _>>().map(Self)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn names(&self) -> impl Iterator<Item = &SecretName> {
        self.0.iter().map(|secret| &secret.name)
    }

    pub fn fingerprint(&self, name: &SecretName) -> Option<SecretFingerprint> {
        self.0.iter().find(|secret| secret.name == *name).map(|secret| secret.fingerprint)
    }

    /// The signature by each secret, with the secret's name.
    pub(super) fn sign<'a>(
        &'a self,
        timestamp: &'a str,
        body: &'a [u8],
    ) -> impl Iterator<Item = (&'a SecretName, [u8; 32])> {
        self.0.iter().map(move |secret| (&secret.name, secret.sign(timestamp, body)))
    }
}

/// An item's name and secret. A secret may contain `=`, so an item that starts like a secret has no
/// name.
fn named(item: &str, position: usize) -> Result<(SecretName, &str), InvalidSecrets> {
    let (name, secret) = match item.split_once('=') {
        _ if item.is_empty() => return Err(InvalidSecrets::EmptyItem),
        Some((name, secret)) if !item.starts_with(PREFIX) => (name.trim_end(), secret.trim_start()),
        _ => return Ok((SecretName::from_position(position), item)),
    };
    Ok((SecretName::parse(name).map_err(|_| InvalidSecrets::BadName)?, secret))
}

const PREFIX: &str = "whsec_";

impl WebhookSecret {
    /// Rejects a secret that is empty after the prefix: with a key that is public, anybody could
    /// sign.
    fn new(name: SecretName, text: &str) -> Result<Self, InvalidSecrets> {
        let rest = text.strip_prefix(PREFIX).ok_or(InvalidSecrets::NotASecret)?;
        if rest.is_empty() || !rest.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(InvalidSecrets::NotASecret);
        }
        let key = Hmac::new_from_slice(text.as_bytes()).map_err(|_| InvalidSecrets::NotASecret)?;
        Ok(Self { name, fingerprint: fingerprint(&key), key })
    }

    fn sign(&self, timestamp: &str, body: &[u8]) -> [u8; 32] {
        let mac = self.key.clone().chain_update(timestamp).chain_update(b".").chain_update(body);
        mac.finalize().into_bytes().into()
    }
}

/// The HMAC of a text that Stripe never signs: its signed payloads start with a number.
fn fingerprint(key: &Hmac<Sha256>) -> SecretFingerprint {
    let mac: [u8; 32] = key.clone().chain_update(b"fingerprint").finalize().into_bytes().into();
    let mut prefix = [0; 8];
    prefix.copy_from_slice(&mac[..8]);
    SecretFingerprint(prefix)
}

impl fmt::Debug for WebhookSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<Vec<String>, InvalidSecrets> {
        WebhookSecrets::parse(text).map(|secrets| secrets.names().map(ToString::to_string).collect())
    }

    #[test]
    fn signature_equals_openssl_hmac() {
        // printf "1700000000.{}" | openssl dgst -sha256 -hmac whsec_test
        let secrets = WebhookSecrets::parse("whsec_test").expect("a secret");
        let (_, signature) = secrets.sign("1700000000", b"{}").next().expect("one");
        assert_eq!(
            hex::encode(signature),
            "35495024f4ef3f94e5a93e22221544c4b75e9a42300cd965ab81cb85cd994e91"
        );
    }

    #[test]
    fn secret_without_name_is_named_after_its_position() {
        for (text, expected) in [
            ("whsec_a", vec!["1"]),
            ("whsec_a, whsec_b", vec!["1", "2"]),
            ("new=whsec_a,old=whsec_b", vec!["new", "old"]),
            ("2026-11 = whsec_a , whsec_b", vec!["2026-11", "2"]),
            ("whsec_a=,whsec_b==", vec!["1", "2"]),
        ] {
            assert_eq!(names(text), Ok(expected.iter().map(ToString::to_string).collect()), "{text}");
        }
    }

    #[test]
    fn invalid_secret_list_is_rejected() {
        let too_many: Vec<String> = (0..=MAX_SECRETS).map(|number| format!("whsec_{number}")).collect();
        for (text, error) in [
            ("", InvalidSecrets::EmptyItem),
            (" ", InvalidSecrets::EmptyItem),
            ("whsec_a,", InvalidSecrets::EmptyItem),
            ("whsec_", InvalidSecrets::NotASecret),
            ("whsec_a b", InvalidSecrets::NotASecret),
            ("sk_test_1", InvalidSecrets::NotASecret),
            ("new=", InvalidSecrets::NotASecret),
            ("new=old=whsec_a", InvalidSecrets::NotASecret),
            ("=whsec_a", InvalidSecrets::BadName),
            ("New=whsec_a", InvalidSecrets::BadName),
            ("new=whsec_a,new=whsec_b", InvalidSecrets::DuplicateName),
            ("2=whsec_a,whsec_b", InvalidSecrets::DuplicateName),
            ("new=whsec_a,old=whsec_a", InvalidSecrets::DuplicateSecret),
            (too_many.join(",").as_str(), InvalidSecrets::TooMany),
        ] {
            assert_eq!(names(text), Err(error), "{text}");
        }
    }

    #[test]
    fn secret_is_wiped_from_memory_when_dropped() {
        // A keyed HMAC consists of two hash states.
        fn is_wiped<T: hmac::digest::zeroize::ZeroizeOnDrop>() {}
        is_wiped::<Sha256>();
    }

    #[test]
    fn fingerprint_depends_on_secret_not_on_name() {
        let fingerprint = |secrets: &str, name: &str| {
            let name = SecretName::parse(name).expect("a name");
            WebhookSecrets::parse(secrets).expect("secrets").fingerprint(&name)
        };
        let of_a = fingerprint("whsec_a", "1");
        assert!(of_a.is_some());
        assert_eq!(fingerprint("whsec_b,whsec_a", "2"), of_a);
        assert_eq!(fingerprint("new=whsec_a", "new"), of_a);
        assert_ne!(fingerprint("whsec_b", "1"), of_a);
        assert_eq!(fingerprint("whsec_a", "2"), None);
    }

    #[test]
    fn secrets_are_never_printed() {
        let secrets = WebhookSecrets::parse("new=whsec_canary").expect("a secret");
        assert_eq!(format!("{secrets:?}"), "{new}");
    }
}
