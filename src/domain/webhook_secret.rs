//! The secrets that sign an endpoint's webhooks: one, or several while one is being rolled
//! (<https://docs.stripe.com/webhooks#roll-endpoint-secrets>).

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::ids::SecretName;

/// The most secrets at once: each costs every webhook an HMAC, and a rolled one lives for a day at most.
const SECRETS: usize = 16;

/// Tells one secret from another without giving it away: the start of an HMAC under it. A name does not, since one that
/// is a place in the list passes to another secret when the list changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretFingerprint([u8; 8]);

impl fmt::Display for SecretFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// One webhook secret, ready to check signatures. It cannot be printed, and is wiped from memory when it is dropped.
#[derive(Clone)]
struct WebhookSecret {
    name: SecretName,
    fingerprint: SecretFingerprint,
    key: Hmac<Sha256>,
}

/// The secrets that an endpoint's webhooks may be signed with. Cheap to clone.
#[derive(Clone)]
pub struct WebhookSecrets(Arc<[WebhookSecret]>);

/// Why a text is no list of webhook secrets. Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecrets {
    /// Two commas, or one at an end.
    #[error("has an empty item between its commas")]
    Empty,
    /// Something else than a webhook secret.
    #[error("has an item that is not of the form `whsec_...` or `name=whsec_...`")]
    NotASecret,
    /// A name that logs and metrics could not bear.
    #[error("gives a secret a name that is not 1 to 32 of lower-case letters, digits, `_` and `-`")]
    BadName,
    /// Nobody could tell which of them verified.
    #[error("gives two secrets one name; what has no name is named by its place, from 1")]
    SameName,
    /// A roll that is none.
    #[error("has one secret twice")]
    SameSecret,
    /// More than any roll needs.
    #[error("has more than {SECRETS} secrets")]
    TooMany,
}

impl WebhookSecrets {
    /// No secret at all: nothing is verified.
    pub fn none() -> Self {
        Self(Arc::new([]))
    }

    /// Reads `whsec_...`, or several with commas between them, each with a name before it or without:
    /// `new=whsec_...,old=whsec_...`. What has no name is named by its place, from 1.
    pub fn parse(text: &str) -> Result<Self, InvalidSecrets> {
        let items: Vec<&str> = text.split(',').map(str::trim).collect();
        if items.len() > SECRETS {
            return Err(InvalidSecrets::TooMany);
        }
        let named = items.iter().zip(1..).map(|(item, place)| named(item, place));
        let named = named.collect::<Result<Vec<_>, _>>()?;
        for (index, (name, secret)) in named.iter().enumerate() {
            let before = &named[..index];
            if before.iter().any(|(other, _)| other == name) {
                return Err(InvalidSecrets::SameName);
            }
            if before.iter().any(|(_, other)| other == secret) {
                return Err(InvalidSecrets::SameSecret);
            }
        }
        let secrets = named.into_iter().map(|(name, secret)| WebhookSecret::new(name, secret));
        secrets.collect::<Result<_, _>>().map(Self)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &SecretName> {
        self.0.iter().map(|secret| &secret.name)
    }

    /// The fingerprint of the secret with this name.
    pub fn fingerprint(&self, name: &SecretName) -> Option<SecretFingerprint> {
        self.0.iter().find(|secret| secret.name == *name).map(|secret| secret.fingerprint)
    }

    /// What each of them signs this with, by its name.
    pub(super) fn sign<'a>(
        &'a self,
        timestamp: &'a str,
        body: &'a [u8],
    ) -> impl Iterator<Item = (&'a SecretName, [u8; 32])> {
        self.0.iter().map(move |secret| (&secret.name, secret.sign(timestamp, body)))
    }
}

/// An item's name and secret. A secret may have an `=` in it, so that what begins as one has no name.
fn named(item: &str, place: usize) -> Result<(SecretName, &str), InvalidSecrets> {
    let (name, secret) = match item.split_once('=') {
        _ if item.is_empty() => return Err(InvalidSecrets::Empty),
        Some((name, secret)) if !item.starts_with(PREFIX) => (name.trim_end(), secret.trim_start()),
        _ => return Ok((SecretName::of_place(place), item)),
    };
    Ok((SecretName::parse(name).map_err(|_| InvalidSecrets::BadName)?, secret))
}

