//! The keys that verify tokens. Each key is for one algorithm. A token's `alg` is compared with it
//! and never selects the algorithm.

use std::fmt;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaParameters,
    RsaPublicKeyComponents,
};
use aws_lc_rs::{hmac, rsa};
use rustls_pki_types::pem::{PemObject, SectionKind};

/// The `alg` for shared secrets.
pub const HS256: &str = "HS256";

/// An asymmetric algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518, section 3.3), with keys of 2048 to 8192 bits.
    Rs256,
    /// ECDSA on P-256 with SHA-256 (RFC 7518, section 3.4).
    Es256,
    /// Ed25519 (RFC 8037, section 3.1).
    EdDsa,
}

#[derive(Debug, Clone)]
pub struct PublicKey {
    algorithm: PublicAlgorithm,
    key: ParsedPublicKey,
}

/// Never repeats the contents of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPem {
    #[error("names a file without a PEM block `-----BEGIN PUBLIC KEY-----`")]
    NoPublicKey,
    #[error("names a file with more than one PEM block")]
    Several,
    #[error("names a file with a private key: store only the public key there")]
    Private,
    #[error("names a file whose key does not fit {}, which needs {}", .0.name(), .0.required_key())]
    WrongKeyType(PublicAlgorithm),
}

/// All for one algorithm.
#[derive(Clone)]
pub struct VerificationKeys {
    algorithm: &'static str,
    keys: Vec<NamedKey>,
}

#[derive(Clone)]
struct NamedKey {
    name: KeyName,
    key: Key,
}

/// The tokens that a key verifies.
#[derive(Clone, PartialEq, Eq)]
enum KeyName {
    /// All tokens: the only key, from the configuration.
    Any,
    /// Tokens with this `kid`. Also tokens without `kid`, if it is the only key.
    Kid(String),
    /// Tokens without `kid`, if it is the only key.
    None,
}

#[derive(Clone)]
enum Key {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl PublicAlgorithm {
    const ALL: [Self; 3] = [Self::Rs256, Self::Es256, Self::EdDsa];

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == text)
    }

    /// The value of `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    fn required_key(self) -> &'static str {
        match self {
            Self::Rs256 => "an RSA key of 2048 to 8192 bits",
            Self::Es256 => "a key on the curve P-256",
            Self::EdDsa => "an Ed25519 key",
        }
    }
}

impl PublicKey {
    /// The file must contain exactly one PEM block.
    pub fn from_pem(pem: &[u8], algorithm: PublicAlgorithm) -> Result<Self, InvalidPem> {
        let sections: Result<Vec<(SectionKind, Vec<u8>)>, _> = PemObject::pem_slice_iter(pem).collect();
        let sections = sections.map_err(|_| InvalidPem::NoPublicKey)?;
        let is_private = |kind: SectionKind| {
            matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
        };
        if sections.iter().any(|(kind, _)| is_private(*kind)) {
            return Err(InvalidPem::Private);
        }
        match sections.as_slice() {
            [(SectionKind::PublicKey, info)] => match algorithm {
                PublicAlgorithm::Rs256 => Self::from_rsa_info(info),
                PublicAlgorithm::Es256 | PublicAlgorithm::EdDsa => Self::from_bytes(algorithm, info),
            }
            .ok_or(InvalidPem::WrongKeyType(algorithm)),
            [] | [_] => Err(InvalidPem::NoPublicKey),
            _ => Err(InvalidPem::Several),
        }
    }

    /// Big-endian modulus and exponent. Some issuers write leading zeros (RFC 7518, section
    /// 6.3.1.1).
    pub(super) fn from_rsa_components(n: &[u8], e: &[u8]) -> Option<Self> {
        let trimmed = |number: &[u8]| {
            let zeros = number.iter().take_while(|byte| **byte == 0).count();
            number[zeros..].to_vec()
        };
        let info = RsaPublicKeyComponents { n: trimmed(n), e: trimmed(e) }.as_der().ok()?;
        Self::from_rsa_info(info.as_ref())
    }

