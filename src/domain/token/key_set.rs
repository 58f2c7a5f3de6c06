//! What an issuer publishes of its keys: a JWK Set (RFC 7517, section 5).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::keys::{Keys, PublicAlgorithm, PublicKey};

/// More keys than issuers have, the largest of which publish a dozen. A token may have to be held against all of them.
const MOST_KEYS: usize = 64;

/// An issuer's keys, as far as they are for our algorithm.
#[derive(Debug, Clone)]
pub struct KeySet {
    /// Those that tokens may be signed with.
    pub keys: Keys,
    /// How many are for something else, or broken.
    pub unfit: usize,
    /// How many were published with their private part, so that anybody can sign with them. They are not used.
    pub private: usize,
}

/// Why an answer is no key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeySet {
    /// Not JSON, or without `keys`.
    #[error("it is no JWK Set")]
    NotAKeySet,
    /// More than we would hold a token against.
    #[error("it has more than {MOST_KEYS} keys")]
    TooManyKeys,
}

#[derive(Deserialize)]
struct JwkSet<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// A JWK, as far as it matters here (RFC 7517, section 4; RFC 7518, section 6; RFC 8037, section 2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// The private part, of whichever kind of key but a shared secret.
    d: Option<IgnoredAny>,
    /// What else only the owner of an RSA key has.
    p: Option<IgnoredAny>,
    q: Option<IgnoredAny>,
}

impl KeySet {
    /// Reads a key set. A key that is broken or for something else costs the others nothing (RFC 7517, section 5).
    pub fn read(body: &[u8], algorithm: PublicAlgorithm) -> Result<Self, InvalidKeySet> {
        let set: Option<JwkSet> = str::from_utf8(body).ok().and_then(object);
        let set = set.ok_or(InvalidKeySet::NotAKeySet)?;
        if set.keys.len() > MOST_KEYS {
            return Err(InvalidKeySet::TooManyKeys);
        }
        let mut read = Self { keys: Keys::none(algorithm), unfit: 0, private: 0 };
        for jwk in set.keys {
            match object::<Jwk>(jwk.get()) {
                Some(jwk) if jwk.is_private() => read.private += 1,
                Some(jwk) => match jwk.public_key(algorithm) {
                    Some(key) => read.keys.publish(jwk.kid, key),
                    None => read.unfit += 1,
                },
                None => read.unfit += 1,
            }
        }
        Ok(read)
    }
}

impl Jwk {
    fn is_private(&self) -> bool {
        self.d.is_some() || self.p.is_some() || self.q.is_some()
    }

    /// The key, if all that is said of it fits.
    fn public_key(&self, algorithm: PublicAlgorithm) -> Option<PublicKey> {
        let is_for_us = self.alg.as_deref().is_none_or(|alg| alg == algorithm.name())
            && self.r#use.as_deref().is_none_or(|purpose| purpose == "sig")
            && self.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|one| one == "verify"));
        if !is_for_us {
            return None;
        }
        match (algorithm, self.kty.as_str(), self.crv.as_deref()) {
            (PublicAlgorithm::Rs256, "RSA", None) => {
                PublicKey::from_rsa_components(&decoded(self.n.as_ref())?, &decoded(self.e.as_ref())?)
            }
            (PublicAlgorithm::Es256, "EC", Some("P-256")) => {
                PublicKey::from_p256_coordinates(&decoded(self.x.as_ref())?, &decoded(self.y.as_ref())?)
            }
            (PublicAlgorithm::EdDsa, "OKP", Some("Ed25519")) => {
                PublicKey::from_ed25519_bytes(&decoded(self.x.as_ref())?)
            }
            _ => None,
        }
    }
}

/// Reads an object. A list of the same values in the same order is not one, though serde would take it.
fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    let is_object = json.trim_start().starts_with('{');
    is_object.then(|| serde_json::from_str(json).ok()).flatten()
}

fn decoded(member: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(member?).ok()
}
