//! What tokens are verified with. Each key is for one algorithm, by its type: what a token says of its algorithm is compared
//! and never followed.

use std::fmt;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaParameters,
    RsaPublicKeyComponents,
};
use aws_lc_rs::{hmac, rsa};
use rustls_pki_types::pem::{PemObject, SectionKind};

/// The name of the algorithm that a shared secret is for.
pub const HS256: &str = "HS256";

/// An algorithm whose keys anybody may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518, section 3.3), by keys of 2048 to 8192 bits.
    Rs256,
    /// ECDSA on P-256 with SHA-256 (RFC 7518, section 3.4).
    Es256,
    /// Ed25519 (RFC 8037, section 3.1).
    EdDsa,
}

/// A public key, for one algorithm.
#[derive(Debug, Clone)]
pub struct PublicKey {
    algorithm: PublicAlgorithm,
    key: ParsedPublicKey,
}

/// Why a file has no public key for us. Never repeats what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPem {
    /// Nothing that begins with `-----BEGIN PUBLIC KEY-----`.
    #[error("names a file without a PEM of the form `-----BEGIN PUBLIC KEY-----`")]
    NoPublicKey,
    /// Which one should hold?
    #[error("names a file with more than one PEM in it")]
    Several,
    /// Who has this can sign.
    #[error("names a file with a private key: only the public one belongs here")]
    Private,
    /// A key, but of another kind.
    #[error("names a file whose key is not for {}: that needs {}", .0.name(), .0.kind_of_key())]
    Unfit(PublicAlgorithm),
}

/// The keys that tokens may be signed with, all for one algorithm.
#[derive(Clone)]
pub struct Keys {
    algorithm: &'static str,
    keys: Vec<NamedKey>,
}

#[derive(Clone)]
struct NamedKey {
    name: KeyName,
    key: Key,
}

/// Which tokens a key is held against.
#[derive(Clone, PartialEq, Eq)]
enum KeyName {
    /// All: it is the only one, and was not published under a name.
    Any,
    /// Those that name it, or none if there is no other.
    Kid(String),
    /// Those that name none, if there is no other.
    None,
}

#[derive(Clone)]
enum Key {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl PublicAlgorithm {
    const ALL: [Self; 3] = [Self::Rs256, Self::Es256, Self::EdDsa];

    /// Reads its name in `alg`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == text)
    }

    /// Its name in `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    fn kind_of_key(self) -> &'static str {
        match self {
            Self::Rs256 => "an RSA key of 2048 to 8192 bits",
            Self::Es256 => "a key on the curve P-256",
            Self::EdDsa => "an Ed25519 key",
        }
    }
}

impl PublicKey {
    /// Reads the one public key in a PEM.
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
            .ok_or(InvalidPem::Unfit(algorithm)),
            [] | [_] => Err(InvalidPem::NoPublicKey),
            _ => Err(InvalidPem::Several),
        }
    }

    /// An RSA key by its modulus and exponent, big-endian. Some write a zero before them, as RFC 7518, section 6.3.1.1 tells.
    pub(super) fn from_rsa_components(n: &[u8], e: &[u8]) -> Option<Self> {
        let trimmed = |number: &[u8]| {
            let zeros = number.iter().take_while(|byte| **byte == 0).count();
            number[zeros..].to_vec()
        };
        let info = RsaPublicKeyComponents { n: trimmed(n), e: trimmed(e) }.as_der().ok()?;
        Self::from_rsa_info(info.as_ref())
    }

    /// A key on P-256 by its coordinates, of full length each (RFC 7518, section 6.2.1.2).
    pub(super) fn from_p256_coordinates(x: &[u8], y: &[u8]) -> Option<Self> {
        if x.len() != P256_COORDINATE_BYTES || y.len() != P256_COORDINATE_BYTES {
            return None;
        }
        Self::from_bytes(PublicAlgorithm::Es256, &[&[UNCOMPRESSED], x, y].concat())
    }

    /// An Ed25519 key by its 32 bytes.
    pub(super) fn from_ed25519_bytes(x: &[u8]) -> Option<Self> {
        (x.len() == ED25519_BYTES).then(|| Self::from_bytes(PublicAlgorithm::EdDsa, x)).flatten()
    }

    /// RSA by its SubjectPublicKeyInfo. A key outside the bounds would be read, and then verify nothing.
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

/// Before the coordinates of a point that is written out (SEC 1, section 2.3.3).
const UNCOMPRESSED: u8 = 4;

const P256_COORDINATE_BYTES: usize = 32;

const ED25519_BYTES: usize = 32;

impl Keys {
    /// The one secret of HS256.
    pub fn of_secret(secret: &[u8]) -> Self {
        let key = Key::Secret(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret)));
        Self { algorithm: HS256, keys: vec![NamedKey { name: KeyName::Any, key }] }
    }

    /// The one public key, whatever name tokens give it.
    pub fn of_public_key(key: PublicKey) -> Self {
        let algorithm = key.algorithm.name();
        Self { algorithm, keys: vec![NamedKey { name: KeyName::Any, key: Key::Public(key.key) }] }
    }

    /// No keys yet, of those that are to come.
    pub fn none(algorithm: PublicAlgorithm) -> Self {
        Self { algorithm: algorithm.name(), keys: Vec::new() }
    }

    /// Adds a key that was published, under a name perhaps. It has to be for the algorithm of the others.
    pub(super) fn publish(&mut self, kid: Option<String>, key: PublicKey) {
        debug_assert_eq!(key.algorithm.name(), self.algorithm);
        let name = kid.map_or(KeyName::None, KeyName::Kid);
        self.keys.push(NamedKey { name, key: Key::Public(key.key) });
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The algorithm that they are for.
    pub(super) fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    /// Whether any key that goes by this name has signed the message; none if no key does. A token that names none goes with
    /// the only key that there is. Two keys may go by one name (RFC 7517, section 4.5): then either will do.
    pub(super) fn have_signed(&self, kid: Option<&str>, message: &[u8], signature: &[u8]) -> Option<bool> {
        let is_only = self.keys.len() == 1;
        let goes_by = |key: &&NamedKey| match (&key.name, kid) {
            (KeyName::Any, _) => true,
            (KeyName::Kid(name), Some(kid)) => name == kid,
            (KeyName::None, Some(_)) => false,
            (_, None) => is_only,
        };
        let mut candidates = self.keys.iter().filter(goes_by).peekable();
        candidates.peek()?;
        Some(candidates.any(|candidate| candidate.key.has_signed(message, signature)))
    }
}

impl Key {
    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Self::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} for {})", self.keys.len(), self.algorithm)
    }
}