    /// The coordinates must have their full length (RFC 7518, section 6.2.1.2).
    pub(super) fn from_p256_coordinates(x: &[u8], y: &[u8]) -> Option<Self> {
        if x.len() != P256_COORDINATE_BYTES || y.len() != P256_COORDINATE_BYTES {
            return None;
        }
        Self::from_bytes(PublicAlgorithm::Es256, &[&[UNCOMPRESSED], x, y].concat())
    }

    pub(super) fn from_ed25519_bytes(x: &[u8]) -> Option<Self> {
        (x.len() == ED25519_BYTES).then(|| Self::from_bytes(PublicAlgorithm::EdDsa, x)).flatten()
    }

    /// From a SubjectPublicKeyInfo. aws-lc would parse a key of unsupported length and then reject
    /// every signature.
    fn from_rsa_info(info: &[u8]) -> Option<Self> {
        let key = rsa::PublicKey::from_der(info).ok()?;
        let bits = RsaParameters::public_modulus_len(key.as_ref()).ok()?;
        let verifies = &RSA_PKCS1_2048_8192_SHA256;
        let is_within = (verifies.min_modulus_len()..=verifies.max_modulus_len()).contains(&bits);
        is_within.then(|| Self::from_bytes(PublicAlgorithm::Rs256, info)).flatten()
    }

    fn from_bytes(algorithm: PublicAlgorithm, bytes: &[u8]) -> Option<Self> {
        let key = match algorithm {
            PublicAlgorithm::Rs256 => ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, bytes),
            PublicAlgorithm::Es256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes),
            PublicAlgorithm::EdDsa => ParsedPublicKey::new(&ED25519, bytes),
        };
        Some(Self { algorithm, key: key.ok()? })
    }
}

/// The prefix of an uncompressed point (SEC 1, section 2.3.3).
const UNCOMPRESSED: u8 = 4;

const P256_COORDINATE_BYTES: usize = 32;

const ED25519_BYTES: usize = 32;

impl VerificationKeys {
    pub fn from_secret(secret: &[u8]) -> Self {
        let key = Key::Secret(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret)));
        Self { algorithm: HS256, keys: vec![NamedKey { name: KeyName::Any, key }] }
    }

    /// The key verifies tokens with any `kid`.
    pub fn from_public_key(key: PublicKey) -> Self {
        let algorithm = key.algorithm.name();
        Self { algorithm, keys: vec![NamedKey { name: KeyName::Any, key: Key::Public(key.key) }] }
    }

    pub fn empty(algorithm: PublicAlgorithm) -> Self {
        Self { algorithm: algorithm.name(), keys: Vec::new() }
    }

    /// The key must be for the same algorithm as the others.
    pub(super) fn add(&mut self, kid: Option<String>, key: PublicKey) {
        debug_assert_eq!(key.algorithm.name(), self.algorithm);
        let name = kid.map_or(KeyName::None, KeyName::Kid);
        self.keys.push(NamedKey { name, key: Key::Public(key.key) });
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    /// Whether a key with this `kid` signed the message. `None` if there is no such key. A token
    /// without `kid` is verified only if there is a single key. Two keys may have the same `kid`
    /// (RFC 7517, section 4.5): either may match.
    pub(super) fn verify_signature(
        &self,
        kid: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Option<bool> {
        let is_only = self.keys.len() == 1;
        let has_kid = |key: &&NamedKey| match (&key.name, kid) {
            (KeyName::Any, _) => true,
            (KeyName::Kid(name), Some(kid)) => name == kid,
            (KeyName::None, Some(_)) => false,
            (_, None) => is_only,
        };
        let mut candidates = self.keys.iter().filter(has_kid).peekable();
        candidates.peek()?;
        Some(candidates.any(|candidate| match &candidate.key {
            Key::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Key::Public(key) => key.verify_sig(message, signature).is_ok(),
        }))
    }
}

impl fmt::Debug for VerificationKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerificationKeys({} for {})", self.keys.len(), self.algorithm)
    }
}
