//! The JWK Set that an issuer publishes (RFC 7517, section 5).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::verification_keys::{PublicAlgorithm, PublicKey, VerificationKeys};

/// Large issuers publish a dozen keys. A token may have to be verified with each of them.
const MAX_KEYS: usize = 64;

/// An issuer's keys for our algorithm.
#[derive(Debug, Clone)]
pub struct JwkSet {
    pub keys: VerificationKeys,
    /// The number of keys that are invalid or for another use or algorithm.
    pub unusable: usize,
    /// The number of keys published with their private part. They are not used, since anybody can
    /// sign with them.
    pub private: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJwkSet {
    #[error("the response is not a JWK Set")]
    NotAJwkSet,
    #[error("the JWK Set has more than {MAX_KEYS} keys")]
    TooManyKeys,
}

#[derive(Deserialize)]
struct JwkSetJson<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// RFC 7517, section 4; RFC 7518, section 6; RFC 8037, section 2.
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
    /// The private part of RSA, EC and OKP keys.
    d: Option<IgnoredAny>,
    /// Also private parts of an RSA key.
    p: Option<IgnoredAny>,
    q: Option<IgnoredAny>,
}

impl JwkSet {
    /// Skips keys that are invalid or for another use or algorithm (RFC 7517, section 5).
    pub fn read(body: &[u8], algorithm: PublicAlgorithm) -> Result<Self, InvalidJwkSet> {
        let set: Option<JwkSetJson> = str::from_utf8(body).ok().and_then(object);
        let set = set.ok_or(InvalidJwkSet::NotAJwkSet)?;
        if set.keys.len() > MAX_KEYS {
            return Err(InvalidJwkSet::TooManyKeys);
        }
        let mut read = Self { keys: VerificationKeys::empty(algorithm), unusable: 0, private: 0 };
        for jwk in set.keys {
            match object::<Jwk>(jwk.get()) {
                Some(jwk) if jwk.is_private() => read.private += 1,
                Some(jwk) => match jwk.public_key(algorithm) {
                    Some(key) => read.keys.add(jwk.kid, key),
                    None => read.unusable += 1,
                },
                None => read.unusable += 1,
            }
        }
        Ok(read)
    }
}

impl Jwk {
    fn is_private(&self) -> bool {
        self.d.is_some() || self.p.is_some() || self.q.is_some()
    }

    /// `None` unless `alg`, `use`, `key_ops`, `kty` and `crv` all allow this use.
    fn public_key(&self, algorithm: PublicAlgorithm) -> Option<PublicKey> {
        let is_allowed = self.alg.as_deref().is_none_or(|alg| alg == algorithm.name())
            && self.r#use.as_deref().is_none_or(|purpose| purpose == "sig")
            && self.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|one| one == "verify"));
        if !is_allowed {
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

/// Rejects an array, from which serde would read a struct by position.
fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    let is_object = json.trim_start().starts_with('{');
    is_object.then(|| serde_json::from_str(json).ok()).flatten()
}

fn decoded(member: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(member?).ok()
}