const PREFIX: &str = "whsec_";

impl WebhookSecret {
    /// Takes a secret as Stripe shows it. An empty or foreign one is refused, since an empty key would make every
    /// sender a signer.
    fn new(name: SecretName, text: &str) -> Result<Self, InvalidSecrets> {
        let rest = text.strip_prefix(PREFIX).ok_or(InvalidSecrets::NotASecret)?;
        if rest.is_empty() || !rest.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(InvalidSecrets::NotASecret);
        }
        let key = Hmac::new_from_slice(text.as_bytes()).map_err(|_| InvalidSecrets::NotASecret)?;
        Ok(Self { name, fingerprint: fingerprint(&key), key })
    }

    fn sign(&self, timestamp: &str, body: &[u8]) -> [u8; 32] {
        let mut mac = self.key.clone();
        mac.update(timestamp.as_bytes());
        mac.update(b".");
        mac.update(body);
        mac.finalize().into_bytes().into()
    }
}

/// Of a text that no webhook can have: what Stripe signs starts with a number.
fn fingerprint(key: &Hmac<Sha256>) -> SecretFingerprint {
    let mac: [u8; 32] = key.clone().chain_update(b"fingerprint").finalize().into_bytes().into();
    let mut start = [0; 8];
    start.copy_from_slice(&mac[..8]);
    SecretFingerprint(start)
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
    fn openssl_computes_the_same_signature() {
        // printf "1700000000.{}" | openssl dgst -sha256 -hmac whsec_test
        let secrets = WebhookSecrets::parse("whsec_test").expect("a secret");
        let (_, signature) = secrets.sign("1700000000", b"{}").next().expect("one");
        assert_eq!(
            hex::encode(signature),
            "35495024f4ef3f94e5a93e22221544c4b75e9a42300cd965ab81cb85cd994e91"
        );
    }

    #[test]
    fn secrets_have_the_names_they_are_given_or_their_place() {
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
    fn what_is_no_list_of_secrets_is_refused() {
        let too_many: Vec<String> = (0..=SECRETS).map(|number| format!("whsec_{number}")).collect();
        for (text, error) in [
            ("", InvalidSecrets::Empty),
            (" ", InvalidSecrets::Empty),
            ("whsec_a,", InvalidSecrets::Empty),
            ("whsec_", InvalidSecrets::NotASecret),
            ("whsec_a b", InvalidSecrets::NotASecret),
            ("sk_test_1", InvalidSecrets::NotASecret),
            ("new=", InvalidSecrets::NotASecret),
            ("new=old=whsec_a", InvalidSecrets::NotASecret),
            ("=whsec_a", InvalidSecrets::BadName),
            ("New=whsec_a", InvalidSecrets::BadName),
            ("new=whsec_a,new=whsec_b", InvalidSecrets::SameName),
            ("2=whsec_a,whsec_b", InvalidSecrets::SameName),
            ("new=whsec_a,old=whsec_a", InvalidSecrets::SameSecret),
            (too_many.join(",").as_str(), InvalidSecrets::TooMany),
        ] {
            assert_eq!(names(text), Err(error), "{text}");
        }
    }

    #[test]
    fn what_a_secret_signs_with_is_wiped_when_it_is_dropped() {
        // An HMAC that is keyed is two states of its hash and nothing else.
        fn is_wiped<T: hmac::digest::zeroize::ZeroizeOnDrop>() {}
        is_wiped::<Sha256>();
    }

    #[test]
    fn fingerprint_belongs_to_secret_not_to_its_name() {
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
    fn secrets_cannot_be_printed() {
        let secrets = WebhookSecrets::parse("new=whsec_canary").expect("a secret");
        assert_eq!(format!("{secrets:?}"), "{new}");
    }
}
